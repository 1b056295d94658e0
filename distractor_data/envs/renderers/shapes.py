"""Where rays meet shapes, and the pixels that a shape can cover."""

from __future__ import annotations

import math

import numpy as np

from distractor_data.envs.renderers.arithmetic import dot
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.scene import (
    CAPSULE,
    AHEAD,
    CYLINDER,
    ELLIPSOID,
    EYE,
    PLANE,
    RIGHT,
    SPHERE,
    UP,
    Scene,
    bounding_radius,
)

MISS = np.inf
_PARALLEL = 1e-12


@kernel
def direction(ray: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
    """Direction of the ray through the picture at x, y, in pixels from its middle."""
    return (
        ray[AHEAD, 0] + x * ray[RIGHT, 0] + y * ray[UP, 0],
        ray[AHEAD, 1] + x * ray[RIGHT, 1] + y * ray[UP, 1],
        ray[AHEAD, 2] + x * ray[RIGHT, 2] + y * ray[UP, 2],
    )


@kernel
def depth(kind: int, size: np.ndarray, ray: np.ndarray, x: float, y: float) -> float:
    """Ray parameter where the ray through x, y enters a shape, or MISS."""
    dx, dy, dz = direction(ray, x, y)
    return enter(kind, size, ray[EYE, 0], ray[EYE, 1], ray[EYE, 2], dx, dy, dz)


@kernel
def enter(kind: int, size: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Ray parameter where o + t·d enters a shape, in the shape's own frame (scene.py, `_localise`), or MISS."""
    if kind == CAPSULE:
        return _capsule(size[0], size[2], ox, oy, oz, dx, dy, dz)
    if kind == SPHERE or kind == ELLIPSOID:
        return _sphere(1.0, ox, oy, oz, dx, dy, dz)
    if kind == PLANE:
        if dz == 0.0:
            return MISS
        t = -oz / dz
        inside = abs(ox + t * dx) <= size[0] and abs(oy + t * dy) <= size[1]
        return t if inside else MISS
    if kind == CYLINDER:
        return _cylinder(size[0], size[2], ox, oy, oz, dx, dy, dz)
    return _box(size, ox, oy, oz, dx, dy, dz)


@kernel
def _sphere(radius: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    a = dot(dx, dy, dz, dx, dy, dz)
    b = dot(ox, oy, oz, dx, dy, dz)
    square = b * b - a * (dot(ox, oy, oz, ox, oy, oz) - radius * radius)
    return MISS if square < 0.0 else (-b - math.sqrt(square)) / a


@kernel
def _capsule(radius: float, half: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """The infinite cylinder first: what misses it misses the caps, and where it enters says which cap is met."""
    a = dx * dx + dy * dy
    if a > _PARALLEL:
        b = ox * dx + oy * dy
        square = b * b - a * (ox * ox + oy * oy - radius * radius)
        if square < 0.0:
            return MISS
        t = (-b - math.sqrt(square)) / a
        z = oz + t * dz
        if abs(z) <= half:
            return t
    else:
        z = -dz
    return _sphere(radius, ox, oy, oz - half if z > 0.0 else oz + half, dx, dy, dz)


@kernel
def _cylinder(radius: float, half: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    a = dx * dx + dy * dy
    z = -dz
    if a > _PARALLEL:
        b = ox * dx + oy * dy
        square = b * b - a * (ox * ox + oy * oy - radius * radius)
        if square < 0.0:
            return MISS
        t = (-b - math.sqrt(square)) / a
        z = oz + t * dz
        if abs(z) <= half:
            return t
    t = ((half if z > 0.0 else -half) - oz) / dz  # the disk on the side where the ray comes from
    x, y = ox + t * dx, oy + t * dy
    return t if x * x + y * y <= radius * radius else MISS


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
def pixel_bounds(scene: Scene, view: int, shape: int, height: float, size: int, bounds: np.ndarray) -> None:
    """First and last column and row (from the bottom) of the pixels that a shape may touch, into `bounds`."""
    bounds[0] = bounds[2] = 0
    bounds[1] = bounds[3] = size - 1
    if scene.kind[shape] == PLANE:
        return
    low_x, high_x, low_y, high_y = MISS, -MISS, MISS, -MISS
    radius, reach = bounding_radius(scene, shape), 0.0
    if scene.kind[shape] == CAPSULE:
        radius, reach = scene.size[shape, 0], scene.size[shape, 2]
    pixel, middle = 2.0 * height / size, 0.5 * size
    for end in (-1.0, 1.0):
        right, up, ahead = _in_view(scene, view, shape, end * reach, pixel)
        if ahead <= 1.01 * radius:
            return  # about the eye: anywhere
        left, right = _span(right, ahead, radius)
        bottom, top = _span(up, ahead, radius)
        low_x, high_x = min(low_x, left), max(high_x, right)
        low_y, high_y = min(low_y, bottom), max(high_y, top)
    bounds[0] = max(0, _column(middle + low_x / pixel, size))
    bounds[1] = min(size - 1, _column(middle + high_x / pixel, size))
    bounds[2] = max(0, _column(middle + low_y / pixel, size))
    bounds[3] = min(size - 1, _column(middle + high_y / pixel, size))


@kernel
def _column(place: float, size: int) -> int:
    """Column (or row) of a place in the picture, the nearest outside for all that is farther out."""
    return int(math.floor(min(max(place, -1.0), size + 1.0)))


@kernel
def _in_view(scene: Scene, view: int, shape: int, along: float, pixel: float) -> tuple[float, float, float]:
    """A point on a shape's z axis as a view sees it: right, up, ahead."""
    right = up = ahead = 0.0
    for axis in range(3):
        offset = scene.position[shape, axis] + along * scene.rotation[shape, axis, 2] - scene.views[view, EYE, axis]
        right += offset * scene.views[view, RIGHT, axis] / pixel
        up += offset * scene.views[view, UP, axis] / pixel
        ahead += offset * scene.views[view, AHEAD, axis]
    return right, up, ahead


@kernel
def _span(aside: float, ahead: float, radius: float) -> tuple[float, float]:
    """Least and greatest ratio aside / ahead on a circle that lies ahead: its tangents through the eye."""
    square = ahead * ahead - radius * radius
    root = radius * math.sqrt(aside * aside + square)
    return (aside * ahead - root) / square, (aside * ahead + root) / square
