"""The facets that MuJoCo's OpenGL draws in place of round shapes: their vertices, and colours between them.

Where a shape is hit is computed exactly; its facets only say where OpenGL computes light and how it interpolates.
A vertex is a row and a column: along a profile from bottom to top and around the z axis; for boxes, the face and
the place along its first edge, then along its second; for planes, the grid lines in x and y (`render_context.c`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np

from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.scene import BOX, CAPSULE, CYLINDER, ELLIPSOID, PLANE, SPHERE, unit_circle

_MAX_GRID = 200  # mjMAXPLANEGRID
_LEAST_SIZE = 1e-15  # mjMINVAL


class Facets(NamedTuple):
    """How finely a model's shapes are divided, and where each shape's vertices lie in arrays of all vertices."""

    around: np.ndarray  # (slices + 1, 2): cosine and sine of the azimuth
    rise: np.ndarray  # (stacks / 2 + 1, 2): cosine and sine of the elevation, equator to pole
    quads: int  # divisions of a box's edge
    first: np.ndarray  # (N,): first vertex of a shape, by its index in the model
    columns: np.ndarray  # (N,): vertices in a row
    lines: np.ndarray  # (N, 2, 203): a plane's grid lines in x and y
    cells: np.ndarray  # (N, 2): the number of its cells
    vertices: int


def facets(model: mujoco.MjModel) -> Facets:
    """The division that the model's visual quality asks for."""
    quality = model.vis.quality
    slices, stacks, quads = int(quality.numslices), int(quality.numstacks), int(quality.numquads)
    kinds = [*model.geom_type, *model.site_type]
    first = np.zeros(len(kinds) + 1, np.int64)
    columns = np.zeros(len(kinds), np.int64)
    lines = np.zeros((len(kinds), 2, _MAX_GRID + 3))
    cells = np.zeros((len(kinds), 2), np.int64)
    half = stacks // 2
    rows_of = {SPHERE: 2 * half + 1, ELLIPSOID: 2 * half + 1, CAPSULE: stacks + 2 * half + 3}
    rows_of |= {CYLINDER: stacks + 2 * half + 3, BOX: 6 * (quads + 1)}
    for index, kind in enumerate(kinds):
        if kind == PLANE:
            for axis in range(2):
                size = model.geom_size[index]
                grid = grid_lines(float(size[axis]), float(size[2]))
                cells[index, axis] = len(grid) - 1
                lines[index, axis, : len(grid)] = grid
            rows, columns[index] = cells[index, 0] + 1, cells[index, 1] + 1
        else:
            rows = rows_of.get(int(kind), 0)
            columns[index] = quads + 1 if kind == BOX else slices + 1
        first[index + 1] = first[index] + rows * columns[index]
    return Facets(
        unit_circle(slices),
        np.ascontiguousarray(unit_circle(4 * half)[: half + 1]),
        quads,
        first,
        columns,
        lines,
        cells,
        int(first[-1]),
    )


def grid_lines(size: float, spacing: float) -> list[float]:
    """Grid lines of a plane along one of its axes, of half length `size`; the outer cells fill what is left over."""
    half_cell = max(spacing, size / (_MAX_GRID - 2))
    inner = int(size / max(_LEAST_SIZE, half_cell))
    inner -= inner % 2
    pad = size - inner * half_cell
    return [-size, *(-size + pad + line * 2 * half_cell for line in range(inner + 1)), size]


@kernel
def vertex(facets: Facets, kind: int, index: int, size: np.ndarray, row: int, column: int, place: np.ndarray) -> None:
    """Position and normal (not of unit length) of a vertex in its shape's frame, into `place` (2, 3)."""
    if kind == PLANE:
        place[0, 0], place[0, 1], place[0, 2] = facets.lines[index, 0, row], facets.lines[index, 1, column], 0.0
        place[1, 0], place[1, 1], place[1, 2] = 0.0, 0.0, 1.0
        return
    if kind == BOX:
        _box_vertex(facets.quads, size, row, column, place)
        return
    radial, height, outward, upward = _profile(facets, kind, size, row)
    cosine, sine = facets.around[column]
    place[0, 0], place[0, 1], place[0, 2] = size[0] * radial * cosine, size[1] * radial * sine, height
    if kind == ELLIPSOID:
        place[1, 0], place[1, 1], place[1, 2] = outward * cosine / size[0], outward * sine / size[1], upward / size[2]
    else:
        place[1, 0], place[1, 1], place[1, 2] = outward * cosine, outward * sine, upward


@kernel
def _profile(facets: Facets, kind: int, size: np.ndarray, row: int) -> tuple[float, float, float, float]:
    """A row of vertices: distance from the axis (times the radius), height, and the two parts of the normal."""
    half = facets.rise.shape[0] - 1
    if kind == SPHERE or kind == ELLIPSOID:
        cosine, sine = facets.rise[abs(row - half)]
        sine = -sine if row < half else sine
        return cosine, size[2] * sine, cosine, sine
    last = 4 * half + 2  # bottom cap, then the tube, which shares no vertices with the caps, then the top cap
    if row <= half or row >= last - half:
        sign, step = (-1.0, half - row) if row <= half else (1.0, row - (last - half))
        if kind == CYLINDER:
            return 1.0 - step / half, sign * size[2], 0.0, sign
        cosine, sine = facets.rise[step]
        return cosine, sign * (size[2] + size[0] * sine), cosine, sign * sine
    return 1.0, size[2] * ((row - half - 1.0) / half - 1.0), 1.0, 0.0


@kernel
def _box_vertex(quads: int, size: np.ndarray, row: int, column: int, place: np.ndarray) -> None:
    face, line = row // (quads + 1), row % (quads + 1)
    axis, sign = face // 2, 1.0 if face % 2 else -1.0
    one, other = (axis + 1) % 3, (axis + 2) % 3
    place[0, axis], place[0, one], place[0, other] = (
        sign * size[axis],
        size[one] * (2.0 * line / quads - 1.0),
        size[other] * (2.0 * column / quads - 1.0),
    )
    place[1, axis], place[1, one], place[1, other] = sign, 0.0, 0.0


@kernel
def find_facet(
    facets: Facets, kind: int, index: int, size: np.ndarray, x: float, y: float, z: float
) -> tuple[int, int, bool]:
    """Row and column of the quad under a point of the surface, and whether the point is in its second triangle.

    A quad (row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column) is two triangles, cut from
    its second corner to its fourth.
    """
    if kind == PLANE:
        row, u = _find_line(facets.lines[index, 0], facets.cells[index, 0], x)
        column, w = _find_line(facets.lines[index, 1], facets.cells[index, 1], y)
        return row, column, u + w >= 1.0
    if kind == BOX:
        return _find_box(facets.quads, size, x, y, z)
    if kind == SPHERE or kind == ELLIPSOID:  # the point is on the unit sphere
        column, u = _find_column(facets.around, x, y)
        row, w = _find_rise(facets.rise, z)
        return row, column, _second(row, u, w, 2 * (facets.rise.shape[0] - 1) - 1)
    return _find_tube(facets, kind, size, x, y, z)


@kernel
def _second(row: int, u: float, w: float, top: int) -> bool:
    """Whether the second triangle is under (u, w) of a quad; at the poles one triangle is all there is."""
    if row == 0:
        return True
    return False if row == top else u + w >= 1.0


@kernel
def _find_tube(facets: Facets, kind: int, size: np.ndarray, x: float, y: float, z: float) -> tuple[int, int, bool]:
    half = facets.rise.shape[0] - 1
    column, u = _find_column(facets.around, x, y)
    if kind == CAPSULE and abs(z) > size[2]:
        cap, w = _find_rise(facets.rise, (z - size[2] if z > 0.0 else z + size[2]) / size[0])
        row = cap if z < 0.0 else cap + 2 * half + 2
        return row, column, _second(row, u, w, 4 * half + 1)
    if kind == CYLINDER and abs(z) >= size[2] * (1.0 - 1e-9):
        ring = (1.0 - math.sqrt(x * x + y * y) / size[0]) * half
        step = min(max(int(ring), 0), half - 1)
        row = half - 1 - step if z < 0.0 else step + 3 * half + 2
        w = ring - step if z > 0.0 else 1.0 - (ring - step)
        return row, column, _second(row, u, w, 4 * half + 1)
    along = (z / size[2] + 1.0) * half
    step = min(max(int(along), 0), 2 * half - 1)
    return half + 1 + step, column, u + along - step >= 1.0


@kernel
def _find_column(around: np.ndarray, x: float, y: float) -> tuple[int, float]:
    """Slice of an azimuth and how far in it, by bisection: whole turns are no matter, since a half has a sign."""
    low, high = 0, around.shape[0] // 2
    if y < 0.0:
        low, high = high, around.shape[0] - 1
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
def _find_rise(rise: np.ndarray, sine: float) -> tuple[int, float]:
    """Row of an elevation, from the south pole, and how far in it."""
    half = rise.shape[0] - 1
    step = 0
    while step < half - 1 and rise[step + 1, 1] <= abs(sine):
        step += 1
    within = (abs(sine) - rise[step, 1]) / (rise[step + 1, 1] - rise[step, 1])
    return (half + step, within) if sine >= 0.0 else (half - 1 - step, 1.0 - within)


@kernel
def _find_box(quads: int, size: np.ndarray, x: float, y: float, z: float) -> tuple[int, int, bool]:
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
def _find_line(lines: np.ndarray, cells: int, place: float) -> tuple[int, float]:
    """Cell of a grid and how far in it; beyond the grid, the cell at its edge."""
    low, high = 0, cells
    while high - low > 1:
        middle = (low + high) // 2
        if lines[middle] <= place:
            low = middle
        else:
            high = middle
    width = lines[low + 1] - lines[low]
    return low, (place - lines[low]) / width if width > 0.0 else 0.0


@kernel
def weights(
    one: np.ndarray, two: np.ndarray, three: np.ndarray, eye: np.ndarray, dx: float, dy: float, dz: float
) -> tuple[float, float]:
    """Barycentric weights of a triangle's second and third corner where a ray meets its plane, inside it or not.

    Infinite or not a number where it meets none. Möller & Trumbore (1997).
    """
    ax, ay, az = two[0] - one[0], two[1] - one[1], two[2] - one[2]
    bx, by, bz = three[0] - one[0], three[1] - one[1], three[2] - one[2]
    px, py, pz = dy * bz - dz * by, dz * bx - dx * bz, dx * by - dy * bx
    determinant = ax * px + ay * py + az * pz
    sx, sy, sz = eye[0] - one[0], eye[1] - one[1], eye[2] - one[2]
    qx, qy, qz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
    return (sx * px + sy * py + sz * pz) / determinant, (dx * qx + dy * qy + dz * qz) / determinant
