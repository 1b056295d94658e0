"""Care of the datasets that are there: `dmask verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.options import Directory, Json, Quiet, Workers
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer()


@app.command(epilog="Example: dmask verify data --repair")
def verify(
    directory: Directory = Path(DEFAULT_DIR),
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what is damaged or missing, to the byte.")
    ] = False,
    backgrounds: Annotated[str | None, typer.Option(help="To repair: the folder of videos, if it was one.")] = None,
    policy: Annotated[str | None, typer.Option(help="To repair: the policy's file, if it was one.")] = None,
    model: Annotated[str | None, typer.Option(help="To repair: the mask model's file, if it was one.")] = None,
    workers: Workers = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare every file of a dataset with the checksum that was taken when it was written."""
    from distractor_data import terminal
    from distractor_data.dataset import meta

    restored: dict[str, list[str]] = {}
    if repair:
        from distractor_data.repair import Given, repair_all

        restored = repair_all(directory, Given(backgrounds, policy, model), workers or None)
    if not json:
        terminal.print_repaired(restored)
    verified = meta.verify_all(directory)
    if json:
        terminal.print_json({"restored": restored, "verified": verified})
    else:
        terminal.print_verified(verified)
