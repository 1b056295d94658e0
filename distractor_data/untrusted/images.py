"""Images that a stranger may have encoded: what their headers say, before anything is decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distractor_data.untrusted.files import GIVEN, damage, opened
from distractor_data.untrusted.records import EDGE

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PICTURES = ("PNG", "WEBP", "JPEG", "BMP")  # Pillow would start other programs for other formats
PIXELS = 1 << 26  # of a picture that is not a dataset's
_ORIENTATION = 0x0112  # of EXIF; 1 is upright
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
    """The shape that all images have: `shape` or, without it, the first one's. Raises `ValueError`."""
    for index, blob in enumerate(blobs):
        try:
            found = shape_of(blob or b"")
        except ValueError as error:
            raise ValueError(f"image {index} is {error}") from error
        shape = shape or found
        if found != shape:
            is_, should = ("×".join(map(str, size)) for size in (found, shape))
            raise ValueError(f"image {index} is {is_}, where {should} belongs")
    if shape is None:
        raise ValueError("there is no image")
    return shape


def intact(blob: bytes, shape: tuple[int, ...]) -> bytes:
    """What of an image, whose header was checked, is to be given to a decoder. Raises `ValueError` for damage.

    Of a PNG only its header and its pixels, once they are known to be as many as the header says: libpng writes
    about all else to the terminal.
    """
    if blob[:16] != _PNG:
        return blob
    kept, packed, place, kind = [blob[:8]], [], 8, b""
    row = 1 + shape[1] * (3 if len(shape) == 3 else 1)  # bytes: the number of a filter, then pixels
    try:
        while kind != b"IEND":
            length, kind = struct.unpack(">I4s", blob[place : place + 8])
            chunk = blob[place : place + 12 + length]
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise ValueError("a damaged PNG")
            if kind in (b"IHDR", b"IDAT", b"IEND"):
                kept.append(chunk)
            if kind == b"IDAT":
                packed.append(chunk[8:-4])
            place += 12 + length
        inflate = zlib.decompressobj()
        pixels = inflate.decompress(b"".join(packed), shape[0] * row + 1)
    except (struct.error, zlib.error) as error:
        raise ValueError("a damaged PNG") from error
    if len(pixels) != shape[0] * row or not inflate.eof or max(pixels[::row]) > 4 or blob[28]:
        raise ValueError("a damaged PNG")  # or an interlaced one
    return b"".join(kept)


def picture(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file of the user's as it is to be seen, (H, W, 3) or for mode `L` (H, W) uint8.

    It is upright, as its EXIF says, 16 bits are scaled to 8, and what is transparent is black.
    """
    with _opened(path) as image:
        return _seen(image, mode)


def decode(blob: bytes, shown: Path) -> np.ndarray:
    """The same for an image in a table, (H, W, 3) uint8; `shown` is the table's path, for errors."""
    with damage(shown, "its images must be PNG, WebP, JPEG or BMP"), _image(io.BytesIO(blob)) as image:
        return _seen(image, "RGB")


def _seen(image: Any, mode: str) -> np.ndarray:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return np.asarray(image.convert(mode))


def turned(path: Path) -> bool:
    """Whether `picture` shows an image other than it is stored: its EXIF, its 16 bits or its alpha ask for it."""
    with _opened(path) as image:
        bare = not image.has_transparency_data or image.convert("RGBA").getextrema()[3][0] == 255
        return not bare or image.mode.startswith("I") or image.getexif().get(_ORIENTATION, 1) != 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Pillow image of a file, of which nothing but the header was read."""
    with opened(path, GIVEN) as file, damage(path, "give a PNG, WebP, JPEG or BMP"), _image(file) as image:
        yield image


@contextmanager
def _image(file: BinaryIO) -> Iterator[Any]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which are refused here
        try:
            image = Image.open(file, formats=_PICTURES)
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
        if image.width * image.height > PIXELS:
            raise ValueError(f"it has {image.width}×{image.height} pixels")
        yield image
