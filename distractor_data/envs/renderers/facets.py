"""The facets that MuJoCo's OpenGL draws in place of round shapes: their vertices, and colours between them.

Where a shape is hit is computed exactly; its facets only say where OpenGL computes light and how it interpolates.
A vertex is a row and a column: along a profile from bottom to top and around the z axis; for boxes, the face and
the place along its first edge, then along its second; for planes, the grid lines in x and y (`render_context.c`).
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from distractor_data.envs.renderers.arithmetic import cos_sin
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.grid import grid_lines
from distractor_data.envs.renderers.shapes import direction
from distractor_data.envs.renderers.structs import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    EYE,
    PART,
    PLANE,
    SPHERE,
    Record,
)

Point = tuple[float, float, float]
Corners = tuple[Point, Point, Point]
Triangle = tuple[int, int, bool]  # row and column of its quad, and whether it is the second there

_STEPS = 6  # from facet to facet at most
_TURN = 2 * 3.141592653589793


def divide(model: mujoco.MjModel, frame: Record) -> np.ndarray:
    """Write into the frame how finely shapes are divided; the parts of the model (PART) with their vertices' places.

    The last part is past all others: its first vertex is the number of vertices.
    """
    quality = model.vis.quality
    slices, half, quads = int(quality.numslices), int(quality.numstacks) // 2, int(quality.numquads)
    frame["slices"], frame["rises"], frame["quads"] = slices, half, quads
    frame["around"][: slices + 1] = [cos_sin(_TURN * part / slices) for part in range(slices + 1)]
    frame["rise"][: half + 1] = [cos_sin(_TURN * part / (4 * half)) for part in range(half + 1)]
    rows_of = {SPHERE: 2 * half + 1, ELLIPSOID: 2 * half + 1, CAPSULE: 4 * half + 3, CYLINDER: 4 * half + 3}
    rows_of |= {BOX: 6 * (quads + 1)}
    kinds = [int(kind) for kind in (*model.geom_type, *model.site_type)]
    parts = np.zeros(len(kinds) + 1, PART)
    for index, kind in enumerate(kinds):
        part = parts[index]
        rows, columns = rows_of.get(kind, 0), quads + 1 if kind == BOX else slices + 1
        if kind == PLANE:
            for axis in range(2):
                grid = grid_lines(float(model.geom_size[index, axis]), float(model.geom_size[index, 2]))
                part["lines"][axis, : len(grid)] = grid
                part["cells"][axis] = len(grid) - 1
                part["density"][axis] = 1 / (grid[2] - grid[1]) if len(grid) > 3 else 0
            rows, columns = part["cells"] + 1
        part["columns"] = columns
        parts[index + 1]["first"] = part["first"] + rows * columns
    return parts


@kernel
def position(frame: Record, shape: Record, part: Record, row: int, column: int) -> tuple[float, float, float]:
    """Place of a vertex in its shape's frame."""
    if shape.kind == PLANE:
        return part.lines[0, row], part.lines[1, column], 0.0
    if shape.kind == BOX:
        return _box_position(frame.quads, shape.size, row, column)
    radial, height, _, _ = _profile(frame, shape, row)
    return shape.size[0] * radial * frame.around[column, 0], shape.size[1] * radial * frame.around[column, 1], height


@kernel
def normal(frame: Record, shape: Record, row: int, column: int) -> tuple[float, float, float]:
    """Unit normal of a vertex in its shape's frame."""
    if shape.kind == PLANE:
        return 0.0, 0.0, 1.0
    if shape.kind == BOX:
        face = row // (frame.quads + 1)
        sign = 1.0 if face % 2 else -1.0
        return (sign, 0.0, 0.0) if face < 2 else ((0.0, sign, 0.0) if face < 4 else (0.0, 0.0, sign))
    _, _, outward, upward = _profile(frame, shape, row)
    x, y, z = outward * frame.around[column, 0], outward * frame.around[column, 1], upward
    if shape.kind == ELLIPSOID:
        x, y, z = x / shape.size[0], y / shape.size[1], z / shape.size[2]
        length = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
    return x, y, z


@kernel
def _profile(frame: Record, shape: Record, row: int) -> tuple[float, float, float, float]:
    """A row of vertices: distance from the axis (times the radius), height, and the two parts of the normal."""
    half = frame.rises
    if shape.kind == ELLIPSOID:
        cosine, sine = frame.rise[abs(row - half), 0], frame.rise[abs(row - half), 1]
        sine = -sine if row < half else sine
        return cosine, shape.size[2] * sine, cosine, sine
    last = 4 * half + 2  # bottom cap, then the tube, which shares no vertices with the caps, then the top cap
    if row <= half or row >= last - half:
        sign, step = (-1.0, half - row) if row <= half else (1.0, row - (last - half))
        if shape.kind == CYLINDER:
            return 1.0 - step / half, sign * shape.size[2], 0.0, sign
        cosine, sine = frame.rise[step, 0], frame.rise[step, 1]
        return cosine, sign * (shape.size[2] + shape.size[0] * sine), cosine, sign * sine
    return 1.0, shape.size[2] * ((row - half - 1.0) / half - 1.0), 1.0, 0.0


@kernel
def _box_position(quads: int, size: np.ndarray, row: int, column: int) -> tuple[float, float, float]:
    face, line = row // (quads + 1), row % (quads + 1)
    sign = 1.0 if face % 2 else -1.0
    u, w = 2.0 * line / quads - 1.0, 2.0 * column / quads - 1.0
    if face < 2:
        return sign * size[0], u * size[1], w * size[2]
    if face < 4:
        return w * size[0], sign * size[1], u * size[2]
    return u * size[0], w * size[1], sign * size[2]


@kernel
def triangle_under(
    frame: Record, shape: Record, part: Record, view: int, x: float, y: float, t: float
) -> tuple[Triangle, bool]:
    """The triangle that a ray which enters a shape at t hits, and whether it does hit it.

    Facets are flat and lie a little inside of a round shape, so that it may be another than the one at the point
    of the shape's surface, or none.
    """
    ray = shape.ray[view]
    dx, dy, dz = direction(ray, x, y)
    triangle = find_facet(frame, shape, part, ray[EYE, 0] + t * dx, ray[EYE, 1] + t * dy, ray[EYE, 2] + t * dz)
    if shape.kind == PLANE or shape.kind == BOX:
        return triangle, True
    for _ in range(_STEPS):
        row, column, second = triangle
        u, w, _t = weights(shape, view, x, y, corners(frame, shape, part, row, column, second))
        triangle = next_facet(frame, shape, row, column, second, u, w)
        if triangle == (row, column, second):
            return triangle, u >= 0.0 and w >= 0.0 and u + w <= 1.0
    return triangle, False


@kernel
def find_facet(frame: Record, shape: Record, part: Record, x: float, y: float, z: float) -> Triangle:
    """Row and column of the quad under a point of the surface, and whether the point is in its second triangle.

    A quad (row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column) is two triangles, cut from
    its second corner to its fourth.
    """
    if shape.kind == PLANE:
        row, u = find_line(part, 0, x)
        column, w = find_line(part, 1, y)
        return row, column, u + w >= 1.0
    if shape.kind == BOX:
        return _find_box(frame.quads, shape.size, x, y, z)
    if shape.kind == ELLIPSOID:  # the point is on the unit sphere
        column, u = _find_column(frame.around, frame.slices, x, y)
        row, w = _find_rise(frame.rise, frame.rises, z)
        return row, column, _second(row, u, w, 2 * frame.rises - 1)
    return _find_tube(frame, shape, x, y, z)


@kernel
def next_facet(frame: Record, shape: Record, row: int, column: int, second: bool, u: float, w: float) -> Triangle:
    """The triangle of a round shape across the edge beyond which (u, w) of a triangle (`weights`) lies.

    The triangle itself if (u, w) is in it, or if there is none beyond.
    """
    up, over = 0, 0
    pole = row == 0 or row == _rows(frame, shape) - 1  # all there is of its quads is one triangle
    if second:
        up = 1 if u + w > 1.0 else 0
        over = 1 if w < 0.0 else (-1 if pole and u < 0.0 else 0)
        across = up != 0 or over != 0 or u < 0.0
    else:
        up = -1 if w < 0.0 else 0
        over = -1 if u < 0.0 else (1 if pole and u + w > 1.0 else 0)
        across = up != 0 or over != 0 or u + w > 1.0
    if not across or not 0 <= row + up < _rows(frame, shape):
        return row, column, second
    row += up
    if shape.kind != ELLIPSOID and (row == frame.rises or row == 3 * frame.rises + 1):
        row += up  # caps and tube have an edge of their own each, at the same place
    column = (column + over + frame.slices) % frame.slices
    if row == 0:
        return row, column, True
    return row, column, not second and row < _rows(frame, shape) - 1


@kernel
def _rows(frame: Record, shape: Record) -> int:
    """Rows of quads of a round shape."""
    return 2 * frame.rises if shape.kind == ELLIPSOID else 4 * frame.rises + 2


@kernel
def corners(frame: Record, shape: Record, part: Record, row: int, column: int, second: bool) -> Corners:
    """The places of a triangle's vertices in the frame of its shape's rays."""
    return (
        corner(frame, shape, part, row, column + second),
        corner(frame, shape, part, row + second, column + 1),
        corner(frame, shape, part, row + 1, column),
    )


@kernel
def corner(frame: Record, shape: Record, part: Record, row: int, column: int) -> tuple[float, float, float]:
    """The place of a vertex in the frame of its shape's rays."""
    x, y, z = position(frame, shape, part, row, column)
    if shape.kind == ELLIPSOID:
        return x / shape.size[0], y / shape.size[1], z / shape.size[2]
    return x, y, z


@kernel
def _second(row: int, u: float, w: float, top: int) -> bool:
    """Whether the second triangle is under (u, w) of a quad; at the poles one triangle is all there is."""
    if row == 0:
        return True
    return False if row == top else u + w >= 1.0


@kernel
def _find_tube(frame: Record, shape: Record, x: float, y: float, z: float) -> Triangle:
    half, radius, length = frame.rises, shape.size[0], shape.size[2]
    column, u = _find_column(frame.around, frame.slices, x, y)
    if shape.kind == CAPSULE and abs(z) > length:
        cap, w = _find_rise(frame.rise, half, (z - length if z > 0.0 else z + length) / radius)
        row = cap if z < 0.0 else cap + 2 * half + 2
        return row, column, _second(row, u, w, 4 * half + 1)
    if shape.kind == CYLINDER and abs(z) >= length * (1.0 - 1e-9):
        ring = (1.0 - math.sqrt(x * x + y * y) / radius) * half
        step = min(max(int(ring), 0), half - 1)
        row = half - 1 - step if z < 0.0 else step + 3 * half + 2
        w = ring - step if z > 0.0 else 1.0 - (ring - step)
        return row, column, _second(row, u, w, 4 * half + 1)
    along = (z / length + 1.0) * half
    step = min(max(int(along), 0), 2 * half - 1)
    return half + 1 + step, column, u + along - step >= 1.0


@kernel
def _find_column(around: np.ndarray, slices: int, x: float, y: float) -> tuple[int, float]:
    """Slice of an azimuth and how far in it, by bisection: whole turns are no matter, since a half has a sign."""
    low, high = 0, slices // 2
    if y < 0.0:
        low, high = high, slices
    while high - low > 1:
        middle = (low + high) // 2
        if around[middle, 0] * y - around[middle, 1] * x >= 0.0:
            low = middle
        else:
            high = middle
    before = around[low, 0] * y - around[low, 1] * x
    after = around[low + 1, 1] * x - around[low + 1, 0] * y
    return low, before / (before + after) if before + after > 0.0 else 0.0


@kernel
def _find_rise(rise: np.ndarray, half: int, sine: float) -> tuple[int, float]:
    """Row of an elevation, from the south pole, and how far in it."""
    step = 0
    while step < half - 1 and rise[step + 1, 1] <= abs(sine):
        step += 1
    within = (abs(sine) - rise[step, 1]) / (rise[step + 1, 1] - rise[step, 1])
    return (half + step, within) if sine >= 0.0 else (half - 1 - step, 1.0 - within)


@kernel
def _find_box(quads: int, size: np.ndarray, x: float, y: float, z: float) -> Triangle:
    ratio = (abs(x) / size[0], abs(y) / size[1], abs(z) / size[2])
    axis = 0
    if ratio[1] > ratio[0]:
        axis = 1
    if ratio[2] > ratio[axis]:
        axis = 2
    point = (x, y, z)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    u = (point[one] / size[one] + 1.0) * 0.5 * quads
    w = (point[other] / size[other] + 1.0) * 0.5 * quads
    line, column = min(max(int(u), 0), quads - 1), min(max(int(w), 0), quads - 1)
    face = 2 * axis + (1 if point[axis] > 0.0 else 0)
    return face * (quads + 1) + line, column, (u - line) + (w - column) >= 1.0


@kernel
def find_line(part: Record, axis: int, place: float) -> tuple[int, float]:
    """Cell of a plane's grid and how far in it; beyond the grid, the cell at its edge."""
    lines, last = part.lines[axis], part.cells[axis] - 1
    low = min(1 + int((place - lines[1]) * part.density[axis]), last) if place >= lines[1] else 0
    width = lines[low + 1] - lines[low]
    return low, (place - lines[low]) / width if width > 0.0 else 0.0


@kernel
def weights(shape: Record, view: int, x: float, y: float, corners: Corners) -> tuple[float, float, float]:
    """Where a ray meets the plane of a triangle, in the triangle or not: the barycentric weights of its second and
    third corner, and the ray's parameter. Infinite or not a number where it meets none. Möller & Trumbore (1997).
    """
    one, two, three = corners
    eye = shape.ray[view, EYE]
    dx, dy, dz = direction(shape.ray[view], x, y)
    ax, ay, az = two[0] - one[0], two[1] - one[1], two[2] - one[2]
    bx, by, bz = three[0] - one[0], three[1] - one[1], three[2] - one[2]
    px, py, pz = dy * bz - dz * by, dz * bx - dx * bz, dx * by - dy * bx
    determinant = ax * px + ay * py + az * pz
    sx, sy, sz = eye[0] - one[0], eye[1] - one[1], eye[2] - one[2]
    qx, qy, qz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
    return (
        (sx * px + sy * py + sz * pz) / determinant,
        (dx * qx + dy * qy + dz * qz) / determinant,
        (bx * qx + by * qy + bz * qz) / determinant,
    )
