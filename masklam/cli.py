"""The console script `masklam`: arguments and calls, no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import run_cli
from distractor_data.options import DryRun, Private, Revision, Tag, TokenFile, token_of
from distractor_data.spec import DEFAULT_DIR, full_name

app = typer.Typer(
    help="Train, probe and publish latent action models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _app() -> None:
    """Train, probe and publish latent action models."""


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="Folder or Hub repository of the dataset")] = DEFAULT_DIR,
    env: Annotated[str, typer.Option(help="Environment, such as walker-run")] = "walker-run",
    method: Annotated[str, typer.Option(help="lapo, masklam, laom, laom-labels, masklaom, idm or bc")] = "masklam",
    out: Annotated[str, typer.Option(help="Folder of the run [runs/METHOD-ENV-SEED]")] = "",
    stages: Annotated[str, typer.Option(help="Of lam,policy,decoder,evaluation [all]")] = "",
    seed: Annotated[int, typer.Option(help="Seed")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, … [the best there is]")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder of decoded frames [~/.cache/dmask]")] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="From the Hub, keeping no shard; each process its own")
    ] = False,
    image_column: Annotated[str, typer.Option(help="Column of the images")] = "observation.image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks [the image column's]")] = "",
    mask_corruption: Annotated[str, typer.Option(help="dilate:PIXELS, erode:PIXELS or noise:SHARE")] = "",
    held_out: Annotated[float, typer.Option(help="Share of the episodes that only reports see")] = 0.1,
    labelled_trajectories: Annotated[
        str, typer.Option(help="Whose actions are seen: 2,8,32 for decoders, one number for other methods, or all")
    ] = "",
    latent_dim: Annotated[int, typer.Option(help="Size of a latent action")] = 64,
    frame_stack: Annotated[int, typer.Option(help="Frames an observation holds")] = 1,
    encoder_scale: Annotated[int, typer.Option(help="Width of the encoders")] = 1,
    encoder_deep: Annotated[bool, typer.Option(help="Five resolutions instead of three")] = False,
    res_blocks: Annotated[int, typer.Option(help="Residual blocks a resolution")] = 2,
    heads: Annotated[int, typer.Option(help="Width of LAOM's heads")] = 256,
    quantize: Annotated[str, typer.Option(help="fsq or vq: LAPO's discrete form")] = "",
    policy_scale: Annotated[int, typer.Option(help="Width of the policy's encoder")] = 2,
    policy_layers: Annotated[int, typer.Option(help="Linear layers after it [the method's]")] = 0,
    offset: Annotated[int, typer.Option(help="Steps the inverse dynamics looks ahead [the method's]")] = 0,
    background_weight: Annotated[float, typer.Option(help="Weight of pixels off the agent")] = 0.0,
    mask_blur: Annotated[float, typer.Option(help="Gaussian blur of the masks, in pixels")] = 0.0,
    mask_normalise: Annotated[str, typer.Option(help="Divide by the masks' area: none, image or batch")] = "none",
    ema: Annotated[float, typer.Option(help="Rate at which LAOM's target follows")] = 0.001,
    label_weight: Annotated[float, typer.Option(help="Weight of the error on true, standardised actions")] = 0.035,
    steps: Annotated[int, typer.Option(help="Gradient steps of the latent action model")] = 10_000,
    policy_steps: Annotated[int, typer.Option(help="Gradient steps of the policy")] = 5_000,
    decoder_steps: Annotated[int, typer.Option(help="Gradient steps of each decoder")] = 2_500,
    batch: Annotated[int, typer.Option(help="Transitions a step, over all processes")] = 64,
    labelled_batch: Annotated[int, typer.Option(help="Labelled ones beside them, for laom-labels")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate")] = 1e-3,
    decoder_lr: Annotated[float, typer.Option(help="Learning rate of the decoders")] = 3e-4,
    warmup: Annotated[float, typer.Option(help="Share of --steps in which the learning rate rises")] = 0.3,
    schedule: Annotated[str, typer.Option(help="How it falls then: linear, cosine or constant")] = "linear",
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 is none")] = 0.0,
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32")] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile")] = False,
    probe_every: Annotated[int, typer.Option(help="Steps between probes")] = 2000,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints")] = 500,
    eval_episodes: Annotated[int, typer.Option(help="Rollouts a split and budget; 0 skips them")] = 5,
    reference: Annotated[str, typer.Option(help="Run of bc on all true actions, to normalise returns by")] = "",
    backgrounds: Annotated[str, typer.Option(help="Videos of the rollouts: those of the dataset")] = "",
) -> None:
    """Train a method's stages, one after the other, and measure what it learnt."""
    options = dict(locals())
    folder = options.pop("out") or f"runs/{method}-{full_name(env)}-{seed}"
    place, store = options.pop("device"), options.pop("cache")
    from accelerate import PartialState

    from masklam import report
    from masklam import train as trainer
    from masklam.settings import Settings, budgets, words

    options["stages"] = words(stages)
    options["labelled_trajectories"] = budgets(labelled_trajectories)
    results = trainer.train(Settings(**options), folder, place, store)
    PartialState().print(f"{folder}\n{report.lines(results)}")  # one of all processes


@app.command()
def probe(
    target: Annotated[str, typer.Argument(help="FILE.py:function, your own, (now, later) → latents")],
    dataset: Annotated[str, typer.Argument(help="Folder or Hub repository of the dataset")],
    env: Annotated[str, typer.Option(help="Environment, such as walker-run")] = "walker-run",
    split: Annotated[str, typer.Option(help="Whose episodes fit the probes: train or test")] = "train",
    images: Annotated[str, typer.Option(help="uint8 (B, H, W, 3), or float (B, 3, H, W) in [-1, 1]")] = "uint8",
    image_column: Annotated[str, typer.Option(help="Column of the images")] = "observation.image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks [the image column's]")] = "",
    held_out: Annotated[float, typer.Option(help="Share of the episodes that only reports see")] = 0.1,
    transitions: Annotated[int, typer.Option(help="To fit, and to report on, at most")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the nonlinear probe and the shuffled pairs")] = 0,
    cache: Annotated[str | None, typer.Option(help="Folder of decoded frames [~/.cache/dmask]")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of the results")] = None,
) -> None:
    """Probe anyone's latent actions or features as a run's are: NMSE, controls, constant dimensions."""
    from distractor_data.dataset import storage
    from masklam import external, report

    options = (env, split, images, image_column, mask_column, held_out, transitions, seed, cache)
    results = external.probe(target, dataset, *options)
    if out is not None:
        storage.write_json(out, results)
    typer.echo(report.lines(results))


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="Folder of the run")],
    name: Annotated[str | None, typer.Argument(help="ORG/NAME; without it <you>/<method>-<env>")] = None,
    private: Private = False,
    revision: Revision = None,
    tag: Tag = None,
    message: Annotated[str, typer.Option(help="What the commit says")] = "Upload model",
    dataset: Annotated[str | None, typer.Option(help="ORG/NAME of the data on the Hub [as trained]")] = None,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
) -> None:
    """Publish a trained model on the Hugging Face Hub, with a card of what was measured."""
    from distractor_data import terminal
    from masklam import publish

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
    )
    terminal.print_push(pushed, dry_run, 'Model.from_pretrained("{}")')


@app.command()
def study(
    file: Annotated[str, typer.Argument(help="A study's TOML file; scripts/studies holds two")],
    jobs: Annotated[int, typer.Option(help="Runs at a time")] = 1,
    out: Annotated[str | None, typer.Option(help="Folder of the results [results/ beside FILE]")] = None,
) -> None:
    """Run a grid of trainings, with the datasets they need; write one table and plots."""
    from masklam.study import study as run

    typer.echo(run(file, jobs, out))


def main() -> None:
    """Entry point of the console script."""
    run_cli(app, "masklam")


if __name__ == "__main__":
    main()
