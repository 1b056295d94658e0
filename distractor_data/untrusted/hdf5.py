"""HDF5 that a stranger may have written: no link, filter or other file is followed, and what is read lies there, byte
for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distractor_data.errors import DmaskError
from distractor_data.untrusted.files import GIVEN, damage, opened
from distractor_data.untrusted.values import TEXT

if TYPE_CHECKING:
    import h5py

PLAIN = "write it plain with `h5repack -f NONE -l CONTI IN OUT`"


def library() -> Any:
    """The module `h5py`. Raises `DmaskError` where it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise DmaskError("HDF5 needs h5py; install it with: pip install 'dmask[formats]'") from error
    return h5py


@contextmanager
def hdf5(path: Path, advice: str) -> Iterator[h5py.File]:
    """A file, open for reading. What goes wrong inside is told as the file's damage, with `advice`."""
    h5py = library()
    opened(path, GIVEN).close()
    with damage(path, advice), h5py.File(path.absolute(), "r", locking=False) as file:
        yield file


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """A group of the file itself. Raises `ValueError` for a link to elsewhere, or for something else."""
    found = _member(parent, name)
    if not isinstance(found, library().Group):
        raise ValueError(f"{parent.name} has no group {name}")
    return found


def array(parent: h5py.Group, name: str, dtype: type, dimensions: int) -> h5py.Dataset:
    """An array of `dtype` that lies as it is, and whole, in the file: reading it takes no more memory than its bytes.

    Raises `ValueError` for anything else: links, references, texts, filters, other files, room that was never filled.
    """
    found = _member(parent, name)
    h5py = library()
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{parent.name} has no array {name}")
    shown, made = f"{parent.name}/{name}", found.id.get_create_plist()
    if found.dtype != np.dtype(dtype) or found.ndim != dimensions:
        raise ValueError(
            f"{shown} is {found.dtype} of {found.ndim} dimensions, not {np.dtype(dtype)} of {dimensions}"
        )
    if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"{shown} lies in another file")
    if made.get_layout() != h5py.h5d.CONTIGUOUS or made.get_nfilters():
        raise ValueError(f"{shown} is chunked or compressed; {PLAIN}")
    place = found.id.get_offset()
    if place is None or found.id.get_storage_size() != found.nbytes or place + found.nbytes > _size(found.file):
        raise ValueError(f"{shown} tells of {found.nbytes:,} bytes that are not there")
    return found


def attribute(item: h5py.Group, name: str, kind: type) -> Any:
    """An attribute as `str`, `int`, `float` or `bool`. Raises `ValueError` where it is missing or none such."""
    if name not in item.attrs:
        raise ValueError(f"{item.name} has no attribute {name}")
    if item.attrs.get_id(name).get_storage_size() > TEXT:
        raise ValueError(f"the attribute {name} of {item.name} is too large")
    value = item.attrs[name]
    value = value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits or (kind is str and len(value) > TEXT) or (kind is float and not np.isfinite(value)):
        raise ValueError(f"the attribute {name} of {item.name} is no {kind.__name__}")
    return kind(value)


def _member(parent: h5py.Group, name: str) -> Any:
    link = parent.get(name, getlink=True)
    if link is None:
        raise ValueError(f"{parent.name} has no {name}")
    if not isinstance(link, library().HardLink):
        raise ValueError(f"{parent.name} has a link {name} to elsewhere, which is not followed")
    return parent[name]


def _size(file: h5py.File) -> int:
    return Path(file.filename).stat().st_size
