"""What is there, in words: `dmask info`, `dmask list`, `dmask backgrounds`, `dmask doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import Json, Quiet
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer()


@app.command(epilog="Example: dmask info org/distracting-dcs-masked")
def info(
    source: Annotated[
        str, typer.Argument(help="A dataset's folder, or ORG/NAME[@REVISION] on the Hub.")
    ] = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Say what a dataset holds: sizes, masks, returns, and the commands that made it."""
    from distractor_data import info, terminal

    terminal.print_info(info.describe(source), json)


@app.command("list", epilog="Example: dmask list org")
def list_(
    owner: Annotated[str | None, typer.Argument(help="A user or an organisation; without it yourself.")] = None,
    json: Json = False,
) -> None:
    """List somebody's datasets on the Hub that dmask made."""
    from distractor_data import info, terminal

    terminal.print_listing(info.listing(owner), json)


@app.command(epilog="Example: dmask backgrounds DAVIS/JPEGImages/480p")
def backgrounds(
    directory: Annotated[Path, typer.Argument(help="What `dmask generate` would get as --backgrounds.")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the background videos of a folder, and what in it is skipped and why; decode every frame."""
    from distractor_data import terminal
    from distractor_data.envs.survey import survey

    with terminal.frame_progress("videos", "videos") as on_checked:
        used, skipped = survey(str(directory), on_checked)
    terminal.print_survey(used, skipped, json)
    if broken := [one.name for one in used if one.error]:
        raise DmaskError(f"{len(broken)} of {len(used)} videos can't be used; replace or delete {', '.join(broken)}")


@app.command(epilog="Example: dmask doctor")
def doctor(json: Json = False) -> None:
    """Look at this machine: what works, what doesn't, and the command that mends it."""
    from distractor_data import terminal
    from distractor_data.doctor import examine

    findings = terminal.print_findings(examine(), json)
    if any(one.needed and not one.ok for one in findings):
        raise typer.Exit(1)
