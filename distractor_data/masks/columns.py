"""Masks for columns of images or video in anybody's dataset: a copy with columns of masks, valid as what it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distractor_data import schema, untrusted
from distractor_data.dataset import folders, foreign, storage
from distractor_data.dataset.foreign import Clip, Group, Source
from distractor_data.dataset.formats import lerobot
from distractor_data.dataset.rows import encode_mask
from distractor_data.device import pick_device
from distractor_data.errors import DmaskError
from distractor_data.masks import prompts
from distractor_data.masks.annotate import OnFrames, Settings, source_of, tracker_for
from distractor_data.masks.report import Report
from distractor_data.untrusted import cells
from dmask_cards.features import with_masks

RECORD = ".masks.json"  # what the masks of a copy come from; hidden, so that no reader takes it for data


@dataclass
class _Pending:
    """The files of a group that have no masks yet: their masks, encoded, as they come."""

    source: Source
    group: Group
    columns: Mapping[str, str]
    target: Path
    todo: list[int] = field(default_factory=list)  # files by number
    blobs: dict[str, dict[int, bytes]] = field(default_factory=dict)  # image column → row → PNG
    shares: dict[str, np.ndarray] = field(default_factory=dict)  # image column → share of each row's pixels, or NaN
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # image column → height, width

    def __post_init__(self) -> None:
        self.todo = [k for k, name in enumerate(self.group.names) if not (self.target / name).exists()]
        self.blobs = {column: {} for column in self.columns}
        self.shares = {column: np.full(self.group.edges[-1], np.nan) for column in self.columns}

    @property
    def clips(self) -> list[Clip]:
        """The episodes that have a row in one of the files."""
        spans = [self.group.edges[k : k + 2] for k in self.todo]
        return [
            c for c in self.group.clips if any(c.start < stop and c.start + c.length > start for start, stop in spans)
        ]

    def take(self, column: str, row: int, mask: np.ndarray) -> None:
        """Keep the mask (H, W) bool of a row, encoded."""
        self.blobs[column][row] = encode_mask(mask)
        self.shares[column][row] = mask.mean()
        self.sizes[column] = mask.shape[0], mask.shape[1]

    def write(self, first: int, last: int) -> None:
        """Write the files with rows from `first` to `last`, both included, all of whose masks are there."""
        for k in list(self.todo):
            rows = range(*self.group.edges[k : k + 2])
            if rows.start <= last and rows.stop > first and self._complete(rows):
                _write(self.source.root, self.target, self.group.names[k], self.columns, self._rows(rows))
                self.todo.remove(k)

    def _complete(self, rows: range) -> bool:
        return all(row in blobs for blobs in self.blobs.values() for row in rows)

    def _rows(self, rows: range) -> dict[str, list[bytes]]:
        """Mask column → what a file gets. It is not needed again."""
        return {mask: [self.blobs[image].pop(row) for row in rows] for image, mask in self.columns.items()}

    def measure(self) -> None:
        """Look up the masks that were written by an earlier run."""
        copy = Source(self.target, None, (), {})
        for image, mask in self.columns.items():
            for clip in self.group.clips:
                rows = slice(clip.start, clip.start + clip.length)
                if np.isnan(self.shares[image][rows]).any():
                    frames = copy.frames(self.group, Clip(clip.name, clip.start, clip.length, {}), mask)
                    self.shares[image][rows] = [float((frame[..., 0] > 127).mean()) for frame in frames]
                    self.sizes[image] = frames[0].shape[:2]


@dataclass(frozen=True)
class _Sink:
    """What a tracker gives the masks of consecutive rows to, as they come."""

    pending: _Pending
    column: str
    row: int
    shape: tuple[int, int, int]

    def __setitem__(self, t: int, mask: np.ndarray) -> None:
        self.pending.take(self.column, self.row + t, mask)


def mask_columns(
    directory: Path,
    columns: Sequence[str],
    settings: Settings,
    out: Path | None,
    episode_column: str | None = None,
    overwrite: bool = False,
    on_frames: OnFrames = lambda frames, total: None,
) -> list[Report]:
    """Write to `out` a copy of a dataset with masks for columns of it, each named as `schema.mask_of` says.

    The copy takes its place when it is complete; broken off, the same call goes on. Raises `DmaskError` where the
    dataset, a column or the prompt can't be used, and where something is at `out` that `overwrite` doesn't allow to
    go.
    """
    if out is None:
        raise DmaskError(f"the copy of {directory} with masks needs a place; give --out DIR")
    if settings.prompt == "simulator":
        raise DmaskError(
            f"{directory} has no simulator; give --prompt motion, box=x0,y0,x1,y1, point=x,y or mask=FILE"
        )
    prompts.parse(settings.prompt)
    out = out.absolute()
    _check_place(directory, out, overwrite)
    named = {column: schema.mask_of(column) for column in columns}
    source = foreign.opened(directory, list(named), episode_column)
    _others(source)
    record = _record(source, named, settings)
    new = out.with_name(f".{out.name}.new")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir(exist_ok=True)
    with storage.lock(new):
        _prepare(new, record)
        pending = [_Pending(source, group, named, new) for group in source.groups]
        _mask(pending, settings, on_frames)
        reports = _finish(source, named, pending, new)
        (new / ".lock").unlink()
        folders.replace_folder(new, out)
    return reports


def _check_place(directory: Path, out: Path, overwrite: bool) -> None:
    """Raise `DmaskError` where writing to `out` would lose something."""
    folders.recover(out)
    here, there = directory.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise DmaskError(f"--out {out} and {directory} lie in one another; choose another folder")
    if not out.exists():
        return
    if not out.is_dir() or out.is_symlink() or not (out / RECORD).is_file():
        raise DmaskError(f"{out} is no copy that dmask made and would be lost; choose another --out")
    if not overwrite:
        raise DmaskError(f"{out} is there already; choose another --out, or replace it with --overwrite")


def _record(source: Source, columns: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """What the copy's masks depend on. Raises `DmaskError` where a column of masks is there already."""
    for group in source.groups:
        for name in group.names:
            there = set(cells.columns(source.root / name).names)
            if taken := there & {*columns.values()}:
                raise DmaskError(
                    f"{source.root / name} has a column {min(taken)} already; mask the dataset it came from"
                )
    masks = source_of(settings)
    return {
        "dataset": {"name": source.root.resolve().name, "digest": foreign.digest(source.root)},
        "masks": {mask: {"of": image, **masks} for image, mask in columns.items()},
    }


def _prepare(new: Path, record: dict[str, Any]) -> None:
    """Begin the copy, or go on with it where it was begun just so."""
    path = untrusted.inside(new, RECORD)
    if path.exists() and storage.read_json(path) == record:
        for leftover in new.rglob(".*.tmp"):
            leftover.unlink()
        return
    if not path.exists() and any(entry.name != ".lock" for entry in new.iterdir()):
        raise DmaskError(f"{new} is no copy that dmask began and would be lost; move it, or choose another --out")
    for entry in new.iterdir():
        if entry.name != ".lock":
            storage.remove(entry)
    storage.write_json(path, record)


def _mask(pending: list[_Pending], settings: Settings, on_frames: OnFrames) -> None:
    """Track what the files lack, and write each when it is complete."""
    from distractor_data.masks.schedule import Video

    total = sum(len(each.columns) * clip.length for each in pending for clip in each.clips)
    on_frames(0, total)
    if not total:
        return
    prompt = prompts.parse(settings.prompt)

    def videos() -> Iterator[Any]:
        for each in pending:
            for clip in each.clips:
                for column in each.columns:
                    frames = each.source.frames(each.group, clip, column)
                    name = f"episode {clip.name}, {column}"
                    for start, stop, given in prompts.segments(frames, prompt, settings.reprompt, None, name):
                        if start:  # a stream of its own: pieces are read at the same time
                            frames = each.source.frames(each.group, clip, column)
                        size = frames[start].shape[:2]
                        sink = _Sink(each, column, clip.start + start, (stop - start, *size))
                        yield Video(None, prompts.Part(frames, start, stop), given, name, sink)

    tracker = tracker_for(settings, pick_device(settings.device.split(",")[0]))
    for track in tracker.track(videos()):
        sink: _Sink = track.masks
        frames = sink.shape[0]
        sink.pending.write(sink.row, sink.row + frames - 1)
        on_frames(frames, total)


def _write(root: Path, target: Path, name: str, columns: Mapping[str, str], masks: dict[str, list[bytes]]) -> None:
    """Copy a file with columns of masks, a few rows at a time."""
    path, row = root / name, 0
    with untrusted.damage(path, cells.ADVICE):
        layout = foreign.appended(cells.columns(path), columns)
    with storage.atomic_write(target / name) as temporary, pq.ParquetWriter(temporary, layout) as writer:
        for batch in cells.batches(path):
            added = [
                pa.array(
                    [{"bytes": blob, "path": None} for blob in masks[mask][row : row + len(batch)]],
                    layout.field(mask).type,
                )
                for mask in columns.values()
            ]
            writer.write_table(pa.Table.from_arrays([*batch.columns, *added], schema=layout))
            row += len(batch)


def _finish(source: Source, columns: Mapping[str, str], pending: list[_Pending], new: Path) -> list[Report]:
    """Measure the masks that were written, and copy all else that belongs to the dataset."""
    shares: dict[str, list[tuple[Any, np.ndarray]]] = {mask: [] for mask in columns.values()}
    for each in pending:
        each.measure()
        for image, mask in columns.items():
            shares[mask] += [(c.name, each.shares[image][c.start : c.start + c.length]) for c in each.group.clips]
    if source.fps:
        sizes = {mask: pending[0].sizes[image] for image, mask in columns.items()}
        stats = {mask: dict(found) for mask, found in shares.items()}
        lerobot.write_meta(source.root, new, columns, stats, sizes)
    for name in _others(source):
        _copy(source.root, new, name, columns)
    made = storage.read_json(new / RECORD)["masks"]
    return [
        _report(f"{image} → {mask}", made[mask]["source"], [episode for _, episode in shares[mask]])
        for image, mask in columns.items()
    ]


def _others(source: Source) -> list[str]:
    """The files that are copied as they are, and the card; hidden folders are nobody's data.

    Raises `DmaskError` where one of them is a link out of the dataset.
    """
    written = {name for group in source.groups for name in group.names}
    if source.fps:
        written |= {schema.INFO, schema.STATS, *lerobot.record_files(source.root)}
    found = []
    for path in sorted(source.root.rglob("*")):
        name = path.relative_to(source.root)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and name.as_posix() not in written and (path.is_symlink() or not path.is_dir()):
            untrusted.inside(source.root, name.as_posix())
            found.append(name.as_posix())
    return found


def _copy(root: Path, new: Path, name: str, columns: Mapping[str, str]) -> None:
    """Copy a file; a card that lists features gets those of the masks."""
    with (
        storage.atomic_write(new / name) as temporary,
        untrusted.opened(untrusted.inside(root, name)) as file,
        open(temporary, "wb") as to,
    ):
        if name == schema.CARD:
            with untrusted.damage(root / name, "mend it, or leave it out"):
                to.write(with_masks(file.read().decode(), columns).encode())
        else:
            shutil.copyfileobj(file, to)


def _report(name: str, source: str, shares: list[np.ndarray]) -> Report:
    lost = [int((episode == 0).sum()) for episode in shares]
    frames = np.concatenate(shares)
    return Report(
        name=name,
        source=source,
        episodes=len(shares),
        frames=len(frames),
        iou=None,
        boundary_f=None,
        j_and_f=None,
        coverage=float(frames.mean()),
        lost_frames=sum(lost),
        lost_episodes=sum(count > 0 for count in lost),
        worst=None,
    )
