"""Reading a dataset, from a folder or from the Hub, as episodes of NumPy arrays. Needs no simulator."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import cache, storage
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError, NoSplitError, nearest
from distractor_data.spec import full_name


class Episodes(Sequence[Episode]):
    """The episodes of one config and split. Each is read and decoded when it is asked for."""

    def __init__(self, root: Path, shard_file: Callable[[int], Path] | None = None) -> None:
        """`shard_file` gives the file of a shard's frames, where they don't lie in `root`."""
        self.root = root
        self.shard_file = shard_file or (lambda shard: untrusted.inside(root, schema.data_file(shard)))
        self.layout, self.sums = untrusted.layout(root), untrusted.checksums(root)
        if schema.MASK not in self.layout.columns:
            raise DmaskError(f"{root} has no masks yet; {how_to_mask(root)}")
        self.shards = shard_records(root, frames=shard_file is None)
        self.records: list[dict[str, Any]] = [
            row
            for table in self.shards
            for row in table.select(
                [name for name in table.column_names if not name.startswith("stats/")]
            ).to_pylist()
        ]

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._read(range(len(self))[index])

    def __iter__(self) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def rows(
        self, place: int, columns: Sequence[str] | None = None, first: int = 0, count: int | None = None
    ) -> pa.Table:
        """Frames `first` … `first + count - 1` of the episode at a place, as they are stored; all by default."""
        record = self.records[place]
        shard = record[schema.CHUNK] * schema.CHUNK_SIZE + record[schema.FILE]
        path, table = self.shard_file(shard), self.shards[shard]
        cache.verified(path, schema.data_file(shard), self.sums)
        start = record[schema.FROM_INDEX] - table[schema.FROM_INDEX][0].as_py()
        last = record[schema.LENGTH] if count is None else min(first + count, record[schema.LENGTH])
        return untrusted.frames_table(path, self.layout, table, columns, start + first, start + last)

    def _read(self, place: int) -> Episode:
        record, rows = self.records[place], self.rows(place)
        info = {key: value for key, value in record.items() if "/" not in key and not key.startswith("dataset_")}
        masks = {
            name: storage.decode_images(rows[name]) > 127 if name in rows.column_names else None
            for name in schema.MASK_COLUMNS
        }
        if masks[schema.MASK] is None:
            raise DmaskError(f"{self.root} has no column {schema.MASK}; pull or generate it again")
        return Episode(
            image=storage.decode_images(rows[schema.IMAGE]),
            mask=masks[schema.MASK],
            mask_sim=masks[schema.MASK_SIM],
            mask_clean=masks[schema.MASK_CLEAN],
            image_clean=(
                storage.decode_images(rows[schema.IMAGE_CLEAN]) if schema.IMAGE_CLEAN in rows.column_names else None
            ),
            state=vectors(rows[schema.STATE]),
            action=vectors(rows[schema.ACTION]),
            reward=rows[schema.REWARD].to_numpy() if schema.REWARD in rows.column_names else None,
            done=rows[schema.DONE].to_numpy(),
            success=rows[schema.SUCCESS].to_numpy() if schema.SUCCESS in rows.column_names else None,
            info=info,
        )


def refuse_half_masked(root: Path) -> None:
    """Raise `DmaskError` where a part of the shards has a model's masks and the others the simulator's."""
    mask = untrusted.dmask(root)["mask"] if untrusted.inside(root, schema.DMASK).exists() else {}
    if mask.get("complete") is False:
        raise DmaskError(
            f"{root} has masks of {mask['source']} on a part of its shards; go on with "
            f"`{mask_command(mask, root.parts[-2], root.parts[-1], root.parents[1])}`"
        )


def how_to_mask(root: Path) -> str:
    """What to do with a split that was imported without masks."""
    words = ["dmask", "mask", str(root.parents[1]), "--env", root.parts[-2], "--split", root.parts[-1]]
    return f"make them with `{shlex.join([*words, '--prompt', 'motion'])}`, or with --prompt box=x0,y0,x1,y1"


def mask_command(mask: dict[str, Any], config: str, split: str, directory: str | Path = "") -> str:
    """The `dmask mask` line that makes the masks that `meta/dmask.json` tells of."""
    words = ["dmask", "mask", *([str(directory)] if directory else []), "--env", config, "--split", split]
    for field in ("model", "image_size", "prompt", "reprompt", "precision"):
        words += [f"--{field.replace('_', '-')}", str(mask[field])] if mask.get(field) else []
    return shlex.join(words)


def shard_records(root: Path, frames: bool = True, cached: str | Path | None = None) -> list[pa.Table]:
    """The episode records of every shard, verified; `frames` as for `storage.shards`.

    `cached` is the folder in which what was verified is remembered.
    """
    sums, numbers = untrusted.checksums(root), storage.shards(root, frames)
    if not numbers:
        raise DmaskError(f"{root} holds no finished shard; run the `dmask generate` that began it again")
    for name in map(schema.episodes_file, numbers):
        cache.verified(untrusted.inside(root, name), name, sums, cached)
    tables = [storage.read_episodes(root, number) for number in numbers]
    found, told = len(untrusted.in_order(tables, root)), untrusted.info(root)["total_episodes"]
    if found < told:
        raise DmaskError(
            f"{root} has {found} of {told} episodes; pull the others from the Hub or generate them again"
        )
    return tables


def choose(directory: str | Path, env: str | None, split: str) -> Path:
    """The folder of one config and split, or an error that says what `directory` has."""
    return schema.root(directory, pick(configs(directory), env, split, str(directory)), split)


def pick(found: dict[str, list[str]], env: str | None, split: str, name: str) -> str:
    """The config of `env` among those that are there (config → splits), or an error that says what `name` has."""
    if not found:
        raise DmaskError(f"{name} holds no dataset that `dmask generate` made")
    config = full_name(env) if env else default_config(list(found))
    if config not in found:
        raise DmaskError(f"{name} has no {config}{nearest(config, found)} (it has {', '.join(found)})")
    if split not in found[config]:
        raise NoSplitError(f"{name} has no split {split!r} of {config} (it has {', '.join(found[config])})")
    return config


def pairs(found: dict[str, list[str]], env: str | None, split: str | None, name: str) -> list[tuple[str, str]]:
    """Each config and split of those that are there, or those of `env` and `split`, where they are given."""
    config = full_name(env) if env else None
    chosen = [(c, s) for c, splits in found.items() for s in splits if config in (None, c) and split in (None, s)]
    if not chosen:
        pick(found, env, split or "train", name)  # says what there is instead
    return chosen


def configs(directory: str | Path) -> dict[str, list[str]]:
    """Config → its splits, of what a folder holds, in sorted order (`train` before `test`)."""
    found: dict[str, list[str]] = {}
    for folder in untrusted.splits(directory, schema.INFO):
        found.setdefault(folder.parent.name, []).append(folder.name)
    return {config: sorted(splits, reverse=True) for config, splits in found.items()}


def default_config(names: list[str]) -> str:
    """The config that `load_dataset` takes when none is named: walker-run, else the first."""
    return "walker-run" if "walker-run" in names else names[0]


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as (N, size) float32."""
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)
