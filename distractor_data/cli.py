"""The command line of the dataset toolkit: arguments in, calls out; no logic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError, run_cli
from distractor_data.options import DryRun, Private, Revision, Tag, TokenFile, token_of
from distractor_data.spec import DEFAULT_DIR, SYNTHETIC, Spec

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


class Masks(StrEnum):
    """Where a new dataset's masks come from."""

    simulator = "simulator"
    sam2 = "sam2"


class Renderer(StrEnum):
    """What draws the pictures."""

    opengl = "opengl"
    caster = "caster"


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
    policy: Annotated[
        str,
        typer.Option(help="expert, medium, random, mixed (one of them for each episode), or a .safetensors file."),
    ] = "expert",
    noise: Annotated[float, typer.Option(help="Standard deviation of Gaussian noise on every action.")] = 0.0,
    image_size: Annotated[int, typer.Option(help="Edge of the square images in pixels.")] = 64,
    steps: Annotated[int, typer.Option(help="Frames an episode has.")] = 1000,
    seed: Annotated[int, typer.Option(help="All randomness follows from it.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
    clean: Annotated[bool, typer.Option("--clean", help="Keep the undistracted image, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    renderer: Annotated[
        Renderer, typer.Option(help="What draws: caster is many times faster; for scenes of simple shapes.")
    ] = Renderer.opengl,
    any_renderer: Annotated[
        bool, typer.Option("--any-renderer", help="Go on with what another OpenGL drew, though pixels may differ.")
    ] = False,
    push: Annotated[str | None, typer.Option(help="ORG/NAME: send each shard there when it is done.")] = None,
    license: Annotated[str | None, typer.Option(help="With --push, where the background videos are real.")] = None,
    masks: Annotated[Masks, typer.Option(help="sam2: also what `dmask mask` does, while the rest renders.")] = (
        Masks.simulator
    ),
    mask_model: Annotated[str, typer.Option(help="With --masks sam2: as --model of `dmask mask`.")] = (
        "facebook/sam2.1-hiera-tiny"
    ),
    mask_image_size: Annotated[int, typer.Option(help="With --masks sam2: as its --image-size.")] = 1024,
) -> None:
    """Make trajectories with distractors and exact masks, as Parquet that `load_dataset` reads.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import terminal
    from distractor_data.masks.annotate import Settings, report
    from distractor_data.pipeline import generate as run
    from distractor_data.publish import Destination

    if workers < 0:
        raise DmaskError(f"--workers is {workers}; give a number of at least 1, or 0 for one for each core")
    spec = Spec(
        env=env,
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
        renderer=renderer.value,
    )
    settings = Settings(mask_model, mask_image_size) if masks == Masks.sam2 else None
    destination = Destination(push, license) if push else None
    with terminal.generation_progress(spec.env, episodes) as on_event:
        summary = run(spec, out, workers or None, overwrite, any_renderer, destination, settings, on_event)
    terminal.print_summary(summary, spec, push or out)
    if settings:
        terminal.print_masks([report(summary.root)])


@app.command()
def verify(
    directory: Directory = Path(DEFAULT_DIR),
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what is damaged or missing, to the byte.")
    ] = False,
    backgrounds: Annotated[str | None, typer.Option(help="To repair: the folder of videos, if it was one.")] = None,
    policy: Annotated[str | None, typer.Option(help="To repair: the policy's file, if it was one.")] = None,
    model: Annotated[str | None, typer.Option(help="To repair: the mask model's file, if it was one.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
) -> None:
    """Compare every file of a dataset with the checksum that was taken when it was written."""
    from distractor_data import terminal
    from distractor_data.dataset import meta

    if repair:
        from distractor_data.repair import Given, repair_all

        given = Given(backgrounds, policy, model)
        terminal.print_repaired(repair_all(directory, given, workers or None))
    terminal.print_verified(meta.verify_all(directory))


@app.command()
def push(
    directory: Directory = Path(DEFAULT_DIR),
    name: Annotated[str | None, typer.Argument(help="ORG/NAME; without it <you>/<the folder's name>.")] = None,
    private: Private = False,
    revision: Revision = None,
    tag: Tag = None,
    message: Annotated[str, typer.Option(help="What the commits say.")] = "Upload dataset",
    license: Annotated[str | None, typer.Option(help="Needed where the background videos are real ones.")] = None,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub, with its card.

    Interrupted, the same command goes on where it stopped; later it sends only what changed.
    """
    from distractor_data import publish, terminal

    pushed = publish.push(
        directory,
        name,
        private=private,
        revision=revision,
        tag=tag,
        message=message,
        token=token_of(token_file),
        license=license,
        dry_run=dry_run,
    )
    terminal.print_push(pushed, dry_run, 'load_dataset("{}")')


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="ORG/NAME of a dataset on the Hub.")],
    directory: Directory,
    env: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    split: Annotated[Split | None, typer.Option(help="Only this split.")] = None,
    revision: Annotated[str | None, typer.Option(help="A tag, branch or commit.")] = None,
    token_file: TokenFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what lies only in the folder.")] = False,
) -> None:
    """Get a dataset from the Hugging Face Hub and verify it. Interrupted, the same command goes on.

    What would be lost, because it lies only in the folder, is named and left as it is.
    """
    from distractor_data import terminal
    from distractor_data.pull import pull as run

    counts = run(
        name,
        directory,
        env=env,
        split=split.value if split else None,
        revision=revision,
        token=token_of(token_file),
        overwrite=overwrite,
    )
    terminal.print_verified(counts)


@app.command()
def envs() -> None:
    """List the environments."""
    from distractor_data.envs.suite import environments

    typer.echo("\n".join(environments()))


expert = typer.Typer(no_args_is_help=True, help="Train and measure the policies that act in the datasets.")
app.add_typer(expert, name="expert")


@expert.command("train")
def expert_train(
    env: Annotated[str, typer.Option(help="walker, cheetah, hopper, humanoid, or any task of the suite.")],
    out: Annotated[Path, typer.Option(help="The policy's .safetensors file; its medium level is written beside it.")],
    steps: Annotated[int, typer.Option(help="Control steps of the environment.")] = 3_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    start: Annotated[
        str, typer.Option("--from", help="Begin with the actor of a policy: a .safetensors file, or expert.")
    ] = "",
    algorithm: Annotated[str, typer.Option(help="sac, tqc (Truncated Quantile Critics), or ppo.")] = "sac",
    curriculum: Annotated[
        bool, typer.Option("--curriculum", help="Help in getting up: humanoid, hopper, walker.")
    ] = False,
    target_entropy: Annotated[
        float, typer.Option(help="Nats a dimension of the action: how much noise the training keeps.")
    ] = -0.5,
    action_repeat: Annotated[int, typer.Option(help="Control steps for which training holds an action.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Transitions of a gradient step.")] = 128,
    n_steps: Annotated[int, typer.Option(help="Rewards of a return before the critics' estimate, in actions.")] = 3,
    discount: Annotated[float, typer.Option(help="Of the reward of the next action.")] = 0.99,
    episode_steps: Annotated[
        int, typer.Option(help="Control steps of a training's episode: fewer for more beginnings.")
    ] = 1000,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training that was interrupted.")] = False,
    eval_every: Annotated[int, typer.Option(help="Control steps between two evaluations.")] = 50_000,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the training state; by default beneath runs/.")
    ] = None,
) -> None:
    """Train an expert on the task's states, by default with Soft Actor-Critic, and keep the best actor in OUT.

    Killed at any moment, the same command with --resume goes on from the last training state.
    """
    from distractor_data import terminal
    from distractor_data.policies.training import checkpoint, train
    from distractor_data.policies.training.settings import Settings

    settings = Settings(
        env=env,
        steps=steps,
        seed=seed,
        start=start,
        algorithm=algorithm,
        curriculum=curriculum,
        target_entropy=target_entropy,
        action_repeat=action_repeat,
        batch_size=batch_size,
        n_steps=n_steps,
        discount=discount,
        episode_steps=episode_steps,
        eval_every=eval_every,
    )
    with terminal.step_progress(settings.env, steps) as (report, progress):
        train.train(settings, out, state or checkpoint.default_state(settings), resume, report, progress)


@expert.command("eval")
def expert_eval(
    policy: Annotated[str, typer.Argument(help="A policy's .safetensors file, or an environment.")],
    episodes: Annotated[int, typer.Option(help="Number of episodes.")] = 20,
    level: Annotated[str, typer.Option(help="Of an environment's policies: expert, medium or random.")] = "expert",
    env: Annotated[str | None, typer.Option(help="The environment a file must be for; its own by default.")] = None,
) -> None:
    """Print the return of a policy at action repeat 1: mean ± standard deviation over unseen episodes."""
    from distractor_data import terminal
    from distractor_data.policies import evaluate

    terminal.print_returns(*evaluate.evaluate_argument(policy, level, env, episodes))


@expert.command("list")
def expert_list() -> None:
    """Print the policies that come with the package and what they reach, as a Markdown table."""
    from distractor_data.policies import evaluate

    typer.echo(evaluate.table())


EnvOption = Annotated[str | None, typer.Option(help="Only this environment.", show_default="all")]
SplitOption = Annotated[Split | None, typer.Option(help="Only this split.", show_default="all")]


@app.command()
def mask(
    source: Annotated[Path, typer.Argument(help="A dataset, a folder of frames or a video.")] = Path(DEFAULT_DIR),
    env: EnvOption = None,
    split: SplitOption = None,
    model: Annotated[str, typer.Option(help="A SAM 2 model on the Hub, or its checkpoint file.")] = (
        "facebook/sam2.1-hiera-tiny"
    ),
    image_size: Annotated[int, typer.Option(help="The model's input; 512 or 256 for small frames.")] = 1024,
    batch: Annotated[int, typer.Option(help="Videos tracked at once; 0: 32 on a GPU, 8 without.")] = 0,
    prompt: Annotated[
        str, typer.Option(help="simulator, motion, box=x0,y0,x1,y1, point=x,y or mask=FILE.")
    ] = "simulator",
    reprompt: Annotated[int, typer.Option(help="Give the box again every so many frames; 0: never.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="bf16, float32, or auto: bf16 where the device is made for it.")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where the masks of a video go.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Measure the masks that are there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another model's masks.")] = False,
) -> None:
    """Masks by SAM 2 for a dataset (the simulator's are kept beside them) or for one video.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import terminal
    from distractor_data.dataset import read
    from distractor_data.masks.annotate import Settings, mask_dataset
    from distractor_data.masks.annotate import report_only as measure_again

    part = split.value if split else None
    if report_only:
        terminal.print_masks(measure_again(source, env, part))
        return
    settings = Settings(model, image_size, batch, prompt, reprompt, device, precision)
    if read.configs(source):
        with terminal.frame_progress("masks") as on_frames:
            reports = mask_dataset(source, settings, env, part, overwrite, on_frames)
        terminal.print_masks(reports)
    else:
        from distractor_data.masks.video import mask_video

        with terminal.frame_progress(source.name) as on_frames:
            quality = mask_video(source, out, settings, overwrite, on_frames)
        terminal.print_video_masks(quality, out)


@app.command("corrupt-masks")
def corrupt_masks(
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Where the copy goes.")],
    env: EnvOption = None,
    split: SplitOption = None,
    dilate: Annotated[int, typer.Option(help="Grow by so many pixels.")] = 0,
    erode: Annotated[int, typer.Option(help="Shrink by so many pixels.")] = 0,
    shift: Annotated[int, typer.Option(help="Move by up to so many pixels, drawn for each frame.")] = 0,
    flip: Annotated[float, typer.Option(help="Probability of inverting a pixel.")] = 0.0,
    drop: Annotated[float, typer.Option(help="Probability of emptying a frame's mask.")] = 0.0,
    seed: Annotated[int, typer.Option(help="All randomness follows from it.")] = 0,
) -> None:
    """Copy a dataset with degraded masks, and measure them."""
    from distractor_data import terminal
    from distractor_data.masks.corrupt import Corruption, corrupt_dataset

    how = Corruption(dilate, erode, shift, flip, drop, seed)
    with terminal.frame_progress("masks") as on_frames:
        reports = corrupt_dataset(directory, out, how, env, split.value if split else None, on_frames)
    terminal.print_masks(reports)


def main() -> None:
    """Entry point of `dmask`."""
    run_cli(app, "dmask")


if __name__ == "__main__":
    main()
