"""What is there, in pictures: `dmask view` and `dmask preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import EnvOption, Quiet, SplitOption, part_of

app = typer.Typer()
Source = Annotated[str, typer.Argument(help="The dataset's folder, or org/name on the Hub.")]
EpisodeOption = Annotated[list[int] | None, typer.Option(help="Only this episode; may come again.")]


@app.command(epilog="Example: dmask view data --serve")
def view(
    source: Source,
    env: EnvOption = None,
    split: SplitOption = None,
    episode: EpisodeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The page's file, with what it shows.", show_default="NAME.html")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Read episodes when they are looked at instead.")] = False,
    port: Annotated[int, typer.Option(help="Of --serve, on this machine alone; 0: any that is free.")] = 8400,
    quiet: Quiet = False,
) -> None:
    """Look at a dataset in a browser: episodes, frames and masks, actions, rewards.

    A page in one file holds the frames of a few episodes of each split; served, of all.
    """
    from distractor_data import terminal
    from distractor_data.viewer import page
    from distractor_data.viewer.library import Library

    if serve and out:
        raise DmaskError("--out and --serve are two ways to show one page; give one of them")
    library = Library(source, env, part_of(split))
    held = library.chosen(episode or [])
    if serve:
        from distractor_data.viewer.server import Server

        with Server(library, episode or [], port) as server:
            terminal.print_serving(server.url)
            server.run()
        return
    path = out or Path(f"{library.name.replace('/', '-')}.html")
    page.write(path, "dataset.html", ["dataset.js"], library.name, library.overview([], held), library.attached(held))
    terminal.print_paths([path])


@app.command(epilog="Example: dmask preview data --env walker --out walker.mp4")
def preview(
    source: Source,
    out: Annotated[Path, typer.Option(help="A clip, .mp4 or .gif, or a sheet, .png.")],
    env: EnvOption = None,
    split: SplitOption = None,
    episode: EpisodeOption = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip; of a sheet, columns.", show_default="")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a clip or a contact sheet of frames and their masks, by default of each environment's first episode."""
    from distractor_data import terminal
    from distractor_data.viewer.preview import preview as make

    terminal.print_paths([make(source, out, env, part_of(split), episode, frames)])
