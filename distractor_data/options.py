"""Options that several commands share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Split(StrEnum):
    """Training videos behind the agent, or others."""

    train = "train"
    test = "test"


class EngineName(StrEnum):
    """Where work is done."""

    local = "local"
    ray = "ray"


def _print_version(context: typer.Context, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"{context.info_name} {version('dmask')}")
        raise typer.Exit


def _set_quiet(quiet: bool) -> None:
    from distractor_data import terminal

    terminal.set_quiet(quiet)
    if quiet:  # the bars of others
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
Quiet = Annotated[bool, typer.Option("--quiet", callback=_set_quiet, help="Print errors only.")]
Directory = Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=True)]
EnvOption = Annotated[str | None, typer.Option(help="Only this environment.", show_default="all")]
Workers = Annotated[int, typer.Option(help="Processes; 0 is one for each core.")]
Engine = Annotated[EngineName, typer.Option(help="Processes of this machine, or the nodes of a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(help="With --engine ray: the cluster's head, or auto.", show_default="one begun here"),
]
SplitOption = Annotated[Split | None, typer.Option(help="Only this split.", show_default="all")]
Private = Annotated[bool, typer.Option("--private", help="Only for you, or your organisation.")]
Revision = Annotated[str | None, typer.Option(help="The branch to push to.")]
Tag = Annotated[str | None, typer.Option(help="Name this release, such as v1.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="A file that holds the token, or - for standard input; instead of HF_TOKEN or the login."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the files and the card.")]


def token_of(file: Path | None) -> str | None:
    """The token in a file that was given; None where none was, and the environment or the login has it."""
    from distractor_data.hub.repository import read_token

    return None if file is None else read_token(file)


def part_of(split: Split | None) -> str | None:
    """The split's name."""
    return split.value if split else None
