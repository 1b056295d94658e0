"""OpenGL's light: computed at the vertices of facets in layers, interpolated between them; and who stands in it.

A layer is one of MuJoCo's additive passes, each clamped to 8 bits: layer 0 is emission and all lights that cast no
shadows, every other layer one light that does. What is mirrored or transparent is drawn once, with all lights.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from distractor_data.envs.renderers.arithmetic import cos_sin, power, tangent
from distractor_data.envs.renderers.compiled import inner_kernel, kernel
from distractor_data.envs.renderers.facets import normal, position
from distractor_data.envs.renderers.shapes import enter
from distractor_data.envs.renderers.structs import (
    AMBIENT,
    DIFFUSE,
    ELLIPSOID,
    EMISSION,
    EYE,
    LIGHT,
    MAX_LAYERS,
    PLANE,
    SHININESS,
    SPECULAR,
    SPECULARITY,
    Record,
    Tables,
)

_SHADOW_ANGLE = 160.0  # degrees; the widest that a spot light's shadow map sees (render_gl3.c)
_RADIANS = 3.141592653589793 / 180
_MAX_SHININESS = 128.0  # OpenGL's, which MuJoCo calls 1


def constant_lights(model: mujoco.MjModel) -> np.ndarray:
    """The headlight and the model's lights (LIGHT), but for what may change from frame to frame."""
    lights = np.zeros(model.nlight + 1, LIGHT)
    head = model.vis.headlight
    lights[0]["on"], lights[0]["directional"] = head.active, 1
    lights[0]["colour"] = head.ambient, head.diffuse, head.specular
    if hasattr(model, "light_directional"):
        directional = model.light_directional
    else:  # since MuJoCo 3.3.3
        directional = model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    for index in range(model.nlight):
        light, cutoff = lights[index + 1], float(model.light_cutoff[index])
        light["directional"], light["shadows"] = directional[index], model.light_castshadow[index]
        light["colour"] = model.light_ambient[index], model.light_diffuse[index], model.light_specular[index]
        light["attenuation"], light["exponent"] = model.light_attenuation[index], model.light_exponent[index]
        light["cutoff"] = cos_sin(cutoff * _RADIANS)[0]
        if directional[index]:
            light["reach"] = model.vis.map.shadowclip * model.stat.extent
        else:
            angle = min(2 * cutoff * float(model.vis.map.shadowscale), _SHADOW_ANGLE)
            light["reach"] = tangent(angle * _RADIANS / 2)
    return lights


@inner_kernel
def light_vertex(tables: Tables, shape: Record, view: int, tint: float, row: int, column: int) -> int:
    """Light a vertex of a shape, unless this frame has; returns its number. `tint` dims what the mirror shows."""
    part = tables.parts[shape.index]
    number = part.first + row * part.columns + column
    if tables.vertices[number].frame[view] != tables.frame.number:
        _light_vertex(tables.frame, tables.lights, shape, part, tables.vertices[number], view, tint, row, column)
    return number


@kernel
def _light_vertex(
    frame: Record,
    lights: np.ndarray,
    shape: Record,
    part: Record,
    vertex: Record,
    view: int,
    tint: float,
    row: int,
    column: int,
) -> None:
    vertex.frame[view] = frame.number
    x, y, z = position(frame, shape, part, row, column)
    at, own = shape.position, shape.rotation
    wx = at[0] + own[0, 0] * x + own[0, 1] * y + own[0, 2] * z
    wy = at[1] + own[1, 0] * x + own[1, 1] * y + own[1, 2] * z
    wz = at[2] + own[2, 0] * x + own[2, 1] * y + own[2, 2] * z
    x, y, z = normal(frame, shape, row, column)
    nx = own[0, 0] * x + own[0, 1] * y + own[0, 2] * z
    ny = own[1, 0] * x + own[1, 1] * y + own[1, 2] * z
    nz = own[2, 0] * x + own[2, 1] * y + own[2, 2] * z
    colour = vertex.colour[view]
    for channel in range(3):
        colour[:, channel] = 0.0
        colour[0, channel] = tint * shape.rgba[channel] * shape.shine[EMISSION]
    for light in lights:
        if light.on:
            _light(frame, shape, light, view, tint, wx, wy, wz, nx, ny, nz, colour[light.layer])
    for channel in range(3):
        for layer in range(frame.layers):
            colour[MAX_LAYERS, channel] += colour[layer, channel]
            colour[layer, channel] = min(colour[layer, channel], 1.0)
        colour[MAX_LAYERS, channel] = min(colour[MAX_LAYERS, channel], 1.0)


@kernel
def _light(
    frame: Record,
    shape: Record,
    light: Record,
    view: int,
    tint: float,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    colour: np.ndarray,
) -> None:
    """Add one light at x, y, z, where the shape's normal is n, to a colour; OpenGL 2.1, section 2.14.1."""
    along = light.direction
    lx, ly, lz, strength = -along[0], -along[1], -along[2], 1.0
    if not light.directional:
        lx, ly, lz = light.position[0] - x, light.position[1] - y, light.position[2] - z
        distance = math.sqrt(lx * lx + ly * ly + lz * lz)
        lx, ly, lz = lx / distance, ly / distance, lz / distance
        centred = -(lx * along[0] + ly * along[1] + lz * along[2])
        if centred < light.cutoff or centred <= 0.0:
            return
        fade = light.attenuation
        strength = power(centred, light.exponent) / (fade[0] + distance * (fade[1] + distance * fade[2]))
    diffuse = max(0.0, nx * lx + ny * ly + nz * lz)
    specular = 0.0
    if diffuse > 0.0 and shape.shine[SPECULARITY] > 0.0:
        eye = frame.views[view, EYE]
        vx, vy, vz = eye[0] - x, eye[1] - y, eye[2] - z
        distance = math.sqrt(vx * vx + vy * vy + vz * vz)
        hx, hy, hz = lx + vx / distance, ly + vy / distance, lz + vz / distance
        facing = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
        if facing > 0.0:
            specular = shape.shine[SPECULARITY] * power(facing, _MAX_SHININESS * shape.shine[SHININESS])
    for channel in range(3):
        colour[channel] += strength * (
            tint * shape.rgba[channel] * (light.colour[AMBIENT, channel] + diffuse * light.colour[DIFFUSE, channel])
            + specular * light.colour[SPECULAR, channel]
        )


@kernel
def in_shadow(frame: Record, shapes: np.ndarray, light: Record, receiver: int, x: float, y: float, z: float) -> bool:
    """Whether another shape stands between a light and a place on a shape, as far as its shadow map reaches."""
    along = light.direction
    ox, oy, oz = light.position[0], light.position[1], light.position[2]
    dx, dy, dz = x - ox, y - oy, z - oz
    if not _in_map(light, dx, dy, dz):
        return False
    if light.directional:
        distance = dx * along[0] + dy * along[1] + dz * along[2]
        dx, dy, dz = distance * along[0], distance * along[1], distance * along[2]
        ox, oy, oz = x - dx, y - dy, z - dz
    if not _near(frame.middle, frame.radius, ox, oy, oz, dx, dy, dz):
        return False
    for index in range(frame.shapes):
        shape = shapes[index]
        if index == receiver or shape.kind == PLANE:
            continue
        if not _near(shape.position, shape.radius, ox, oy, oz, dx, dy, dz):
            continue
        if 0.0 < _enter_from(shape, ox, oy, oz, dx, dy, dz) < 1.0:
            return True
    return False


@kernel
def _near(
    middle: np.ndarray, radius: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> bool:
    """Whether a line passes through a sphere."""
    px, py, pz = middle[0] - ox, middle[1] - oy, middle[2] - oz
    near = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz)
    px, py, pz = px - near * dx, py - near * dy, pz - near * dz
    return px * px + py * py + pz * pz <= radius * radius


@kernel
def _in_map(light: Record, dx: float, dy: float, dz: float) -> bool:
    """Whether a place at d from a light is in its shadow map."""
    along, sides, limit = light.direction, light.sides, light.reach
    if not light.directional:
        limit *= dx * along[0] + dy * along[1] + dz * along[2]
    return (
        abs(sides[0, 0] * dx + sides[0, 1] * dy + sides[0, 2] * dz) <= limit
        and abs(sides[1, 0] * dx + sides[1, 1] * dy + sides[1, 2] * dz) <= limit
    )


@kernel
def turn_map(light: Record) -> None:
    """The sides of a light's shadow map: the up-direction of `mjr_orthoVec`, and across."""
    along, sides = light.direction, light.sides
    if along[1] * along[1] + along[2] * along[2] > 0.01:  # along × -x
        sides[0, 0], sides[0, 1], sides[0, 2] = 0.0, -along[2], along[1]
    else:  # along × y
        sides[0, 0], sides[0, 1], sides[0, 2] = -along[2], 0.0, along[0]
    length = math.sqrt(sides[0, 0] ** 2 + sides[0, 1] ** 2 + sides[0, 2] ** 2)
    for axis in range(3):
        sides[0, axis] /= length
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        sides[1, axis] = along[one] * sides[0, other] - along[other] * sides[0, one]


@kernel
def _enter_from(shape: Record, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Ray parameter where a ray of the world enters a shape."""
    own, size = shape.rotation, shape.size
    px, py, pz = ox - shape.position[0], oy - shape.position[1], oz - shape.position[2]
    lx = px * own[0, 0] + py * own[1, 0] + pz * own[2, 0]
    ly = px * own[0, 1] + py * own[1, 1] + pz * own[2, 1]
    lz = px * own[0, 2] + py * own[1, 2] + pz * own[2, 2]
    kx = dx * own[0, 0] + dy * own[1, 0] + dz * own[2, 0]
    ky = dx * own[0, 1] + dy * own[1, 1] + dz * own[2, 1]
    kz = dx * own[0, 2] + dy * own[1, 2] + dz * own[2, 2]
    if shape.kind == ELLIPSOID:
        lx, ly, lz = lx / size[0], ly / size[1], lz / size[2]
        kx, ky, kz = kx / size[0], ky / size[1], kz / size[2]
    t, _ = enter(shape.kind, size, lx, ly, lz, kx, ky, kz)
    return t
