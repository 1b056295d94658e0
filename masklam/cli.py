"""The console script `masklam`: arguments and calls, no logic."""

from __future__ import annotations

from typing import Annotated

import typer

from distractor_data.errors import run_cli
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer(
    help="Train, probe and publish latent action models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _app() -> None:
    """Train, probe and publish latent action models."""


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="Folder or Hub repository of the dataset")] = DEFAULT_DIR,
    env: Annotated[str, typer.Option(help="Environment, such as walker-run")] = "walker-run",
    method: Annotated[str, typer.Option(help="lapo, masklam")] = "masklam",
    out: Annotated[str, typer.Option(help="Folder of the run [runs/METHOD-ENV-SEED]")] = "",
    steps: Annotated[int, typer.Option(help="Gradient steps")] = 10_000,
    batch: Annotated[int, typer.Option(help="Transitions a step")] = 128,
    latent_dim: Annotated[int, typer.Option(help="Size of a latent action")] = 64,
    frame_stack: Annotated[int, typer.Option(help="Frames an observation holds")] = 1,
    encoder_scale: Annotated[int, typer.Option(help="Width of the encoders")] = 1,
    res_blocks: Annotated[int, typer.Option(help="Residual blocks a resolution")] = 2,
    lr: Annotated[float, typer.Option(help="Learning rate")] = 1e-3,
    background_weight: Annotated[float, typer.Option(help="Weight of pixels off the agent")] = 0.0,
    image_column: Annotated[str, typer.Option(help="Column of the images")] = "observation.image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks")] = "observation.mask",
    probe_every: Annotated[int, typer.Option(help="Steps between probes")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, … [the best there is]")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder of decoded frames [~/.cache/dmask]")] = None,
) -> None:
    """Train a latent action model and probe it."""
    options = dict(locals())
    folder = options.pop("out") or f"runs/{method}-{env}-{seed}"
    place, store = options.pop("device"), options.pop("cache")
    from masklam import train as trainer

    results = trainer.train(trainer.Settings(**options), folder, place, store)
    nmse = results["probe_nmse"]
    typer.echo(f"{folder}: probe NMSE {nmse:.3f} on held-out episodes (0 is perfect, 1 is the mean action)")


def main() -> None:
    """Entry point of the console script."""
    run_cli(app, "masklam")


if __name__ == "__main__":
    main()
