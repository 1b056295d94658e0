"""A source of data: a folder, or the name of a dataset on the Hub, of which what is needed is fetched."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from distractor_data import schema, untrusted
from distractor_data.dataset import foreign, storage
from distractor_data.dataset.read import Episodes, choose, configs, refuse_half_masked
from distractor_data.errors import DmaskError


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
        from distractor_data.hub import download

        root, shard_file = download.stream(repository(source), env, split, revision)
        refuse_half_masked(root)
        return Episodes(root, shard_file)
    return Episodes(locate(source, env, split, revision))


def stream(source: str | Path, env: str | None = None, split: str | None = None) -> list[Episodes]:
    """Every config and split of a dataset on the Hub, or those of `env` and `split`, as `load` streams one."""
    from distractor_data.hub import download

    found = download.streams(repository(source), env, split)
    for root, _ in found:
        refuse_half_masked(root)
    return [Episodes(root, shard_file) for root, shard_file in found]


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
        from distractor_data.hub import download

        name = repository(source)
        root = (
            download.fetch(name, env, split, revision) if frames else download.stream(name, env, split, revision)[0]
        )
    refuse_half_masked(root)
    return root


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
    from distractor_data.hub import download

    root, shard_file = download.stream(repository(source), env, split)
    for shard in storage.shards(root, frames=False)[mine]:
        with tempfile.TemporaryDirectory() as folder:
            yield shard_file(shard, Path(folder))


def is_foreign(source: str | Path) -> bool:
    """Whether a source is a folder that holds a dataset of others, which has no configs of ours."""
    return Path(source).is_dir() and not configs(source) and foreign.is_one(Path(source))


def identify(source: str | Path, env: str, split: str = "train") -> dict[str, str | None]:
    """What data a source gives: its `name` without path, its `revision` on the Hub, and a `digest` of its content."""
    if is_foreign(source):
        return {"name": Path(source).resolve().name, "revision": None, "digest": foreign.digest(Path(source))}
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


def repository(source: str | Path) -> str:
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
