"""The command line of the dataset toolkit, put together from `commands`."""

from __future__ import annotations

from distractor_data.application import Application
from distractor_data.commands import edits, exchange, experts, generation, hub, look, masks, upkeep, viewing
from distractor_data.errors import run_cli
from distractor_data.options import Version

app = Application()


@app.callback()
def _app(version: Version = False) -> None:
    """Masked video of agents in front of distractors: generate it, mask it, publish it."""


for group in (generation, exchange, masks, upkeep, edits, look, viewing, hub, experts):
    app.add_typer(group.app)


def main() -> None:
    """Entry point of `dmask`."""
    run_cli(app, "dmask")


if __name__ == "__main__":
    main()
