"""Which shape each sample of the picture hits: coverage, depth, and the places that the agent's mask looks at."""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.compiled import inner_kernel, kernel
from distractor_data.envs.renderers.facets import triangle_under
from distractor_data.envs.renderers.shapes import depth, direction, pixel_bounds
from distractor_data.envs.renderers.structs import DIRECT, MIRRORED, NOTHING, PLANE, Buffers, Record, Tables

CENTRE = 4  # the fifth place of a pixel, after its four samples
# llvmpipe's samples (lp_state_fs.c, `lp_sample_pos_4x`), and the centre; from a pixel's lower left corner.
PLACES_X = (0.375, 0.875, 0.125, 0.625, 0.5)
PLACES_Y = (0.125, 0.375, 0.625, 0.875, 0.5)


def empty_buffers(size: int) -> Buffers:
    """Room for a square picture."""
    return Buffers(
        np.zeros((size, size, CENTRE + 1), np.int16),
        np.zeros((size, size, CENTRE + 1)),
        np.zeros((size, size, CENTRE), np.int16),
        np.zeros((size, size, CENTRE)),
        np.zeros((size, size, CENTRE), np.int64),
        np.zeros((size, size, CENTRE), np.int64),
        np.zeros(CENTRE, np.int64),
    )


@kernel
def cast(tables: Tables, buffers: Buffers) -> None:
    """Find the nearest opaque shape at each sample, and the nearest shape of any kind at each pixel's centre."""
    frame, shapes, hit, depths = tables.frame, tables.shapes, buffers.hit, buffers.depths
    hit[:] = NOTHING
    depths[:] = frame.far
    middle = 0.5 * frame.size
    for index in range(frame.shapes):
        shape = shapes[index]
        left, right, bottom, top = pixel_bounds(frame, shape, DIRECT)
        first = CENTRE if shape.transparent else 0
        for y in range(bottom, top + 1):
            for x in range(left, right + 1):
                for place in range(first, CENTRE + 1):
                    column, row = x + PLACES_X[place] - middle, y + PLACES_Y[place] - middle
                    t, outline = depth(shape, DIRECT, column, row)
                    if not frame.near <= t <= depths[y, x, place]:
                        continue
                    if shape.kind == PLANE and not before_skybox(frame, column, row, t):
                        continue
                    if outline and not _hits_facet(tables, shape, DIRECT, column, row, t):
                        continue
                    depths[y, x, place], hit[y, x, place] = t, index


@inner_kernel
def _hits_facet(tables: Tables, shape: Record, view: int, x: float, y: float, t: float) -> bool:
    _, hits = triangle_under(tables.frame, shape, tables.parts[shape.index], view, x, y, t)
    return hits


@kernel
def before_skybox(frame: Record, x: float, y: float, t: float) -> bool:
    """Whether a place on a ray is inside the cylinder about the eye that is the skybox."""
    dx, dy, _ = direction(frame.views[DIRECT], x, y)
    return t * t * (dx * dx + dy * dy) < frame.far * frame.far


@kernel
def cast_mirrored(tables: Tables, buffers: Buffers) -> None:
    """Find the nearest opaque shape that the mirror shows at each sample that hits the mirror."""
    frame, shapes, mirrored, behind = tables.frame, tables.shapes, buffers.mirrored, buffers.behind
    mirrored[:] = NOTHING
    if frame.mirror == NOTHING:
        return
    behind[:] = frame.far
    middle = 0.5 * frame.size
    for index in range(frame.shapes):
        shape = shapes[index]
        if index == frame.mirror or shape.transparent:
            continue
        left, right, bottom, top = pixel_bounds(frame, shape, MIRRORED)
        for y in range(bottom, top + 1):
            for x in range(left, right + 1):
                for sample in range(4):
                    if buffers.hit[y, x, sample] != frame.mirror:
                        continue
                    column, row = x + PLACES_X[sample] - middle, y + PLACES_Y[sample] - middle
                    t, outline = depth(shape, MIRRORED, column, row)
                    if not buffers.depths[y, x, sample] <= t < behind[y, x, sample]:
                        continue
                    if outline and not _hits_facet(tables, shape, MIRRORED, column, row, t):
                        continue
                    behind[y, x, sample], mirrored[y, x, sample] = t, index
