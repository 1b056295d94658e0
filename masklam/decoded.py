"""Frames decoded once: arrays in folders of the user's cache, each of which appears when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distractor_data import untrusted
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError

UNFINISHED = ".unfinished-"  # beginning of the name of a folder that is being decoded into


def build(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` of what `fill` writes into a temporary one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        with storage.lock(temporary, "--cache"):
            fill(temporary)
            (temporary / ".lock").unlink()
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.exists():  # else another process has decoded the same at the same time
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(cache: Path) -> None:
    """Delete what a killed process was decoding: the folders whose lock nobody holds."""
    for folder in cache.glob(f"{UNFINISHED}*"):
        if (folder / ".lock").exists():  # else it was made just now
            with contextlib.suppress(DmaskError), storage.lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def reserve(path: Path, rows: int, kind: type, shape: tuple[int, ...]) -> np.memmap:
    """An array in a file that has all its room on the disk: where memory is mapped, a full disk kills the process.

    Raises `DmaskError` where there is no room.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", kind, (rows, *shape))
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        size = rows * int(np.prod(shape)) * np.dtype(kind).itemsize
        raise DmaskError(
            f"{path.parent.parent} has no room for {size / 1e6:,.1f} MB of decoded frames "
            f"({os.strerror(error.errno)}); make room, or choose another --cache or DMASK_CACHE"
        ) from error
    return array


def mapped(folder: Path, name: str, rows: int, kind: type, shape: tuple[int, ...]) -> Tensor:
    """An array (rows, *shape), mapped copy-on-write: torch wants writable memory, and nothing is ever written."""
    try:
        with untrusted.damage(folder):
            array = np.load(untrusted.inside(folder, f"{name}.npy"), mmap_mode="c", allow_pickle=False)
            if array.dtype != kind or array.shape != (rows, *shape):
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
    except DmaskError as error:
        raise DmaskError(f"decoded frames are damaged; delete {folder} and run the same command again") from error
    return torch.from_numpy(array)
