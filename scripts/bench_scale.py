"""How generation scales: frames per second on more nodes, and what keeping the books costs as a dataset grows.

    python -m scripts.bench_scale

Nodes are simulated (`ray.cluster_utils.Cluster`, a core each): past this machine's cores they share them, and the
frames/s should hold rather than grow. For the books a stub stands in place of rendering and encoding: episodes of one
content, encoded before. What is timed is all the rest: parts, shards, statistics, checksums. Other work on the
machine costs processor time, too, so a new dataset is measured in turn with the one that grows; their ratio counts.
"""

from __future__ import annotations

import functools
import shutil
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
MEASURED = 50  # shards of the growing dataset, each beside one of a new dataset


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


def costs(root: Path, episodes: int, steps: int) -> Iterator[float]:
    """Milliseconds of the processor that each frame of a shard cost, shard by shard."""
    spec = Spec(env="cheetah-run", episodes=episodes, steps=steps, image_size=SIZE, policy="random")
    meta.write_record(root, spec, fps=40)
    work = functools.partial(_store, root, *stub(steps))
    full = (event for event in shards.fill(root, spec, 1, work, in_turn) if isinstance(event, Shard))
    started = time.process_time()
    for _ in full:
        yield (time.process_time() - started) / (PER_SHARD * steps) * 1e3
        started = time.process_time()


def books(episodes: int, steps: int) -> list[tuple[int, float, float]]:
    """Of a growing dataset: the episodes that it had, what its next shard cost, and the second of a new one then."""
    storage.SHARD_FRAMES = -(-PER_SHARD * steps * SIZE**2 // 64**2)
    found, every = [], max(1, episodes // PER_SHARD // MEASURED)
    with tempfile.TemporaryDirectory() as out:
        for number, grown in enumerate(costs(schema.root(out, "grown", "train"), episodes, steps)):
            if number % every == 0:
                new = schema.root(out, "new", "train")
                _, beside = costs(new, 2 * PER_SHARD, steps)
                shutil.rmtree(new)
                found.append((number * PER_SHARD, grown, beside))
    return found


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
    table = Table(
        "episodes before",
        "ms a frame",
        "of a new dataset",
        "ratio",
        title="the books, processor time, a stub rendering",
    )
    for window in np.array_split(books(episodes, steps), 10):
        _, grown, new = np.median(window, axis=0)
        ratio = np.median(window[:, 1] / window[:, 2])
        table.add_row(f"{window[0, 0]:,.0f}", f"{grown:.3f}", f"{new:.3f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
