"""What MuJoCo would draw, as arrays: shapes with their materials, lights, and the rays of the camera's pixels.

The rules are those of MuJoCo's `engine_vis_visualize.c`: which geoms and sites show, whose colour counts.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from distractor_data.envs.renderers.arithmetic import cos_sin, dot, tangent
from distractor_data.envs.renderers.compiled import kernel

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX = 0, 2, 3, 4, 5, 6  # mjtGeom
DIRECT, MIRRORED = 0, 1  # views: the camera's own, and through the mirror that a reflecting plane is
EYE, AHEAD, RIGHT, UP = 0, 1, 2, 3  # a view: where from, the ray of the picture's middle, what a pixel adds to it
_OPAQUE_ALPHA = 0.995  # render_gl3.c draws what has less with the transparent shapes
_BEHIND_ALPHA = 0.3  # and a plane seen from behind with this much of its alpha


class Source(NamedTuple):
    """Views of the arrays of a model and its data that are read again for every frame."""

    geom_type: np.ndarray
    geom_size: np.ndarray
    geom_rgba: np.ndarray
    geom_material: np.ndarray
    geom_group: np.ndarray
    geom_position: np.ndarray
    geom_rotation: np.ndarray
    site_type: np.ndarray
    site_size: np.ndarray
    site_rgba: np.ndarray
    site_material: np.ndarray
    site_group: np.ndarray
    site_position: np.ndarray
    site_rotation: np.ndarray
    material_rgba: np.ndarray
    material_shine: np.ndarray  # (M, 4): emission, specular, shininess, reflectance
    light_position: np.ndarray
    light_direction: np.ndarray
    light_active: np.ndarray
    camera_position: np.ndarray
    camera_rotation: np.ndarray


class Scene(NamedTuple):
    """One frame's shapes (N of them at most) and lights (L), and how rays run: (2, …) is one for each view."""

    number: np.ndarray  # (4,): the frame's number, how many shapes, how many lights, the reflecting plane or -1
    kind: np.ndarray  # (N,)
    model_index: np.ndarray  # (N,): of the geom, or of the site past the last geom
    size: np.ndarray  # (N, 3)
    position: np.ndarray  # (N, 3)
    rotation: np.ndarray  # (N, 3, 3)
    rgba: np.ndarray  # (N, 4)
    material: np.ndarray  # (N,), or -1
    shine: np.ndarray  # (N, 4): emission, specular, shininess, reflectance
    transparent: np.ndarray  # (N,)
    order: np.ndarray  # (N,): the transparent shapes from the nearest to the farthest, then -1
    views: np.ndarray  # (2, 4, 3): EYE, AHEAD, RIGHT, UP
    ray: np.ndarray  # (2, N, 4, 3): the same in the frame of each shape
    light_position: np.ndarray  # (L, 3)
    light_direction: np.ndarray  # (L, 3)
    light_index: np.ndarray  # (L,): of the light in the model, or -1 for the headlight
    light_layer: np.ndarray  # (L,): of light.py's layers of colour


def source(model: mujoco.MjModel, data: mujoco.MjData, camera: int) -> Source:
    """Views of what is read for every frame."""
    shine = np.stack(
        [model.mat_emission, model.mat_specular, model.mat_shininess, model.mat_reflectance], axis=1, dtype=np.float32
    )
    return Source(
        model.geom_type,
        model.geom_size,
        model.geom_rgba,
        model.geom_matid,
        model.geom_group,
        data.geom_xpos,
        data.geom_xmat,
        model.site_type,
        model.site_size,
        model.site_rgba,
        model.site_matid,
        model.site_group,
        data.site_xpos,
        data.site_xmat,
        model.mat_rgba,
        np.ascontiguousarray(shine),
        data.light_xpos,
        data.light_xdir,
        model.light_active.view(np.uint8),
        data.cam_xpos[camera],
        data.cam_xmat[camera],
    )


def empty_scene(model: mujoco.MjModel) -> Scene:
    """Room for all that the model could show."""
    shapes, lights = model.ngeom + model.nsite, model.nlight + 1
    return Scene(
        number=np.zeros(4, np.int64),
        kind=np.zeros(shapes, np.int64),
        model_index=np.zeros(shapes, np.int64),
        size=np.zeros((shapes, 3)),
        position=np.zeros((shapes, 3)),
        rotation=np.zeros((shapes, 3, 3)),
        rgba=np.zeros((shapes, 4)),
        material=np.zeros(shapes, np.int64),
        shine=np.zeros((shapes, 4)),
        transparent=np.zeros(shapes, np.bool_),
        order=np.zeros(shapes, np.int64),
        views=np.zeros((2, 4, 3)),
        ray=np.zeros((2, shapes, 4, 3)),
        light_position=np.zeros((lights, 3)),
        light_direction=np.zeros((lights, 3)),
        light_index=np.zeros(lights, np.int64),
        light_layer=np.zeros(lights, np.int64),
    )


def half_height(model: mujoco.MjModel, camera: int) -> float:
    """Half the picture's height at distance 1: the tangent of half the vertical field of view."""
    return tangent(float(model.cam_fovy[camera]) * 3.141592653589793 / 360)


@kernel
def update(scene: Scene, source: Source, height: float, size: int, headlight: bool, shadows: np.ndarray) -> None:
    """Fill the scene for a new frame. `shadows` says for each of the model's lights whether it casts shadows."""
    scene.number[0] += 1
    _aim(scene, source, height, size)
    scene.number[1] = 0
    for geom in range(source.geom_type.shape[0]):
        _add(
            scene,
            geom,
            source.geom_type[geom],
            source.geom_size[geom],
            source.geom_rgba[geom],
            source.geom_material[geom],
            source.geom_group[geom],
            source.geom_position[geom],
            source.geom_rotation[geom],
            source,
        )
    for site in range(source.site_type.shape[0]):
        _add(
            scene,
            source.geom_type.shape[0] + site,
            source.site_type[site],
            source.site_size[site],
            source.site_rgba[site],
            source.site_material[site],
            source.site_group[site],
            source.site_position[site],
            source.site_rotation[site],
            source,
        )
    _sort_transparent(scene)
    _mirror(scene)
    for shape in range(scene.number[1]):
        _localise(scene, DIRECT, shape)
        if scene.number[3] >= 0:
            _localise(scene, MIRRORED, shape)
    _place_lights(scene, source, headlight, shadows)


@kernel
def _aim(scene: Scene, source: Source, height: float, size: int) -> None:
    """The camera's view. Rays have length 1 along its axis, so that their parameter is depth."""
    for axis in range(3):
        right, up = source.camera_rotation[3 * axis], source.camera_rotation[3 * axis + 1]
        scene.views[DIRECT, EYE, axis] = source.camera_position[axis]
        scene.views[DIRECT, AHEAD, axis] = -source.camera_rotation[3 * axis + 2]
        scene.views[DIRECT, RIGHT, axis] = right * (2.0 * height / size)
        scene.views[DIRECT, UP, axis] = up * (2.0 * height / size)


@kernel
def _add(scene, index, kind, size, rgba, material, group, position, rotation, source) -> None:  # type: ignore[no-untyped-def]
    """Add a geom or a site, unless it is in a hidden group or wholly transparent."""
    if group > 2:
        return
    shape = scene.number[1]
    own_colour = material < 0 or rgba[0] != 0.5 or rgba[1] != 0.5 or rgba[2] != 0.5 or rgba[3] != 1.0
    for channel in range(4):
        scene.rgba[shape, channel] = rgba[channel] if own_colour else source.material_rgba[material, channel]
        if material >= 0:
            scene.shine[shape, channel] = source.material_shine[material, channel]
        else:
            scene.shine[shape, channel] = 0.5 if channel == 1 or channel == 2 else 0.0
    if scene.rgba[shape, 3] == 0.0:
        return
    scene.kind[shape], scene.model_index[shape], scene.material[shape] = kind, index, material
    for axis in range(3):
        scene.size[shape, axis], scene.position[shape, axis] = size[axis], position[axis]
        for column in range(3):
            scene.rotation[shape, axis, column] = rotation[3 * axis + column]
    if kind == SPHERE:
        scene.size[shape, 1] = scene.size[shape, 2] = size[0]
    elif kind == CAPSULE or kind == CYLINDER:
        scene.size[shape, 1], scene.size[shape, 2] = size[0], size[1]
    behind = kind == PLANE and height_above(scene, shape, scene.views[DIRECT, EYE]) < 0.0
    scene.transparent[shape] = behind or scene.rgba[shape, 3] < _OPAQUE_ALPHA
    if behind:
        scene.rgba[shape, 3] *= _BEHIND_ALPHA
    scene.number[1] += 1


@kernel
def height_above(scene: Scene, shape: int, point: np.ndarray) -> float:
    """How far a point lies before a plane."""
    return (
        (point[0] - scene.position[shape, 0]) * scene.rotation[shape, 0, 2]
        + (point[1] - scene.position[shape, 1]) * scene.rotation[shape, 1, 2]
        + (point[2] - scene.position[shape, 2]) * scene.rotation[shape, 2, 2]
    )


@kernel
def _sort_transparent(scene: Scene) -> None:
    """Order the transparent shapes by the distance of their near side; planes come last."""
    count = 0
    for shape in range(scene.number[1]):
        if not scene.transparent[shape]:
            continue
        place = count
        while place > 0 and _near_side(scene, scene.order[place - 1]) > _near_side(scene, shape):
            scene.order[place] = scene.order[place - 1]
            place -= 1
        scene.order[place] = shape
        count += 1
    scene.order[count:] = -1


@kernel
def _near_side(scene: Scene, shape: int) -> float:
    """Squared distance from the eye to the surface of the sphere around a shape (signed), for sorting."""
    if scene.kind[shape] == PLANE:
        return 1e10
    squared = 0.0
    for axis in range(3):
        squared += (scene.position[shape, axis] - scene.views[DIRECT, EYE, axis]) ** 2
    return np.sqrt(squared) - bounding_radius(scene, shape)


@kernel
def bounding_radius(scene: Scene, shape: int) -> float:
    """Radius of the sphere around a shape that isn't a plane."""
    a, b, c = scene.size[shape]
    kind = scene.kind[shape]
    if kind == SPHERE:
        return a
    if kind == CAPSULE:
        return a + c
    if kind == CYLINDER:
        return np.sqrt(a * a + c * c)
    if kind == ELLIPSOID:
        return max(a, b, c)
    return np.sqrt(a * a + b * b + c * c)


@kernel
def _mirror(scene: Scene) -> None:
    """Find the first reflecting plane, the only one that OpenGL's MuJoCo lets reflect, and mirror the view at it."""
    scene.number[3] = -1
    for shape in range(scene.number[1]):
        if scene.kind[shape] == PLANE and not scene.transparent[shape] and scene.shine[shape, 3] > 0.0:
            scene.number[3] = shape
            break
    if scene.number[3] < 0:
        return
    normal = scene.rotation[scene.number[3], :, 2]
    for row in range(4):
        vector = scene.views[DIRECT, row]
        if row == EYE:
            along = height_above(scene, scene.number[3], vector)
        else:
            along = dot(vector[0], vector[1], vector[2], normal[0], normal[1], normal[2])
        for axis in range(3):
            scene.views[MIRRORED, row, axis] = vector[axis] - 2.0 * along * normal[axis]


@kernel
def _localise(scene: Scene, view: int, shape: int) -> None:
    """A view's rays in the frame of a shape; spheres and ellipsoids are stretched to the unit sphere."""
    kind = scene.kind[shape]
    for row in range(4):
        for axis in range(3):
            value = 0.0
            for world in range(3):
                component = scene.views[view, row, world]
                if row == EYE:
                    component -= scene.position[shape, world]
                value += component * scene.rotation[shape, world, axis]
            if kind == SPHERE or kind == ELLIPSOID:
                value /= scene.size[shape, axis]
            scene.ray[view, shape, row, axis] = value


@kernel
def _place_lights(scene: Scene, source: Source, headlight: bool, shadows: np.ndarray) -> None:
    """The headlight at the eye, then the model's lights; those that cast shadows each have a layer of their own."""
    count, layer = 0, 1
    if headlight:
        for axis in range(3):
            scene.light_direction[0, axis] = -source.camera_rotation[3 * axis + 2]
        scene.light_index[0], scene.light_layer[0] = -1, 0
        count = 1
    for light in range(source.light_position.shape[0]):
        if source.light_active[light] == 0:
            continue
        scene.light_position[count] = source.light_position[light]
        scene.light_direction[count] = source.light_direction[light]
        scene.light_index[count] = light
        scene.light_layer[count] = layer if shadows[light] else 0
        layer += 1 if shadows[light] else 0
        count += 1
    scene.number[2] = count


def unit_circle(parts: int) -> np.ndarray:
    """Cosine and sine of 0, 1, …, `parts` parts of a full turn: (parts + 1, 2)."""
    return np.array([cos_sin(2 * 3.141592653589793 * part / parts) for part in range(parts + 1)])
