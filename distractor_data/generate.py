"""A spec becomes shards: what its episodes are made of, and how one is."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distractor_data import engines, envs, policies, rollout, schema, shards
from distractor_data.dataset import meta, parts
from distractor_data.engines import Engine
from distractor_data.envs import devices as egl
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
    devices = egl.to_draw_on() if spec.renderer == "opengl" and engine in (None, engines.run_local) else ()
    versions = tuple(sorted(meta.read_record(root)["versions"].items()))
    work = _Work(spec, root if bucket is None else bucket, versions, fps, _code(), devices)
    return shards.fill(root, spec, workers, work, engine)


@dataclass(frozen=True)
class _Work:
    """`make_episode` in a worker that may be on another machine than the one that wrote the record."""

    spec: Spec
    place: Path | Bucket
    versions: tuple[tuple[str, str], ...]  # of the record
    fps: int
    code: str  # that of the machine whose command it is
    devices: tuple[int, ...] = ()  # of EGL, of this machine

    def __call__(self, episode: int) -> int:
        if (worker := engines.worker()) is not None:  # before anything is drawn here
            egl.take_turn(self.devices, worker)
        _refuse_other_ground(self)
        if isinstance(self.place, Path):
            return make_episode(self.spec, self.place, self.fps, episode)
        with tempfile.TemporaryDirectory() as folder:
            root = schema.root(folder, self.spec.env, self.spec.split)
            length = make_episode(self.spec, root, self.fps, episode)
            for name in parts.files(episode):
                self.place.send(root / name, f"{self.spec.env}/{self.spec.split}/{name}")
        return length


@functools.cache
def _refuse_other_ground(work: _Work) -> None:
    """Raise `DmaskError` where another renderer, or other versions, would give other bytes here."""
    if work.code != _code():
        raise DmaskError(f"{platform.node()} has another dmask than began the run; install the same on all nodes")
    there, choices = dict(work.versions), "use nodes that have the same"
    shown = work.place if isinstance(work.place, Path) else work.place.name
    meta.refuse_other_versions(shown, there, work.spec, choices)
    drawn, now = there.get("renderer", ""), envs.renderer(work.spec.renderer)
    if drawn and now not in drawn.split("; "):
        raise DmaskError(f"{shown} is drawn by {drawn}; on {platform.node()} it would be {now}; {choices}")


@functools.cache
def _code() -> str:
    """SHA-256 over the modules of this package, which tells versions apart that have one number."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def make_episode(spec: Spec, root: Path, fps: int, episode: int) -> int:
    """In a worker: make one episode and store it. Returns its number of frames."""
    result = rollout.rollout(spec, episode)
    parts.write_part(root, result, fps, spec.version)
    return len(result)
