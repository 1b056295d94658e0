"""Images that a stranger may have encoded: what their headers say, before anything is decoded."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distractor_data.errors import DmaskError
from distractor_data.untrusted.files import damage, opened
from distractor_data.untrusted.records import EDGE

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PICTURES = ("PNG", "WEBP", "JPEG", "BMP")  # Pillow would start other programs for other formats
_PIXELS = 1 << 26  # of a picture that is not a dataset's
_CHANNELS = {(8, 0): 1, (8, 2): 3}  # (bits, colour type) of a PNG: grey, RGB; no palette, no transparency


def shape_of(blob: bytes) -> tuple[int, ...]:
    """(H, W) of a grey PNG, (H, W, 3) of an RGB PNG or a lossless WebP. Raises `ValueError` for anything else."""
    if blob[:16] == _PNG and len(blob) > 33:
        width, height, bits, colour = struct.unpack(">IIBB", blob[16:26])
        channels = _CHANNELS.get((bits, colour), 0)
    elif blob[:4] == b"RIFF" and blob[8:16] == b"WEBPVP8L" and len(blob) > 25 and blob[20] == 0x2F:
        packed = int.from_bytes(blob[21:25], "little")  # 14 bits each of width and height, alpha, three of version
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        channels = 0 if packed >> 28 else 3
    else:
        raise ValueError("neither PNG nor lossless WebP")
    if not channels:
        raise ValueError("neither 8-bit grey nor 8-bit RGB")
    if not (0 < width <= EDGE and 0 < height <= EDGE):
        raise ValueError(f"{width}×{height} pixels")
    return (height, width) if channels == 1 else (height, width, 3)


def check(blobs: Sequence[bytes | None], shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape that all images have: `shape` or, without it, the first one's. Raises `DmaskError`."""
    for blob in blobs:
        try:
            found = shape_of(blob or b"")
        except ValueError as error:
            raise DmaskError(f"an image of the dataset is damaged ({error}); pull or generate it again") from error
        shape = shape or found
        if found != shape:
            is_, should = ("×".join(map(str, size)) for size in (found, shape))
            raise DmaskError(f"an image of the dataset is {is_}, where {should} belongs; pull or generate it again")
    if shape is None:
        raise DmaskError("there is no image to decode in an empty column; pull or generate it again")
    return shape


def picture(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file of the user's, (H, W, 3) or for mode `L` (H, W) uint8."""
    from PIL import Image

    with opened(path) as file, damage(path, "give a PNG, WebP, JPEG or BMP"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which are refused here
        try:
            image = Image.open(file, formats=_PICTURES)
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
        if image.width * image.height > _PIXELS:
            raise ValueError(f"it has {image.width}×{image.height} pixels")
        return np.asarray(image.convert(mode))
