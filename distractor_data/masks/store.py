"""Shards of a dataset with other masks in them, written so that a killed run can go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import meta, rewrite, storage
from distractor_data.dataset.rows import column_stats, encode_mask, spread
from distractor_data.masks import quality


def reference(frames: pa.Table) -> np.ndarray | None:
    """The simulator's masks of an episode that has a column of its own for them, (T, H, W) bool."""
    if schema.MASK_SIM not in frames.column_names:
        return None
    return storage.decode_images(frames[schema.MASK_SIM]) > 127


def keep_simulator(frames: pa.Table, source: str) -> pa.Table:
    """The frames with their masks as `observation.mask_sim`, where they come from the simulator."""
    if schema.MASK_SIM in frames.column_names or schema.MASK not in frames.column_names or source != "simulator":
        return frames
    return frames.append_column(schema.MASK_SIM, frames[schema.MASK])


def write_masks(
    root: Path, shard: int, frames: pa.Table, episodes: pa.Table, masks: Sequence[np.ndarray], source: dict[str, Any]
) -> None:
    """Rewrite a shard with `masks` ((T, H, W) bool each) as `observation.mask` and their quality in its records."""
    blobs = [{"bytes": encode_mask(mask), "path": None} for episode in masks for mask in episode]
    columns = {name: frames[name] for name in frames.column_names} | {schema.MASK: pa.array(blobs)}
    layout = schema.like(
        pa.schema([pa.field(name, column.type) for name, column in columns.items()], metadata=frames.schema.metadata)
    )
    table = pa.table({name: columns[name].cast(layout.field(name).type) for name in layout.names}, schema=layout)
    rows = episodes.to_pylist()
    parts = rewrite.split_episodes(table, episodes)
    for row, part, mask in zip(rows, parts, masks, strict=True):
        sim = reference(part)
        row |= quality.measure(mask, sim).record()
        for name, values in ((schema.MASK, mask), (schema.MASK_SIM, sim)):
            if values is not None:
                stats = column_stats(values[spread(len(values))][..., None].astype(float))
                row |= {f"stats/{name}/{key}": value for key, value in stats.items()}
    storage.write_shard(root, shard, table, rewrite.records(rows, source))


def measure_again(root: Path, on_episode: Any = lambda: None) -> None:
    """Recompute the quality of a split's masks from its shards and write it into their records."""
    for shard in storage.shards(root):
        measure_shard(root, shard, on_episode)
    meta.refresh(root)


def measure_shard(root: Path, shard: int, on_episode: Any = lambda: None) -> None:
    """The same for one shard."""
    episodes, source = storage.read_episodes(root, shard), rewrite.shard_source(root, shard)
    masks_there = [name for name in (schema.MASK, schema.MASK_SIM) if name in _columns(root, shard)]
    frames = storage.read_frames(root, shard, masks_there)
    rows = episodes.to_pylist()
    for row, part in zip(rows, rewrite.split_episodes(frames, episodes), strict=True):
        masks = storage.decode_images(part[schema.MASK]) > 127
        row |= quality.measure(masks, reference(part)).record()
        on_episode()
    storage.write_episodes(root, shard, rewrite.records(rows, source))


def set_source(root: Path, source: dict[str, Any]) -> None:
    """Record in `meta/dmask.json` what the masks come from."""
    meta.save_record(root, meta.read_record(root) | {"mask": source})


@contextmanager
def rewriting(root: Path, source: dict[str, Any]) -> Iterator[None]:
    """While a split's shards get masks of `source` its record says that they are not complete.

    It also says so where this breaks off, unless no shard was touched.
    """
    before = meta.read_record(root)["mask"]
    set_source(root, source | {"complete": False})
    try:
        yield
    except BaseException:
        untouched = {"simulator": schema.MASK_SIM, "none": schema.MASK}.get(before["source"])  # a column that comes
        if untouched and all(untouched not in _columns(root, number) for number in storage.shards(root)):
            set_source(root, before)
        raise
    set_source(root, source)


def _columns(root: Path, shard: int) -> list[str]:
    return untrusted.parquet(untrusted.inside(root, schema.data_file(shard))).schema_arrow.names
