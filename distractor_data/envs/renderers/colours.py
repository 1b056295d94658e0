"""Colours as one integer: red, green and blue in fields of 21 bits, so that one operation is for all three.

Channels are bytes. Sums of bytes with weights that add up to 4096 fit a field, too: they are called fine here.
"""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.compiled import kernel

_FIELD = 21
_ONES = 1 | 1 << _FIELD | 1 << 2 * _FIELD
_BYTES = 0xFF * _ONES
_TWELVE_BITS = 0xFFF * _ONES
BITS = 6  # of a weight along one axis of a texture: two of them make 4096


@kernel
def pack(red: int, green: int, blue: int) -> int:
    """A colour from its bytes."""
    return red | green << _FIELD | blue << 2 * _FIELD


@kernel
def unpack(colour: int) -> tuple[int, int, int]:
    """Its bytes."""
    return colour & 0xFF, colour >> _FIELD & 0xFF, colour >> 2 * _FIELD & 0xFF


@kernel
def pack_all(images: np.ndarray, colours: np.ndarray) -> None:
    """Colours (N,) int64 from bytes (N, 3) uint8."""
    for index in range(images.shape[0]):
        colours[index] = pack(int(images[index, 0]), int(images[index, 1]), int(images[index, 2]))


@kernel
def mix(one: int, other: int, share: int) -> int:
    """Between two colours, the other's share in 256ths. As llvmpipe rounds: halves go up."""
    return (one * (256 - share) + other * share + 128 * _ONES) >> 8 & _BYTES


@kernel
def add(one: int, other: int) -> int:
    """The sum of two colours, at most white."""
    total = one + other
    return (total | (total >> 8 & _ONES) * 0xFF) & _BYTES


@kernel
def mean(one: int, other: int) -> int:
    """The mean of two colours, halves rounded up."""
    return (one + other + _ONES) >> 1 & _BYTES


@kernel
def mean_of_four(one: int, two: int, three: int, four: int) -> int:
    """The mean of four colours, halves rounded up."""
    return (one + two + three + four + 2 * _ONES) >> 2 & _BYTES


@kernel
def bilinear(colours: np.ndarray, a: int, b: int, c: int, d: int, across: int, up: int) -> int:
    """Between four texels, a, b of one row and c, d of the next, in 64ths towards b and c: a fine colour."""
    both = across * up
    left, lower = (across << BITS) - both, (up << BITS) - both
    return (
        colours[a] * ((1 << 2 * BITS) - left - lower - both)
        + colours[b] * left
        + colours[c] * lower
        + colours[d] * both
    )


@kernel
def mix_fine(one: int, other: int, share: int) -> int:
    """Between two fine colours, the other's share in 256ths."""
    one, other = (one + 128 * _ONES) >> 8 & _TWELVE_BITS, (other + 128 * _ONES) >> 8 & _TWELVE_BITS
    return one * (256 - share) + other * share


@kernel
def to_bytes(fine: int) -> int:
    """A fine colour, rounded."""
    return (fine + 2048 * _ONES) >> 12 & _BYTES


@kernel
def to_floats(fine: int) -> tuple[float, float, float]:
    """A fine colour's channels, 0 to 1."""
    mask, scale = (1 << _FIELD) - 1, 1.0 / (255 << 2 * BITS)
    return (fine & mask) * scale, (fine >> _FIELD & mask) * scale, (fine >> 2 * _FIELD & mask) * scale
