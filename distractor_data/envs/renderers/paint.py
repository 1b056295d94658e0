"""The colours of what samples hit: shapes, what the mirror shows, what shines through; and the mean of samples."""

from __future__ import annotations

import numpy as np

from distractor_data.envs.renderers.arithmetic import to_byte
from distractor_data.envs.renderers.colours import add, mean_of_four, mix, pack, unpack
from distractor_data.envs.renderers.compiled import inner_kernel, kernel
from distractor_data.envs.renderers.facets import Triangle, corners, find_line, triangle_under, weights
from distractor_data.envs.renderers.light import in_shadow, light_vertex
from distractor_data.envs.renderers.plane import plane_texture
from distractor_data.envs.renderers.shapes import MISS, depth, direction, pixel_bounds
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
                if shapes[index].kind != PLANE:  # of whose grid one cell will do for a pixel
                    triangle = _triangle(tables, index, DIRECT, x, y, sample, buffers.depths[y, x, sample])
                alike = _seen_before(buffers.scratch, sample, index, triangle)
                if alike != NOTHING:
                    colour[y, x, sample] = colour[y, x, alike]
                elif shapes[index].kind == PLANE:
                    colour[y, x, sample] = _plane_fragment(tables, index, DIRECT, x, y, sample)
                else:
                    colour[y, x, sample] = _facet_fragment(tables, index, DIRECT, x, y, triangle)


@inner_kernel
def _seen_before(seen: np.ndarray, sample: int, index: int, triangle: Triangle) -> int:
    """The first sample of a pixel that shows the same triangle, or NOTHING; `seen` remembers the triangles."""
    row, column, second = triangle
    key = ((index * _MANY + row) * _MANY + column) * 2 + second
    seen[sample] = key
    for earlier in range(sample):
        if seen[earlier] == key:
            return earlier
    return NOTHING


@inner_kernel
def _triangle(tables: Tables, index: int, view: int, x: int, y: int, sample: int, t: float) -> Triangle:
    """The triangle of a shape that a sample hits at depth t."""
    frame, shape = tables.frame, tables.shapes[index]
    column, row = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
    triangle, _ = triangle_under(frame, shape, tables.parts[shape.index], view, column, row, t)
    return triangle


@kernel
def _fragment(tables: Tables, index: int, view: int, x: int, y: int, sample: int, t: float) -> int:
    """Colour in a pixel of the triangle of a shape that a sample hits at depth t."""
    if tables.shapes[index].kind == PLANE:
        return _plane_fragment(tables, index, view, x, y, sample)
    return _facet_fragment(tables, index, view, x, y, _triangle(tables, index, view, x, y, sample, t))


@kernel
def _facet_fragment(tables: Tables, index: int, view: int, x: int, y: int, triangle: Triangle) -> int:
    """Colour of a triangle in a pixel: that of its vertices, continued to the pixel's centre."""
    frame, shape = tables.frame, tables.shapes[index]
    row, column, second = triangle
    middle_x, middle_y = x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size
    places = corners(frame, shape, tables.parts[shape.index], row, column, second)
    u, w, t = weights(shape, view, middle_x, middle_y, places)
    if not (abs(u) < _FARTHEST and abs(w) < _FARTHEST):
        u = w = 1.0 / 3.0
    return _lit(tables, index, view, triangle, u, w, (1.0, 1.0, 1.0), middle_x, middle_y, t)


@inner_kernel
def _plane_fragment(tables: Tables, index: int, view: int, x: int, y: int, sample: int) -> int:
    """Colour of a plane at a pixel's centre, or at a sample where the centre misses it."""
    frame, shape = tables.frame, tables.shapes[index]
    column, row = x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size
    t, _ = depth(shape, view, column, row)
    if t == MISS:
        column, row = x + PLACES_X[sample] - 0.5 * frame.size, y + PLACES_Y[sample] - 0.5 * frame.size
        t, _ = depth(shape, view, column, row)
    ray, part = shape.ray[view], tables.parts[shape.index]
    dx, dy, _dz = direction(ray, column, row)
    line, u = find_line(part, 0, ray[EYE, 0] + t * dx)
    other, w = find_line(part, 1, ray[EYE, 1] + t * dy)
    pattern = plane_texture(tables, shape, view, x, y)
    if u + w >= 1.0:
        return _lit(tables, index, view, (line, other, True), u + w - 1.0, 1.0 - w, pattern, column, row, t)
    return _lit(tables, index, view, (line, other, False), w, u, pattern, column, row, t)


@inner_kernel
def _lit(
    tables: Tables,
    index: int,
    view: int,
    triangle: Triangle,
    u: float,
    w: float,
    pattern: tuple[float, float, float],
    x: float,
    y: float,
    t: float,
) -> int:
    """Colour at the weights u, w of a triangle's second and third vertex, which the ray through x, y meets at t."""
    frame, shape = tables.frame, tables.shapes[index]
    row, column, second = triangle
    tint = tables.shapes[frame.mirror].shine[REFLECTANCE] if view == MIRRORED else 1.0
    one = tables.vertices[light_vertex(tables, shape, view, tint, row, column + second)]
    two = tables.vertices[light_vertex(tables, shape, view, tint, row + second, column + 1)]
    three = tables.vertices[light_vertex(tables, shape, view, tint, row + 1, column)]
    together = view == MIRRORED or shape.transparent
    colour = _between(one, two, three, view, MAX_LAYERS if together else 0, u, w, pattern)
    if together:
        return colour
    for light in tables.lights:
        if not light.on or light.layer == 0:
            continue
        more = _between(one, two, three, view, light.layer, u, w, pattern)
        if more > 0:
            eye = frame.views[DIRECT, EYE]
            dx, dy, dz = direction(frame.views[DIRECT], x, y)
            if not in_shadow(frame, tables.shapes, light, index, eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz):
                colour = add(colour, more)
    return colour


@inner_kernel
def _between(
    one: Record,
    two: Record,
    three: Record,
    view: int,
    layer: int,
    u: float,
    w: float,
    pattern: tuple[float, float, float],
) -> int:
    """A layer's colour between three vertices, times a texture's."""
    a, b, c = one.colour[view, layer], two.colour[view, layer], three.colour[view, layer]
    return pack(
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
                    t = buffers.behind[y, x, sample]
                    reflection[y, x, sample] = _fragment(tables, index, MIRRORED, x, y, sample, t)
    draw_transparent(tables, buffers, MIRRORED)
    for y in range(frame.size):
        for x in range(frame.size):
            for sample in range(4):
                if buffers.hit[y, x, sample] == frame.mirror:
                    buffers.colour[y, x, sample] = add(buffers.colour[y, x, sample], reflection[y, x, sample])


@kernel
def draw_transparent(tables: Tables, buffers: Buffers, view: int) -> None:
    """Blend the transparent shapes, from the nearest to the farthest and back again, as MuJoCo does."""
    count = 0
    while count < tables.order.shape[0] and tables.order[count] != NOTHING:
        count += 1
    below = buffers.reflection if view == MIRRORED else buffers.colour
    for turn in range(2 * count - 1):
        index = tables.order[turn if turn < count else 2 * count - 2 - turn]
        times = 2 if turn == count - 1 else 1  # the farthest is drawn twice in a row
        alpha = to_byte(tables.shapes[index].rgba[3])
        share = alpha + (alpha >> 7)
        left, right, bottom, top = pixel_bounds(tables.frame, tables.shapes[index], view)
        for y in range(bottom, top + 1):
            for x in range(left, right + 1):
                first, t = _cover(tables, tables.shapes[index], buffers, view, x, y)
                if first == NOTHING:
                    continue
                colour = _fragment(tables, index, view, x, y, first, t)
                for sample in range(first, 4):
                    for _ in range(times if buffers.scratch[sample] else 0):
                        below[y, x, sample] = mix(below[y, x, sample], colour, share)


@inner_kernel
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
def resolve(colour: np.ndarray, picture: np.ndarray) -> None:
    """The mean of each pixel's samples, rounded; the picture's first row is the top one."""
    size = picture.shape[0]
    for y in range(size):
        for x in range(size):
            samples, pixel = colour[y, x], picture[size - 1 - y, x]
            pixel[0], pixel[1], pixel[2] = unpack(mean_of_four(samples[0], samples[1], samples[2], samples[3]))
