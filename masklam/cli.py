"""The console script `masklam`: arguments and calls, no logic."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from distractor_data import sources
from distractor_data.application import Application
from distractor_data.errors import run_cli
from distractor_data.options import DryRun, Json, Private, Quiet, Revision, Tag, TokenFile, Version, token_of
from masklam.settings import Settings

app = Application()


@app.callback()
def _app(version: Version = False) -> None:
    """Train, probe and publish latent action models."""


def _signature() -> inspect.Signature:
    """The options of `masklam train`: where and on what it runs, then the fields of `Settings`."""
    places = {
        "out": (str, "", "Folder of the run; default: runs/METHOD-ENV-SEED"),
        "device": (str | None, None, "cpu, cuda, …; default: the best there is"),
        "cache": (str | None, None, "Folder of decoded frames; default: ~/.cache/dmask"),
    }
    hints = get_type_hints(Settings)
    settings = {
        one.name: (str, "", one.metadata["help"])
        if one.metadata["read"]
        else (hints[one.name], one.default, one.metadata["help"])
        for one in fields(Settings)
    }
    return inspect.Signature(
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_option(name, kind, help)
            )
            for name, (kind, default, help) in {**settings, **places}.items()
        ]
        + [inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)]
    )


def _option(name: str, kind: Any, help: str) -> Any:
    flag = [f"--{name.replace('_', '-')}"] if kind is bool else []
    return Annotated[kind, typer.Option(*flag, help=f"{help}.")]


def train(**options: Any) -> None:
    """Train a method's stages, one after the other, and measure what it learnt."""
    read = {one.name: one.metadata["read"] for one in fields(Settings) if one.metadata["read"]}
    out, device, cache, quiet = (options.pop(name) for name in ("out", "device", "cache", "quiet"))
    if sources.is_foreign(options["dataset"]):
        options["env"] = Path(options["dataset"]).resolve().name  # it has no environments of ours
    settings = Settings(**{name: read[name](value) if name in read else value for name, value in options.items()})
    from accelerate import PartialState

    from masklam import measures
    from masklam import train as trainer

    folder = out or f"runs/{settings.method}-{settings.env}-{settings.seed}"
    results = trainer.train(settings, folder, device, cache)
    if not quiet:
        PartialState().print(f"{folder}\n{measures.lines(results)}")  # one of all processes


train.__signature__ = _signature()  # type: ignore[attr-defined]
app.command(epilog="Example: masklam train --env walker-run --method masklam --seed 0")(train)


@app.command(epilog="Example: masklam probe mine.py:encode data/distracting-dcs-masked --images float")
def probe(
    target: Annotated[str, typer.Argument(help="FILE.py:function, your own, (now, later) → latents.")],
    dataset: Annotated[str, typer.Argument(help="Folder or Hub repository of the dataset.")],
    env: Annotated[str, typer.Option(help="Environment, such as walker-run.")] = Settings.env,
    split: Annotated[str, typer.Option(help="Whose episodes fit the probes: train or test.")] = "train",
    images: Annotated[str, typer.Option(help="uint8 (B, H, W, 3), or float (B, 3, H, W) in -1 … 1.")] = "uint8",
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = Settings.image_column,
    mask_column: Annotated[str, typer.Option(help="Column of the masks; default: the image column's.")] = "",
    held_out: Annotated[float, typer.Option(help="Share of the episodes that only reports see.")] = Settings.held_out,
    transitions: Annotated[int, typer.Option(help="To fit, and to report on, at most.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the nonlinear probe and the shuffled pairs.")] = 0,
    cache: Annotated[str | None, typer.Option(help="Folder of decoded frames; default: ~/.cache/dmask.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of the results.")] = None,
    quiet: Quiet = False,
) -> None:
    """Probe anyone's latent actions or features as a run's are: NMSE, controls, constant dimensions."""
    from distractor_data import terminal
    from distractor_data.dataset import storage
    from masklam import external, measures

    options = (env, split, images, image_column, mask_column, held_out, transitions, seed, cache)
    results = external.probe(target, dataset, *options)
    if out is not None:
        storage.write_json(out, results)
    terminal.print_text(measures.lines(results))


@app.command(epilog="Example: masklam push runs/masklam-walker-run-0 org/masklam-walker-run")
def push(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    name: Annotated[str | None, typer.Argument(help="ORG/NAME; without it <you>/<method>-<env>.")] = None,
    private: Private = False,
    revision: Revision = None,
    tag: Tag = None,
    message: Annotated[str, typer.Option(help="What the commit says.")] = "Upload model",
    dataset: Annotated[str | None, typer.Option(help="ORG/NAME of the data on the Hub; default: as trained.")] = None,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Publish a trained model on the Hugging Face Hub, with a card of what was measured."""
    from distractor_data import terminal
    from masklam import publish

    with terminal.transfer_progress("push") as on_files:
        pushed = publish.push(
            run,
            name,
            private=private,
            revision=revision,
            tag=tag,
            message=message,
            token=token_of(token_file),
            data=dataset,
            dry_run=dry_run,
            on_files=on_files,
        )
    terminal.print_pushed([pushed], dry_run, 'Model.from_pretrained("{}")', json)


@app.command(epilog="Example: masklam study scripts/studies/cpu.toml --jobs 2")
def study(
    file: Annotated[str, typer.Argument(help="A study's TOML file; scripts/studies holds two.")],
    jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    out: Annotated[str | None, typer.Option(help="Folder of the results; default: results/ beside FILE.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run a grid of trainings, with the datasets they need; write one table and plots."""
    from distractor_data import terminal
    from masklam.study import study as run

    terminal.print_text(run(file, jobs, out))


@app.command(epilog="Example: masklam info runs/masklam-walker-run-0")
def info(
    source: Annotated[str, typer.Argument(help="Folder of a run, or ORG/NAME[@REVISION] of a model on the Hub.")],
    json: Json = False,
) -> None:
    """Say what a model is: its method, its data, how far it got, what was measured, what makes it."""
    from distractor_data import terminal
    from masklam.info import describe, lines

    found = describe(source)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_text(lines(found))


@app.command(epilog="Example: masklam view runs/masklam-walker-run-0 runs/lapo-walker-run-0 --rollouts")
def view(
    found: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders of runs; also a study's results, its .parquet.")
    ],
    out: Annotated[Path, typer.Option(help="The page's file.")] = Path("runs.html"),
    dataset: Annotated[str | None, typer.Option(help="Where the data are; default: as trained.")] = None,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Play each run's policy, one episode a split.")
    ] = False,
    backgrounds: Annotated[str | None, typer.Option(help="Videos of the rollouts; default: as trained.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …; auto: the best there is.")] = "auto",
    cache: Annotated[str | None, typer.Option(help="Folder of decoded frames; default: ~/.cache/dmask.")] = None,
    quiet: Quiet = False,
) -> None:
    """Look at runs in a browser: curves, reconstructions, actions that a probe reads, measures, a study's table."""
    from distractor_data import terminal
    from masklam.view import view as make

    terminal.print_paths([make(found, out, dataset, rollouts, backgrounds, device, cache)])


def main() -> None:
    """Entry point of the console script."""
    run_cli(app, "masklam")


if __name__ == "__main__":
    main()
