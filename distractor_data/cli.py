"""The command line of the dataset toolkit, put together from `commands`."""

from __future__ import annotations

import typer

from distractor_data.commands import exchange, experts, generation, hub, look, masks, upkeep
from distractor_data.errors import run_cli

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Masked video of agents in front of distractors: generate it, mask it, publish it.",
)
for group in (generation, exchange, masks, upkeep, look, hub, experts):
    app.add_typer(group.app)


def main() -> None:
    """Entry point of `dmask`."""
    run_cli(app, "dmask")


if __name__ == "__main__":
    main()
