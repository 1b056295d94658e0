"""A spec becomes shards: episodes are made by workers, and each shard is written as soon as it is full."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from distractor_data import engines, envs, policies, rollout, schema
from distractor_data.dataset import meta, parts, storage
from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.events import Event, Made, Shard
from distractor_data.spec import Spec


def complete(spec: Spec) -> tuple[Spec, int]:
    """The spec with its digests, and the environment's frame rate. Finds bad input before anything is written."""
    if spec.difficulty != "clean":
        spec = dataclasses.replace(spec, backgrounds_digest=open_backgrounds(spec.backgrounds).digest())
    spec = dataclasses.replace(spec, policy_digest=policies.digest(spec.policy, spec.env))
    env = envs.make(spec, 0)
    try:
        state_size = len(env.reset().state)
        for level in policies.levels_of(spec.policy):
            policies.load(level, spec.env, state_size, env.action_size)
        return spec, env.fps
    finally:
        env.close()


def generate(spec: Spec, root: Path, fps: int, workers: int) -> Iterator[Event]:
    """Make what `root`, whose lock is held and whose record is of this spec, lacks; tells of what is there, too.

    A shard's event comes when all files of the folder say that it is there.
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
    work = functools.partial(make_episode, spec, root, fps)
    for episode, length in engines.run_local(work, missing, min(workers, max(1, len(missing)))):
        yield Made(episode, length, anew=True)
        yield from assembled()
    meta.refresh(root)
    parts.remove_all(root)


def make_episode(spec: Spec, root: Path, fps: int, episode: int) -> int:
    """In a worker: make one episode and store it. Returns its number of frames."""
    result = rollout.rollout(spec, episode)
    parts.write_part(root, result, fps)
    return len(result)
