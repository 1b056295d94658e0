"""Frames a second of a core, memory and likeness of both renderers, beside upstream patched to run, in one run.

    python -m scripts.bench_generate --backgrounds DIR --policies DIR

DIR of backgrounds has `train` and `val` folders of videos; DIR of policies holds `<env>.safetensors`. Each number is
from a process of its own, pinned to one core, warmed up, and counted in seconds of its processor time, so that what
else runs matters little. Ours is all of it: physics, image, mask, encoding, Parquet, metadata. Upstream is physics
and image alone: in a process a core, and "as run", one process whose OpenGL draws with all cores, by the clock.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from distractor_data import schema
from distractor_data.dataset import meta, parts
from distractor_data.envs import make
from distractor_data.generate import complete, make_episode
from distractor_data.spec import Spec
from scripts.peer import alone, dm_control_frame, make_upstream, seeded_actions, upstream_trace

ENVS = ["walker-run", "cheetah-run", "hopper-hop", "humanoid-walk"]
RENDERERS = ("opengl", "caster")
WARM = 20  # steps before anything counts: imports, compiled code, textures


def pin() -> None:
    """This process and its threads on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def play_upstream(spec: Spec, episode: int) -> None:
    env = make_upstream(spec, episode)
    rng = np.random.default_rng(episode)
    env.reset()
    for _ in range(spec.steps - 1):
        env.step(rng.uniform(-1, 1, env.action_spec().shape[0]))


def upstream_rate(spec: Spec, as_run: bool) -> float:
    """Frames/s of upstream, its start-up left out."""
    if as_run:
        os.environ.pop("LP_NUM_THREADS", None)
    else:
        pin()
    clock = time.perf_counter if as_run else time.process_time
    play_upstream(dataclasses.replace(spec, steps=WARM), 0)
    started = clock()
    for episode in range(spec.episodes):
        play_upstream(spec, episode)
    return spec.episodes * spec.steps / (clock() - started)


def our_rate(spec: Spec) -> tuple[float, list[float]]:
    """Frames/s of all that makes a shard, and peak resident memory in MB after the first and the last episode."""
    pin()
    spec, fps = complete(spec)
    memory = []
    with tempfile.TemporaryDirectory() as out:
        root = schema.root(out, spec.env, spec.split)
        meta.write_record(root, spec, fps)
        make_episode(dataclasses.replace(spec, steps=WARM), root, fps, 0)
        started = time.process_time()
        for episode in range(spec.episodes):
            make_episode(spec, root, fps, episode)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        parts.assemble(root, 0, range(spec.episodes), 0, spec.env)
        meta.refresh(root)
        rate = spec.episodes * spec.steps / (time.process_time() - started)
    return rate, [memory[0], memory[-1]]


def our_trace(spec: Spec, episode: int, steps: int) -> np.ndarray:
    """Our frames for the seeds and actions of `upstream_trace`."""
    env = make(spec, episode)
    rng = np.random.default_rng(episode)
    images = [env.reset().image]
    images += [env.step(rng.uniform(-1, 1, env.action_size))[0].image for _ in range(steps - 1)]
    env.close()
    return np.stack(images)


def our_mask(spec: Spec, steps: int) -> np.ndarray:
    """Our mask for the seeds and actions of `dm_control_frame`."""
    env = make(spec, 0)
    seen = env.reset()
    for action in seeded_actions(env.action_size, steps):
        seen = env.step(action)[0]
    env.close()
    return seen.mask


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((ours.astype(float) - theirs) ** 2)))


def iou(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Intersection over union of all masks together."""
    pairs = list(zip(ours, theirs, strict=True))
    return sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs)


def compare(spec: Spec, traced: int) -> list[str]:
    """A row of the table."""
    episodes, instants = range(2), (0, 25, 50)
    whole = dataclasses.replace(spec, steps=1000)
    traces = np.stack([alone(upstream_trace, whole, episode, traced)["image"] for episode in episodes])
    masks = [alone(dm_control_frame, whole, steps)["mask"] for steps in instants]
    as_run, a_core = alone(upstream_rate, spec, True), alone(upstream_rate, spec, False)
    cells = [spec.env, str(spec.image_size), f"{as_run:.1f}", f"{a_core:.1f}"]
    for renderer in RENDERERS:
        mine = dataclasses.replace(spec, renderer=renderer)
        long = dataclasses.replace(whole, renderer=renderer)
        drawn = np.stack([alone(our_trace, long, episode, traced) for episode in episodes])  # compiles the caster
        found = [alone(our_mask, long, steps) for steps in instants]
        rate, memory = alone(our_rate, mine)
        cells += [f"{rate:.0f}", f"{rate / a_core:.1f}", f"{psnr(drawn, traces):.1f}", f"{iou(found, masks):.4f}"]
        cells += [f"{memory[0]:.0f}, {memory[1]:.0f}"]
    return cells


def main(
    backgrounds: Annotated[Path, typer.Option(help="Folder with `train` and `val` videos.")],
    policies: Annotated[Path | None, typer.Option(help="Folder of <env>.safetensors; random without.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes for the speed.")] = 4,
    steps: Annotated[int, typer.Option(help="Frames an episode has.")] = 1000,
    envs: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(ENVS),
    sizes: Annotated[str, typer.Option(help="Edges of the images, comma-separated.")] = "64,128",
) -> None:
    """Print one table, row by row as they are measured."""
    columns = ["task", "pixels", "upstream as run", "upstream a core"]
    for renderer in RENDERERS:
        columns += [renderer, "ratio", "PSNR, dB", "mask IoU", f"MB after 1, {episodes} episodes"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for env in envs.split(","):
        policy = str(policies / f"{env}.safetensors") if policies else "random"
        for size in map(int, sizes.split(",")):
            options: dict[str, Any] = {"backgrounds": str(backgrounds), "policy": policy, "image_size": size}
            spec = Spec(env=env, episodes=episodes, steps=steps, **options)
            print("| " + " | ".join(compare(spec, traced=60)) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
