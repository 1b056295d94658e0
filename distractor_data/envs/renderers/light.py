"""OpenGL's light: computed at the vertices of facets in layers, interpolated between them; and who stands in it.

A layer is one of MuJoCo's additive passes, each clamped to 8 bits: layer 0 is emission and all lights that cast no
shadows, every other layer one light that does. What is mirrored or transparent is drawn once, with all lights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np

from distractor_data.envs.renderers.arithmetic import cos_sin, power, tangent
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import Facets, vertex
from distractor_data.envs.renderers.scene import (
    DIRECT,
    ELLIPSOID,
    EYE,
    MIRRORED,
    PLANE,
    SPHERE,
    Scene,
    bounding_radius,
)
from distractor_data.envs.renderers.shapes import MISS, enter

AMBIENT, DIFFUSE, SPECULAR = 0, 1, 2
_SHADOW_ANGLE = 160.0  # degrees; the widest that a spot light's shadow map sees (render_gl3.c)
_NO_LIGHTS_AMBIENT = 0.3  # render_gl3.c, `initLights`


class Lights(NamedTuple):
    """The lights' constants, by their index in the model; the headlight is the last."""

    directional: np.ndarray  # (L,)
    colour: np.ndarray  # (L, 3, 3): ambient, diffuse, specular
    attenuation: np.ndarray  # (L, 3)
    exponent: np.ndarray  # (L,)
    cutoff: np.ndarray  # (L,): its cosine
    reach: np.ndarray  # (L,): half the shadow map's width, at distance 1 or, for directional lights, anywhere
    layers: int


class Lit(NamedTuple):
    """Vertices that were lit, each at most once a frame and view: V of them, in K layers and all together."""

    frame: np.ndarray  # (2, V): the number of the frame in which it was last lit
    corner: np.ndarray  # (V, 3): its position in the frame of its shape's rays
    colour: np.ndarray  # (2, V, K + 1, 3); the last is all layers together


def lights(model: mujoco.MjModel) -> Lights:
    """The constants of the model's lights."""
    head = model.vis.headlight
    if hasattr(model, "light_directional"):
        directional = model.light_directional.astype(np.bool_)
    else:
        directional = model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    colours = [model.light_ambient, model.light_diffuse, model.light_specular]
    headlight = [[head.ambient, head.diffuse, head.specular]]
    spread = [min(2 * float(cutoff) * model.vis.map.shadowscale, _SHADOW_ANGLE) for cutoff in model.light_cutoff]
    wide = float(model.vis.map.shadowclip * model.stat.extent)
    radians = 3.141592653589793 / 180
    return Lights(
        np.append(directional, True),
        np.concatenate([np.stack(colours, axis=1), headlight]).astype(np.float64),
        np.concatenate([model.light_attenuation, [[1, 0, 0]]]).astype(np.float64),
        np.append(model.light_exponent, 0).astype(np.float64),
        np.array([*(cos_sin(float(cutoff) * radians)[0] for cutoff in model.light_cutoff), -1.0]),
        np.array(
            [
                *(wide if flat else tangent(angle * radians / 2) for flat, angle in zip(directional, spread, strict=True)),
                wide,
            ]
        ),
        1 + int((model.light_castshadow.astype(bool) & model.light_active.astype(bool)).sum()),
    )


def nothing_lit(facets: Facets, layers: int) -> Lit:
    """Room for all vertices."""
    return Lit(
        np.zeros((2, facets.vertices), np.int64),
        np.zeros((facets.vertices, 3)),
        np.zeros((2, facets.vertices, layers + 1, 3)),
    )


@kernel
def light_vertex(
    scene: Scene, facets: Facets, lights: Lights, lit: Lit, view: int, shape: int, row: int, column: int
) -> int:
    """Light a vertex, unless this frame has; returns its number."""
    index, kind, size = scene.model_index[shape], scene.kind[shape], scene.size[shape]
    number = facets.first[index] + row * facets.columns[index] + column
    if lit.frame[view, number] == scene.number[0]:
        return number
    lit.frame[view, number] = scene.number[0]
    place = np.empty((2, 3))
    vertex(facets, kind, index, size, row, column, place)
    round_shape = kind == SPHERE or kind == ELLIPSOID
    for axis in range(3):
        lit.corner[number, axis] = place[0, axis] / size[axis] if round_shape else place[0, axis]
    position, normal = np.empty(3), np.empty(3)
    length = math.sqrt(place[1, 0] ** 2 + place[1, 1] ** 2 + place[1, 2] ** 2)
    for axis in range(3):
        position[axis], normal[axis] = scene.position[shape, axis], 0.0
        for own in range(3):
            position[axis] += scene.rotation[shape, axis, own] * place[0, own]
            normal[axis] += scene.rotation[shape, axis, own] * place[1, own] / length
    _light(scene, lights, view, shape, position, normal, lit.colour[view, number])
    return number


@kernel
def _light(
    scene: Scene, lights: Lights, view: int, shape: int, position: np.ndarray, normal: np.ndarray, colour: np.ndarray
) -> None:
    """Colours of all layers, each clamped to [0, 1], at a place with a normal; OpenGL 2.1, section 2.14.1."""
    together = lights.layers
    tint = scene.shine[scene.number[3], 3] if view == MIRRORED else 1.0
    ambient = _NO_LIGHTS_AMBIENT if scene.number[2] == 0 else 0.0
    for channel in range(3):
        colour[1:, channel] = 0.0
        colour[0, channel] = tint * scene.rgba[shape, channel] * (scene.shine[shape, 0] + ambient)
    for light in range(scene.number[2]):
        index, layer = scene.light_index[light], scene.light_layer[light]
        power_here, diffuse, specular = _strength(scene, lights, view, shape, light, position, normal)
        if power_here == 0.0:
            continue
        for channel in range(3):
            own = tint * scene.rgba[shape, channel]
            colour[layer, channel] += power_here * (
                own * (lights.colour[index, AMBIENT, channel] + diffuse * lights.colour[index, DIFFUSE, channel])
                + scene.shine[shape, 1] * specular * lights.colour[index, SPECULAR, channel]
            )
    for channel in range(3):
        for layer in range(together):
            colour[together, channel] += colour[layer, channel]
            colour[layer, channel] = min(max(colour[layer, channel], 0.0), 1.0)
        colour[together, channel] = min(max(colour[together, channel], 0.0), 1.0)


@kernel
def _strength(
    scene: Scene, lights: Lights, view: int, shape: int, light: int, position: np.ndarray, normal: np.ndarray
) -> tuple[float, float, float]:
    """How much of a light comes to a place, and how much of that is diffuse and specular reflection."""
    index, along = scene.light_index[light], scene.light_direction[light]
    lx, ly, lz, strength = -along[0], -along[1], -along[2], 1.0
    if not lights.directional[index]:
        lx = scene.light_position[light, 0] - position[0]
        ly = scene.light_position[light, 1] - position[1]
        lz = scene.light_position[light, 2] - position[2]
        distance = math.sqrt(lx * lx + ly * ly + lz * lz)
        lx, ly, lz = lx / distance, ly / distance, lz / distance
        centred = -(lx * along[0] + ly * along[1] + lz * along[2])
        if centred < lights.cutoff[index] or centred <= 0.0:
            return 0.0, 0.0, 0.0
        fade = lights.attenuation[index]
        strength = power(centred, lights.exponent[index]) / (fade[0] + distance * (fade[1] + distance * fade[2]))
    diffuse = normal[0] * lx + normal[1] * ly + normal[2] * lz
    if diffuse <= 0.0:
        return strength, 0.0, 0.0
    vx = scene.views[view, EYE, 0] - position[0]
    vy = scene.views[view, EYE, 1] - position[1]
    vz = scene.views[view, EYE, 2] - position[2]
    far = math.sqrt(vx * vx + vy * vy + vz * vz)
    hx, hy, hz = lx + vx / far, ly + vy / far, lz + vz / far
    half = math.sqrt(hx * hx + hy * hy + hz * hz)
    facing = (normal[0] * hx + normal[1] * hy + normal[2] * hz) / half
    return strength, diffuse, power(facing, 128.0 * scene.shine[shape, 2]) if facing > 0.0 else 0.0


@kernel
def in_shadow(scene: Scene, lights: Lights, light: int, shape: int, x: float, y: float, z: float) -> bool:
    """Whether another shape stands between a light and a place on a shape, as far as its shadow map reaches."""
    index = scene.light_index[light]
    along = scene.light_direction[light]
    ox, oy, oz = scene.light_position[light]
    dx, dy, dz = x - ox, y - oy, z - oz
    if not _in_map(lights.directional[index], along, dx, dy, dz, lights.reach[index]):
        return False
    if lights.directional[index]:
        distance = dx * along[0] + dy * along[1] + dz * along[2]
        dx, dy, dz = distance * along[0], distance * along[1], distance * along[2]
        ox, oy, oz = x - dx, y - dy, z - dz
    length = dx * dx + dy * dy + dz * dz
    for other in range(scene.number[1]):
        if other == shape or scene.kind[other] == PLANE:
            continue
        px = scene.position[other, 0] - ox
        py = scene.position[other, 1] - oy
        pz = scene.position[other, 2] - oz
        near = (px * dx + py * dy + pz * dz) / length
        px, py, pz = px - near * dx, py - near * dy, pz - near * dz
        if px * px + py * py + pz * pz > bounding_radius(scene, other) ** 2:
            continue
        if 0.0 < _enter_from(scene, other, ox, oy, oz, dx, dy, dz) < 1.0:
            return True
    return False


@kernel
def _in_map(directional: bool, along: np.ndarray, dx: float, dy: float, dz: float, reach: float) -> bool:
    """Whether a place at d from the light is in its shadow map, whose up-direction is `mjr_orthoVec`'s."""
    if along[1] * along[1] + along[2] * along[2] > 0.01:  # along × -x
        ux, uy, uz = 0.0, -along[2], along[1]
    else:  # along × y
        ux, uy, uz = -along[2], 0.0, along[0]
    length = math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / length, uy / length, uz / length
    sx, sy, sz = along[1] * uz - along[2] * uy, along[2] * ux - along[0] * uz, along[0] * uy - along[1] * ux
    ahead = 1.0 if directional else dx * along[0] + dy * along[1] + dz * along[2]
    limit = reach * ahead
    return abs(ux * dx + uy * dy + uz * dz) <= limit and abs(sx * dx + sy * dy + sz * dz) <= limit


@kernel
def _enter_from(scene: Scene, shape: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Ray parameter where a ray of the world enters a shape."""
    rotation, kind, size = scene.rotation[shape], scene.kind[shape], scene.size[shape]
    px, py, pz = ox - scene.position[shape, 0], oy - scene.position[shape, 1], oz - scene.position[shape, 2]
    lx = px * rotation[0, 0] + py * rotation[1, 0] + pz * rotation[2, 0]
    ly = px * rotation[0, 1] + py * rotation[1, 1] + pz * rotation[2, 1]
    lz = px * rotation[0, 2] + py * rotation[1, 2] + pz * rotation[2, 2]
    kx = dx * rotation[0, 0] + dy * rotation[1, 0] + dz * rotation[2, 0]
    ky = dx * rotation[0, 1] + dy * rotation[1, 1] + dz * rotation[2, 1]
    kz = dx * rotation[0, 2] + dy * rotation[1, 2] + dz * rotation[2, 2]
    if kind == SPHERE or kind == ELLIPSOID:
        return enter(kind, size, lx / size[0], ly / size[1], lz / size[2], kx / size[0], ky / size[1], kz / size[2])
    return enter(kind, size, lx, ly, lz, kx, ky, kz)


assert DIRECT == 0
assert MISS > 1.0
