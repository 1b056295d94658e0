"""What is there, in words: `dmask backgrounds`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import Json, Quiet

app = typer.Typer()


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
