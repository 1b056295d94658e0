"""Textures as Mesa's llvmpipe reads them: mipmaps, their choice for a 2×2 block of pixels, bilinear lookups."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from distractor_data.envs.renderers.colours import BITS, bilinear, mean, mix, mix_fine, pack_all
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.structs import LEVEL, Record

STEP = (1 << BITS) - 1  # the part of a place that is within a texel (`to_steps`)


class Texture(NamedTuple):
    """The levels of a texture of one or six equally large images, one after the other."""

    pixels: np.ndarray  # (…,) int64, colours: level 0 of every face, then level 1, …
    levels: np.ndarray  # LEVEL: where each begins and its images' size


def empty_texture(width: int, height: int, faces: int) -> Texture:
    """Room for all levels, each half as large as the one before, down to one pixel."""
    sizes = [(width, height)]
    while sizes[-1] != (1, 1):
        sizes.append((max(1, sizes[-1][0] // 2), max(1, sizes[-1][1] // 2)))
    counts = np.array([faces * w * h for w, h in sizes])
    firsts = np.cumsum(counts) - counts
    levels = np.array([(first, *size) for first, size in zip(firsts, sizes, strict=True)], LEVEL)
    return Texture(np.zeros(int(counts.sum()), np.int64), levels)


def concatenate(textures: list[Texture]) -> Texture:
    """Several textures as one, their levels one after the other."""
    pixels, levels = [empty_texture(1, 1, 1).pixels], []
    for texture in textures:
        levels.append(texture.levels.copy())
        levels[-1]["first"] += sum(map(len, pixels))
        pixels.append(texture.pixels)
    return Texture(np.concatenate(pixels), np.concatenate([*levels, np.zeros(1, LEVEL)]))


def fill(texture: Texture, images: np.ndarray, faces: int) -> None:
    """Write the images, (faces · height · width, 3) uint8, and make the smaller levels from them."""
    pack_all(images, texture.pixels)
    _shrink(*texture, faces)


@kernel
def _shrink(pixels: np.ndarray, levels: np.ndarray, faces: int) -> None:
    for number in range(1, levels.shape[0]):
        large, small = levels[number - 1], levels[number]
        for face in range(faces):
            source = large.first + face * large.width * large.height
            target = small.first + face * small.width * small.height
            _halve(pixels, source, large.width, large.height, target, small.width, small.height)


@kernel
def _halve(pixels: np.ndarray, source: int, wide: int, high: int, target: int, width: int, height: int) -> None:
    """One level from the one before: linear between two texels along x, then along y, each rounded to a byte."""
    exact = wide == 2 * width and high == 2 * height
    for y in range(height):
        y0, y1, share_y = _neighbours(y, height, high)
        upper, lower, place = source + y0 * wide, source + y1 * wide, target + y * width
        for x in range(width):
            if exact:
                top, bottom = upper + 2 * x, lower + 2 * x
                one, other = mean(pixels[top], pixels[top + 1]), mean(pixels[bottom], pixels[bottom + 1])
                pixels[place + x] = mean(one, other)
                continue
            x0, x1, share_x = _neighbours(x, width, wide)
            one = mix(pixels[upper + x0], pixels[upper + x1], share_x)
            other = mix(pixels[lower + x0], pixels[lower + x1], share_x)
            pixels[place + x] = mix(one, other, share_y)


@kernel
def _neighbours(place: int, small: int, large: int) -> tuple[int, int, int]:
    """The two texels around the centre of a texel of the next level, and the second's share in 256ths."""
    twice = (2 * place + 1) * large - small
    low = twice // (2 * small)
    share = (twice - low * 2 * small) * 256 // (2 * small)
    return low, min(low + 1, large - 1), share


@kernel
def choose_level(square: float, levels: int) -> tuple[int, float]:
    """The larger of the two levels that are blended and the other's share, for the square of texels to a pixel.

    Half of llvmpipe's piecewise linear logarithm, exponent + mantissa - 1 (lp_bld_arit.c, `lp_build_fast_log2`).
    """
    if not square > 1.0:  # nor where it is not a number, at a ray along the plane
        return 0, 0.0
    exponent, mantissa = 0, square
    while mantissa >= 2.0 and exponent < 2 * levels:
        mantissa *= 0.5
        exponent += 1
    detail = 0.5 * (exponent + mantissa - 1.0)
    level = int(detail)
    return (level, detail - level) if level < levels - 1 else (levels - 1, 0.0)


@kernel
def repeated(pixels: np.ndarray, level: Record, s: float, t: float) -> int:
    """Fine colour at s, t of a level of a texture that repeats."""
    width, height = level.width, level.height
    x, y = to_steps(s - math.floor(s), width), to_steps(t - math.floor(t), height)
    x0, y0 = x >> BITS, y >> BITS  # -1 at least
    x1, y1 = x0 + 1 if x0 + 1 < width else 0, y0 + 1 if y0 + 1 < height else 0
    x0, y0 = x0 if x0 >= 0 else width - 1, y0 if y0 >= 0 else height - 1
    row0, row1 = level.first + y0 * width, level.first + y1 * width
    return bilinear(pixels, row0 + x0, row0 + x1, row1 + x0, row1 + x1, x & STEP, y & STEP)


@kernel
def to_steps(place: float, width: int) -> int:
    """A place, 0 to 1, in 64ths of a texel from the first texel's centre."""
    return int(place * (width << BITS) + 0.5) - (1 << BITS - 1)


@kernel
def between_levels(one: int, other: int, share: float) -> int:
    """The fine colour between those of two levels."""
    return mix_fine(one, other, int(share * 256.0 + 0.5))
