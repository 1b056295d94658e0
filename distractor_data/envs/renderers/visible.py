"""Which shape each sample of the picture hits: coverage, depth and the agent's mask."""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.scene import AHEAD, DIRECT, EYE, MIRRORED, PLANE, RIGHT, UP, Scene
from distractor_data.envs.renderers.shapes import depth, direction, pixel_bounds
from distractor_data.envs.renderers.skybox import NOTHING

CENTRE = 4  # the fifth place of a pixel, after its four samples
# llvmpipe's samples (lp_state_fs.c, `lp_sample_pos_4x`), and the centre; from a pixel's lower left corner.
PLACES = ((0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875), (0.5, 0.5))
_PLACES_X = tuple(x for x, _ in PLACES)
_PLACES_Y = tuple(y for _, y in PLACES)


@kernel
def cast(
    scene: Scene, size: int, height: float, near: float, far: float, hit: np.ndarray, depths: np.ndarray
) -> None:
    """Nearest opaque shape of each sample, and nearest shape of any kind at each pixel's centre, where there is one.

    `hit` (size, size, 5) and `depths` (size, size, 5), its rows from the bottom; `far` is the skybox's distance.
    """
    hit[:] = NOTHING
    depths[:] = far
    bounds = np.empty(4, np.int64)
    for shape in range(scene.number[1]):
        pixel_bounds(scene, DIRECT, shape, height, size, bounds)
        first = CENTRE if scene.transparent[shape] else 0
        if scene.kind[shape] == PLANE:
            _cast_plane(scene, shape, size, near, far, first, hit, depths)
            continue
        kind, dimensions, ray = scene.kind[shape], scene.size[shape], scene.ray[DIRECT, shape]
        for y in range(bounds[2], bounds[3] + 1):
            for x in range(bounds[0], bounds[1] + 1):
                for place in range(first, CENTRE + 1):
                    t = depth(kind, dimensions, ray, x + _PLACES_X[place] - 0.5 * size, y + _PLACES_Y[place] - 0.5 * size)
                    if near <= t <= depths[y, x, place]:
                        depths[y, x, place], hit[y, x, place] = t, shape


@kernel
def _cast_plane(scene, shape, size, near, far, first, hit, depths) -> None:  # type: ignore[no-untyped-def]
    """A plane covers much of the picture, and its far parts are hidden by the skybox, a cylinder about the eye."""
    ray, world, dimensions = scene.ray[DIRECT, shape], scene.views[DIRECT], scene.size[shape]
    for y in range(size):
        for place in range(first, CENTRE + 1):
            row = y + _PLACES_Y[place] - 0.5 * size
            for x in range(size):
                column = x + _PLACES_X[place] - 0.5 * size
                t = depth(PLANE, dimensions, ray, column, row)
                if near <= t <= depths[y, x, place]:
                    dx, dy, _ = direction(world, column, row)
                    if t * t * (dx * dx + dy * dy) < far * far:
                        depths[y, x, place], hit[y, x, place] = t, shape


@kernel
def cast_mirrored(
    scene: Scene, size: int, height: float, far: float, hit: np.ndarray, depths: np.ndarray, mirrored: np.ndarray
) -> None:
    """Nearest opaque shape behind the mirror, into `mirrored` (size, size, 4), for each sample that hits the mirror."""
    mirror = scene.number[3]
    mirrored[:] = NOTHING
    if mirror < 0:
        return
    bounds = np.empty(4, np.int64)
    nearest = np.full(mirrored.shape, far)
    for shape in range(scene.number[1]):
        if shape == mirror or scene.transparent[shape]:
            continue
        pixel_bounds(scene, MIRRORED, shape, height, size, bounds)
        kind, dimensions, ray = scene.kind[shape], scene.size[shape], scene.ray[MIRRORED, shape]
        for y in range(bounds[2], bounds[3] + 1):
            for x in range(bounds[0], bounds[1] + 1):
                for sample in range(4):
                    if hit[y, x, sample] != mirror:
                        continue
                    t = depth(kind, dimensions, ray, x + _PLACES_X[sample] - 0.5 * size, y + _PLACES_Y[sample] - 0.5 * size)
                    if depths[y, x, sample] <= t < nearest[y, x, sample]:
                        nearest[y, x, sample], mirrored[y, x, sample] = t, shape


assert (EYE, AHEAD, RIGHT, UP) == (0, 1, 2, 3)
