"""The skybox: a cube texture around the eye, read once a pixel where a sample shows nothing else."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.shapes import direction
from distractor_data.envs.renderers.structs import DIRECT, NOTHING, RIGHT, UP, Buffers, Record
from distractor_data.envs.renderers.texture import Texture, bilinear, choose_level, empty_texture, fill

FACES = 6
RADIUS = 0.7  # of the skybox, in distances to the far plane (render_gl3.c); it hides what is farther away


def skybox_texture(model: mujoco.MjModel, index: int) -> Texture:
    """Room for the model's texture, which is one image for all faces if it is square."""
    width = int(model.tex_width[index])
    return empty_texture(width, width, 1 if width == model.tex_height[index] else FACES)


def upload(texture: Texture, model: mujoco.MjModel, index: int) -> None:
    """Take the pixels that the model's texture has now."""
    address, width, height = int(model.tex_adr[index]), int(model.tex_width[index]), int(model.tex_height[index])
    images = model.tex_data[address : address + 3 * width * height].reshape(-1, 3)
    fill(texture, images, 1 if width == height else FACES)


@kernel
def draw_skybox(frame: Record, pixels: np.ndarray, levels: np.ndarray, buffers: Buffers) -> None:
    """Colour the samples that hit nothing with the skybox's texture."""
    hit, colour = buffers.hit, buffers.colour
    for y in range(frame.size):
        for x in range(frame.size):
            if not _shows(hit[y, x]):
                continue
            red, green, blue = _look_up(frame, pixels, levels, x, y)
            for sample in range(4):
                if hit[y, x, sample] == NOTHING:
                    colour[y, x, sample, 0], colour[y, x, sample, 1] = red, green
                    colour[y, x, sample, 2] = blue


@kernel
def _shows(hit: np.ndarray) -> bool:
    return hit[0] == NOTHING or hit[1] == NOTHING or hit[2] == NOTHING or hit[3] == NOTHING


@kernel
def _look_up(frame: Record, pixels: np.ndarray, levels: np.ndarray, x: int, y: int) -> tuple[int, int, int]:
    """The skybox's colour at a pixel's centre, as bytes."""
    view = frame.views[DIRECT]
    dx, dy, dz = direction(view, x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size)
    level, share = choose_level(_squared_change(view, dx, dy, dz, levels[0].width), levels.shape[0])
    faces = 1 if levels.shape[0] == 1 else levels[1].first // (levels[0].width * levels[0].width)
    face, s, t = _project(dx, dy, dz)
    red, green, blue = _read(pixels, levels[level], faces, face, s, t)
    if share > 0.0:
        other_red, other_green, other_blue = _read(pixels, levels[level + 1], faces, face, s, t)
        red += share * (other_red - red)
        green += share * (other_green - green)
        blue += share * (other_blue - blue)
    return int(red + 0.5), int(green + 0.5), int(blue + 0.5)


@kernel
def _cube_axes(dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    """A direction in the cube's axes: MuJoCo turns the skybox by 90 degrees about x."""
    return dx, dz, -dy


@kernel
def _project(dx: float, dy: float, dz: float) -> tuple[int, float, float]:
    """Face and place in it, 0 to 1, of a direction in the world (OpenGL's table of cube map faces)."""
    s, t, r = _cube_axes(dx, dy, dz)
    if abs(r) >= abs(s) and abs(r) >= abs(t):
        face, across, down, major = (4, s, -t, r) if r > 0.0 else (5, -s, -t, -r)
    elif abs(s) > abs(t):
        face, across, down, major = (0, -r, -t, s) if s > 0.0 else (1, r, -t, -s)
    else:
        face, across, down, major = (2, s, r, t) if t > 0.0 else (3, s, -r, -t)
    return face, 0.5 + 0.5 * across / major, 0.5 + 0.5 * down / major


@kernel
def _unproject(face: int, s: float, t: float) -> tuple[float, float, float]:
    """A direction in the world from a place in the plane of a face."""
    across, down = 2.0 * s - 1.0, 2.0 * t - 1.0
    if face == 0:
        cube = (1.0, -down, -across)
    elif face == 1:
        cube = (-1.0, -down, across)
    elif face == 2:
        cube = (across, 1.0, down)
    elif face == 3:
        cube = (across, -1.0, -down)
    elif face == 4:
        cube = (across, -down, 1.0)
    else:
        cube = (-across, -down, -1.0)
    return cube[0], -cube[2], cube[1]


@kernel
def _read(pixels: np.ndarray, level: Record, faces: int, face: int, s: float, t: float) -> tuple[float, float, float]:
    """Bilinear colour (0 to 255) in a level; over a face's edge lie the texels of the next face."""
    width = level.width
    x, y = s * width - 0.5, t * width - 0.5
    x0, y0 = math.floor(x), math.floor(y)
    if x0 >= 0 and y0 >= 0 and x0 + 1 < width and y0 + 1 < width:
        a = _texel(level, faces, face, x0, y0)
        return bilinear(pixels, a, a + 1, a + width, a + width + 1, x - x0, y - y0)
    a, b = _over_the_edge(level, faces, face, x0, y0), _over_the_edge(level, faces, face, x0 + 1, y0)
    c, d = _over_the_edge(level, faces, face, x0, y0 + 1), _over_the_edge(level, faces, face, x0 + 1, y0 + 1)
    return bilinear(pixels, a, b, c, d, x - x0, y - y0)


@kernel
def _texel(level: Record, faces: int, face: int, x: int, y: int) -> int:
    """Index of a texel; all faces may share one image."""
    return level.first + ((face if faces == FACES else 0) * level.width + y) * level.width + x


@kernel
def _over_the_edge(level: Record, faces: int, face: int, x: int, y: int) -> int:
    """Index of a texel that may lie just outside of a face, and so on another."""
    width = level.width
    if 0 <= x < width and 0 <= y < width:
        return _texel(level, faces, face, x, y)
    dx, dy, dz = _unproject(face, (x + 0.5) / width, (y + 0.5) / width)
    face, s, t = _project(dx, dy, dz)
    return _texel(level, faces, face, min(int(s * width), width - 1), min(int(t * width), width - 1))


@kernel
def _squared_change(view: np.ndarray, dx: float, dy: float, dz: float, width: int) -> float:
    """The greater of the squared changes of a texel's place from a pixel to its neighbours along x and y.

    By the derivatives of the quotient in the pixel's face (lp_bld_sample.c, `lp_build_cube_lookup`).
    """
    s, t, r = _cube_axes(dx, dy, dz)
    greatest = 0.0
    for step in range(RIGHT, UP + 1):
        ds, dt, dr = _cube_axes(view[step, 0], view[step, 1], view[step, 2])
        if abs(r) >= abs(s) and abs(r) >= abs(t):
            ratio = dr / r
            one, other, major = ds - s * ratio, dt - t * ratio, r
        elif abs(s) > abs(t):
            ratio = ds / s
            one, other, major = dr - r * ratio, dt - t * ratio, s
        else:
            ratio = dt / t
            one, other, major = ds - s * ratio, dr - r * ratio, t
        greatest = max(greatest, (one * one + other * other) / (major * major))
    return 0.25 * width * width * greatest
