"""A spec becomes shards: what its episodes are made of, and how one is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from distractor_data import envs, policies, rollout, shards
from distractor_data.dataset import parts
from distractor_data.engines import Engine
from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.events import Event
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


def generate(
    spec: Spec, root: Path, fps: int, workers: int | None = None, engine: Engine | None = None
) -> Iterator[Event]:
    """Make what `root`, whose lock is held and whose record is of this spec, lacks; see `shards.fill`."""
    return shards.fill(root, spec, workers, functools.partial(make_episode, spec, root, fps), engine)


def make_episode(spec: Spec, root: Path, fps: int, episode: int) -> int:
    """In a worker: make one episode and store it. Returns its number of frames."""
    result = rollout.rollout(spec, episode)
    parts.write_part(root, result, fps)
    return len(result)
