"""A spec becomes shards: what its episodes are made of, and how one is."""

from __future__ import annotations

import dataclasses
import functools
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

from distractor_data import envs, policies, rollout, schema, shards
from distractor_data.dataset import meta, parts
from distractor_data.engines import Engine
from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.errors import DmaskError
from distractor_data.events import Event
from distractor_data.hub.bucket import Bucket
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
    spec: Spec,
    root: Path,
    fps: int,
    workers: int | None = None,
    engine: Engine | None = None,
    bucket: Bucket | None = None,
) -> Iterator[Event]:
    """Make what `root`, whose lock is held and whose record is of this spec, lacks; see `shards.fill`.

    With a `bucket` workers need not see `root`: each sends its episode there, and whoever hears that it was made
    brings it here.
    """
    versions = tuple(sorted(meta.read_record(root)["versions"].items()))
    place = root if bucket is None else bucket
    return shards.fill(root, spec, workers, functools.partial(_make_as_recorded, spec, place, versions, fps), engine)


def _make_as_recorded(
    spec: Spec, place: Path | Bucket, versions: tuple[tuple[str, str], ...], fps: int, episode: int
) -> int:
    """`make_episode` in a worker that may be on another machine than the one that wrote the record."""
    _refuse_other_ground(spec, place, versions)
    if isinstance(place, Path):
        return make_episode(spec, place, fps, episode)
    with tempfile.TemporaryDirectory() as folder:
        root = schema.root(folder, spec.env, spec.split)
        length = make_episode(spec, root, fps, episode)
        for name in parts.files(episode):
            place.send(root / name, f"{spec.env}/{spec.split}/{name}")
    return length


@functools.cache
def _refuse_other_ground(spec: Spec, place: Path | Bucket, versions: tuple[tuple[str, str], ...]) -> None:
    """Raise `DmaskError` where another renderer, or other versions, would give other bytes here."""
    there, choices = dict(versions), "use nodes that have the same"
    shown = place if isinstance(place, Path) else place.name
    meta.refuse_other_versions(shown, there, spec, choices)
    drawn, now = there.get("renderer", ""), envs.renderer(spec.renderer)
    if drawn and now not in drawn.split("; "):
        raise DmaskError(f"{shown} is drawn by {drawn}; on {platform.node()} it would be {now}; {choices}")


def make_episode(spec: Spec, root: Path, fps: int, episode: int) -> int:
    """In a worker: make one episode and store it. Returns its number of frames."""
    result = rollout.rollout(spec, episode)
    parts.write_part(root, result, fps, spec.version)
    return len(result)
