"""Datasets made of others: `dmask merge`, `split`, `delete-episodes` and `resize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import Directory, EnvOption, Quiet, SplitOption, part_of

app = typer.Typer()
Out = Annotated[Path, typer.Option(help="The new dataset's folder.")]


@app.command(epilog="Example: dmask merge data/part-0 data/part-1 --out data/whole")
def merge(
    directories: Annotated[list[Path], typer.Argument(help="The datasets' folders, in their order.")],
    out: Out,
    quiet: Quiet = False,
) -> None:
    """Put datasets together, such as the parts that `generate --shard` made.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import edit, terminal

    with terminal.generation_progress("merge") as on_event:
        roots = edit.merge(directories, out, on_event)
    terminal.print_edited(roots)


@app.command(epilog="Example: dmask split data/whole data/most=0.9 data/rest=0.1")
def split(
    directory: Directory,
    shares: Annotated[list[str], typer.Argument(help="FOLDER=SHARE …: a new folder and its share of the episodes.")],
    env: EnvOption = None,
    split: SplitOption = None,
    quiet: Quiet = False,
) -> None:
    """Divide the episodes of a dataset, in their order, among new folders.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import edit, terminal

    with terminal.generation_progress("split") as on_event:
        roots = edit.split(directory, [share_of(share) for share in shares], env, part_of(split), on_event)
    terminal.print_edited(roots)


@app.command("delete-episodes", epilog="Example: dmask delete-episodes data --episodes 3,7-9")
def delete_episodes(
    directory: Directory,
    episodes: Annotated[str, typer.Option(help="Numbers and ranges, such as 3,7-9.")],
    env: EnvOption = None,
    split: SplitOption = None,
    out: Annotated[Path | None, typer.Option(help="A new folder; without it the dataset's own is changed.")] = None,
    quiet: Quiet = False,
) -> None:
    """Leave episodes out; the others are numbered anew.

    The old data is kept until the new is whole.
    """
    from distractor_data import edit, terminal

    with terminal.generation_progress("delete-episodes") as on_event:
        root = edit.delete_episodes(directory, edit.numbers(episodes), env, part_of(split), out, on_event)
    terminal.print_edited([root])


@app.command(epilog="Example: dmask resize data --image-size 32 --out data-32")
def resize(
    directory: Directory,
    image_size: Annotated[int, typer.Option(help="Edge of the new images in pixels.", min=8, max=4096)],
    out: Out,
    env: EnvOption = None,
    split: SplitOption = None,
    quiet: Quiet = False,
) -> None:
    """Copy a dataset with smaller or larger images and masks.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import edit, terminal

    with terminal.generation_progress("resize") as on_event:
        roots = edit.resize(directory, image_size, out, env, part_of(split), on_event)
    terminal.print_edited(roots)


def share_of(text: str) -> tuple[str, float]:
    """`"data/train=0.9"` → ("data/train", 0.9)."""
    folder, _, share = text.rpartition("=")
    try:
        return (folder, float(share)) if folder else (folder, float("nan"))
    except ValueError as error:
        raise DmaskError(f"{text!r} is no FOLDER=SHARE, such as data/train=0.9") from error
