"""New datasets: `dmask generate` and what it can be asked for."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import Address, Engine, EngineName, Json, Quiet, Split, Workers
from distractor_data.spec import DEFAULT_DIR, SYNTHETIC, Spec

if TYPE_CHECKING:
    from distractor_data.publish import Destination
    from distractor_data.publish_bucket import Delivery

app = typer.Typer()


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


class Camera(StrEnum):
    """Of Meta-World's cameras those that stand still."""

    corner = "corner"
    corner2 = "corner2"
    corner3 = "corner3"
    corner4 = "corner4"
    topview = "topview"


class Renderer(StrEnum):
    """What draws the pictures."""

    auto = "auto"
    opengl = "opengl"
    caster = "caster"


class Fidelity(StrEnum):
    """How near OpenGL's pictures of the suite are to upstream's."""

    fast = "fast"
    medium = "medium"
    exact = "exact"


@app.command(epilog="Example: dmask generate --env hopper --episodes 100 --out data")
def generate(
    env: Annotated[
        list[str],
        typer.Option(
            help="walker, cheetah, hopper, humanoid, or any of `dmask envs`, or a group; give it repeatedly."
        ),
    ] = ["walker"],  # noqa: B006
    episodes: Annotated[int, typer.Option(help="Number of episodes; more than are there adds the rest.")] = 1000,
    out: Annotated[
        str,
        typer.Option(
            help="The dataset's folder, where others may be; or a URL of fsspec's, such as s3://bucket/data."
        ),
    ] = DEFAULT_DIR,
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
    workers: Workers = 0,
    engine: Engine = EngineName.local,
    address: Address = None,
    first: Annotated[int, typer.Option(help="Which of all episodes is the first, where this is a part of them.")] = 0,
    shard: Annotated[
        str, typer.Option(help="I/N: only the part I, from 0, of N that `dmask merge` puts together.")
    ] = "",
    clean: Annotated[bool, typer.Option("--clean", help="Keep the undistracted image, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    renderer: Annotated[
        Renderer,
        typer.Option(help="caster is many times faster, for simple shapes; auto: it where it can draw."),
    ] = Renderer.opengl,
    fidelity: Annotated[
        Fidelity | None,
        typer.Option(
            help="Of OpenGL: exact is upstream's pixels, medium as before there was a choice.", show_default="fast"
        ),
    ] = None,
    camera: Annotated[Camera, typer.Option(help="Meta-World: which of the scene's cameras.")] = Camera.corner2,
    camera_back: Annotated[float, typer.Option(help="Meta-World: metres that it stands further back.")] = 0.6,
    mask_mount: Annotated[
        bool, typer.Option("--mask-mount", help="Meta-World: mask the robot's mount, too.")
    ] = False,
    mask_objects: Annotated[
        bool, typer.Option("--mask-objects", help="Meta-World: mask what the task moves, too.")
    ] = False,
    steps_after_success: Annotated[
        int, typer.Option(help="Meta-World: end an episode so long after its first success; 0: never.")
    ] = 0,
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
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make trajectories with distractors and exact masks, as Parquet that `load_dataset` reads.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import engines, envs, terminal
    from distractor_data.generate import complete
    from distractor_data.masks.annotate import Settings, report
    from distractor_data.pipeline import generate as run
    from distractor_data.resume import drawing

    if workers < 0:
        raise DmaskError(f"--workers is {workers}; give a number of at least 1, or 0 for one for each core")
    names = envs.expand(env)
    folder, destination = _destination(out, push, license, apart=engine == EngineName.ray)
    drawn = {name: drawing(folder, name, split.value, renderer.value, fidelity and fidelity.value) for name in names}
    specs = [
        Spec(
            env=name,
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
            renderer=drawn[name][0],
            fidelity=drawn[name][1],
            first=first,
            camera=camera.value,
            camera_back=camera_back,
            mask_mount=mask_mount,
            mask_objects=mask_objects,
            steps_after_success=steps_after_success,
        )
        for name in names
    ]
    if shard:
        specs = [spec.share(*shard_of(shard)) for spec in specs]
    settings = Settings(mask_model, mask_image_size) if masks == Masks.sam2 else None
    for spec in specs[1:] and specs:
        complete(spec)  # what is wrong with one is said before any of them is made
    runner = engines.engine(engine.value, address)
    summaries = []
    for spec in specs:
        with terminal.generation_progress(spec.env, spec.episodes) as on_event:
            summary = run(
                spec, folder, workers or None, overwrite, any_renderer, destination, settings, on_event, runner
            )
        summaries.append({"env": spec.env, "split": spec.split, **asdict(summary)})
        if not json:
            terminal.print_summary(summary, spec, push or out)
        if settings and not json:
            terminal.print_masks([report(summary.root)])
    if json:
        terminal.print_json(summaries[0] if len(summaries) == 1 else summaries)


@app.command("envs", epilog="Example: dmask envs")
def list_environments(json: Json = False) -> None:
    """List the environments with the sizes of their states and actions, and the groups that --env takes."""
    from distractor_data import envs, policies, terminal
    from distractor_data.spec import FAMILIES, full_name

    found: list[dict[str, Any]] = []
    for family in FAMILIES:
        try:
            names = envs.environments(family)
        except DmaskError as missing:
            found.append({"family": family, "missing": str(missing)})
            continue
        tasks = []
        for name in names:
            state, action = envs.sizes(name)
            expert = policies.has_expert(full_name(name))
            tasks.append({"env": name, "state": state, "action": action, "expert": expert})
        found.append({"family": family, "groups": envs.groups(family), "tasks": tasks})
    terminal.print_environments(found, json)


def _destination(
    out: str, push: str | None, license: str | None, apart: bool
) -> tuple[Path, Destination | Delivery | None]:
    """The folder here, and where shards go from it, if they do; see `Delivery` for `apart`."""
    from distractor_data.hub.bucket import Bucket, is_url
    from distractor_data.publish import Destination
    from distractor_data.publish_bucket import Delivery, folder_of

    if not is_url(out):
        return Path(out), Destination(push, license) if push else None
    if push:
        raise DmaskError("--push sends shards to the Hub, and --out to a URL; give one of them")
    bucket = Bucket(out)
    return folder_of(bucket), Delivery(bucket, apart)


def shard_of(text: str) -> tuple[int, int]:
    """`"0/3"` → (0, 3)."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise DmaskError(f"--shard is {text!r}; give its number, from 0, and how many there are, such as 0/3")
    return int(number), int(of)
