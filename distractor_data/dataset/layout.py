"""The layout as a boundary: the names that files of a dataset have in a folder and in a repository, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from distractor_data import schema, untrusted
from distractor_data.spec import SPLITS

_CONFIG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHARD = "chunk-[0-9][0-9][0-9]/file-[0-9][0-9][0-9].parquet"  # for `fnmatch`


def is_config(name: str) -> bool:
    """Whether a config may be called so: a plain word, which is one folder and needs no quoting anywhere."""
    return _CONFIG.fullmatch(name) is not None


def place(path: str) -> tuple[str, str, str] | None:
    """(config, split, name seen from their root) of a file of a repository; None for what is no file of a dataset."""
    config, _, rest = path.partition("/")
    split, _, name = rest.partition("/")
    return (config, split, name) if is_ours(name) and is_config(config) and split in SPLITS else None


def is_ours(name: str) -> bool:
    """Whether a published file may have a name, seen from the root of its config and split."""
    return name in schema.DESCRIPTIONS or untrusted.shard_of(name) is not None


def patterns(config: str, split: str, frames: bool = True) -> list[str]:
    """What `fnmatch` takes for the files of a config and split and no others; of `meta/` alone without `frames`."""
    names = [*schema.DESCRIPTIONS, f"meta/episodes/{_SHARD}", *([f"data/{_SHARD}"] if frames else [])]
    return [f"{config}/{split}/{name}" for name in names]


def files(root: Path) -> list[str]:
    """Names of the files that a root holds, of those that the layout knows, frames first and checksums last.

    Raises `DmaskError` where a link, a pipe, a device or a folder lies where a file belongs, or a link on the way.
    """
    names = []
    for chunk in [chunk for kind in ("data", "meta/episodes") for chunk in sorted(root.glob(f"{kind}/chunk-*"))]:
        untrusted.inside(root, f"{chunk.relative_to(root).as_posix()}/file")
        names += [file.relative_to(root).as_posix() for file in sorted(chunk.glob("file-*.parquet"))]
    names = [*(name for name in names if untrusted.shard_of(name) is not None), *schema.DESCRIPTIONS]
    return [name for name in names if untrusted.inside(root, name).exists()]


def parts(paths: Iterable[str]) -> dict[str, list[str]]:
    """Config → its splits, sorted (`train` before `test`), of the paths of a repository."""
    found: dict[str, set[str]] = {}
    for path in paths:
        if (where := place(path)) is not None and where[2] == schema.INFO:
            found.setdefault(where[0], set()).add(where[1])
    return {config: sorted(found[config], reverse=True) for config in sorted(found)}
