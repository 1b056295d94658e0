"""Shards that are rewritten: which there are, whether they may be, and what their records say of their masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import meta, read, storage
from distractor_data.errors import DmaskError, nearest
from distractor_data.spec import full_name

_SOURCE = b"dmask.mask"  # key in the metadata of a shard's episode records: what its masks come from


def roots(directory: str | Path, env: str | None, split: str | None) -> list[Path]:
    """The configs and splits that `env` and `split` pick, all of them by default. Raises `DmaskError` for none."""
    found = read.configs(directory)
    if not found:
        raise DmaskError(f"{directory} holds no dataset; give the folder that `dmask generate` wrote")
    config = full_name(env) if env else None
    if config and config not in found:
        raise DmaskError(f"{directory} has no {config}{nearest(config, found)} (it has {', '.join(found)})")
    picked = [
        schema.root(directory, name, part)
        for name, parts in found.items()
        for part in parts
        if config in (None, name) and split in (None, part)
    ]
    if not picked:
        raise DmaskError(f"{directory} has no split {split!r} of {config or 'any config'}")
    return picked


def check(root: Path) -> None:
    """Raise `DmaskError`, before anything is written, where a split is damaged or holds what can't be read."""
    untrusted.plain(root)
    meta.refuse_damaged(root)
    meta.read_spec(root)
    storage.read_episodes(root)
    for shard in storage.shards(root):
        shard_source(root, shard)


def shard_source(root: Path, shard: int) -> dict[str, Any] | None:
    """What the masks of a shard come from, where it was rewritten; its records are written last."""
    path = untrusted.inside(root, schema.episodes_file(shard))
    metadata = untrusted.parquet(path).schema_arrow.metadata or {}
    return untrusted.mask_source(metadata[_SOURCE], str(path)) if _SOURCE in metadata else None


def split_episodes(frames: pa.Table, episodes: pa.Table) -> list[pa.Table]:
    """A shard's frames, episode by episode."""
    lengths = episodes[schema.LENGTH].to_pylist()
    starts = np.cumsum([0, *lengths])
    return [frames.slice(start, length) for start, length in zip(starts, lengths, strict=False)]


def records(rows: list[dict[str, Any]], source: dict[str, Any] | None) -> pa.Table:
    """Rows of `meta/episodes` as a table that says what their masks come from."""
    table = pa.Table.from_pylist(rows)
    for name in (schema.IOU, schema.BOUNDARY_F, schema.J_AND_F):  # a column of None has no type of its own
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table[name].cast(pa.float64()))
    return table.replace_schema_metadata({_SOURCE: json.dumps(source).encode()} if source else None)
