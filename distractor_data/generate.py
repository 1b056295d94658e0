"""A spec becomes a dataset: episodes are made by workers, and each shard is written as soon as it is full."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distractor_data import engines, envs, schema, untrusted
from distractor_data.dataset import folders, meta, parts, storage
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS, Spec

if TYPE_CHECKING:
    from distractor_data.masks.annotate import Masker, Settings

STAGING = ".new"  # folder beneath a dataset's, for data that is to replace what is there
_MUST_MATCH = ("mujoco", "dm_control", "distracting-control")


@dataclass(frozen=True)
class Summary:
    """What one config and split holds after a run, and how fast the run was."""

    root: Path
    episodes: int
    frames: int
    mean_return: float
    mask_coverage: float  # share of pixels
    bytes: int
    made: int  # frames made by this run
    seconds: float


def generate(
    spec: Spec,
    directory: str | Path,
    workers: int | None = None,
    overwrite: bool = False,
    on_episode: Callable[[int, bool], None] = lambda frames, made: None,
    push: str | None = None,
    license: str | None = None,
    masks: Settings | None = None,
    on_masked: Callable[[int, int], None] = lambda frames, total: None,
    any_renderer: bool = False,
) -> Summary:
    """Write the config and split of a spec into `directory`, going on from what is there.

    `on_episode(frames, made)` is called for each episode, `made` being false for one that was there already.
    With `push`, the name of a dataset repository, each shard goes there when it is done and its frames are not
    kept here; what lies there is not made again. With `masks`, shards get a model's masks while others are made,
    and `on_masked` is called with how many frames got one now, and how many there will be.
    With `overwrite` the new data is written beside the old, in `STAGING`, and takes its place when it is complete.
    Raises `DmaskError` where the folder or the repository holds another spec, where another renderer drew what is
    there (but for `any_renderer`), or another run is writing to the folder.
    """
    started = time.perf_counter()
    if push and masks is not None:
        raise DmaskError(
            "--push sends a shard when it is rendered, before a model has masked it; run `dmask generate --masks` "
            "without --push, then `dmask push`"
        )
    _refuse_foreign_card(Path(directory))
    spec, fps = complete(spec)
    masker = _prepare(masks) if masks is not None else None
    final = untrusted.folder(directory, spec.env, spec.split)
    folders.recover(final)
    _refuse_other_columns(final, spec)
    replaces = overwrite and (final / schema.DMASK).exists()
    if replaces:
        _refuse_foreign(final)
    home = Path(directory) / STAGING if replaces else Path(directory)
    root = untrusted.folder(home, spec.env, spec.split)
    final.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    with storage.lock(final), storage.lock(root) if replaces else nullcontext():
        publish = _publisher(home, push, spec, license, overwrite) if push else lambda last=False: None
        _restore_record(root)
        spec = _as_begun(final, root, spec)
        if replaces and not _continues(root, spec):
            _empty(root)  # of an earlier --overwrite that was broken off, and is not wanted any more
        _resume(root, spec, fps, masks, any_renderer)
        publish()
        with _masking(root, masker, lambda frames: on_masked(frames, spec.episodes * spec.steps)) as mask:
            mask()
            made = _fill(root, spec, fps, workers or engines.cores(), on_episode, lambda: (publish(), mask()))
        _close(root)
        publish(last=True)
        if replaces:
            folders.replace_folder(root, final)
            folders.remove_empty(root.parent, Path(directory))
    write_card(directory)
    return _summarise(final, made, time.perf_counter() - started)


def _prepare(settings: Settings) -> Masker:
    from distractor_data.masks.annotate import prepare

    return prepare(settings)


def _masking(
    root: Path, masker: Masker | None, on_frames: Callable[[int], None]
) -> AbstractContextManager[Callable[[], None]]:
    if masker is None:
        return nullcontext(lambda: None)
    from distractor_data.masks.annotate import masking

    return masking(root, masker, on_frames)


def _publisher(directory: str | Path, name: str, spec: Spec, license: str | None, fresh: bool) -> Callable[..., None]:
    from distractor_data import publish

    return publish.publisher(directory, name, spec, license, fresh)


def complete(spec: Spec) -> tuple[Spec, int]:
    """The spec with its digests, and the environment's frame rate. Finds bad input before anything is written."""
    from distractor_data import policies
    from distractor_data.envs.backgrounds import open_backgrounds

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


def _refuse_foreign(root: Path) -> None:
    """Raise `DmaskError` where the folder that is to be replaced holds something that dmask did not write."""
    found = [name for name in folders.contents(root) if not storage.is_ours(name)]
    if found:
        raise DmaskError(f"{root / found[0]} is no file of ours and would be lost; move it, or choose another --out")


def _continues(root: Path, spec: Spec) -> bool:
    """Whether the folder holds the beginning of just this data."""
    try:
        record = meta.read_record(root)
        _refuse_other_data(root, spec, record, "")
        _renderers(root, record, envs.renderer(spec.renderer), any_renderer=False, choices="")
    except DmaskError:
        return False
    return spec.episodes == Spec.from_json(record["spec"]).episodes


def _empty(root: Path) -> None:
    for path in root.iterdir():
        if path.name != ".lock":
            storage.remove(path)


def _as_begun(final: Path, root: Path, spec: Spec) -> Spec:
    """The spec in the version that its config was begun with, whose splits are read together."""
    others = [schema.root(final.parent.parent, spec.env, split) for split in SPLITS if split != spec.split]
    begun = [meta.read_spec(split).version for split in (*others, root) if (split / schema.DMASK).exists()]
    return dataclasses.replace(spec, version=min([spec.version, *begun]))


def _restore_record(root: Path) -> None:
    from distractor_data.repair import restore_record  # it makes episodes as this module does

    restore_record(root)


def _resume(root: Path, spec: Spec, fps: int, masks: Settings | None, any_renderer: bool) -> None:
    """Make the folder ready to hold this spec, or refuse and say which field differs. What is damaged is mended."""
    from distractor_data import repair

    renderer = envs.renderer(spec.renderer)
    if not meta.has_record(root):
        if any(name != meta.COPY for name in folders.contents(root)):
            raise DmaskError(f"{root} is not empty and holds no dataset; choose another --out")
        storage.settle(root)
        meta.write_record(root, spec, fps, renderer)
        return
    choices = "choose another --out, or replace it with --overwrite"
    record = meta.read_record(root)
    _refuse_other_data(root, spec, record, choices)
    renderer = _renderers(root, record, renderer, any_renderer, choices)
    given = repair.Given(spec.backgrounds, spec.policy, masks.model if masks is not None else None)
    repair.repair(root, given, exact=False)
    held, source = storage.shards(root), record["mask"]["source"]
    grows = spec.episodes > Spec.from_json(record["spec"]).episodes
    if grows and source != "simulator":
        raise DmaskError(f"{root} has masks of {source} and can't grow; {choices}")
    if source != "simulator" and masks is None and len(held) < len(_wanted(spec)):
        raise DmaskError(f"{root} is to have masks of {source}; give --masks sam2 to go on, or {choices}")
    if grows and held and len(storage.read_episodes(root, held[-1])) < storage.episodes_per_shard(spec):
        parts.disassemble(root, held[-1])
    if grows:
        meta.write_record(root, spec, fps, renderer)


def _refuse_other_data(root: Path, spec: Spec, record: dict[str, Any], choices: str) -> None:
    there = Spec.from_json(record["spec"])
    if differences := spec.differences(there):
        raise DmaskError(f"{root} holds data of another spec: {', '.join(differences)}; {choices}")
    if spec.episodes < there.episodes:
        raise DmaskError(f"{root} is for {there.episodes} episodes, {spec.episodes} now; {choices}")
    refuse_other_versions(root, record["versions"], choices)


def _refuse_other_columns(root: Path, spec: Spec) -> None:
    """The splits of a config are read together, so what one keeps the other must keep too."""
    for sibling in root.parent.glob(f"*/{schema.DMASK}"):
        there = meta.read_spec(sibling.parent.parent)
        if there.split != spec.split and there.clean != spec.clean:
            add = "add" if there.clean else "leave out"
            raise DmaskError(
                f"{sibling.parent.parent} was made {'with' if there.clean else 'without'} --clean, and the splits of "
                f"a config need the same columns; {add} --clean here, or choose another --out"
            )


def refuse_other_versions(root: Path, there: dict[str, str], choices: str) -> None:
    now = meta.versions()
    changed = [
        f"{name} ({there.get(name)} there, {now[name]} now)" for name in _MUST_MATCH if there.get(name) != now[name]
    ]
    if changed:
        raise DmaskError(f"{root} was made with other versions: {', '.join(changed)}; {choices}")


def _renderers(root: Path, record: dict[str, Any], now: str, any_renderer: bool, choices: str) -> str:
    """What drew the data and goes on with it, recorded: one renderer, but for `any_renderer`; empty if it is old."""
    there = record["versions"].get("renderer", "")
    if not there or now in there.split("; "):
        return there
    if not any_renderer:
        raise DmaskError(
            f"{root} was drawn by {there}; here it is {now}, whose pixels may differ; {choices}, or mix them with "
            "--any-renderer"
        )
    both = f"{there}; {now}"
    meta.save_record(root, record | {"versions": record["versions"] | {"renderer": both}})
    return both


def _fill(
    root: Path,
    spec: Spec,
    fps: int,
    workers: int,
    on_episode: Callable[[int, bool], None],
    publish: Callable[[], object],
) -> int:
    """Make what is missing; `publish` is called when shards are done. Returns the number of frames made."""
    wanted = _wanted(spec)
    done, index = 0, 0
    for shard in storage.shards(root):
        held = storage.read_episodes(root, shard)
        if len(held) < len(wanted[shard]):
            break  # the split grew; this shard's episodes are among the parts, too
        done, index = done + 1, held["dataset_to_index"][-1].as_py()
        for length in held["length"].to_pylist():
            on_episode(length, False)
    missing = []
    for episode in (episode for shard in wanted[done:] for episode in shard):
        if parts.part_complete(root, episode):
            on_episode(parts.part_length(root, episode), False)
        else:
            missing.append(episode)
    made, task = 0, spec.env

    def collect() -> None:
        nonlocal done, index
        while done < len(wanted) and all(parts.part_complete(root, episode) for episode in wanted[done]):
            index = parts.assemble(root, done, wanted[done], index, task)
            done += 1
            meta.refresh(root)
            publish()

    collect()
    work = functools.partial(make_episode, spec, root, fps)
    for _, length in engines.run_local(work, missing, min(workers, max(1, len(missing)))):
        made += length
        on_episode(length, True)
        collect()
    return made


def _wanted(spec: Spec) -> list[range]:
    """The episodes of each shard."""
    size = storage.episodes_per_shard(spec)
    return [range(start, min(start + size, spec.episodes)) for start in range(0, spec.episodes, size)]


def make_episode(spec: Spec, root: Path, fps: int, episode: int) -> int:
    """In a worker: make one episode and store it. Returns its number of frames."""
    from distractor_data.rollout import rollout

    result = rollout(spec, episode)
    parts.write_part(root, result, fps)
    return len(result)


def _close(root: Path) -> None:
    meta.refresh(root)
    waiting = root / storage.PARTS
    if waiting.exists():
        storage.forget(root, [f"{storage.PARTS}/{path.name}" for path in waiting.iterdir()])
        waiting.rmdir()


def _refuse_foreign_card(directory: Path) -> None:
    from cards.template import refuse_foreign
    from distractor_data.hub.repository import CARD

    refuse_foreign(untrusted.inside(directory, CARD))


def write_card(directory: str | Path) -> None:
    """Write the dataset's README.md anew."""
    from cards import dataset

    dataset.write_card(Path(directory))


def _summarise(root: Path, made: int, seconds: float) -> Summary:
    episodes: dict[str, Any] = storage.read_episodes(root).to_pydict()
    frames = sum(episodes["length"])
    covered = sum(share * n for share, n in zip(episodes["coverage"], episodes["length"], strict=True))
    return Summary(
        root=root,
        episodes=len(episodes["length"]),
        frames=frames,
        mean_return=sum(episodes["return"]) / len(episodes["return"]),
        mask_coverage=covered / frames,
        bytes=sum(path.stat().st_size for path in root.rglob("*.parquet")),
        made=made,
        seconds=seconds,
    )
