"""Datasets to the Hugging Face Hub and back: `dmask push` and `dmask pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from distractor_data.options import (
    Directory,
    DryRun,
    EnvOption,
    Json,
    Private,
    Quiet,
    Revision,
    SplitOption,
    Tag,
    TokenFile,
    part_of,
    token_of,
)
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer()


@app.command(epilog="Example: dmask push data org/distracting-dcs-masked --private")
def push(
    directory: Directory = Path(DEFAULT_DIR),
    name: Annotated[str | None, typer.Argument(help="ORG/NAME; without it <you>/<the folder's name>.")] = None,
    private: Private = False,
    revision: Revision = None,
    tag: Tag = None,
    message: Annotated[str, typer.Option(help="What the commits say.")] = "Upload dataset",
    license: Annotated[str | None, typer.Option(help="Needed where the background videos are real ones.")] = None,
    lerobot: Annotated[
        bool,
        typer.Option("--lerobot", help="A repository for each config and split, for LeRobotDataset('NAME-CONFIG')."),
    ] = False,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub, with its card.

    Interrupted, the same command goes on where it stopped; later it sends only what changed.
    """
    from distractor_data import publish, publish_lerobot, terminal
    from distractor_data.errors import DmaskError

    if lerobot and (revision or tag):
        raise DmaskError("--lerobot pushes to the main branch with LeRobot's tag; leave --revision and --tag out")
    said: dict[str, Any] = {"private": private, "message": message, "license": license, "dry_run": dry_run}
    said["token"] = token_of(token_file)
    with terminal.transfer_progress("push") as said["on_files"]:
        if lerobot:
            pushed, loaded = publish_lerobot.push(directory, name, **said), 'LeRobotDataset("{}")'
        else:
            pushed, loaded = [publish.push(directory, name, revision=revision, tag=tag, **said)], 'load_dataset("{}")'
    terminal.print_pushed(pushed, dry_run, loaded, json)


@app.command(epilog="Example: dmask pull org/distracting-dcs-masked data --env walker")
def pull(
    name: Annotated[str, typer.Argument(help="ORG/NAME of a dataset on the Hub, or the URL that --out was given.")],
    directory: Directory,
    env: EnvOption = None,
    split: SplitOption = None,
    revision: Annotated[str | None, typer.Option(help="A tag, branch or commit.")] = None,
    token_file: TokenFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies only in the folder.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Get a dataset from the Hugging Face Hub, or from behind a URL, and verify it.

    Interrupted, the same command goes on.
    What would be lost, because it lies only in the folder, is named and left as it is.
    """
    from distractor_data import terminal
    from distractor_data.pull import pull as run

    with terminal.transfer_progress("pull") as on_files:
        counts = run(
            name,
            directory,
            env=env,
            split=part_of(split),
            revision=revision,
            token=token_of(token_file),
            overwrite=overwrite,
            on_files=on_files,
        )
    terminal.print_verified(counts, json)
