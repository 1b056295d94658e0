"""The columns of a split as arrays: decoded once into the user's cache, and memory-mapped after it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, sources, untrusted
from distractor_data.dataset import cache as store
from distractor_data.dataset import decoded, read, storage
from distractor_data.dataset.decoded import Column, Values
from distractor_data.errors import DmaskError

_FORMAT = "2"  # of the cached arrays; part of their key


def load(
    source: str | Path,
    env: str,
    split: str = "train",
    columns: Sequence[str] = (schema.IMAGE, schema.MASK),
    cache: str | Path | None = None,
    streaming: bool = False,
    share: tuple[int, int] = (0, 1),
    watch: Callable[[Values, int, int], Values] = lambda values, rows, columns: values,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Lengths of the episodes, (E,) int64, and column → array of all frames (N, …), of image columns and `action`.

    Images are (N, H, W, 3) uint8, masks bit-packed (N, H·W/8) uint8, actions (N, A) float32. `source` is a folder or
    a dataset repository of the Hub; with `streaming` a repository's shards are fetched one at a time, and none is
    kept once it is decoded. `share` is (rank, world): one process's part of the shards. `watch` sees go by what is
    decoded. Raises `DmaskError` where the dataset, the environment, the split or a column is not there, and where a
    mask is empty on every frame.
    """
    root = sources.locate(source, env, split, frames=not streaming)
    fetch = streaming and not Path(source).is_dir()
    layout, sums = untrusted.layout(root), untrusted.checksums(root)
    every = read.shard_records(root, not fetch, cache)
    rank, world = share
    if len(every) < world:
        raise DmaskError(f"{root} has {len(every)} finished shards, too few for {world} processes to share")
    names, records = [schema.data_file(shard) for shard in range(len(every))][rank::world], every[rank::world]
    require(root, list(columns))
    verify = functools.partial(store.verified, sums=sums, cache=cache)
    digests = [_recorded(root, name, sums) if fetch else verify(untrusted.inside(root, name), name) for name in names]
    folder = store.folder(cache) / _key(list(columns), digests)
    lengths = np.concatenate([table["length"].to_numpy() for table in records])
    rows, wanted = int(lengths.sum()), {name: _column(name, layout) for name in [*columns, schema.ACTION]}
    if not folder.exists():
        files = sources.shard_files(source, env, split, share) if fetch else (root / name for name in names)
        values = _decode(_verified(files, names, records, verify), layout, list(wanted))
        decoded.build(folder, rows, wanted, watch(values, rows, len(wanted)))
    return lengths, {name: decoded.mapped(folder, name, rows, column) for name, column in wanted.items()}


def columns_of(root: Path) -> list[str]:
    """Names of the columns that a split has."""
    first = untrusted.inside(root, schema.data_file(0))
    return untrusted.parquet(first).schema_arrow.names if first.exists() else list(untrusted.info(root)["features"])


def require(root: Path, columns: list[str]) -> None:
    """Raise `DmaskError` where a split lacks one of these image columns."""
    present = [name for name in columns_of(root) if name in schema.IMAGE_COLUMNS]
    for name in columns:
        if name not in present:
            maker = "`dmask generate --clean`" if name in schema.CLEAN_COLUMNS else "`dmask mask`"
            raise DmaskError(f"{root} has no column {name} ({maker} makes it); it has {', '.join(present)}")


def _key(columns: list[str], digests: list[str]) -> str:
    """A name that changes with the content of the files, which was verified."""
    return hashlib.sha256("\n".join([_FORMAT, *columns, *digests]).encode()).hexdigest()


def _recorded(root: Path, name: str, sums: dict[str, dict[str, Any]]) -> str:
    """The SHA-256 that a file of frames has, which is fetched only to be decoded, and verified then."""
    if name not in sums:
        raise DmaskError(f"{root} has no checksum of {name}; publish it again with `dmask push`")
    return sums[name]["sha256"]


def _verified(
    files: Iterable[Path], names: list[str], records: list[pa.Table], verify: Callable[[Path, str], str]
) -> Iterator[tuple[Path, pa.Table]]:
    """Files of frames, each verified when it is asked for, and the records of their episodes."""
    for file, name, table in zip(files, names, records, strict=True):
        verify(file, name)
        yield file, table


def _column(name: str, layout: untrusted.Layout) -> Column:
    if name == schema.ACTION:
        return Column(np.float32, (layout.action,))
    return Column.of_mask(*layout.size) if name in schema.MASK_COLUMNS else Column(np.uint8, layout.shape(name))


def _decode(shards: Iterable[tuple[Path, pa.Table]], layout: untrusted.Layout, columns: list[str]) -> Values:
    """The columns of files of frames, which stand with the records of their episodes, a few thousand at a time."""
    for file, records in shards:
        for chunk in untrusted.frames(file, layout, records, columns):
            for name in columns:
                yield name, _values(chunk[name], name)


def _values(column: pa.Array, name: str) -> np.ndarray:
    if name in schema.IMAGE_COLUMNS:
        images = storage.decode_images(column)
        return np.packbits(images.reshape(len(images), -1) > 127, axis=1) if name in schema.MASK_COLUMNS else images
    return np.asarray(column.flatten()).reshape(len(column), -1)
