"""Reading a dataset, from a folder or from the Hub, as episodes of NumPy arrays. Needs no simulator."""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from distractor_data import cache, schema, storage, untrusted
from distractor_data.errors import DmaskError, NoSplitError, nearest
from distractor_data.rollout import Episode
from distractor_data.spec import full_name


class Episodes(Sequence[Episode]):
    """The episodes of one config and split. Each is read and decoded when it is asked for."""

    def __init__(self, root: Path, shard_file: Callable[[int], Path] | None = None) -> None:
        """`shard_file` gives the file of a shard's frames, where they don't lie in `root`."""
        self.root = root
        self.shard_file = shard_file or (lambda shard: untrusted.inside(root, schema.data_file(shard)))
        self.layout, self.sums = untrusted.layout(root), untrusted.checksums(root)
        self.shards = shard_records(root, frames=shard_file is None)
        self.records: list[dict[str, Any]] = [
            {key: value for key, value in row.items() if not key.startswith("stats/")}
            for table in self.shards
            for row in table.to_pylist()
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
        return self._read(self.records[index])

    def __iter__(self) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def _read(self, record: dict[str, Any]) -> Episode:
        shard = record["data/chunk_index"] * schema.CHUNK_SIZE + record["data/file_index"]
        path, table = self.shard_file(shard), self.shards[shard]
        cache.verified(path, schema.data_file(shard), self.sums)
        start = record["dataset_from_index"] - table["dataset_from_index"][0].as_py()
        rows = untrusted.frames_table(path, self.layout, table, start=start, stop=start + record["length"])
        info = {key: value for key, value in record.items() if "/" not in key and not key.startswith("dataset_")}
        masks = {
            name: storage.decode_images(rows[name]) > 127 if name in rows.column_names else None
            for name in schema.MASK_COLUMNS
        }
        mask = masks[schema.MASK]
        if mask is None:
            raise DmaskError(f"{path} has no column {schema.MASK}; run `dmask mask` on the dataset")
        return Episode(
            image=storage.decode_images(rows[schema.IMAGE]),
            mask=mask,
            mask_sim=masks[schema.MASK_SIM],
            mask_clean=masks[schema.MASK_CLEAN],
            image_clean=(
                storage.decode_images(rows[schema.IMAGE_CLEAN]) if schema.IMAGE_CLEAN in rows.column_names else None
            ),
            state=_vectors(rows[schema.STATE]),
            action=_vectors(rows[schema.ACTION]),
            reward=rows[schema.REWARD].to_numpy(),
            done=rows[schema.DONE].to_numpy(),
            info=info,
        )


def load(
    source: str | Path,
    env: str | None = None,
    split: str = "train",
    revision: str | None = None,
    streaming: bool = False,
) -> Episodes:
    """Episodes of a dataset: `source` is a folder, or `org/name` or `org/name@revision` on the Hub.

    `env` may be a short name; without it the dataset's only or default config is taken. From the Hub only that
    config and split is fetched; with `streaming`, each shard when an episode of it is first read. Raises
    `DmaskError` where the folder, the config or the split isn't there.
    """
    if streaming and not Path(source).is_dir():
        from distractor_data import hub

        root, shard_file = hub.stream(_repository(source), env, split, revision)
        refuse_half_masked(root)
        return Episodes(root, shard_file)
    return Episodes(locate(source, env, split, revision))


def locate(
    source: str | Path, env: str | None = None, split: str = "train", revision: str | None = None, frames: bool = True
) -> Path:
    """The local folder of one config and split, fetched from the Hub where `source` is a repository.

    Without `frames` only what describes them is fetched: `meta/`. Raises `DmaskError` where a run that gives it a
    model's masks was broken off.
    """
    if Path(source).is_dir():
        root = choose(source, env, split)
    else:
        from distractor_data import hub

        name = _repository(source)
        root = hub.fetch(name, env, split, revision) if frames else hub.stream(name, env, split, revision)[0]
    refuse_half_masked(root)
    return root


def refuse_half_masked(root: Path) -> None:
    """Raise `DmaskError` where a part of the shards has a model's masks and the others the simulator's."""
    mask = untrusted.dmask(root)["mask"] if untrusted.inside(root, schema.DMASK).exists() else {}
    if mask.get("complete") is False:
        raise DmaskError(
            f"{root} has masks of {mask['source']} on a part of its shards; go on with "
            f"`{mask_command(mask, root.parts[-2], root.parts[-1], root.parents[1])}`"
        )


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


def shard_files(
    source: str | Path, env: str, split: str = "train", share: tuple[int, int] = (0, 1)
) -> Iterator[Path]:
    """The files of frames, one shard after the other; from the Hub each is deleted when the next is asked for.

    `share` is (rank, world): of several processes, each gets every `world`-th shard.
    """
    mine = slice(share[0], None, share[1])
    if Path(source).is_dir():
        root = choose(source, env, split)
        yield from (root / schema.data_file(shard) for shard in storage.shards(root)[mine])
        return
    from distractor_data import hub

    root, shard_file = hub.stream(_repository(source), env, split)
    for shard in storage.shards(root, frames=False)[mine]:
        with tempfile.TemporaryDirectory() as folder:
            yield shard_file(shard, Path(folder))


def identify(source: str | Path, env: str, split: str = "train") -> dict[str, str | None]:
    """What data a source gives: its `name` without path, its `revision` on the Hub, and a `digest` of its content."""
    return describe(locate(source, env, split, frames=False), source)


def describe(root: Path, source: str | Path) -> dict[str, str | None]:
    """`identify` for a folder that `source` was found at."""
    sums = untrusted.checksums(root)
    lines = "".join(f"{path} {known['sha256']}\n" for path, known in sorted(sums.items()))
    cached = root.parents[2].name == "snapshots"  # of the Hub's cache, whose folders are named by commits
    return {
        "name": str(source).partition("@")[0] if cached else Path(source).resolve().name,
        "revision": root.parents[1].name if cached else None,
        "digest": hashlib.sha256(lines.encode()).hexdigest() if sums else None,
    }


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


def configs(directory: str | Path) -> dict[str, list[str]]:
    """Config → its splits, of what a folder holds, in sorted order (`train` before `test`)."""
    found: dict[str, list[str]] = {}
    for folder in untrusted.splits(directory, schema.INFO):
        found.setdefault(folder.parent.name, []).append(folder.name)
    return {config: sorted(splits, reverse=True) for config, splits in found.items()}


def default_config(names: list[str]) -> str:
    """The config that `load_dataset` takes when none is named: walker-run, else the first."""
    return "walker-run" if "walker-run" in names else names[0]


def _repository(source: str | Path) -> str:
    """`source` as the name of a repository, with or without `@revision`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(str(source).partition("@")[0])
    except HFValidationError:
        named = False
    else:
        named = re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", str(source)) is not None
    if not named:
        raise DmaskError(f"{source}: no such folder, nor a name on the Hub (org/name); generate it first")
    return str(source)


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as (N, size) float32."""
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)
