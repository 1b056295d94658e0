"""The functions that OpenGL's fixed pipeline needs, from +, -, *, / and sqrt alone: equal on every processor."""

from __future__ import annotations

import math

from distractor_data.envs.renderers.compiled import kernel

_FRACTION_BITS = 24  # of an exponent, more than the float32 that holds it has


def cos_sin(angle: float) -> tuple[float, float]:
    """Cosine and sine by their Taylor series, of an angle in radians halved until they converge at once."""
    halvings = 0
    while abs(angle) > 0.25:
        angle /= 2
        halvings += 1
    square, cosine, sine, term = angle * angle, 0.0, 0.0, 1.0
    for order in range(0, 16, 2):
        cosine += term
        sine += term * angle / (order + 1)
        term *= -square / ((order + 1) * (order + 2))
    for _ in range(halvings):
        cosine, sine = cosine * cosine - sine * sine, 2 * sine * cosine
    return cosine, sine


def tangent(angle: float) -> float:
    """Tangent of an angle in radians."""
    cosine, sine = cos_sin(angle)
    return sine / cosine


@kernel
def power(base: float, exponent: float) -> float:
    """base ** exponent for both at least 0: whole powers by squaring, the fraction's binary digits by roots."""
    whole = int(exponent)
    fraction = exponent - whole
    result, square = 1.0, base
    while whole > 0:
        if whole & 1:
            result *= square
        square *= square
        whole >>= 1
    root = base
    for _ in range(_FRACTION_BITS):
        if fraction <= 0.0:
            break
        root = math.sqrt(root)
        fraction *= 2.0
        if fraction >= 1.0:
            result *= root
            fraction -= 1.0
    return result


@kernel
def dot(ax: float, ay: float, az: float, bx: float, by: float, bz: float) -> float:
    """a · b."""
    return ax * bx + ay * by + az * bz


@kernel
def to_byte(value: float) -> int:
    """A colour in [0, 1], clamped, as one of 256 levels."""
    if value <= 0.0:
        return 0
    if value >= 1.0:
        return 255
    return int(value * 255.0 + 0.5)
