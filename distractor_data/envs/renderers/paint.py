"""The colours of what the samples hit: shapes, what the mirror shows, what shines through, and the mean of samples."""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.arithmetic import to_byte
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import corners, find_facet, next_facet, weights
from distractor_data.envs.renderers.light import in_shadow, light_vertex
from distractor_data.envs.renderers.plane import plane_texture
from distractor_data.envs.renderers.records import (
    BOX,
    DIRECT,
    EYE,
    MAX_LAYERS,
    MIRRORED,
    NOTHING,
    PLANE,
    REFLECTANCE,
    Record,
)
from distractor_data.envs.renderers.shapes import depth, direction, pixel_bounds
from distractor_data.envs.renderers.visible import PLACES_X, PLACES_Y, before_skybox

_MANY = 1 << 10  # more than a shape's rows or columns of vertices
_STEPS = 4  # from facet to facet at most
_FARTHEST = 50.0  # facets beyond its edge to which a colour is continued; farther, the facet is seen from its edge


@kernel
def draw_opaque(
    frame: Record,
    shapes: np.ndarray,
    parts: np.ndarray,
    lights: np.ndarray,
    vertices: np.ndarray,
    patterns: np.ndarray,
    pixels: np.ndarray,
    levels: np.ndarray,
    hit: np.ndarray,
    depths: np.ndarray,
    mirrored: np.ndarray,
    behind: np.ndarray,
    colour: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Colour the samples that hit opaque shapes, and add what the mirror shows; `seen` (8,) is for scratch."""
    for y in range(frame.size):
        for x in range(frame.size):
            for sample in range(4):
                index = hit[y, x, sample]
                seen[sample] = NOTHING
                if index == NOTHING:
                    continue
                t, row, column, second = depths[y, x, sample], 0, 0, False
                flat = shapes[index].kind == PLANE  # one cell of its grid will do for a pixel
                if not flat:
                    row, column, second = _facet_under(frame, shapes[index], parts, DIRECT, x, y, sample, t)
                alike = _seen_before(seen, sample, index, row, column, second)
                if alike != NOTHING:
                    for channel in range(3):
                        colour[y, x, sample, channel] = colour[y, x, alike, channel]
                    continue
                if flat:
                    row, column, second = _facet_under(frame, shapes[index], parts, DIRECT, x, y, sample, t)
                red, green, blue = _fragment(
                    frame,
                    shapes,
                    parts,
                    lights,
                    vertices,
                    patterns,
                    pixels,
                    levels,
                    DIRECT,
                    index,
                    x,
                    y,
                    row,
                    column,
                    second,
                )
                colour[y, x, sample, 0], colour[y, x, sample, 1], colour[y, x, sample, 2] = red, green, blue
            for sample in range(4):
                index = mirrored[y, x, sample]
                if index != NOTHING:
                    t = behind[y, x, sample]
                    row, column, second = _facet_under(frame, shapes[index], parts, MIRRORED, x, y, sample, t)
                    red, green, blue = _fragment(
                        frame,
                        shapes,
                        parts,
                        lights,
                        vertices,
                        patterns,
                        pixels,
                        levels,
                        MIRRORED,
                        index,
                        x,
                        y,
                        row,
                        column,
                        second,
                    )
                    _add(colour[y, x, sample], red, green, blue)


@kernel
def _facet_under(
    frame: Record, shape: Record, parts: np.ndarray, view: int, x: int, y: int, sample: int, t: float
) -> tuple[int, int, bool]:
    """The triangle under a sample at depth t: row and column of its quad, and whether it is the second there."""
    place_x, place_y = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
    ray = shape.ray[view]
    dx, dy, dz = direction(ray, place_x, place_y)
    part = parts[shape.index]
    row, column, second = find_facet(
        frame, shape, part, ray[EYE, 0] + t * dx, ray[EYE, 1] + t * dy, ray[EYE, 2] + t * dz
    )
    if shape.kind == PLANE or shape.kind == BOX:
        return row, column, second
    for _ in range(_STEPS):  # the facet is flat, and so may not be just under the round shape's point
        one, two, three = corners(frame, shape, part, row, column, second)
        u, w, _ = weights(shape, view, place_x, place_y, one, two, three)
        before = row, column, second
        row, column, second = next_facet(frame, shape, row, column, second, u, w)
        if (row, column, second) == before:
            break
    return row, column, second


@kernel
def _seen_before(seen: np.ndarray, sample: int, index: int, row: int, column: int, second: bool) -> int:
    """The first sample of a pixel that shows the same triangle, or NOTHING; `seen` remembers the triangles."""
    key = ((index * _MANY + row) * _MANY + column) * 2 + second
    seen[sample] = key
    for earlier in range(sample):
        if seen[earlier] == key:
            return earlier
    return NOTHING


@kernel
def _add(colour: np.ndarray, red: int, green: int, blue: int) -> None:
    colour[0], colour[1], colour[2] = (
        min(255, colour[0] + red),
        min(255, colour[1] + green),
        min(255, colour[2] + blue),
    )


@kernel
def _fragment(
    frame: Record,
    shapes: np.ndarray,
    parts: np.ndarray,
    lights: np.ndarray,
    vertices: np.ndarray,
    patterns: np.ndarray,
    pixels: np.ndarray,
    levels: np.ndarray,
    view: int,
    index: int,
    x: int,
    y: int,
    row: int,
    column: int,
    second: bool,
) -> tuple[int, int, int]:
    """Colour of a shape in a pixel, as bytes: of one triangle, continued to the pixel's centre."""
    shape = shapes[index]
    part = parts[shape.index]
    middle_x, middle_y = x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size
    tint = shapes[frame.mirror].shine[REFLECTANCE] if view == MIRRORED else 1.0
    a, b, c = _corners(frame, shape, part, lights, vertices, view, tint, row, column, second)
    one, two, three = vertices[a], vertices[b], vertices[c]
    u, w, t = weights(shape, view, middle_x, middle_y, *corners(frame, shape, part, row, column, second))
    if not (abs(u) < _FARTHEST and abs(w) < _FARTHEST):
        u = w = 1.0 / 3.0
    pattern = (1.0, 1.0, 1.0)
    if shape.kind == PLANE:
        pattern = plane_texture(frame, shape, view, patterns, pixels, levels, x, y)
    together = view == MIRRORED or shape.transparent
    red, green, blue = _between(one, two, three, view, MAX_LAYERS if together else 0, u, w, pattern)
    if together:
        return red, green, blue
    for light in lights:
        if not light.on or light.layer == 0:
            continue
        more_red, more_green, more_blue = _between(one, two, three, view, light.layer, u, w, pattern)
        if more_red + more_green + more_blue > 0:
            dx, dy, dz = direction(frame.views[DIRECT], middle_x, middle_y)
            eye = frame.views[DIRECT, EYE]
            if not in_shadow(frame, shapes, light, index, eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz):
                red, green, blue = min(255, red + more_red), min(255, green + more_green), min(255, blue + more_blue)
    return red, green, blue


@kernel
def _corners(
    frame: Record,
    shape: Record,
    part: Record,
    lights: np.ndarray,
    vertices: np.ndarray,
    view: int,
    tint: float,
    row: int,
    column: int,
    second: bool,
) -> tuple[int, int, int]:
    """The lit vertices of a triangle."""
    b = light_vertex(frame, shape, part, lights, vertices, view, tint, row + second, column + 1)
    a = light_vertex(frame, shape, part, lights, vertices, view, tint, row, column + second)
    c = light_vertex(frame, shape, part, lights, vertices, view, tint, row + 1, column)
    return a, b, c


@kernel
def _between(
    one: Record,
    two: Record,
    three: Record,
    view: int,
    layer: int,
    u: float,
    w: float,
    pattern: tuple[float, float, float],
) -> tuple[int, int, int]:
    """A layer's colour between three vertices times a texture's, as bytes."""
    a, b, c = one.colour[view, layer], two.colour[view, layer], three.colour[view, layer]
    return (
        to_byte(pattern[0] * (a[0] + u * (b[0] - a[0]) + w * (c[0] - a[0]))),
        to_byte(pattern[1] * (a[1] + u * (b[1] - a[1]) + w * (c[1] - a[1]))),
        to_byte(pattern[2] * (a[2] + u * (b[2] - a[2]) + w * (c[2] - a[2]))),
    )


@kernel
def draw_transparent(
    frame: Record,
    shapes: np.ndarray,
    order: np.ndarray,
    parts: np.ndarray,
    lights: np.ndarray,
    vertices: np.ndarray,
    patterns: np.ndarray,
    pixels: np.ndarray,
    levels: np.ndarray,
    depths: np.ndarray,
    colour: np.ndarray,
    covered: np.ndarray,
) -> None:
    """Blend the transparent shapes, from the nearest to the farthest and back again, as MuJoCo does.

    `covered` (4,) is for scratch.
    """
    count = 0
    while count < order.shape[0] and order[count] != NOTHING:
        count += 1
    for turn in range(2 * count - 1):
        index = order[turn if turn < count else 2 * count - 2 - turn]
        times = 2 if turn == count - 1 else 1  # the farthest is drawn twice in a row
        alpha = to_byte(shapes[index].rgba[3])
        alpha += alpha >> 7  # of 256
        left, right, bottom, top = pixel_bounds(frame, shapes[index], DIRECT)
        for y in range(bottom, top + 1):
            for x in range(left, right + 1):
                first, t = _cover(frame, shapes[index], x, y, depths, covered)
                if first == NOTHING:
                    continue
                row, column, second = _facet_under(frame, shapes[index], parts, DIRECT, x, y, first, t)
                red, green, blue = _fragment(
                    frame,
                    shapes,
                    parts,
                    lights,
                    vertices,
                    patterns,
                    pixels,
                    levels,
                    DIRECT,
                    index,
                    x,
                    y,
                    row,
                    column,
                    second,
                )
                for sample in range(first, 4):
                    for _ in range(times if covered[sample] else 0):
                        below = colour[y, x, sample]
                        below[0] = below[0] + (((red - int(below[0])) * alpha + 128) >> 8)
                        below[1] = below[1] + (((green - int(below[1])) * alpha + 128) >> 8)
                        below[2] = below[2] + (((blue - int(below[2])) * alpha + 128) >> 8)


@kernel
def _cover(
    frame: Record, shape: Record, x: int, y: int, depths: np.ndarray, covered: np.ndarray
) -> tuple[int, float]:
    """Which samples of a pixel show a shape, into `covered` (4,); returns the first, or NOTHING, and its depth."""
    first, nearest = NOTHING, 0.0
    for sample in range(3, -1, -1):
        column, row = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
        t = depth(shape, DIRECT, column, row)
        covered[sample] = frame.near <= t <= depths[y, x, sample] and before_skybox(frame, column, row, t)
        if covered[sample]:
            first, nearest = sample, t
    return first, nearest


@kernel
def resolve(colour: np.ndarray, picture: np.ndarray) -> None:
    """The mean of each pixel's samples, rounded; the picture's first row is the top one."""
    size = picture.shape[0]
    for y in range(size):
        for x in range(size):
            for channel in range(3):
                total = 2
                for sample in range(4):
                    total += colour[y, x, sample, channel]
                picture[size - 1 - y, x, channel] = total >> 2
