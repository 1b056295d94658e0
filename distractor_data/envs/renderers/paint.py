"""The colours of what samples hit: shapes, what the mirror shows, what shines through; and the mean of samples."""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.arithmetic import to_byte
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import Triangle, corners, triangle_under, weights
from distractor_data.envs.renderers.light import in_shadow, light_vertex
from distractor_data.envs.renderers.plane import plane_texture
from distractor_data.envs.renderers.shapes import depth, direction, pixel_bounds
from distractor_data.envs.renderers.structs import (
    DIRECT,
    EYE,
    MAX_LAYERS,
    MIRRORED,
    NOTHING,
    PLANE,
    REFLECTANCE,
    Buffers,
    Record,
    Tables,
)
from distractor_data.envs.renderers.visible import PLACES_X, PLACES_Y, before_skybox

Colour = tuple[int, int, int]  # bytes

_MANY = 1 << 10  # more than a shape's rows or columns of vertices
_FARTHEST = 50.0  # facets beyond its edge to which a colour is continued; farther, the facet is seen from its edge


@kernel
def draw_opaque(tables: Tables, buffers: Buffers) -> None:
    """Colour the samples that hit opaque shapes."""
    frame, shapes, hit, colour = tables.frame, tables.shapes, buffers.hit, buffers.colour
    for y in range(frame.size):
        for x in range(frame.size):
            for sample in range(4):
                index = np.int64(hit[y, x, sample])
                buffers.scratch[sample] = NOTHING
                if index == NOTHING:
                    continue
                triangle = (0, 0, False)
                flat = shapes[index].kind == PLANE  # one cell of its grid will do for a pixel
                if not flat:
                    triangle = _triangle(tables, index, DIRECT, x, y, sample, buffers.depths[y, x, sample])
                alike = _seen_before(buffers.scratch, sample, index, triangle)
                if alike != NOTHING:
                    for channel in range(3):
                        colour[y, x, sample, channel] = colour[y, x, alike, channel]
                    continue
                if flat:
                    triangle = _triangle(tables, index, DIRECT, x, y, sample, buffers.depths[y, x, sample])
                red, green, blue = _fragment(tables, index, DIRECT, x, y, triangle)
                colour[y, x, sample, 0], colour[y, x, sample, 1], colour[y, x, sample, 2] = red, green, blue


@kernel
def _seen_before(seen: np.ndarray, sample: int, index: int, triangle: Triangle) -> int:
    """The first sample of a pixel that shows the same triangle, or NOTHING; `seen` remembers the triangles."""
    row, column, second = triangle
    key = ((index * _MANY + row) * _MANY + column) * 2 + second
    seen[sample] = key
    for earlier in range(sample):
        if seen[earlier] == key:
            return earlier
    return NOTHING


@kernel
def _triangle(tables: Tables, index: int, view: int, x: int, y: int, sample: int, t: float) -> Triangle:
    """The triangle of a shape that a sample hits at depth t."""
    frame, shape = tables.frame, tables.shapes[index]
    column, row = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
    triangle, _ = triangle_under(frame, shape, tables.parts[shape.index], view, column, row, t)
    return triangle


@kernel
def _fragment(tables: Tables, index: int, view: int, x: int, y: int, triangle: Triangle) -> Colour:
    """Colour of a triangle in a pixel: that of its vertices, continued to the pixel's centre."""
    frame, shape = tables.frame, tables.shapes[index]
    row, column, second = triangle
    middle_x, middle_y = x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size
    places = corners(frame, shape, tables.parts[shape.index], row, column, second)
    u, w, t = weights(shape, view, middle_x, middle_y, places)
    if not (abs(u) < _FARTHEST and abs(w) < _FARTHEST):
        u = w = 1.0 / 3.0
    tint = tables.shapes[frame.mirror].shine[REFLECTANCE] if view == MIRRORED else 1.0
    one = tables.vertices[light_vertex(tables, shape, view, tint, row, column + second)]
    two = tables.vertices[light_vertex(tables, shape, view, tint, row + second, column + 1)]
    three = tables.vertices[light_vertex(tables, shape, view, tint, row + 1, column)]
    pattern = plane_texture(tables, shape, view, x, y) if shape.kind == PLANE else (1.0, 1.0, 1.0)
    together = view == MIRRORED or shape.transparent
    red, green, blue = _between(one, two, three, view, MAX_LAYERS if together else 0, u, w, pattern)
    if together:
        return red, green, blue
    for light in tables.lights:
        if not light.on or light.layer == 0:
            continue
        more_red, more_green, more_blue = _between(one, two, three, view, light.layer, u, w, pattern)
        if more_red + more_green + more_blue > 0:
            eye = frame.views[DIRECT, EYE]
            dx, dy, dz = direction(frame.views[DIRECT], middle_x, middle_y)
            if not in_shadow(frame, tables.shapes, light, index, eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz):
                red, green, blue = min(255, red + more_red), min(255, green + more_green), min(255, blue + more_blue)
    return red, green, blue


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
) -> Colour:
    """A layer's colour between three vertices, times a texture's."""
    a, b, c = one.colour[view, layer], two.colour[view, layer], three.colour[view, layer]
    return (
        to_byte(pattern[0] * (a[0] + u * (b[0] - a[0]) + w * (c[0] - a[0]))),
        to_byte(pattern[1] * (a[1] + u * (b[1] - a[1]) + w * (c[1] - a[1]))),
        to_byte(pattern[2] * (a[2] + u * (b[2] - a[2]) + w * (c[2] - a[2]))),
    )


@kernel
def draw_mirrored(tables: Tables, buffers: Buffers) -> None:
    """Add what the mirror shows to the samples that hit it: opaque shapes, then transparent ones before them."""
    frame, mirrored, reflection = tables.frame, buffers.mirrored, buffers.reflection
    if frame.mirror == NOTHING:
        return
    reflection[:] = 0
    for y in range(frame.size):
        for x in range(frame.size):
            for sample in range(4):
                index = np.int64(mirrored[y, x, sample])
                if index != NOTHING:
                    triangle = _triangle(tables, index, MIRRORED, x, y, sample, buffers.behind[y, x, sample])
                    red, green, blue = _fragment(tables, index, MIRRORED, x, y, triangle)
                    reflection[y, x, sample, 0], reflection[y, x, sample, 1] = red, green
                    reflection[y, x, sample, 2] = blue
    draw_transparent(tables, buffers, MIRRORED)
    for y in range(frame.size):
        for x in range(frame.size):
            for sample in range(4):
                if buffers.hit[y, x, sample] == frame.mirror:
                    for channel in range(3):
                        total = buffers.colour[y, x, sample, channel] + reflection[y, x, sample, channel]
                        buffers.colour[y, x, sample, channel] = min(255, total)


@kernel
def draw_transparent(tables: Tables, buffers: Buffers, view: int) -> None:
    """Blend the transparent shapes, from the nearest to the farthest and back again, as MuJoCo does."""
    count = 0
    while count < tables.order.shape[0] and tables.order[count] != NOTHING:
        count += 1
    for turn in range(2 * count - 1):
        index = tables.order[turn if turn < count else 2 * count - 2 - turn]
        times = 2 if turn == count - 1 else 1  # the farthest is drawn twice in a row
        alpha = to_byte(tables.shapes[index].rgba[3])
        left, right, bottom, top = pixel_bounds(tables.frame, tables.shapes[index], view)
        for y in range(bottom, top + 1):
            for x in range(left, right + 1):
                first, t = _cover(tables, tables.shapes[index], buffers, view, x, y)
                if first == NOTHING:
                    continue
                triangle = _triangle(tables, index, view, x, y, first, t)
                colour = _fragment(tables, index, view, x, y, triangle)
                below = buffers.reflection[y, x] if view == MIRRORED else buffers.colour[y, x]
                for sample in range(first, 4):
                    for _ in range(times if buffers.scratch[sample] else 0):
                        _blend(below[sample], colour, alpha + (alpha >> 7))


@kernel
def _cover(tables: Tables, shape: Record, buffers: Buffers, view: int, x: int, y: int) -> tuple[int, float]:
    """Which samples of a pixel show a shape, into the scratch; returns the first, or NOTHING, and its depth."""
    frame, first, nearest = tables.frame, NOTHING, 0.0
    for sample in range(3, -1, -1):
        column, row = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
        t, outline = depth(shape, view, column, row)
        if view == MIRRORED:
            through = buffers.hit[y, x, sample] == frame.mirror
            seen = through and buffers.depths[y, x, sample] <= t <= buffers.behind[y, x, sample]
        else:
            seen = frame.near <= t <= buffers.depths[y, x, sample] and before_skybox(frame, column, row, t)
        if seen and outline:
            _, seen = triangle_under(frame, shape, tables.parts[shape.index], view, column, row, t)
        buffers.scratch[sample] = seen
        if seen:
            first, nearest = sample, t
    return first, nearest


@kernel
def _blend(below: np.ndarray, colour: Colour, share: int) -> None:
    """Mix a colour into another, its share in 256ths."""
    for channel in range(3):
        below[channel] = below[channel] + (((colour[channel] - int(below[channel])) * share + 128) >> 8)


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
