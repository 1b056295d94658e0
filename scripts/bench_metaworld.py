"""Frames a second of `dmask generate` on Meta-World beside Gymnasium's own rendering of the package's environment.

    python -m scripts.bench_metaworld --backgrounds DIR

DIR has `train` and `val` folders of videos. Ours is all that makes a shard: physics, image, mask, encoding, Parquet,
metadata. Gymnasium's is `step` and `render` alone. Each number is from a process of its own, pinned to one core,
warmed up, and counted in seconds of its processor time, so that what else runs matters little. The likeness is that
of frames without distractors from the package's own camera, turned upright, for the same states.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from distractor_data import envs
from distractor_data.spec import Purpose, Spec
from scripts.bench_generate import WARM, our_rate, pin, psnr
from scripts.peer import alone, seeded_actions

TASKS = "metaworld/button-press-topdown,metaworld/drawer-open,metaworld/window-open"


def packages(spec: Spec) -> Any:
    """The package's own environment, drawn by Gymnasium, with our seeds."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    made = ALL_V3_ENVIRONMENTS[f"{spec.env.removeprefix('metaworld-')}-v3"](
        render_mode="rgb_array", camera_name=spec.camera, width=spec.image_size, height=spec.image_size
    )
    made._freeze_rand_vec, made.seeded_rand_vec, made._set_task_called = False, True, True
    made.seed(spec.seed32(0, Purpose.TASK))
    return made


def gymnasiums_rate(spec: Spec) -> float:
    """Frames a second, its start-up left out."""
    pin()
    gymnasiums_frames(spec, WARM)
    started = time.process_time()
    for _ in range(spec.episodes):
        gymnasiums_frames(spec, spec.steps)
    return spec.episodes * spec.steps / (time.process_time() - started)


def gymnasiums_frames(spec: Spec, steps: int) -> np.ndarray:
    """Its frames (steps, H, W, 3) after each of some actions."""
    env = packages(spec)
    env.reset()
    frames = []
    for action in seeded_actions(4, steps):
        env.step(action.astype(np.float32))
        frames.append(env.render())
    env.close()
    return np.stack(frames)


def our_frames(spec: Spec, steps: int) -> np.ndarray:
    """Our frames for the same."""
    env = envs.make(spec, 0)
    env.reset()
    frames = [env.step(action.astype(np.float32))[0].image for action in seeded_actions(4, steps)]
    env.close()
    return np.stack(frames)


def likeness(spec: Spec, steps: int = 40) -> float:
    """PSNR in dB, over all pixels of the first steps of an episode."""
    theirs = alone(gymnasiums_frames, spec, steps)[:, ::-1, ::-1]  # its camera hangs upside down
    return psnr(alone(our_frames, spec, steps), theirs)


def main(
    backgrounds: Annotated[Path, typer.Option(help="Folder with `train` and `val` videos.")],
    tasks: Annotated[str, typer.Option(help="Comma-separated.")] = TASKS,
    steps: Annotated[int, typer.Option(help="Frames an episode has.")] = 500,
    image_size: Annotated[int, typer.Option(help="Edge of the images in pixels.")] = 64,
) -> None:
    """Print one table, a row a task as it is measured."""
    print("| task | Gymnasium, frames/s | distracted, masks | ratio | undistracted, masks | ratio | PSNR, dB |")
    print("|---|---|---|---|---|---|---|")
    for env in envs.expand(tasks.split(",")):
        common: dict[str, Any] = {"env": env, "steps": steps, "episodes": 1, "image_size": image_size}
        spec = Spec(policy="random", backgrounds=str(backgrounds), **common)
        plain = Spec(policy="random", difficulty="clean", camera_back=0.0, **common)
        theirs, (ours, _), (clean, _) = (alone(gymnasiums_rate, plain), alone(our_rate, spec), alone(our_rate, plain))
        rates = f"{theirs:.1f} | {ours:.1f} | {ours / theirs:.2f} | {clean:.1f} | {clean / theirs:.2f}"
        print(f"| {env} | {rates} | {likeness(plain):.1f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
