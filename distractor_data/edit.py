"""Datasets made of others: merged, split, without some episodes, or with smaller pictures.

An edit writes episodes one by one, as generation does: images are copied as they are encoded, the same command goes
on after a kill, and new data takes a folder's place when it is whole. What is left of one spec as a run of episodes
without a gap stays what `dmask generate` would have made, to the byte; else the record tells of the edit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import folders, meta, parts, read, rewrite, rows, storage
from distractor_data.errors import DmaskError
from distractor_data.events import Begun, Made, OnEvent, ignore
from distractor_data.spec import Import, Spec, of_record
from dmask_cards.dataset import write_card
from dmask_cards.template import refuse_foreign

Change = Callable[[pa.Table, dict[str, Any]], tuple[pa.Table, dict[str, Any]]]  # of an episode's frames and record
Jobs = dict[Path, list["Taken"]]  # root that is written → what is taken for it


@dataclass(frozen=True)
class Taken:
    """Episodes that are taken from a split, in this order."""

    root: Path
    episodes: Sequence[int]

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        return meta.read_record(self.root)

    @functools.cached_property
    def spec(self) -> Spec | Import:
        return of_record(self.record["spec"])


def merge(directories: Sequence[str | Path], out: str | Path, on_event: OnEvent = ignore) -> list[Path]:
    """Put datasets together: what they have of a config and split comes one after the other. Returns the roots.

    The parts that `dmask generate --shard` made become the whole that it makes without. Raises `DmaskError` where
    they don't fit together.
    """
    if len({Path(directory).resolve() for directory in directories}) < 2:
        raise DmaskError("dmask merge takes several folders; give at least two, and --out for what they become")
    found: dict[tuple[str, str], list[Taken]] = {}
    for directory in directories:
        for root in rewrite.roots(directory, None, None):
            taken = Taken(root, range(_check(root)))
            found.setdefault((root.parent.name, root.name), []).append(taken)
    names = " ".join(Path(directory).name for directory in directories)
    command = f"dmask merge {names} --out {Path(out).name}"
    jobs = {}
    for (config, split), sources in found.items():
        sources.sort(key=lambda taken: getattr(taken.spec, "first", 0))  # stable: others stay in their order
        jobs[untrusted.folder(out, config, split)] = sources
    return _write_all([(Path(out), jobs, command)], "merge", on_event)


def split(
    directory: str | Path,
    shares: Sequence[tuple[str | Path, float]],
    env: str | None = None,
    part: str | None = None,
    on_event: OnEvent = ignore,
) -> list[Path]:
    """Divide a dataset's episodes, in their order, among new folders, each with its share. Returns the roots."""
    sizes = [share for _, share in shares]
    if not sizes or any(not 0 < size <= 1 for size in sizes) or sum(sizes) > 1 + 1e-9:
        raise DmaskError("give each folder a share of the episodes, such as 0.9, of 1 in all")
    if len({Path(out).resolve() for out, _ in shares}) < len(shares):
        raise DmaskError("two shares go into one folder; give each a folder of its own")
    picked = rewrite.roots(directory, env, part)
    edges = np.cumsum([0, *sizes])
    counts = {root: _check(root) for root in picked}
    wanted: list[tuple[Path, Jobs, str]] = []
    for (out, size), start, stop in zip(shares, edges, edges[1:], strict=False):
        jobs = {}
        for root, count in counts.items():
            episodes = range(round(start * count), round(stop * count))
            if not episodes:
                raise DmaskError(f"{out} would get none of the {count} episodes of {root}; give it a larger share")
            jobs[untrusted.folder(out, *root.parts[-2:])] = [Taken(root, episodes)]
        wanted.append((Path(out), jobs, f"dmask split {Path(directory).name} {Path(out).name}={size:g}"))
    return _write_all(wanted, "split", on_event)


def delete_episodes(
    directory: str | Path,
    episodes: Iterable[int],
    env: str | None = None,
    part: str | None = None,
    out: str | Path | None = None,
    on_event: OnEvent = ignore,
) -> Path:
    """Leave episodes out of one config and split; the others are numbered anew. In place, or into `out`."""
    picked = rewrite.roots(directory, env, part)
    if len(picked) > 1:
        names = ", ".join("/".join(root.parts[-2:]) for root in picked)
        raise DmaskError(f"{directory} has {names}; say of which with --env and --split")
    (root,) = picked
    count, gone = _check(root), set(episodes)
    if unknown := sorted(gone - set(range(count))):
        raise DmaskError(f"{root} has no episode {unknown[0]}; give numbers from 0 to {count - 1}")
    kept = [episode for episode in range(count) if episode not in gone]
    if not kept or not gone:
        raise DmaskError(f"--episodes names {'all' if gone else 'none'} of {root}; delete the folder, or give others")
    command = f"dmask delete-episodes {Path(directory).name} --episodes {text_of(sorted(gone))}"
    place = Path(out) if out is not None else Path(directory)
    jobs = {untrusted.folder(place, *root.parts[-2:]): [Taken(root, kept)]}
    return _write_all([(place, jobs, command)], "delete-episodes", on_event, in_place=out is None)[0]


def resize(
    directory: str | Path,
    size: int,
    out: str | Path,
    env: str | None = None,
    part: str | None = None,
    on_event: OnEvent = ignore,
) -> list[Path]:
    """A copy with square pictures of `size` pixels: means over areas, or between pixels where it grows."""
    jobs = {}
    for root in rewrite.roots(directory, env, part):
        jobs[untrusted.folder(out, *root.parts[-2:])] = [Taken(root, range(_check(root)))]
    command = f"dmask resize {Path(directory).name} --image-size {size} --out {Path(out).name}"
    change = functools.partial(_resized, size)
    return _write_all([(Path(out), jobs, command)], "resize", on_event, change, image_size=size)


def numbers(text: str) -> list[int]:
    """`"3,7-9"` → `[3, 7, 8, 9]`. Raises `DmaskError` for what is no such list."""
    try:
        spans = [[int(end) for end in word.split("-")] for word in text.split(",")]
        if all(len(span) < 3 and span[0] <= span[-1] < 10**6 for span in spans):
            return [number for span in spans for number in range(span[0], span[-1] + 1)]
    except ValueError:
        pass
    raise DmaskError(f"--episodes is {text!r}; give numbers and ranges, such as 3,7-9")


def text_of(numbers: Sequence[int]) -> str:
    """The inverse, for ascending numbers."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _check(root: Path) -> int:
    """Refuse a split that is damaged, half masked or not all here; the number of its episodes."""
    rewrite.check(root)
    read.refuse_half_masked(root)
    if storage.released(root):
        raise DmaskError(f"the frames of {root} lie on the Hub; `dmask pull` them first")
    return len(storage.read_episodes(root))


def _write_all(
    wanted: list[tuple[Path, Jobs, str]],
    verb: str,
    on_event: OnEvent,
    change: Change | None = None,
    in_place: bool = False,
    image_size: int = 0,
) -> list[Path]:
    """Write the datasets that are wanted, each with the command that its record names; all is checked before."""
    records: dict[Path, dict[str, Any]] = {}
    for place, jobs, command in wanted:
        refuse_foreign(untrusted.inside(place, schema.CARD))
        for root, sources in jobs.items():
            records[root] = _record(sources, verb, command, image_size)
            if in_place:
                folders.recover(root)
                folders.refuse_foreign(root)
            else:
                _refuse_other(root, sources, records[root])
    every = [taken for _, jobs, _ in wanted for sources in jobs.values() for taken in sources]
    on_event(Begun(sum(len(taken.episodes) for taken in every)))
    for place, jobs, _ in wanted:
        for root, sources in jobs.items():
            _write_root(place, root, sources, records[root], change, on_event, in_place)
        write_card(place)
    return list(records)


def _write_root(
    place: Path,
    root: Path,
    sources: list[Taken],
    record: dict[str, Any],
    change: Change | None,
    on_event: OnEvent,
    in_place: bool,
) -> None:
    """Write one config and split under locks; in place, beside the old data, which goes when the new is whole."""
    target = untrusted.folder(place / folders.STAGING, *root.parts[-2:]) if in_place else root
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        for folder in dict.fromkeys([*(taken.root for taken in sources), target]):
            locks.enter_context(storage.lock(folder))
        if in_place and meta.has_record(target) and meta.read_record(target) != record:
            folders.empty(target)  # of another edit that was broken off
        storage.settle(target)
        if not (target / schema.DMASK).exists():
            meta.save_record(target, record)
        _write(target, record, sources, change, on_event)
        if in_place:
            folders.replace_folder(target, root)
            folders.remove_empty(target.parent, place)


def _refuse_other(root: Path, sources: list[Taken], record: dict[str, Any]) -> None:
    if any(root.resolve() == taken.root.resolve() for taken in sources):
        raise DmaskError(f"{root} is read and would be written; choose another folder")
    if not root.exists():
        return
    untrusted.plain(root)
    if meta.has_record(root):
        meta.refuse_damaged(root)
        if meta.read_record(root) != record:
            raise DmaskError(f"{root} holds other data; choose another folder")
    elif folders.contents(root):
        raise DmaskError(f"{root} is not empty and holds no dataset; choose another folder")


def _record(sources: list[Taken], verb: str, command: str, image_size: int) -> dict[str, Any]:
    """The record of what is made of them. Raises `DmaskError` where they don't fit together."""
    one = sources[0]
    columns = untrusted.parquet(one.root / schema.data_file(0)).schema_arrow
    for other in sources[1:]:
        there = untrusted.parquet(other.root / schema.data_file(0)).schema_arrow
        differ = [
            name for name in columns.names if name not in there.names or columns.field(name) != there.field(name)
        ]
        differ += [name for name in there.names if name not in columns.names]
        differ += [name for name in ("fps", "mask") if one.record[name] != other.record[name]]
        differ += ["image size"] if one.spec.image_size != other.spec.image_size else []
        if differ:
            raise DmaskError(f"{other.root} doesn't fit {one.root}: their {', '.join(differ)} differ")
    spec = dataclasses.replace(one.spec, episodes=sum(len(taken.episodes) for taken in sources))
    versions = {
        name: "; ".join(dict.fromkeys(taken.record["versions"].get(name, "") for taken in sources))
        for name in one.record["versions"]
    }
    record = one.record | {"spec": spec.to_json(), "versions": versions}
    if isinstance(spec, Spec) and image_size == 0 and (first := _first(sources)) is not None:
        return record | {"spec": dataclasses.replace(spec, first=first).to_json()}
    spec = dataclasses.replace(spec, image_size=image_size or spec.image_size)
    of = [{key: taken.record[key] for key in ("spec", "edit") if key in taken.record} for taken in sources]
    return record | {"spec": spec.to_json(), "edit": {"verb": verb, "command": command, "of": of}}


def _first(sources: list[Taken]) -> int | None:
    """Which of all episodes comes first, where they are one run of those of one spec, in shards or whole."""
    if isinstance(sources[0].spec, Import):
        return None
    spec = dataclasses.replace(sources[0].spec, first=0)
    made = []
    for taken in sources:
        if isinstance(taken.spec, Import) or "edit" in taken.record:
            return None
        if spec.differences(dataclasses.replace(taken.spec, first=0)):
            return None
        made += [taken.spec.first + episode for episode in taken.episodes]
    return made[0] if made == list(range(made[0], made[0] + len(made))) else None


def _write(
    target: Path, record: dict[str, Any], sources: list[Taken], change: Change | None, on_event: OnEvent
) -> None:
    """Write what `target` lacks of all that is taken."""
    spec, mask = of_record(record["spec"]), record["mask"]
    done = len(storage.shards(target))
    index = storage.read_episodes(target, done - 1)[schema.TO_INDEX][-1].as_py() if done else 0
    table = (
        pa.Table.from_pylist
        if mask["source"] in ("simulator", "none")
        else functools.partial(rewrite.records, source=mask)
    )
    wanted = storage.wanted_shards(spec)
    skip = wanted[done].start if done < len(wanted) else spec.episodes
    for episode in range(skip):
        on_event(Made(episode, 0, anew=False))
    taken = _episodes(sources, skip)
    for shard in range(done, len(wanted)):
        for episode in wanted[shard]:
            frames, row = next(taken)
            if not parts.part_complete(target, episode):
                parts.write_again(target, episode, *(change(frames, row) if change else (frames, row)))
            on_event(Made(episode, len(frames), anew=True))
        index = parts.assemble(target, shard, wanted[shard], index, spec.env, table)
        meta.refresh(target)
    meta.refresh(target)
    parts.remove_all(target)


def _episodes(sources: list[Taken], skip: int) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
    """The episodes that are taken, but for the first `skip`; a shard at a time is in memory."""
    for taken in sources:
        wanted = list(taken.episodes)[skip:]
        skip = max(0, skip - len(taken.episodes))
        for shard in storage.shards(taken.root):
            numbers = storage.read_episodes(taken.root, shard)[schema.EPISODE].to_pylist()
            if wanted and wanted[0] in numbers:
                chosen = set(wanted)
                for number, episode in zip(numbers, parts.taken_apart(taken.root, shard), strict=True):
                    if number in chosen:
                        yield episode
                wanted = [number for number in wanted if number > numbers[-1]]


def _resized(size: int, frames: pa.Table, record: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """An episode with pictures of another size; masks hold what covers at least half of a pixel."""
    import cv2

    stats = dict(record["stats"])
    for name in (name for name in schema.IMAGE_COLUMNS if name in frames.column_names):
        images = storage.decode_images(frames[name])
        how = cv2.INTER_AREA if size < images.shape[1] else cv2.INTER_LINEAR
        small = np.stack([cv2.resize(image, (size, size), interpolation=how) for image in images])
        chosen = rows.spread(len(small))
        if name in schema.MASK_COLUMNS:
            masks = small > 127
            blobs, values = [rows.encode_mask(mask) for mask in masks], masks[chosen][..., None].astype(float)
        else:
            blobs, values = [rows.encode_image(image) for image in small], small[chosen] / 255.0
        stats[name] = rows.column_stats(values)
        column = pa.array([{"bytes": blob, "path": None} for blob in blobs], frames.schema.field(name).type)
        frames = frames.set_column(frames.schema.get_field_index(name), frames.schema.field(name), column)
        if name == schema.MASK:
            from distractor_data.episode import box

            record = record | {schema.BOX: box(masks[0]), schema.COVERAGE: float(masks.mean())}
    return frames, record | {"stats": stats}
