"""Small datasets by the real `generate`, made in this process, and what damages their files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from distractor_data import engines, schema
from distractor_data.dataset import storage
from distractor_data.spec import Spec

SPEC = Spec(env="cheetah-run", policy="random", episodes=5, steps=6, image_size=16)  # shards of two, two and one


def in_process(function: Callable, items: Iterable, workers: int) -> Iterator[tuple]:
    """`engines.run_local` without the seconds that a process takes to start."""
    return ((item, function(item)) for item in items)


def small(patch: pytest.MonkeyPatch) -> None:
    """From now on two episodes of SPEC fill a shard, and episodes are made in this process."""
    patch.setattr(storage, "SHARD_FRAMES", 12 / 16)
    patch.setattr(engines, "run_local", in_process)
    assert storage.episodes_per_shard(SPEC) == 2


def root_of(directory: Path) -> Path:
    return schema.root(directory, SPEC.env, SPEC.split)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a split that holds something: not its locks."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def flip(path: Path, draw: random.Random, within: tuple[int, int] | None = None) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(*(within or (0, len(content))))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def pages(path: Path, group: int, column: str) -> tuple[int, int]:
    """Where the data of a column lie in a Parquet file; a row group is an episode."""
    columns = pq.read_metadata(path).row_group(group)
    index = [columns.column(k).path_in_schema for k in range(columns.num_columns)].index(column)
    chunk = columns.column(index)
    return (
        chunk.data_page_offset + 60,
        chunk.data_page_offset + chunk.total_compressed_size,
    )  # after the page's header
