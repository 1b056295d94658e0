"""The command line of the dataset toolkit: arguments in, calls out; no logic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError, run_cli
from distractor_data.spec import DEFAULT_DIR, SYNTHETIC, Spec, full_name

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Masked video of agents in front of distractors: generate it, mask it, publish it.",
)


class Difficulty(StrEnum):
    """Presets of the distractors."""

    clean = "clean"
    easy = "easy"
    medium = "medium"
    hard = "hard"
    scale_easy_video_hard = "scale-easy-video-hard"


class Split(StrEnum):
    """Training videos behind the agent, or others."""

    train = "train"
    test = "test"


Directory = Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=True)]


@app.command()
def generate(
    env: Annotated[str, typer.Option(help="walker, cheetah, hopper, humanoid, or any of `dmask envs`.")] = "walker",
    episodes: Annotated[int, typer.Option(help="Number of episodes; more than are there adds the rest.")] = 1000,
    out: Annotated[Path, typer.Option(help="The dataset's folder; other environments may be in it.")] = Path(
        DEFAULT_DIR
    ),
    difficulty: Annotated[Difficulty, typer.Option(help="How strong the distractors are.")] = (
        Difficulty.scale_easy_video_hard
    ),
    dynamic: Annotated[bool, typer.Option("--dynamic/--static", help="Whether distractors move.")] = True,
    backgrounds: Annotated[str, typer.Option(help="'synthetic', or a folder of video folders or files.")] = SYNTHETIC,
    split: Annotated[Split, typer.Option(help="Which videos stand behind the agent.")] = Split.train,
    policy: Annotated[str, typer.Option(help="'random', or a .safetensors file.")] = "random",
    noise: Annotated[float, typer.Option(help="Standard deviation of Gaussian noise on every action.")] = 0.0,
    image_size: Annotated[int, typer.Option(help="Edge of the square images in pixels.")] = 64,
    steps: Annotated[int, typer.Option(help="Frames an episode has.")] = 1000,
    seed: Annotated[int, typer.Option(help="All randomness follows from it.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
    clean: Annotated[bool, typer.Option("--clean", help="Keep the undistracted image, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Make trajectories with distractors and exact masks, as Parquet that `load_dataset` reads.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import terminal
    from distractor_data.generate import generate as run

    if workers < 0:
        raise DmaskError(f"--workers is {workers}; give a number of at least 1, or 0 for one for each core")
    spec = Spec(
        env=full_name(env),
        split=split.value,
        episodes=episodes,
        steps=steps,
        image_size=image_size,
        difficulty=difficulty.value,
        dynamic=dynamic,
        backgrounds=backgrounds,
        policy=policy,
        noise=noise,
        clean=clean,
        seed=seed,
    )
    with terminal.episode_progress(spec.env, episodes) as on_episode:
        summary = run(spec, out, workers or None, overwrite, on_episode)
    terminal.print_summary(summary, spec, out)


@app.command()
def verify(directory: Directory = Path(DEFAULT_DIR)) -> None:
    """Compare every shard of a dataset with its checksum."""
    from distractor_data import meta, terminal

    terminal.print_verified(meta.verify_all(directory))


@app.command()
def envs() -> None:
    """List the environments."""
    from distractor_data.envs.suite import environments

    typer.echo("\n".join(environments()))


def main() -> None:
    """Entry point of `dmask`."""
    run_cli(app, "dmask")


if __name__ == "__main__":
    main()
