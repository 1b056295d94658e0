"""The commands of `dmask`, a file for each group of them: arguments in, calls out; no logic."""
