"""Parts: one episode each, in files that nobody reads, until their shard is full."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import storage, sums
from distractor_data.dataset.rows import frame_stats, frames_table
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.spec import VERSION


def part_name(episode: int) -> str:
    """Path, relative to the root, of where an episode waits for its shard."""
    return f"{storage.PARTS}/episode-{episode:06d}.parquet"


def part_file(root: Path, episode: int) -> Path:
    """The same as a path."""
    return root / part_name(episode)


def files(episode: int) -> tuple[str, str]:
    """Names of all that a part is: the list of its checksum, and the part itself."""
    name = part_name(episode)
    return storage.listed(name), name


def number_of(name: str) -> int | None:
    """The episode of the part that is called so; None for any other name."""
    digits = re.fullmatch(rf"{re.escape(storage.PARTS)}/episode-(\d{{6,9}})\.parquet", name)
    return int(digits[1]) if digits and part_name(int(digits[1])) == name else None


def take(root: Path, other: Path, episode: int) -> None:
    """Move a part here from below another root. Raises `DmaskError` where it is not as its list says."""
    listed, name = files(episode)
    there = untrusted.inside(other, name)
    if not there.exists() or storage.read_sums(other).get(name) != [sums.of(there)]:
        raise DmaskError(f"{there} has changed since it was written (SHA-256 differs); make the episode again")
    (root / storage.PARTS).mkdir(exist_ok=True)
    os.replace(untrusted.inside(other, listed), root / listed)
    os.replace(there, root / name)


def write_part(root: Path, episode: Episode, fps: int, version: int = VERSION) -> None:
    """Store one episode of a spec of that version, with its record in the file's metadata."""
    _write_part(root, frames_table(episode, fps, version), episode.info | {"stats": frame_stats(episode)})


def _write_part(root: Path, frames: pa.Table, record: dict[str, Any]) -> None:
    frames = frames.replace_schema_metadata({**frames.schema.metadata, b"dmask": json.dumps(record).encode()})
    storage.write_parquet(root, part_name(record[schema.EPISODE]), [frames], frames.schema)


def part_complete(root: Path, episode: int) -> bool:
    """Whether an episode's part is there. Parts appear by rename, so one that is there is whole."""
    return part_file(root, episode).exists()


def part_length(root: Path, episode: int) -> int:
    """Number of frames in a part."""
    return untrusted.parquet(untrusted.inside(root, part_name(episode))).metadata.num_rows


def assemble(
    root: Path,
    shard: int,
    episodes: Sequence[int],
    first_index: int,
    task: str,
    table: Callable[[list[dict[str, Any]]], pa.Table] = pa.Table.from_pylist,
) -> int:
    """Move the parts of `episodes` into shard `shard`. Returns the index after the shard's last frame.

    `table` makes the shard's episode records of their rows.
    """
    first, _ = untrusted.part(untrusted.inside(root, part_name(episodes[0])), episodes[0])
    frames_schema = schema.like(first.schema)
    records: list[dict[str, Any]] = []

    def groups() -> Iterator[pa.Table]:
        index = first_index
        for episode in episodes:
            part, record = untrusted.part(untrusted.inside(root, part_name(episode)), episode)
            records.append(_episode_row(record, shard, index, task))
            position = part.schema.get_field_index(schema.INDEX)
            index += len(part)
            counted = pa.array(np.arange(index - len(part), index))
            part = part.set_column(position, part.schema.field(position), counted)
            yield part.cast(frames_schema)

    storage.write_parquet(root, schema.data_file(shard), groups(), frames_schema)
    storage.write_episodes(root, shard, table(records))
    storage.forget(root, [part_name(episode) for episode in episodes])
    return records[-1][schema.TO_INDEX]


def _episode_row(record: dict[str, Any], shard: int, index: int, task: str) -> dict[str, Any]:
    """An episode's row in `meta/episodes`: LeRobot's columns, then ours, then the statistics."""
    record = dict(record)
    stats, length = record.pop("stats"), record.pop(schema.LENGTH)
    chunk, file = shard // schema.CHUNK_SIZE, shard % schema.CHUNK_SIZE
    return {
        schema.EPISODE: record.pop(schema.EPISODE),
        schema.TASK_NAMES: [task],
        schema.LENGTH: length,
        schema.CHUNK: chunk,
        schema.FILE: file,
        schema.FROM_INDEX: index,
        schema.TO_INDEX: index + length,
        "meta/episodes/chunk_index": chunk,
        "meta/episodes/file_index": file,
        **record,
        **{f"stats/{name}/{key}": value for name, of in stats.items() for key, value in of.items()},
    }


_ROW_ONLY = (
    schema.TASK_NAMES,
    "data/",
    "dataset_",
    "meta/",
    "stats/",
)  # columns that `_episode_row` adds to a record


def disassemble(root: Path, shard: int) -> None:
    """Copy a shard back into parts, for the last shard of a split that is to grow. `assemble` will replace it."""
    for frames, record in taken_apart(root, shard):
        _write_part(root, frames, record)


def taken_apart(root: Path, shard: int) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
    """The episodes of a shard, each as its frames and its record, as they were before the shard was full."""
    frames, rows = storage.read_frames(root, shard), storage.read_episodes(root, shard).to_pylist()
    for row in rows:
        stats: dict[str, dict[str, Any]] = {}
        for column, value in row.items():
            if column.startswith("stats/"):
                _, name, key = column.split("/")
                stats.setdefault(name, {})[key] = value
        record = {key: value for key, value in row.items() if not key.startswith(_ROW_ONLY)} | {"stats": stats}
        yield frames.slice(row[schema.FROM_INDEX] - rows[0][schema.FROM_INDEX], row[schema.LENGTH]), record


def write_again(root: Path, episode: int, frames: pa.Table, record: dict[str, Any]) -> None:
    """Store an episode that was `taken_apart` under another number."""
    place = frames.schema.get_field_index(schema.EPISODE)
    numbers = pa.array(np.full(len(frames), episode, np.int64))
    _write_part(
        root, frames.set_column(place, frames.schema.field(place), numbers), record | {schema.EPISODE: episode}
    )


def remove_all(root: Path) -> None:
    """Delete what waits for no shard any more, and the folder."""
    waiting = root / storage.PARTS
    if waiting.exists():
        storage.forget(root, [f"{storage.PARTS}/{path.name}" for path in waiting.iterdir()])
        waiting.rmdir()
