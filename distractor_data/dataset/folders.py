"""Folders that take the place of others when they are complete, and what of a folder is ours."""

from __future__ import annotations

import os
from pathlib import Path

from distractor_data.dataset import storage
from distractor_data.errors import DmaskError

STAGING = ".new"  # folder beneath a dataset's, for data that is to replace what is there


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new`, which is complete, in the place of `folder`. Killed in between, `recover` puts the old one back."""
    if folder.exists():
        os.rename(folder, _aside(folder))
    os.rename(new, folder)
    if _aside(folder).exists():
        storage.remove(_aside(folder))


def remove_empty(folder: Path, stop: Path) -> None:
    """Delete a folder and those that it is in, up to `stop`, as far as they are empty."""
    while folder != stop and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def recover(folder: Path) -> None:
    """What a kill within `replace_folder` left: the old folder in its place where the new one is not there."""
    old = _aside(folder)
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    elif old.exists():
        storage.remove(old)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def contents(root: Path) -> list[str]:
    """Paths, relative to the root, of all files but those that every writer makes: locks, checksums, temporaries."""
    every = (path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir())
    names = (str(path.relative_to(root)) for path in every if not (path.name[0] == "." and path.suffix == ".tmp"))
    own = (".lock", storage.SUMS, storage.SUMS_LOCK)
    return [
        name
        for name in names
        if name not in own and not name.startswith((f"{storage.SCRATCH}/", f"{storage.FETCHED}/"))
    ]


def refuse_foreign(root: Path) -> None:
    """Raise `DmaskError` where the folder that is to be replaced holds something that dmask did not write."""
    found = [name for name in contents(root) if not storage.is_ours(name)]
    if found:
        raise DmaskError(f"{root / found[0]} is no file of ours and would be lost; move it, or choose another --out")


def empty(root: Path) -> None:
    """Delete all that a folder holds but its lock."""
    for path in root.iterdir():
        if path.name != ".lock":
            storage.remove(path)
