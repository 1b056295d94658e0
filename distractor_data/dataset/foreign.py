"""Datasets of others whose rows are frames: a LeRobotDataset v3.0, or Parquet with images as `datasets` writes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import cache, frames
from distractor_data.dataset.formats import lerobot
from distractor_data.errors import DmaskError, nearest
from distractor_data.untrusted import cells

# Words, as `datasets` reads them in names.
_TEST = re.compile(r"(?<![a-z])(test|val|valid|validation|dev|eval)(?![a-z])", re.IGNORECASE)
_NUMBER = re.compile(r"[-_]?\d+(-of-\d+)?\.parquet")  # what tells the shards of one split from each other


@dataclass(frozen=True)
class Clip:
    """An episode: consecutive rows."""

    name: Any  # what the episodes' column says: a number or a text
    start: int  # its first row, counted through the files of its group
    length: int
    videos: Mapping[str, tuple[Path, float]]  # column → file, and seconds at which the episode begins there


@dataclass(frozen=True)
class Group:
    """Files that follow each other, as the shards of a split: an episode may go on from one to the next."""

    names: tuple[str, ...]  # relative to the root
    edges: tuple[int, ...]  # the row at which each begins, and the one after the last
    clips: tuple[Clip, ...]

    @property
    def test(self) -> bool:
        """Whether it is, by its name, held out from training."""
        return _TEST.search(self.names[0]) is not None


@dataclass(frozen=True)
class Source:
    """A dataset that can be read, in which the columns that were asked for are there."""

    root: Path
    fps: float | None  # of a LeRobotDataset
    groups: tuple[Group, ...]
    features: Mapping[str, Any]  # of a LeRobotDataset's info.json

    @property
    def rows(self) -> int:
        return sum(group.edges[-1] for group in self.groups)

    def frames(self, group: Group, clip: Clip, column: str) -> frames.Frames:
        """The frames of an episode in one of its columns of images or video, (H, W, 3) each."""
        shown = f"episode {clip.name} of {self.root.name}"

        def begin(t: int) -> Iterator[np.ndarray]:
            if column in clip.videos:
                path, start = clip.videos[column]
                return frames.of_video(path, self.fps or 1, start, t)
            files = [self.root / name for name in group.names]
            return frames.of_column(files, group.edges, column, clip.start + t)

        return frames.Frames(clip.length, begin, shown)


def is_one(root: Path) -> bool:
    """Whether a folder holds such a dataset, by its files."""
    return root.is_dir() and (lerobot.is_lerobot(root) or next(_visible(root, ".parquet"), None) is not None)


def columns(root: Path) -> list[str]:
    """Names of all columns that a dataset has, of images, video or else."""
    if lerobot.is_lerobot(root):
        return list(lerobot.info(root)["features"])
    return list(dict.fromkeys(name for _, layout in _layouts(root) for name in layout.names))


def cameras(root: Path) -> list[str]:
    """Names of the columns of images or video."""
    if lerobot.is_lerobot(root):
        return [name for name, said in lerobot.info(root)["features"].items() if said["dtype"] in ("image", "video")]
    fields = (field for _, layout in _layouts(root) for field in layout)
    return list(dict.fromkeys(field.name for field in fields if cells.is_image(field.type)))


def digest(root: Path) -> str:
    """SHA-256 over the names and the SHA-256 of a dataset's files of rows and video."""
    names = sorted(path.relative_to(root).as_posix() for path in _visible(root, ".parquet", ".mp4"))
    lines = "".join(f"{name} {cache.sha256(untrusted.inside(root, name))}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def opened(root: Path, columns: Sequence[str], episode_column: str | None = None) -> Source:
    """A dataset with these columns of images or video. Raises `DmaskError` where it, or one of them, isn't there."""
    if not root.is_dir():
        raise DmaskError(f"{root} is no folder; give that of a dataset")
    return (
        _lerobot(root, columns, episode_column)
        if lerobot.is_lerobot(root)
        else _parquet(root, columns, episode_column)
    )


def _lerobot(root: Path, columns: Sequence[str], episode_column: str | None) -> Source:
    if episode_column not in (None, schema.EPISODE):
        raise DmaskError(f"--episode-column {episode_column}: a LeRobotDataset's is {schema.EPISODE}; leave it out")
    info = lerobot.info(root)
    _require(root, columns)
    videos = [column for column in columns if info["features"][column]["dtype"] == "video"]
    places = lerobot.places(root, videos)
    names = tuple(dict.fromkeys(place.file for place in places))
    group = _group(root, names, schema.EPISODE, [column for column in columns if column not in videos])
    told, found = [(place.episode, place.length) for place in places], [(c.name, c.length) for c in group.clips]
    if told != found:
        raise DmaskError(f"{root} has other episodes than its records tell of; get it again")
    clips = tuple(
        Clip(
            clip.name,
            clip.start,
            clip.length,
            {column: (_there(root, name), begin) for column, (name, begin) in place.videos.items()},
        )
        for clip, place in zip(group.clips, places, strict=True)
    )
    return Source(root, float(info["fps"]), (Group(names, group.edges, clips),), info["features"])


def _parquet(root: Path, columns: Sequence[str], episode_column: str | None) -> Source:
    _require(root, columns)
    groups: dict[str, list[str]] = {}
    for name, layout in _layouts(root):
        if set(columns) <= set(layout.names):
            groups.setdefault(_NUMBER.sub("", name), []).append(name)
    key = episode_column or schema.EPISODE
    return Source(root, None, tuple(_group(root, tuple(names), key, columns) for names in groups.values()), {})


def _layouts(root: Path) -> Iterator[tuple[str, pa.Schema]]:
    """The Parquet files of a dataset, relative to the root and in order, and their columns."""
    for name in sorted(path.relative_to(root).as_posix() for path in _visible(root, ".parquet")):
        yield name, cells.columns(untrusted.inside(root, name))


def _visible(root: Path, *suffixes: str) -> Iterator[Path]:
    """Files by what their names end with; nothing hidden is data."""
    for path in root.rglob("*"):
        if path.suffix in suffixes and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


def _group(root: Path, names: tuple[str, ...], key: str, pictures: Sequence[str]) -> Group:
    """The episodes of files that follow each other, as runs of one value in the column `key`."""
    values: list[Any] = []
    edges = [0]
    for name in names:
        path = _there(root, name)
        layout = cells.columns(path)
        if key not in layout.names:
            raise DmaskError(
                f"{path} has no column {key} that tells episodes apart{nearest(key, layout.names)} (it has "
                f"{', '.join(layout.names)}); give --episode-column"
            )
        for column in pictures:
            if column not in layout.names or not cells.is_image(layout.field(column).type):
                raise DmaskError(f"{path} has no images in a column {column}; get it again")
        values += cells.keys(path, key)
        edges.append(len(values))
    starts = [0] + [row for row in range(1, len(values)) if values[row] != values[row - 1]]
    clips = tuple(
        Clip(values[start], start, stop - start, {})
        for start, stop in zip(starts, [*starts[1:], len(values)], strict=True)
    )
    seen: set[Any] = set()
    for clip in clips:
        if clip.name in seen:
            raise DmaskError(
                f"episode {clip.name!r} of {root} is not in consecutive rows; sort the rows by {key} and time"
            )
        seen.add(clip.name)
    return Group(names, tuple(edges), clips)


def _there(root: Path, name: str) -> Path:
    path = untrusted.inside(root, name)
    if not path.exists():
        raise DmaskError(f"{path} is missing; get the dataset again")
    return path


def _require(root: Path, columns: Sequence[str]) -> None:
    there = cameras(root)
    for column in columns:
        if column not in there:
            raise DmaskError(
                f"{root} has no images or video in a column {column}{nearest(column, there)} (it has "
                f"{', '.join(there) or 'none at all'})"
            )


def appended(layout: pa.Schema, columns: Mapping[str, str]) -> pa.Schema:
    """A file's columns with those of masks (image column → mask column) behind them.

    What its metadata tell `datasets` of the others stays as it is, to the letter: other versions have other words.
    """
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [*layout, *(pa.field(mask, image) for mask in columns.values())]
    metadata = dict(layout.metadata or {})
    if b"huggingface" in metadata:
        said = json.loads(metadata[b"huggingface"])
        said["info"]["features"] |= {mask: {"_type": "Image"} for mask in columns.values()}
        metadata[b"huggingface"] = json.dumps(said).encode()
    return pa.schema(fields, metadata=metadata)
