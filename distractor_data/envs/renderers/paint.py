"""The colours of what the samples hit: shapes, what the mirror shows, what shines through, and the mean of samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from distractor_data.envs.renderers.arithmetic import to_byte
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import Facets, find_facet, weights
from distractor_data.envs.renderers.light import Lights, Lit, in_shadow, light_vertex
from distractor_data.envs.renderers.scene import DIRECT, EYE, MIRRORED, PLANE, Scene
from distractor_data.envs.renderers.shapes import MISS, depth, direction, pixel_bounds
from distractor_data.envs.renderers.skybox import NOTHING
from distractor_data.envs.renderers.texture import Texture, choose_level, repeated
from distractor_data.envs.renderers.visible import _PLACES_X, _PLACES_Y


class Tools(NamedTuple):
    """What colours are made with."""

    facets: Facets
    lights: Lights
    lit: Lit
    texture: Texture  # of the planes that have one
    textured: np.ndarray  # (M, 3): of a material: has it the texture, and its repeats along x and y
    mix: np.ndarray  # (K + 1, 3): scratch, a fragment's colour in each layer


@kernel
def draw_shapes(
    scene: Scene, tools: Tools, size: int, hit: np.ndarray, depths: np.ndarray, mirrored: np.ndarray, colour: np.ndarray
) -> None:
    """Colour the samples that hit opaque shapes; those of one pixel and shape are alike."""
    for y in range(size):
        for x in range(size):
            for sample in range(4):
                shape = hit[y, x, sample]
                if shape == NOTHING or _seen_before(hit[y, x], sample):
                    continue
                red, green, blue = _fragment(scene, tools, DIRECT, shape, x, y, sample, depths[y, x, sample], size)
                for other in range(sample, 4):
                    if hit[y, x, other] == shape:
                        colour[y, x, other, 0], colour[y, x, other, 1], colour[y, x, other, 2] = red, green, blue
            if scene.number[3] >= 0:
                _draw_mirrored(scene, tools, size, x, y, mirrored, colour)


@kernel
def _seen_before(hit: np.ndarray, sample: int) -> bool:
    for earlier in range(sample):
        if hit[earlier] == hit[sample]:
            return True
    return False


@kernel
def _draw_mirrored(scene, tools, size, x, y, mirrored, colour) -> None:  # type: ignore[no-untyped-def]
    """Add what the mirror shows."""
    for sample in range(4):
        shape = mirrored[y, x, sample]
        if shape == NOTHING or _seen_before(mirrored[y, x], sample):
            continue
        red, green, blue = _fragment(scene, tools, MIRRORED, shape, x, y, sample, MISS, size)
        for other in range(sample, 4):
            if mirrored[y, x, other] == shape:
                colour[y, x, other, 0] = min(255, colour[y, x, other, 0] + red)
                colour[y, x, other, 1] = min(255, colour[y, x, other, 1] + green)
                colour[y, x, other, 2] = min(255, colour[y, x, other, 2] + blue)


@kernel
def _fragment(scene, tools, view, shape, x, y, sample, sample_depth, size):  # type: ignore[no-untyped-def]
    """Colour of a shape in a pixel, as bytes: of its facet at the pixel's centre, or, where the centre misses it, of
    the facet under a sample, continued to the centre."""
    kind, dimensions, ray = scene.kind[shape], scene.size[shape], scene.ray[view, shape]
    middle_x, middle_y = x + 0.5 - 0.5 * size, y + 0.5 - 0.5 * size
    place_x, place_y = middle_x, middle_y
    t = depth(kind, dimensions, ray, place_x, place_y)
    if not 0.0 < t < MISS:
        place_x, place_y = x + _PLACES_X[sample] - 0.5 * size, y + _PLACES_Y[sample] - 0.5 * size
        t = depth(kind, dimensions, ray, place_x, place_y)
    dx, dy, dz = direction(ray, place_x, place_y)
    row, column, second = find_facet(
        tools.facets,
        kind,
        scene.model_index[shape],
        dimensions,
        ray[EYE, 0] + t * dx,
        ray[EYE, 1] + t * dy,
        ray[EYE, 2] + t * dz,
    )
    _interpolate(scene, tools, view, shape, row, column, second, middle_x, middle_y)
    if kind == PLANE:
        _apply_texture(scene, tools, view, shape, x, y, size)
    if view == MIRRORED or scene.transparent[shape]:
        together = tools.lights.layers
        return to_byte(tools.mix[together, 0]), to_byte(tools.mix[together, 1]), to_byte(tools.mix[together, 2])
    return _add_layers(scene, tools, shape, middle_x, middle_y, t)


@kernel
def _interpolate(scene, tools, view, shape, row, column, second, x, y) -> None:  # type: ignore[no-untyped-def]
    """Colours of all layers of a triangle where the ray through x, y meets its plane, into `tools.mix`."""
    facets, lights, lit = tools.facets, tools.lights, tools.lit
    if second:
        a = light_vertex(scene, facets, lights, lit, view, shape, row, column + 1)
        b = light_vertex(scene, facets, lights, lit, view, shape, row + 1, column + 1)
    else:
        a = light_vertex(scene, facets, lights, lit, view, shape, row, column)
        b = light_vertex(scene, facets, lights, lit, view, shape, row, column + 1)
    c = light_vertex(scene, facets, lights, lit, view, shape, row + 1, column)
    ray = scene.ray[view, shape]
    dx, dy, dz = direction(ray, x, y)
    u, w = weights(lit.corner[a], lit.corner[b], lit.corner[c], ray[EYE], dx, dy, dz)
    if not (abs(u) < 100.0 and abs(w) < 100.0):  # a facet seen from its edge
        u = w = 1.0 / 3.0
    for layer in range(tools.mix.shape[0]):
        for channel in range(3):
            first = lit.colour[view, a, layer, channel]
            tools.mix[layer, channel] = (
                first
                + u * (lit.colour[view, b, layer, channel] - first)
                + w * (lit.colour[view, c, layer, channel] - first)
            )


@kernel
def _apply_texture(scene, tools, view, shape, x, y, size) -> None:  # type: ignore[no-untyped-def]
    """Multiply by the plane's texture at a pixel's centre, at the level of its block of 2×2 pixels."""
    material = scene.material[shape]
    if material < 0 or tools.textured[material, 0] == 0.0:
        return
    ray, texture = scene.ray[view, shape], tools.texture
    scale_x, scale_y = 0.5 * tools.textured[material, 1], -0.5 * tools.textured[material, 2]
    s, t = _plane_point(ray, x + 0.5 - 0.5 * size, y + 0.5 - 0.5 * size)
    corner_x, corner_y = x - x % 2 + 0.5 - 0.5 * size, y - y % 2 + 0.5 - 0.5 * size
    s0, t0 = _plane_point(ray, corner_x, corner_y)
    s1, t1 = _plane_point(ray, corner_x + 1.0, corner_y)
    s2, t2 = _plane_point(ray, corner_x, corner_y + 1.0)
    change_s = abs(scale_x) * max(abs(s1 - s0), abs(s2 - s0)) * texture.width[0]
    change_t = abs(scale_y) * max(abs(t1 - t0), abs(t2 - t0)) * texture.height[0]
    level, share = choose_level(max(change_s, change_t), texture.first.shape[0])
    s, t = scale_x * s - 0.5, scale_y * t - 0.5
    if not (abs(s) < 1e9 and abs(t) < 1e9):
        return
    red, green, blue = repeated(texture, level, s, t)
    if share > 0.0:
        other_red, other_green, other_blue = repeated(texture, level + 1, s, t)
        red += share * (other_red - red)
        green += share * (other_green - green)
        blue += share * (other_blue - blue)
    for layer in range(tools.mix.shape[0]):
        tools.mix[layer, 0] *= red / 255.0
        tools.mix[layer, 1] *= green / 255.0
        tools.mix[layer, 2] *= blue / 255.0


@kernel
def _plane_point(ray: np.ndarray, x: float, y: float) -> tuple[float, float]:
    """Where the ray through x, y meets a plane, in the plane's own x and y."""
    dx, dy, dz = direction(ray, x, y)
    t = -ray[EYE, 2] / dz
    return ray[EYE, 0] + t * dx, ray[EYE, 1] + t * dy


@kernel
def _add_layers(scene, tools, shape, x, y, t):  # type: ignore[no-untyped-def]
    """The layers' sum, each rounded to bytes, without the lights in whose shadow the place is."""
    red, green, blue = to_byte(tools.mix[0, 0]), to_byte(tools.mix[0, 1]), to_byte(tools.mix[0, 2])
    view = scene.views[DIRECT]
    for light in range(scene.number[2]):
        layer = scene.light_layer[light]
        if layer == 0:
            continue
        more_red, more_green = to_byte(tools.mix[layer, 0]), to_byte(tools.mix[layer, 1])
        more_blue = to_byte(tools.mix[layer, 2])
        if more_red + more_green + more_blue == 0:
            continue
        dx, dy, dz = direction(view, x, y)
        if in_shadow(
            scene, tools.lights, light, shape, view[EYE, 0] + t * dx, view[EYE, 1] + t * dy, view[EYE, 2] + t * dz
        ):
            continue
        red, green, blue = min(255, red + more_red), min(255, green + more_green), min(255, blue + more_blue)
    return red, green, blue


@kernel
def draw_transparent(scene: Scene, tools: Tools, size: int, height: float, depths: np.ndarray, far: float, colour: np.ndarray) -> None:
    """Blend the transparent shapes, from the nearest to the farthest and back again, as MuJoCo does."""
    count = 0
    while count < scene.order.shape[0] and scene.order[count] >= 0:
        count += 1
    for turn in range(2 * count):
        shape = scene.order[turn if turn < count else 2 * count - 1 - turn]
        _blend(scene, tools, shape, size, height, depths, far, colour)


@kernel
def _blend(scene, tools, shape, size, height, depths, far, colour) -> None:  # type: ignore[no-untyped-def]
    kind, dimensions, ray = scene.kind[shape], scene.size[shape], scene.ray[DIRECT, shape]
    bounds = np.empty(4, np.int64)
    pixel_bounds(scene, DIRECT, shape, height, size, bounds)
    alpha = min(scene.rgba[shape, 3], 1.0)
    covered = np.empty(4, np.bool_)
    for y in range(bounds[2], bounds[3] + 1):
        for x in range(bounds[0], bounds[1] + 1):
            first = 4
            for sample in range(3, -1, -1):
                column, row = x + _PLACES_X[sample] - 0.5 * size, y + _PLACES_Y[sample] - 0.5 * size
                t = depth(kind, dimensions, ray, column, row)
                covered[sample] = 0.0 < t <= depths[y, x, sample] and _before_skybox(scene, column, row, t, far)
                if covered[sample]:
                    first = sample
            if first == 4:
                continue
            red, green, blue = _fragment(scene, tools, DIRECT, shape, x, y, first, MISS, size)
            for sample in range(4):
                if covered[sample]:
                    below = colour[y, x, sample]
                    below[0] = int(below[0] + alpha * (red - below[0]) + 0.5)
                    below[1] = int(below[1] + alpha * (green - below[1]) + 0.5)
                    below[2] = int(below[2] + alpha * (blue - below[2]) + 0.5)


@kernel
def _before_skybox(scene: Scene, x: float, y: float, t: float, far: float) -> bool:
    dx, dy, _ = direction(scene.views[DIRECT], x, y)
    return t * t * (dx * dx + dy * dy) < far * far


@kernel
def resolve(size: int, colour: np.ndarray, picture: np.ndarray) -> None:
    """The mean of each pixel's samples, rounded; the picture's first row is the top one."""
    for y in range(size):
        for x in range(size):
            for channel in range(3):
                total = 2
                for sample in range(4):
                    total += colour[y, x, sample, channel]
                picture[size - 1 - y, x, channel] = total >> 2


assert math.inf == MISS
