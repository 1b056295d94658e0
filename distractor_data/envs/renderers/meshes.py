"""Lighter meshes for small pictures: as many triangles as the pixels can show, in a copy of the compiled model."""

from __future__ import annotations

import copy
import functools

import mujoco
import numpy as np

FEW = 1000  # triangles: a mesh of fewer stays as it is
# From how many pixels on vertices are told apart, and how many triangles stay where a pixel is 4 cm wide; with half
# of that, four times as many. Those of Meta-World's robot were found mesh by mesh, where more triangles gain little.
_LEVELS = {
    "base": (0.1, 450),
    "eGripperBase": (0.35, 380),
    "head": (0.25, 350),
    "l0": (0.02, 1330),
    "l1": (0.5, 350),
    "l2": (0.2, 380),
    "l3": (0.25, 560),
    "l4": (0.05, 1660),
    "l5": (0.05, 500),
    "l6": (0.35, 160),
    "pedestal": (0.35, 575),
}
_OTHERS = (0.25, 700)
_TURN = 0.03  # metres that a corner may be away for each unit by which its normal is nearer to the triangle's
Mesh = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # as `_simplified` says
_AGGRESSIVENESS = 2  # of the simplification; its default, 7, is faster and pulls thin parts apart


def lighten(model: mujoco.MjModel, pixel: float) -> mujoco.MjModel:
    """A copy of the model whose detailed meshes have fewer triangles, for pictures whose pixel is so wide in metres.

    It is for drawing alone: the hulls of what collides are of the old meshes.
    """
    light = copy.copy(model)
    for mesh in range(model.nmesh):
        faces, textured = int(model.mesh_facenum[mesh]), int(model.mesh_texcoordnum[mesh])
        if faces > FEW and not textured:
            tolerance, most = _LEVELS.get(model.mesh(mesh).name, _OTHERS)
            corners, normals = _corners(model, mesh)
            _put(light, mesh, _simplified(corners, normals, tolerance * pixel, round(most * (0.04 / pixel) ** 2)))
    return light


def _corners(model: mujoco.MjModel, mesh: int) -> tuple[bytes, bytes]:
    """Positions and normals of a mesh's corners, both (F, 3, 3) float32."""
    rows = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    places = model.mesh_vert[model.mesh_vertadr[mesh] + model.mesh_face[rows]]
    normals = model.mesh_normal[model.mesh_normaladr[mesh] + model.mesh_facenormal[rows]]
    return places.tobytes(), normals.tobytes()


@functools.lru_cache(maxsize=256)
def _simplified(corners: bytes, normals: bytes, tolerance: float, most: int) -> Mesh:
    """Vertices (V, 3), triangles (F, 3), normals (N, 3) and which of them each corner has (F, 3).

    Vertices are merged first: modelled parts overlap and don't share their edges, along which quadrics tear them.
    """
    import fast_simplification
    from scipy.spatial import cKDTree

    places, turned = (np.frombuffer(blob, np.float32).reshape(-1, 3) for blob in (corners, normals))
    vertices, faces = _merged(places, tolerance)
    if len(faces) > most:
        reduction = 1 - most / len(faces)
        vertices, faces = fast_simplification.simplify(vertices, faces, reduction, agg=_AGGRESSIVENESS)
    faces, flat = _with_normals(vertices, faces)
    # A corner gets the normal of a corner of the old mesh that is near and on a surface turned the same way.
    known = cKDTree(np.hstack([places, turned * _TURN]))
    _, nearest = known.query(np.hstack([vertices[faces].reshape(-1, 3), np.repeat(flat, 3, 0) * _TURN]))
    kept, which = np.unique(turned[nearest].round(3), axis=0, return_inverse=True)
    return vertices, faces, kept, which.reshape(-1, 3)


def _merged(places: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of corners (3F, 3), where those in one cell of a grid became their mean."""
    cells, which, counts = np.unique(
        np.floor(places / tolerance + 0.5).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(cells), 3))
    np.add.at(sums, which.reshape(-1), places)
    faces = which.reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    first = faces.argmin(1)[:, None]  # a triangle is the same from whichever corner on
    faces = np.unique(np.take_along_axis(faces, (first + np.arange(3)) % 3, 1), axis=0)
    return (sums / counts[:, None]).astype(np.float32), faces.astype(np.int32)


def _with_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles that have an area, and their normals (F, 3)."""
    one, two, three = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(two - one, three - one)
    areas = np.linalg.norm(normals, axis=1)
    return faces[areas > 0], normals[areas > 0] / areas[areas > 0, None]


def _put(model: mujoco.MjModel, mesh: int, new: Mesh) -> None:
    """Write a mesh where the model has its own, if there is room for it."""
    vertices, faces, normals, which = new
    counts = len(vertices), len(faces), len(normals)
    room = model.mesh_vertnum[mesh], model.mesh_facenum[mesh], model.mesh_normalnum[mesh]
    if any(count > held for count, held in zip(counts, room, strict=True)):
        return
    at = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh], model.mesh_normaladr[mesh]
    model.mesh_vertnum[mesh], model.mesh_facenum[mesh], model.mesh_normalnum[mesh] = counts
    for array, values, start in (
        (model.mesh_vert, vertices, at[0]),
        (model.mesh_face, faces, at[1]),
        (model.mesh_facenormal, which, at[1]),
        (model.mesh_normal, normals, at[2]),
    ):
        array[start : start + len(values)] = values
