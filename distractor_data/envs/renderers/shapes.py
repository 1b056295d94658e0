"""Where rays meet shapes, and the pixels that a shape can cover."""

from __future__ import annotations

import math

import numpy as np

from distractor_data.envs.renderers.arithmetic import dot
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.structs import AHEAD, CAPSULE, CYLINDER, ELLIPSOID, EYE, PLANE, RIGHT, UP, Record

MISS = np.inf
_PARALLEL = 1e-12
_OUTLINE = 0.04  # of the squared radius: more than facets lack, 28 in a turn and 8 in a quarter upwards


@kernel
def direction(ray: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
    """Direction of the ray through the picture at x, y, in pixels from its middle."""
    return (
        ray[AHEAD, 0] + x * ray[RIGHT, 0] + y * ray[UP, 0],
        ray[AHEAD, 1] + x * ray[RIGHT, 1] + y * ray[UP, 1],
        ray[AHEAD, 2] + x * ray[RIGHT, 2] + y * ray[UP, 2],
    )


@kernel
def depth(shape: Record, view: int, x: float, y: float) -> tuple[float, bool]:
    """Ray parameter where the ray of a view through x, y enters a shape, or MISS; and whether near its outline."""
    ray = shape.ray[view]
    dx, dy, dz = direction(ray, x, y)
    return enter(shape.kind, shape.size, ray[EYE, 0], ray[EYE, 1], ray[EYE, 2], dx, dy, dz)


@kernel
def enter(
    kind: int, size: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, bool]:
    """Ray parameter where o + t·d enters a shape, in the shape's own frame (scene.py, `_localise`), or MISS.

    And whether that is so near a round shape's outline that its facets may not reach there.
    """
    if kind == CAPSULE:
        return _capsule(size[0], size[2], ox, oy, oz, dx, dy, dz)
    if kind == ELLIPSOID:
        return _sphere(1.0, ox, oy, oz, dx, dy, dz)
    if kind == PLANE:
        if oz * dz >= 0.0:  # away from it or along it
            return MISS, False
        t = -oz / dz
        inside = abs(ox + t * dx) <= size[0] and abs(oy + t * dy) <= size[1]
        return t if inside else MISS, False
    if kind == CYLINDER:
        return _cylinder(size[0], size[2], ox, oy, oz, dx, dy, dz)
    return _box(size, ox, oy, oz, dx, dy, dz), False


@kernel
def _sphere(radius: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, bool]:
    a = dot(dx, dy, dz, dx, dy, dz)
    b = dot(ox, oy, oz, dx, dy, dz)
    square = b * b - a * (dot(ox, oy, oz, ox, oy, oz) - radius * radius)
    if square < 0.0:
        return MISS, False
    return (-b - math.sqrt(square)) / a, square < _OUTLINE * a * radius * radius


@kernel
def _tube(radius: float, ox: float, oy: float, dx: float, dy: float) -> tuple[float, bool]:
    """The infinite cylinder about the z axis."""
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    square = b * b - a * (ox * ox + oy * oy - radius * radius)
    if square < 0.0:
        return MISS, False
    return (-b - math.sqrt(square)) / a, square < _OUTLINE * a * radius * radius


@kernel
def _capsule(
    radius: float, half: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, bool]:
    """The infinite cylinder first: what misses it misses the caps, and where it enters says which cap is met."""
    z = -dz
    if dx * dx + dy * dy > _PARALLEL:
        t, outline = _tube(radius, ox, oy, dx, dy)
        z = oz + t * dz
        if t == MISS or abs(z) <= half:
            return t, outline
    return _sphere(radius, ox, oy, oz - half if z > 0.0 else oz + half, dx, dy, dz)


@kernel
def _cylinder(
    radius: float, half: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, bool]:
    z = -dz
    if dx * dx + dy * dy > _PARALLEL:
        t, outline = _tube(radius, ox, oy, dx, dy)
        z = oz + t * dz
        if t == MISS or abs(z) <= half:
            return t, outline
    t = ((half if z > 0.0 else -half) - oz) / dz  # the disk on the side where the ray comes from
    x, y = ox + t * dx, oy + t * dy
    square = (x * x + y * y) / (radius * radius)
    return (t, square > 1.0 - _OUTLINE) if square <= 1.0 else (MISS, False)


@kernel
def _box(size: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    near, far = -MISS, MISS
    for axis in range(3):
        o, d = (ox, dx) if axis == 0 else ((oy, dy) if axis == 1 else (oz, dz))
        if d == 0.0:
            if abs(o) > size[axis]:
                return MISS
            continue
        one, other = (-size[axis] - o) / d, (size[axis] - o) / d
        near, far = max(near, min(one, other)), min(far, max(one, other))
    return near if near <= far else MISS


@kernel
def pixel_bounds(frame: Record, shape: Record, view: int) -> tuple[int, int, int, int]:
    """First and last column, first and last row (from the bottom), of the pixels that a shape may touch."""
    last = frame.size - 1
    if shape.kind == PLANE:
        bottom, top = 0, last
        while bottom <= last and _looks_away(frame, shape.ray[view], bottom):
            bottom += 1
        while top >= bottom and _looks_away(frame, shape.ray[view], top):
            top -= 1
        return 0, last, bottom, top
    radius, reach = shape.radius, 0.0
    if shape.kind == CAPSULE:
        radius, reach = shape.size[0], shape.size[2]
    low_x, high_x, low_y, high_y = MISS, -MISS, MISS, -MISS
    pixel, middle = 2.0 * frame.height / frame.size, 0.5 * frame.size
    for end in (-1.0, 1.0):
        aside, up, ahead = _in_view(frame, shape, view, end * reach, pixel)
        if ahead <= 1.01 * radius:
            return 0, last, 0, last  # about the eye: anywhere
        left, right = _span(aside, ahead, radius)
        bottom, top = _span(up, ahead, radius)
        low_x, high_x = min(low_x, left), max(high_x, right)
        low_y, high_y = min(low_y, bottom), max(high_y, top)
    return (
        max(0, _column(middle + low_x / pixel, frame.size)),
        min(last, _column(middle + high_x / pixel, frame.size)),
        max(0, _column(middle + low_y / pixel, frame.size)),
        min(last, _column(middle + high_y / pixel, frame.size)),
    )


@kernel
def _looks_away(frame: Record, ray: np.ndarray, row: int) -> bool:
    """Whether no ray through a row of pixels meets a plane, as none does that goes through its corners."""
    middle = 0.5 * frame.size
    for x in (-middle, middle):
        for y in (row - middle, row + 1.0 - middle):
            _dx, _dy, dz = direction(ray, x, y)
            if ray[EYE, 2] * dz < 0.0:
                return False
    return True


@kernel
def _column(place: float, size: int) -> int:
    """Column (or row) of a place in the picture, the nearest outside for all that is farther out."""
    return math.floor(min(max(place, -1.0), size + 1.0))


@kernel
def _in_view(frame: Record, shape: Record, view: int, along: float, pixel: float) -> tuple[float, float, float]:
    """A point on a shape's z axis as a view sees it: right, up, ahead."""
    right = up = ahead = 0.0
    for axis in range(3):
        offset = shape.position[axis] + along * shape.rotation[axis, 2] - frame.views[view, EYE, axis]
        right += offset * frame.views[view, RIGHT, axis] / pixel
        up += offset * frame.views[view, UP, axis] / pixel
        ahead += offset * frame.views[view, AHEAD, axis]
    return right, up, ahead


@kernel
def _span(aside: float, ahead: float, radius: float) -> tuple[float, float]:
    """Least and greatest ratio aside / ahead on a circle that lies ahead: its tangents through the eye."""
    square = ahead * ahead - radius * radius
    root = radius * math.sqrt(aside * aside + square)
    return (aside * ahead - root) / square, (aside * ahead + root) / square
