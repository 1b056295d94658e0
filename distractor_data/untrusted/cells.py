"""Parquet of another layout than ours: of what is asked for, one column or a few rows are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distractor_data.untrusted.files import damage
from distractor_data.untrusted.tables import RECORDS, batch_rows, chunks_of, parquet
from distractor_data.untrusted.values import TEXT

ADVICE = "get it again"
ENCODED = 64 << 20  # bytes of an encoded image
COPIED = 250  # rows read at a time, and so in a row group that is copied
PICTURES = 16  # images read at a time


def columns(path: Path) -> pa.Schema:
    """The columns of a file."""
    return parquet(path).schema_arrow


def keys(path: Path, column: str) -> list[Any]:
    """A column of integers or short texts. Raises `DmaskError` where it is none, or has rows without a value."""
    file = parquet(path)
    kind = file.schema_arrow.field(column).type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    with damage(path, ADVICE):
        if not (text or pa.types.is_integer(kind)):
            raise ValueError(f"its column {column} is {kind}; episodes are told apart by integers or texts")
        values = pq.ParquetFile(path, read_dictionary=[column] if text else None).read([column])[column]
        if values.null_count:
            raise ValueError(f"its column {column} has rows without a value")
        if not text:
            return values.to_pylist()
        found: list[str] = []
        for chunk in values.chunks:
            if (pc.max(pc.utf8_length(chunk.dictionary)).as_py() or 0) > TEXT:
                raise ValueError(f"its column {column} has a text of more than {TEXT} characters")
            names = np.array(chunk.dictionary.to_pylist(), object)
            found += names[chunk.indices.to_numpy()].tolist()
        return found


def records(path: Path) -> pa.Table:
    """A whole table of records, of a size that records have."""
    file = parquet(path)
    with damage(path, ADVICE):
        size = sum(8 * chunk.num_values + chunk.total_uncompressed_size for _, chunk in chunks_of(file))
        if size > RECORDS or len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
            raise ValueError("it holds more than records of episodes")
        return file.read()


def batches(
    path: Path, names: list[str] | None = None, start: int = 0, most: int = COPIED
) -> Iterator[pa.RecordBatch]:
    """Rows from `start` on, at most `most` at a time, of all columns or some; none of two row groups."""
    parquet(path)
    file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)  # pages as they are needed
    with damage(path, ADVICE):
        at = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at + rows > start:
                size = min(most, batch_rows(chunks_of(file, [group])))
                for batch in file.iter_batches(size, row_groups=[group], columns=names):
                    if at + len(batch) > start:
                        yield batch.slice(max(start - at, 0))
                    at += len(batch)
            else:
                at += rows
        if at != file.metadata.num_rows:
            raise ValueError(f"it ends after {at} of {file.metadata.num_rows} rows")


def encoded(path: Path, column: str, start: int = 0) -> Iterator[bytes]:
    """The encoded images of a column, from row `start` on."""
    for batch in batches(path, [column], start, PICTURES):
        with damage(path, ADVICE):
            cells = batch.column(0)
            blobs = cells.field("bytes") if pa.types.is_struct(cells.type) else cells
            for blob in blobs.to_pylist():
                if blob is None:
                    raise ValueError(f"its column {column} names images elsewhere; embed them in the file")
                if len(blob) > ENCODED:
                    raise ValueError(f"an image in its column {column} is too large")
                yield blob


def vectors(path: Path, column: str) -> np.ndarray:
    """A column of numbers, or of lists of as many numbers each, (N, A) float32, all finite."""
    file = parquet(path)
    kind = file.schema_arrow.field(column).type
    listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    number = kind.value_type if listed else kind
    with damage(path, ADVICE):
        if not (pa.types.is_floating(number) or pa.types.is_integer(number)):
            raise ValueError(f"its column {column} is {kind}; give one of numbers, or of lists of them")
        size = sum(c.total_uncompressed_size + 8 * c.num_values for _, c in chunks_of(file) if _of(c, column))
        if size > RECORDS:
            raise ValueError(f"its column {column} is too large")
        values = file.read([column])[column].combine_chunks()
        flat = values.flatten() if listed else values
        if values.null_count or flat.null_count or not len(values) or len(flat) % len(values):
            raise ValueError(f"its column {column} has rows without a value, or lists of several lengths")
        if pa.types.is_list(kind) and pc.count_distinct(pc.list_value_length(values)).as_py() > 1:
            raise ValueError(f"its column {column} has lists of several lengths")
        found = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), -1)
        if not np.isfinite(found).all():
            raise ValueError(f"its column {column} has a value that is not finite")
        return found


def _of(chunk: pq.ColumnChunkMetaData, column: str) -> bool:
    return f"{chunk.path_in_schema}.".startswith(f"{column}.")


def is_image(kind: pa.DataType) -> bool:
    """Whether a column of this type holds encoded images, as `datasets` writes them."""
    if not pa.types.is_struct(kind):
        return False
    names = [field.name for field in kind]
    return "bytes" in names and pa.types.is_binary(kind.field("bytes").type)
