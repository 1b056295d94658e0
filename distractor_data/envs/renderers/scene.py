"""What MuJoCo would draw, as arrays: shapes with their materials, lights, and the rays of the camera's pixels.

The rules are those of MuJoCo's `engine_vis_visualize.c`: which geoms and sites show, whose colour counts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np

from distractor_data.envs.renderers.arithmetic import dot, tangent
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.light import turn_map
from distractor_data.envs.renderers.structs import (
    AHEAD,
    CAPSULE,
    CYLINDER,
    DIRECT,
    ELLIPSOID,
    EYE,
    MIRRORED,
    NOTHING,
    PLANE,
    REFLECTANCE,
    RIGHT,
    SPHERE,
    UP,
    Record,
    Tables,
)

_OPAQUE_ALPHA = 0.995  # render_gl3.c draws what has less with the transparent shapes
_BEHIND_ALPHA = 0.3  # and a plane seen from behind with this much of its alpha
_LAST_GROUP = 2  # of geoms and sites that mjv_defaultOption shows


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


def half_height(model: mujoco.MjModel, camera: int) -> float:
    """Half the picture's height at distance 1: the tangent of half the vertical field of view."""
    return tangent(float(model.cam_fovy[camera]) * 3.141592653589793 / 360)


@kernel
def update(tables: Tables, source: Source) -> None:
    """Fill the tables for a new frame."""
    frame, shapes = tables.frame, tables.shapes
    frame.number += 1
    _aim(frame, source)
    frame.shapes = 0
    geoms = source.geom_type.shape[0]
    for geom in range(geoms):
        if source.geom_group[geom] <= _LAST_GROUP:
            shape = shapes[frame.shapes]
            _place(shape, geom, source.geom_type[geom], source.geom_size[geom])
            _turn(shape, source.geom_position[geom], source.geom_rotation[geom])
            _finish(frame, shape, source.geom_material[geom], source.geom_rgba[geom], source)
    for site in range(source.site_type.shape[0]):
        if source.site_group[site] <= _LAST_GROUP:
            shape = shapes[frame.shapes]
            _place(shape, geoms + site, source.site_type[site], source.site_size[site])
            _turn(shape, source.site_position[site], source.site_rotation[site])
            _finish(frame, shape, source.site_material[site], source.site_rgba[site], source)
    _sort_transparent(frame, shapes, tables.order)
    _mirror(frame, shapes)
    _surround(frame, shapes)
    for index in range(frame.shapes):
        _localise(frame, shapes[index], DIRECT)
        if frame.mirror != NOTHING:
            _localise(frame, shapes[index], MIRRORED)
    _place_lights(frame, tables.lights, source)


@kernel
def _aim(frame: Record, source: Source) -> None:
    """The camera's view. Rays have length 1 along its axis, so that their parameter is depth."""
    pixel = 2.0 * frame.height / frame.size
    for axis in range(3):
        frame.views[DIRECT, EYE, axis] = source.camera_position[axis]
        frame.views[DIRECT, AHEAD, axis] = -source.camera_rotation[3 * axis + 2]
        frame.views[DIRECT, RIGHT, axis] = pixel * source.camera_rotation[3 * axis]
        frame.views[DIRECT, UP, axis] = pixel * source.camera_rotation[3 * axis + 1]


@kernel
def _place(shape: Record, index: int, kind: int, size: np.ndarray) -> None:
    """Kind and dimensions: spheres are ellipsoids; of capsules and cylinders radius, radius, half length."""
    a, b, c = size[0], size[1], size[2]
    if kind == SPHERE:
        kind, b, c = ELLIPSOID, a, a
    elif kind in (CAPSULE, CYLINDER):
        b, c = a, b
    shape.kind, shape.index = kind, index
    shape.size[0], shape.size[1], shape.size[2] = a, b, c
    if kind == ELLIPSOID:
        shape.radius = max(a, b, c)
    elif kind == CAPSULE:
        shape.radius = a + c
    elif kind == CYLINDER:
        shape.radius = math.sqrt(a * a + c * c)
    else:
        shape.radius = math.sqrt(a * a + b * b + c * c)


@kernel
def _turn(shape: Record, position: np.ndarray, rotation: np.ndarray) -> None:
    for axis in range(3):
        shape.position[axis] = position[axis]
        for column in range(3):
            shape.rotation[axis, column] = rotation[3 * axis + column]


@kernel
def _finish(frame: Record, shape: Record, material: int, rgba: np.ndarray, source: Source) -> None:
    """Colour and material; the shape counts unless it is wholly transparent."""
    shape.material = material
    own = material < 0 or rgba[0] != 0.5 or rgba[1] != 0.5 or rgba[2] != 0.5 or rgba[3] != 1.0
    for part in range(4):
        shape.rgba[part] = rgba[part] if own else source.material_rgba[material, part]
        if material >= 0:
            shape.shine[part] = source.material_shine[material, part]
        else:
            shape.shine[part] = 0.5 if part == 1 or part == 2 else 0.0
    if shape.rgba[3] == 0.0:
        return
    behind = shape.kind == PLANE and height_above(shape, frame.views[DIRECT, EYE]) < 0.0
    shape.transparent = behind or shape.rgba[3] < _OPAQUE_ALPHA
    if behind:
        shape.rgba[3] *= _BEHIND_ALPHA
    frame.shapes += 1


@kernel
def height_above(shape: Record, point: np.ndarray) -> float:
    """How far a point lies before a plane."""
    return (
        (point[0] - shape.position[0]) * shape.rotation[0, 2]
        + (point[1] - shape.position[1]) * shape.rotation[1, 2]
        + (point[2] - shape.position[2]) * shape.rotation[2, 2]
    )


@kernel
def _sort_transparent(frame: Record, shapes: np.ndarray, order: np.ndarray) -> None:
    """Order the transparent shapes by the distance of their near sides; planes come last."""
    count = 0
    for index in range(frame.shapes):
        if not shapes[index].transparent:
            continue
        place = count
        while place > 0 and _near_side(frame, shapes[order[place - 1]]) > _near_side(frame, shapes[index]):
            order[place] = order[place - 1]
            place -= 1
        order[place] = index
        count += 1
    order[count:] = NOTHING


@kernel
def _near_side(frame: Record, shape: Record) -> float:
    """Distance from the eye to the sphere around a shape."""
    if shape.kind == PLANE:
        return 1e10
    squared = 0.0
    for axis in range(3):
        squared += (shape.position[axis] - frame.views[DIRECT, EYE, axis]) ** 2
    return math.sqrt(squared) - shape.radius


@kernel
def _mirror(frame: Record, shapes: np.ndarray) -> None:
    """Find the first reflecting plane, the only one that render_gl3.c lets reflect, and mirror the view at it."""
    frame.mirror = NOTHING
    for index in range(frame.shapes):
        shape = shapes[index]
        if shape.kind == PLANE and not shape.transparent and shape.shine[REFLECTANCE] > 0.0:
            frame.mirror = index
            break
    if frame.mirror == NOTHING:
        return
    plane = shapes[frame.mirror]
    for row in range(4):
        vector = frame.views[DIRECT, row]
        if row == EYE:
            along = height_above(plane, vector)
        else:
            along = dot(
                vector[0], vector[1], vector[2], plane.rotation[0, 2], plane.rotation[1, 2], plane.rotation[2, 2]
            )
        for axis in range(3):
            frame.views[MIRRORED, row, axis] = vector[axis] - 2.0 * along * plane.rotation[axis, 2]


@kernel
def _surround(frame: Record, shapes: np.ndarray) -> None:
    """Find a sphere around all that casts shadows: about the mean of their middles, a little too large."""
    count, radius = 0, 0.0
    frame.middle[:] = 0.0
    for index in range(frame.shapes):
        if shapes[index].kind != PLANE:
            count += 1
            for axis in range(3):
                frame.middle[axis] += shapes[index].position[axis]
    for axis in range(3):
        frame.middle[axis] /= max(count, 1)
    for index in range(frame.shapes):
        if shapes[index].kind != PLANE:
            squared = 0.0
            for axis in range(3):
                squared += (shapes[index].position[axis] - frame.middle[axis]) ** 2
            radius = max(radius, math.sqrt(squared) + shapes[index].radius)
    frame.radius = 1.001 * radius


@kernel
def _localise(frame: Record, shape: Record, view: int) -> None:
    """A view's rays in the frame of a shape; ellipsoids are stretched to radius 1."""
    for row in range(4):
        for axis in range(3):
            value = 0.0
            for world in range(3):
                component = frame.views[view, row, world]
                if row == EYE:
                    component -= shape.position[world]
                value += component * shape.rotation[world, axis]
            if shape.kind == ELLIPSOID:
                value /= shape.size[axis]
            shape.ray[view, row, axis] = value


@kernel
def _place_lights(frame: Record, lights: np.ndarray, source: Source) -> None:
    """The headlight at the eye, then the model's lights; each that casts shadows has a layer of its own."""
    for axis in range(3):
        lights[0].direction[axis] = frame.views[DIRECT, AHEAD, axis]
    frame.layers = 1
    for light in range(source.light_position.shape[0]):
        active = lights[light + 1]
        active.on = source.light_active[light]
        for axis in range(3):
            active.position[axis] = source.light_position[light, axis]
            active.direction[axis] = source.light_direction[light, axis]
        turn_map(active)
        active.layer = frame.layers if active.shadows and active.on else 0
        if active.layer > 0:
            frame.layers += 1
