"""Weights that a stranger may have written: what they take is known before memory is taken for them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from distractor_data.errors import DmaskError
from distractor_data.untrusted.files import damage, opened

PICKLE = 16 << 20  # bytes of a checkpoint that are no numbers


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors in a safetensors file, of which only the header is read.

    That the file is as long as its tensors take is checked by safetensors.
    """
    from safetensors import SafetensorError, safe_open

    opened(path).close()
    with damage(path, "give a whole safetensors file"):
        try:
            with safe_open(path, "numpy") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(str(error)) from error


def check_checkpoint(path: Path, advice: str) -> None:
    """Raise `DmaskError` for a file that is no archive of PyTorch's, or one that unpacks to more than its size."""
    with opened(path) as file:
        try:
            entries = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise DmaskError(f"{path} is damaged or no checkpoint of PyTorch; {advice}") from error
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    pickles = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if packed or pickles > PICKLE or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DmaskError(f"{path} would unpack to more than its size; {advice}")
