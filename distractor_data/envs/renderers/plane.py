"""The texture of planes: read at each pixel's centre, at the level that suits its block of 2×2 pixels."""

from __future__ import annotations

import mujoco
import numpy as np

from distractor_data.envs.renderers.colours import to_floats
from distractor_data.envs.renderers.compiled import inner_kernel, kernel
from distractor_data.envs.renderers.shapes import direction
from distractor_data.envs.renderers.structs import EYE, PATTERN, Record, Tables
from distractor_data.envs.renderers.texture import (
    Texture,
    between_levels,
    choose_level,
    concatenate,
    empty_texture,
    fill,
    repeated,
)

_FARTHEST = 1e9  # repeats of a texture; beyond, at rays along the plane, there is no telling where in it


def read_patterns(model: mujoco.MjModel) -> tuple[Texture, np.ndarray]:
    """All textures that planes may have, one after the other, and which levels are each material's (PATTERN)."""
    patterns = np.zeros(max(1, model.nmat), PATTERN)
    textures: dict[int, tuple[int, Texture]] = {}  # by index in the model, with the number of levels before
    levels = 0
    for material in range(model.nmat):
        index = int(model.mat_texid[material].max())
        if index < 0 or model.tex_type[index] != mujoco.mjtTexture.mjTEXTURE_2D:
            continue
        if index not in textures:
            width, height, start = (
                int(model.tex_width[index]),
                int(model.tex_height[index]),
                int(model.tex_adr[index]),
            )
            texture = empty_texture(width, height, 1)
            fill(texture, model.tex_data[start : start + 3 * width * height].reshape(-1, 3), 1)
            textures[index] = levels, texture
            levels += len(texture.levels)
        patterns[material] = textures[index][0], len(textures[index][1].levels), model.mat_texrepeat[material]
    return concatenate([texture for _, texture in textures.values()]), patterns


@inner_kernel
def plane_texture(tables: Tables, shape: Record, view: int, x: int, y: int) -> tuple[float, float, float]:
    """The texture's colour, 0 to 1, in a pixel of a plane; white for a plane without one."""
    patterns, levels = tables.patterns, tables.levels
    if shape.material < 0 or patterns[shape.material].levels == 0:
        return 1.0, 1.0, 1.0
    pattern = patterns[shape.material]
    scale_s, scale_t = 0.5 * pattern.repeat[0], -0.5 * pattern.repeat[1]
    ray, half = shape.ray[view], 0.5 * tables.frame.size
    s, t = _meet(ray, x + 0.5 - half, y + 0.5 - half)
    s, t = scale_s * s - 0.5, scale_t * t - 0.5
    if not (abs(s) < _FARTHEST and abs(t) < _FARTHEST):
        return 1.0, 1.0, 1.0
    first_x, first_y = x - x % 2 + 0.5 - half, y - y % 2 + 0.5 - half
    s0, t0 = _meet(ray, first_x, first_y)
    s1, t1 = _meet(ray, first_x + 1.0, first_y)
    s2, t2 = _meet(ray, first_x, first_y + 1.0)
    wide, high = scale_s * levels[pattern.first].width, scale_t * levels[pattern.first].height
    along_x = (wide * (s1 - s0)) ** 2 + (high * (t1 - t0)) ** 2
    along_y = (wide * (s2 - s0)) ** 2 + (high * (t2 - t0)) ** 2
    level, share = choose_level(max(along_x, along_y), pattern.levels)
    colour = repeated(tables.pixels, levels[pattern.first + level], s, t)
    if share > 0.0:
        colour = between_levels(colour, repeated(tables.pixels, levels[pattern.first + level + 1], s, t), share)
    return to_floats(colour)


@kernel
def _meet(ray: np.ndarray, x: float, y: float) -> tuple[float, float]:
    """Where the line of the ray through x, y meets a plane, in the plane's own x and y."""
    dx, dy, dz = direction(ray, x, y)
    t = -ray[EYE, 2] / dz
    return ray[EYE, 0] + t * dx, ray[EYE, 1] + t * dy
