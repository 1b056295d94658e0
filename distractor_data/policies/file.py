"""A policy's safetensors file, which may be a stranger's: its tensors and metadata, or one line."""

from __future__ import annotations

import math
import re
import reprlib
from pathlib import Path

import numpy as np

from distractor_data.errors import DmaskError

LARGEST = 64 << 20  # bytes; those that come with the package have 0.3 MB
_TYPES = ("F16", "F32", "F64")
_NUMBERS = ("obs_norm_eps", "obs_clip", "return_mean", "return_std", "return_episodes", "selection_return", "steps")


def content(path: Path) -> bytes:
    """What is in the file. Raises `DmaskError` for one that is no file, or too large for a policy."""
    try:
        _refuse_place(path)
        return path.read_bytes()
    except OSError as error:
        raise DmaskError(f"policy {path}: can't be read ({error.strerror}); give a file that exists") from error


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a policy's file.

    Raises `DmaskError` where it is missing or damaged, and for tensors that are no finite floats.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _refuse_place(path)
        with safe_open(path, framework="numpy") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            types = {name: file.get_slice(name).get_dtype() for name in names}
            if foreign := sorted(name for name in names if types[name] not in _TYPES):
                raise ValueError(f"{reprlib.repr(foreign[0])} is {types[foreign[0]]}, not one of {', '.join(_TYPES)}")
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DmaskError(f"policy {path}: can't be read as safetensors ({reason}); give a whole file") from error
    refuse_values(f"policy {path}", tensors)
    _refuse_metadata(path, metadata)
    return tensors, metadata


def refuse_values(where: str, tensors: dict[str, np.ndarray]) -> None:
    """Raise `DmaskError` for tensors that no network has; `where` begins the message."""
    if broken := [reprlib.repr(name) for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise DmaskError(f"{where}: {', '.join(broken[:9])} is not finite; give another policy")
    if "obs_var" in tensors and (tensors["obs_var"] < 0).any():
        raise DmaskError(f"{where}: obs_var is negative, which no variance is; give another policy")


def _refuse_place(path: Path) -> None:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DmaskError(f"policy {path}: is no file; give a .safetensors file")
    if (size := path.stat().st_size) > LARGEST:
        raise DmaskError(f"policy {path}: has {size:,} bytes, more than any policy ({LARGEST:,}); give another file")


def _refuse_metadata(path: Path, metadata: dict[str, str]) -> None:
    for name in (name for name in _NUMBERS if name in metadata):
        try:
            value = float(metadata[name])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) or (name == "obs_clip" and value > 0)):
            raise _damaged(path, name, metadata[name])
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", metadata.get("env", "-")):
        raise _damaged(path, "env", metadata["env"])


def _damaged(path: Path, name: str, value: str) -> DmaskError:
    said = f"{name} is {reprlib.repr(value)}"
    return DmaskError(f"policy {path}: its metadata is damaged ({said}); give another policy")
