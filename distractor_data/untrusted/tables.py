"""Parquet that a stranger may have written: rows, columns, types and sizes as its footer declares them are compared
with what is expected before a page is decoded, and what is decoded with the records.

What a page claims against its own footer is not seen before: it may cost the 2 GB that the format allows one page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.untrusted import images, values
from distractor_data.untrusted.files import damage, opened
from distractor_data.untrusted.records import EDGE, Layout
from distractor_data.untrusted.values import TEXT, listing, mapping, number, whole

FOOTER = 16 << 20  # bytes; a shard of 200 row groups has 0.5 MB
ROWS = 1 << 22  # of a file
RECORDS = 1 << 30  # bytes that the records of a shard may take
BATCH = 4096  # rows decoded at a time
REPEATED = 256 << 20  # bytes that values stored once may take in a batch where they are repeated
_NUMBERED = (schema.EPISODE, schema.FRAME, schema.INDEX)
_POSITION = (schema.CHUNK, schema.FILE, schema.FROM_INDEX, schema.TO_INDEX)
_PART = values.record(
    {schema.EPISODE: whole(), schema.LENGTH: whole(1), "stats": mapping(mapping(listing(number)))},
)
_STATISTICS = ("min", "max", "mean", "std", "count")


def parquet(path: Path) -> pq.ParquetFile:
    """A file of which only the footer was read."""
    with opened(path) as file, damage(path):
        file.seek(max(0, os.fstat(file.fileno()).st_size - 8))
        end = file.read(8)
        if end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") > FOOTER:
            raise ValueError("it is no whole Parquet file")
        found = pq.ParquetFile(path, thrift_string_size_limit=FOOTER, thrift_container_size_limit=ROWS)
        rows = _group_rows(found)
        if min(rows, default=0) < 0 or sum(rows) != found.metadata.num_rows or not 0 < sum(rows) <= ROWS:
            raise ValueError(f"it says that it has {found.metadata.num_rows} rows")
        return found


def _group_rows(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def chunks_of(file: pq.ParquetFile, groups: Iterable[int] | None = None) -> list[tuple[int, pq.ColumnChunkMetaData]]:
    """What the footer says of the columns in some row groups, or all: (rows, chunk) each."""
    picked = [file.metadata.row_group(group) for group in (range(file.num_row_groups) if groups is None else groups)]
    return [(group.num_rows, group.column(column)) for group in picked for column in range(group.num_columns)]


# --- frames --------------------------------------------------------------------------------------------------


def frames(
    path: Path,
    layout: Layout | None = None,
    records: pa.Table | None = None,
    columns: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows `start` … `stop` - 1 of a file of frames, in batches, of all columns that the schema knows or of some.

    `layout` and `records` are the split's and the shard's, where there are such already.
    """
    file = parquet(path)
    with damage(path):
        rows = file.metadata.num_rows
        if records is not None and rows != (told := pc.sum(records[schema.LENGTH]).as_py()):
            raise ValueError(f"it has {rows} rows, and the records of its episodes tell of {told}")
        numbered = _numbering(records) if records is not None else {}
        edges = np.cumsum([0, *_group_rows(file)])
        stop = rows if stop is None else stop
        groups = [group for group in range(file.num_row_groups) if edges[group] < stop and edges[group + 1] > start]
        chunks = chunks_of(file, groups)
        names = _check_columns(file, chunks, layout, columns)
        at = int(edges[groups[0]])
        wanted = list(dict.fromkeys([*names, *numbered]))
        for batch in file.iter_batches(batch_rows(chunks), row_groups=groups, columns=wanted):
            part = batch.slice(max(start - at, 0), max(0, min(stop, at + len(batch)) - max(start, at)))
            if len(part):
                _check_rows(part, layout)
                for name, told in numbered.items():
                    if not np.array_equal(part[name].to_numpy(), told[max(start, at) :][: len(part)]):
                        raise ValueError(f"its column {name} is not as the records of its episodes tell")
                yield part.select(names)
            at += len(batch)
        if at < stop:
            raise ValueError(f"it ends after {at} of {rows} rows")


def frames_table(
    path: Path,
    layout: Layout | None = None,
    records: pa.Table | None = None,
    columns: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
) -> pa.Table:
    """`frames` as one table."""
    return pa.Table.from_batches(frames(path, layout, records, columns, start, stop))


def part(path: Path, episode: int) -> tuple[pa.Table, dict[str, Any]]:
    """Frames of an episode that waits for its shard, and its record."""
    table = frames_table(path)
    metadata = table.schema.metadata or {}
    record = values.parse(metadata.get(b"dmask", b""), path, _PART)
    if record[schema.EPISODE] != episode or record[schema.LENGTH] != len(table) or b"huggingface" not in metadata:
        raise DmaskError(f"{path} is not the whole of episode {episode}; delete it and generate again")
    return table, record


def _check_columns(
    file: pq.ParquetFile,
    chunks: list[tuple[int, pq.ColumnChunkMetaData]],
    layout: Layout | None,
    columns: Sequence[str] | None,
) -> list[str]:
    """Names of the columns to read. Raises `ValueError` where one has not the type or the size that it should."""
    found = file.schema_arrow
    if repeated := {name for name in found.names if found.names.count(name) > 1}:
        raise ValueError(f"it has two columns {min(repeated)}")
    held = [name for name in schema.OPTIONAL_COLUMNS if name in (columns or found.names)]
    state, action = (_list_size(found, name) for name in schema.VECTOR_COLUMNS)
    if layout:
        state, action = layout.state, layout.action
    reward = schema.REWARD in (layout.columns if layout else found.names)
    expected = schema.arrow_schema(state, action, tuple(dict.fromkeys([schema.IMAGE, *held])), reward)
    names = list(columns or expected.names)
    for name in dict.fromkeys([*names, *_NUMBERED]):
        if name not in found.names:
            raise ValueError(f"it has no column {name}")
        if found.field(name).type != expected.field(name).type:
            raise ValueError(f"its column {name} is {found.field(name).type}, not {expected.field(name).type}")
    for rows, chunk in chunks:
        name = next((n for n in names if f"{chunk.path_in_schema}.".startswith(f"{n}.")), None)
        if name is None:
            continue
        vector = name in schema.VECTOR_COLUMNS
        count = rows * (expected.field(name).type.list_size if vector else 1)
        room = _blob_bytes(layout, name) if name in schema.IMAGE_COLUMNS else 32 * count // max(rows, 1)
        if chunk.num_values != count or chunk.total_uncompressed_size > rows * room + (4 << 20):
            raise ValueError(f"its column {name} has {chunk.num_values} values in {rows} rows, or is too large")
    return names


def _list_size(found: pa.Schema, name: str) -> int:
    kind = found.field(name).type if name in found.names else None
    size = kind.list_size if isinstance(kind, pa.FixedSizeListType) else 1
    return size if 0 < size <= EDGE else 1


def _blob_bytes(layout: Layout | None, name: str) -> int:
    """Bytes that one encoded image takes at most: lossless formats grow by little what they can't shrink."""
    pixels = int(np.prod(layout.shape(name))) if layout else 3 * EDGE * EDGE
    return pixels + pixels // 8 + TEXT


def batch_rows(chunks: list[tuple[int, pq.ColumnChunkMetaData]]) -> int:
    """How many rows to decode at a time: fewer where a text or an image that is stored once may be repeated."""
    once = [
        chunk.total_uncompressed_size
        for _, chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page
    ]
    return max(1, min(BATCH, REPEATED // max([1, *once])))


def _check_rows(batch: pa.RecordBatch, layout: Layout | None) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        leaf = column
        if name in schema.IMAGE_COLUMNS:
            leaf = column.field("bytes")
            if (pc.max(pc.binary_length(leaf)).as_py() or 0) > _blob_bytes(layout, name):
                raise ValueError(f"an image in its column {name} is too large")
            shape = images.check(leaf.to_pylist(), layout.shape(name) if layout else None)
            if (len(shape) == 2) != (name in schema.MASK_COLUMNS):
                raise ValueError(f"an image in its column {name} has {shape[2:] or 1} channels")
        elif name in schema.VECTOR_COLUMNS:
            leaf = column.flatten()
        if column.null_count or leaf.null_count:
            raise ValueError(f"its column {name} has rows without a value")
        if pa.types.is_floating(leaf.type) and not np.isfinite(leaf.to_numpy(zero_copy_only=False)).all():
            raise ValueError(f"its column {name} has a value that is not finite")


def _numbering(records: pa.Table) -> dict[str, np.ndarray]:
    """What the columns that count episodes and frames must say, by the records of a shard."""
    lengths = records[schema.LENGTH].to_numpy()
    first = records[schema.FROM_INDEX][0].as_py()
    index = np.arange(first, first + lengths.sum())
    return {
        schema.EPISODE: np.repeat(records[schema.EPISODE].to_numpy(), lengths),
        schema.FRAME: index - np.repeat(records[schema.FROM_INDEX].to_numpy(), lengths),
        schema.INDEX: index,
    }


# --- records of episodes -------------------------------------------------------------------------------------


def episodes(path: Path, shard: int) -> pa.Table:
    """The records of a shard's episodes, one after the other."""
    file = parquet(path)
    with damage(path):
        size = 0
        for _, chunk in chunks_of(file):
            repeated = chunk.num_values if chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page else 1
            size += 8 * chunk.num_values + repeated * chunk.total_uncompressed_size
        if size > RECORDS:
            raise ValueError("it holds more than records of episodes")
        table = file.read()
        for name in dict.fromkeys(table.column_names):
            if table.column_names.count(name) > 1:
                raise ValueError(f"it has two columns {name}")
            _check_record(name, table[name])
        statistics = {name.rpartition("/")[0] for name in table.column_names if name.startswith("stats/")}
        if missing := {f"{of}/{key}" for of in statistics for key in _STATISTICS} - set(table.column_names):
            raise ValueError(f"it has no column {min(missing)}")
        _check_sequence(table, shard)
    return table


def _check_record(name: str, column: pa.ChunkedArray) -> None:
    kind, leaf = column.type, column
    if pa.types.is_list(kind):
        kind, leaf = kind.value_type, pc.list_flatten(column)
        lengths = pc.list_value_length(column)
        if leaf.null_count or column.null_count or (name == schema.BOX and pc.unique(lengths).to_pylist() != [4]):
            raise ValueError(f"its column {name} has rows without a value")
        if name.startswith("stats/") and len(pc.unique(lengths)) != 1:
            raise ValueError(f"its column {name} has lists of several lengths")
    elif name.startswith("stats/") or name in (schema.TASK_NAMES, schema.BOX):
        raise ValueError(f"its column {name} is {column.type}, not a list")
    if name.startswith("stats/") and not re.fullmatch(rf"stats/[^/]+/({'|'.join(_STATISTICS)})", name):
        raise ValueError(f"its column {name} is no statistic")
    whole = name.endswith(("_index", schema.LENGTH, "seed", schema.BOX))
    real = name in (schema.RETURN, schema.COVERAGE) or (name.startswith("stats/") and not pa.types.is_int64(kind))
    if (whole and not pa.types.is_int64(kind)) or (real and not pa.types.is_float64(kind)):
        raise ValueError(f"its column {name} is {column.type}")
    if name == schema.SUCCEEDED and not pa.types.is_boolean(kind):
        raise ValueError(f"its column {name} is {column.type}")
    if (whole or real or name == schema.SUCCEEDED) and leaf.null_count:
        raise ValueError(f"its column {name} has rows without a value")
    if pa.types.is_string(kind):
        if (pc.max(pc.utf8_length(leaf)).as_py() or 0) > TEXT:
            raise ValueError(f"its column {name} has a text of more than {TEXT} characters")
    elif pa.types.is_float64(kind):
        if pc.all(pc.is_finite(leaf)).as_py() is False:
            raise ValueError(f"its column {name} has a value that is not finite")
    elif not (pa.types.is_int64(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise ValueError(f"its column {name} is {column.type}")


def _check_sequence(table: pa.Table, shard: int) -> None:
    """Raise `ValueError` where records don't follow each other, or are another shard's."""
    for name in (schema.EPISODE, schema.LENGTH, *_POSITION):
        if name not in table.column_names:
            raise ValueError(f"it has no column {name}")
    episode, length, chunk, file, start, stop = (
        table[name].to_numpy() for name in (schema.EPISODE, schema.LENGTH, *_POSITION)
    )
    if (length < 1).any() or (length > ROWS).any() or length.sum() > ROWS:
        raise ValueError("an episode in it has no frames, or too many")
    if (chunk != shard // schema.CHUNK_SIZE).any() or (file != shard % schema.CHUNK_SIZE).any():
        raise ValueError("its records are another shard's")
    follow = (np.diff(episode) == 1).all() and (start[1:] == stop[:-1]).all() and (stop - start == length).all()
    if not follow or episode[0] < 0 or not 0 <= start[0] < 2**53:
        raise ValueError("its episodes don't follow each other")


def in_order(tables: Sequence[pa.Table], root: Path) -> pa.Table:
    """The records of all shards of a split. Raises `DmaskError` where one doesn't begin where the last one ended."""
    episode = index = 0
    for table in tables:
        if (table[schema.EPISODE][0].as_py(), table[schema.FROM_INDEX][0].as_py()) != (episode, index):
            raise DmaskError(
                f"{root}: the records of its shards don't follow each other (episode {episode} is missing); pull or "
                "generate it again"
            )
        episode, index = episode + len(table), table[schema.TO_INDEX][-1].as_py()
    with damage(root):
        return pa.concat_tables(tables, promote_options="permissive")
