"""Frames per second, memory and likeness of `dmask generate`, beside upstream patched to run, in one run.

    python -m scripts.bench_generate --backgrounds DIR --policies DIR

DIR of backgrounds has `train` and `val` folders of videos; DIR of policies holds `<env>.safetensors`.
Ours is all of it: physics, image, mask, encoding, Parquet, metadata. Upstream is physics and image only.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from distractor_data import engines
from distractor_data.envs import make
from distractor_data.pipeline import generate
from distractor_data.spec import Spec
from scripts.peer import alone, make_upstream, upstream_trace

ENVS = ["walker-run", "cheetah-run", "hopper-hop", "humanoid-walk"]


def upstream_frames(spec: Spec, episode: int) -> int:
    """Roll upstream out for one episode, in this process."""
    env = make_upstream(spec, episode)
    rng = np.random.default_rng(episode)
    env.reset()
    for _ in range(spec.steps - 1):
        env.step(rng.uniform(-1, 1, env.action_spec().shape[0]))
    return spec.steps


def upstream_rate(spec: Spec, workers: int) -> float:
    """Frames/s of upstream in as many processes as ours, its start-up left out."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        warm = dataclasses.replace(spec, steps=2)
        list(pool.map(upstream_frames, [warm] * workers, range(workers)))
        started = time.perf_counter()
        frames = sum(pool.map(upstream_frames, [spec] * spec.episodes, range(spec.episodes)))
        return frames / (time.perf_counter() - started)


def our_rate(spec: Spec, workers: int) -> float:
    """Frames/s of the whole command, start-up included."""
    with tempfile.TemporaryDirectory() as out:
        summary = generate(spec, out, workers)
    return summary.made / summary.seconds


def peak_memory(spec: Spec, episodes: int) -> float:
    """Peak resident memory in MB of one process that makes some episodes one after the other."""
    from distractor_data.rollout import rollout

    for episode in range(episodes):
        rollout(spec, episode)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def our_trace(spec: Spec, episode: int, steps: int) -> np.ndarray:
    """Our frames for the seeds and actions of `upstream_trace`."""
    env = make(spec, episode)
    rng = np.random.default_rng(episode)
    images = [env.reset().image]
    images += [env.step(rng.uniform(-1, 1, env.action_size))[0].image for _ in range(steps - 1)]
    env.close()
    return np.stack(images)


def likeness(spec: Spec, episodes: int, steps: int) -> float:
    """PSNR in dB of our frames against upstream's, over all pixels of some episodes."""
    errors = [
        np.mean(
            (alone(our_trace, spec, k, steps).astype(float) - alone(upstream_trace, spec, k, steps)["image"]) ** 2
        )
        for k in range(episodes)
    ]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def main(
    backgrounds: Annotated[Path, typer.Option(help="Folder with `train` and `val` videos.")],
    policies: Annotated[Path | None, typer.Option(help="Folder of <env>.safetensors; random without.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes for the speed.")] = 4,
    steps: Annotated[int, typer.Option(help="Frames an episode has.")] = 1000,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
    envs: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(ENVS),
) -> None:
    """Print one table."""
    workers = workers or engines.cores()
    table = Table(title=f"{workers} workers, 64×64, {episodes} episodes of {steps} frames")
    for column in ("", "upstream frames/s", "dmask frames/s", "ratio", "PSNR dB", "MB a worker: 1, 4 episodes"):
        table.add_column(column)
    for env in envs.split(","):
        policy = str(policies / f"{env}.safetensors") if policies else "random"
        spec = Spec(env=env, episodes=episodes, steps=steps, backgrounds=str(backgrounds), policy=policy)
        theirs, ours = upstream_rate(spec, workers), our_rate(spec, workers)
        short = dataclasses.replace(spec, steps=min(steps, 250))
        memory = [alone(peak_memory, short, count) for count in (1, 4)]
        table.add_row(
            env,
            f"{theirs:.1f}",
            f"{ours:.1f}",
            f"{ours / theirs:.2f}",
            f"{likeness(spec, 3, 60):.1f}",
            f"{memory[0]:.0f}, {memory[1]:.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
