"""Episodes become shards: workers make them, and each shard is written as soon as it is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from distractor_data import engines, schema
from distractor_data.dataset import meta, parts, storage
from distractor_data.engines import Engine
from distractor_data.events import Event, Made, Shard
from distractor_data.spec import Import, Spec


def fill(
    root: Path, spec: Spec | Import, workers: int | None, work: Callable[[int], int], engine: Engine | None = None
) -> Iterator[Event]:
    """Make what `root`, whose lock is held and whose record is of this spec, lacks; tells of what is there, too.

    `work` stores one episode as a part, in a worker of `engine`, processes of this machine if none is given, and
    returns its number of frames. A shard's event comes when all files of the folder say that it is there.
    """
    wanted = storage.wanted_shards(spec)
    done, index = 0, 0
    meta.refresh(root)  # a kill may have come between a shard and what tells of it
    for shard in storage.shards(root):
        held = storage.read_episodes(root, shard)
        if len(held) < len(wanted[shard]):
            break  # the split grew; this shard's episodes are among the parts, too
        done, index = done + 1, held[schema.TO_INDEX][-1].as_py()
        for episode, length in zip(wanted[shard], held[schema.LENGTH].to_pylist(), strict=True):
            yield Made(episode, length, anew=False)
        yield Shard(shard)
    missing = []
    for episode in (episode for shard in wanted[done:] for episode in shard):
        if parts.part_complete(root, episode):
            yield Made(episode, parts.part_length(root, episode), anew=False)
        else:
            missing.append(episode)

    def assembled() -> Iterator[Event]:
        nonlocal done, index
        while done < len(wanted) and all(parts.part_complete(root, episode) for episode in wanted[done]):
            index = parts.assemble(root, done, wanted[done], index, spec.env)
            meta.refresh(root)
            yield Shard(done)
            done += 1

    yield from assembled()
    for episode, length in (engine or engines.run_local)(work, missing, workers):
        yield Made(episode, length, anew=True)
        yield from assembled()
    meta.refresh(root)
    parts.remove_all(root)
