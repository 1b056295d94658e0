"""Frames decoded once: arrays in folders of the user's cache, each of which appears when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distractor_data import untrusted
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError

UNFINISHED = ".unfinished-"  # beginning of the name of a folder that is being decoded into
Values = Iterable[tuple[str, np.ndarray]]  # names of columns and their next frames, in any order of the columns


class Column(NamedTuple):
    """What an array holds of a frame."""

    kind: type
    shape: tuple[int, ...]
    mask: bool = False

    @classmethod
    def of_mask(cls, height: int, width: int) -> Column:
        """A mask as bits."""
        return cls(np.uint8, (-(-height * width // 8),), mask=True)


def build(folder: Path, rows: int, columns: Mapping[str, Column], values: Values) -> None:
    """Make `folder`, an array of `rows` frames for each column.

    Raises `DmaskError` where there is no room, and where a mask is empty on every frame.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        with storage.lock(temporary, "--cache"):
            _fill(temporary, rows, columns, values)
            (temporary / ".lock").unlink()
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.exists():  # else another process has decoded the same at the same time
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, rows: int, columns: Mapping[str, Column], values: Values) -> None:
    arrays = {name: _reserve(folder / f"{name}.npy", rows, column) for name, column in columns.items()}
    done = dict.fromkeys(columns, 0)
    for name, frames in values:
        arrays[name][done[name] : done[name] + len(frames)] = frames
        done[name] += len(frames)
    for name, column in columns.items():
        if column.mask and not arrays[name].any():
            raise DmaskError(f"{name} is empty on every frame; mask the dataset again with `dmask mask`")
    arrays.clear()  # unmaps, which writes what is still in memory


def _remove_abandoned(cache: Path) -> None:
    """Delete what a killed process was decoding: the folders whose lock nobody holds."""
    for folder in cache.glob(f"{UNFINISHED}*"):
        if (folder / ".lock").exists():  # else it was made just now
            with contextlib.suppress(DmaskError), storage.lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _reserve(path: Path, rows: int, column: Column) -> np.memmap:
    """An array in a file that has all its room on the disk: where memory is mapped, a full disk kills the process.

    Raises `DmaskError` where there is no room.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", column.kind, (rows, *column.shape))
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        size = rows * int(np.prod(column.shape)) * np.dtype(column.kind).itemsize
        raise DmaskError(
            f"{path.parent.parent} has no room for {size / 1e6:,.1f} MB of decoded frames "
            f"({os.strerror(error.errno)}); make room, or choose another --cache or DMASK_CACHE"
        ) from error
    return array


def mapped(folder: Path, name: str, rows: int, column: Column) -> np.ndarray:
    """A column's array (rows, …), mapped copy-on-write: torch wants writable memory, and nothing is ever written."""
    try:
        with untrusted.damage(folder):
            array = np.load(untrusted.inside(folder, f"{name}.npy"), mmap_mode="c", allow_pickle=False)
            if array.dtype != column.kind or array.shape != (rows, *column.shape):
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
    except DmaskError as error:
        raise DmaskError(f"decoded frames are damaged; delete {folder} and run the same command again") from error
    return array
