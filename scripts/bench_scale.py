"""How generation scales: frames per second on more nodes, and what keeping the books costs as a dataset grows.

    python -m scripts.bench_scale

Nodes are simulated (`ray.cluster_utils.Cluster`, a core each): past this machine's cores they share them, and the
frames/s should hold rather than grow. For the books a stub stands in place of rendering and encoding: episodes of one
content, encoded before. What is timed is all the rest: parts, shards, statistics, checksums.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from distractor_data import engines, schema, shards
from distractor_data.dataset import meta, parts, rows, storage
from distractor_data.episode import Episode, box
from distractor_data.events import Made, Shard
from distractor_data.pipeline import generate
from distractor_data.spec import Spec

PER_SHARD = 50  # episodes, as the defaults have it
SIZE = 16  # pixels, of the stub


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Simulated nodes of Ray with a core each; yields the head's address."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        yield made.address
    finally:
        made.shutdown()


def rate(spec: Spec, workers: int, address: str | None = None) -> float:
    """Frames/s of a run from its first episode on, on the cluster at an address or in processes of this machine."""
    times, frames = [], []

    def note(event: Any) -> None:
        if isinstance(event, Made):
            times.append(time.perf_counter())
            frames.append(event.frames)

    with tempfile.TemporaryDirectory() as out:
        generate(spec, out, workers, on_event=note, engine=engines.engine("ray" if address else "local", address))
    # The first of each worker came with its start.
    return sum(frames[workers:]) / (times[-1] - times[workers - 1])


def stub(steps: int) -> tuple[Any, dict[str, Any]]:
    """An episode's rows and record as they are before it is stored."""
    rng = np.random.default_rng(0)
    mask = np.zeros((steps, SIZE, SIZE), bool)
    mask[:, 3:8, 3:8] = True
    episode = Episode(
        image=rng.integers(0, 256, (steps, SIZE, SIZE, 3), dtype=np.uint8),
        mask=mask,
        state=rng.normal(size=(steps, 17)).astype(np.float32),
        action=rng.uniform(-1, 1, (steps, 6)).astype(np.float32),
        reward=rng.random(steps).astype(np.float32),
        done=np.arange(steps) == steps - 1,
        info={schema.EPISODE: 0, schema.LENGTH: steps, schema.SEED: 0, schema.RETURN: 1.0, schema.BOX: box(mask[0])},
    )
    info = episode.info | {schema.BACKGROUND: "synthetic", schema.COVERAGE: float(mask.mean())}
    return rows.frames_table(episode, 40), info | {"stats": rows.frame_stats(episode)}


def books(episodes: int, steps: int) -> np.ndarray:
    """Seconds that each shard of a growing dataset took, on the processor and in all: (shards, 2)."""
    storage.SHARD_FRAMES = -(-PER_SHARD * steps * SIZE**2 // 64**2)
    spec = Spec(env="cheetah-run", episodes=episodes, steps=steps, image_size=SIZE, policy="random")
    frames, record = stub(steps)
    clocks = [(time.process_time(), time.perf_counter())]
    with tempfile.TemporaryDirectory() as out:
        root = schema.root(Path(out), spec.env, spec.split)
        meta.write_record(root, spec, fps=40)
        work = functools.partial(_store, root, frames, record)
        events = shards.fill(root, spec, 1, work, in_turn)
        full = (event for event in events if isinstance(event, Shard))
        clocks.extend((time.process_time(), time.perf_counter()) for _ in full)
    return np.diff(np.array(clocks), axis=0)


def _store(root: Path, frames: Any, record: dict[str, Any], episode: int) -> int:
    parts.write_again(root, episode, frames, record)
    return len(frames)


def in_turn(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """An engine of this process alone, whose clock then sees all."""
    return ((item, function(item)) for item in items)


def main(
    env: Annotated[str, typer.Option(help="What is rendered on the nodes.")] = "cheetah",
    frames: Annotated[int, typer.Option(help="Frames that each node makes.")] = 4000,
    nodes: Annotated[list[int], typer.Option(help="Numbers of nodes.")] = [1, 2, 4, 8],  # noqa: B006
    episodes: Annotated[int, typer.Option(help="How far the dataset of the stub grows.")] = 10000,
    steps: Annotated[int, typer.Option(help="Frames of an episode of the stub.")] = 100,
) -> None:
    """Print two tables."""
    table = Table(
        "nodes or processes", "Ray, frames/s", "local, frames/s", title=f"{engines.cores()} cores, {env}, 64×64"
    )
    for count in nodes:
        spec = Spec(env=env, episodes=count * max(2, frames // 250), steps=250, renderer="caster", policy="random")
        with cluster(count) as address:
            shared = rate(spec, count, address)
        table.add_row(str(count), f"{shared:.0f}", f"{rate(spec, count):.0f}")
    Console().print(table)
    spent = books(episodes, steps) / (PER_SHARD * steps) * 1e3
    table = Table(
        "episodes before", "processor, ms a frame", "in all, ms a frame", title="the books, a stub rendering"
    )
    window = max(1, len(spent) // 10)
    for start in range(0, len(spent), window):
        processor, whole = np.median(spent[start : start + window], axis=0)
        table.add_row(f"{start * PER_SHARD:,}", f"{processor:.4f}", f"{whole:.4f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
