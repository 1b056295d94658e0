"""Formats of others, read and written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distractor_data.options import Directory, EnvOption, Quiet, SplitOption, Workers, part_of
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer()


class Format(StrEnum):
    """Whose reader is to read it."""

    laom = "laom"
    minari = "minari"
    npz = "npz"


@app.command("import", epilog="Example: dmask import walker.hdf5 data/laom")
def import_(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of LAOM's authors.")],
    directory: Directory = Path(DEFAULT_DIR),
    fps: Annotated[int, typer.Option(help="Frames a second; 0: the task's own.")] = 0,
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Make a dataset of a file of others; `dmask mask --prompt motion` gives it masks.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import terminal
    from distractor_data.imports import describe, import_file

    spec, rate = describe(file, fps or None)
    with terminal.generation_progress(spec.env, spec.episodes) as on_event:
        summary = import_file(file, spec, rate, directory, workers or None, on_event)
    terminal.print_summary(summary, spec, directory)


@app.command(epilog="Example: dmask export data --format minari --out data-minari")
def export(
    directory: Directory,
    format: Annotated[
        Format, typer.Option(help="Whose reader is to read it: LAOM's scripts, Minari, or numpy.load.")
    ],
    out: Annotated[Path, typer.Option(help="The folder that it goes to; for Minari its MINARI_DATASETS_PATH.")],
    env: EnvOption = None,
    split: SplitOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a dataset, with its masks, in a format that other readers know."""
    from distractor_data import exports, terminal

    part = part_of(split)
    with terminal.frame_progress("export", "episodes") as on_episode:
        written = exports.export(directory, format.value, out, env, part, overwrite, on_episode)
    terminal.print_paths(written)
