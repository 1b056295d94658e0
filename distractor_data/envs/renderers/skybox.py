"""The skybox: a cube texture around the eye, read once a pixel where a sample shows nothing else."""

from __future__ import annotations

import mujoco
import numpy as np

from distractor_data.envs.renderers.colours import BITS, bilinear, to_bytes
from distractor_data.envs.renderers.compiled import inner_kernel, kernel
from distractor_data.envs.renderers.shapes import direction
from distractor_data.envs.renderers.structs import DIRECT, NOTHING, RIGHT, UP, Buffers, Record
from distractor_data.envs.renderers.texture import (
    STEP,
    Texture,
    between_levels,
    choose_level,
    empty_texture,
    fill,
    to_steps,
)

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
            found = _look_up(frame, pixels, levels, x, y)
            for sample in range(4):
                if hit[y, x, sample] == NOTHING:
                    colour[y, x, sample] = found


@kernel
def _shows(hit: np.ndarray) -> bool:
    return hit[0] == NOTHING or hit[1] == NOTHING or hit[2] == NOTHING or hit[3] == NOTHING


@inner_kernel
def _look_up(frame: Record, pixels: np.ndarray, levels: np.ndarray, x: int, y: int) -> int:
    """The skybox's colour at a pixel's centre."""
    view = frame.views[DIRECT]
    dx, dy, dz = direction(view, x + 0.5 - 0.5 * frame.size, y + 0.5 - 0.5 * frame.size)
    faces = 1 if levels.shape[0] == 1 else levels[1].first // (levels[0].width * levels[0].width)
    face, across, down, major = _project(dx, dy, dz)
    change = _squared_change(view, face, across, down, major, levels[0].width)
    level, share = choose_level(change, levels.shape[0])
    s, t = 0.5 + 0.5 * across, 0.5 + 0.5 * down
    colour = _read(pixels, levels[level], faces, face, s, t)
    if share > 0.0:
        colour = between_levels(colour, _read(pixels, levels[level + 1], faces, face, s, t), share)
    return to_bytes(colour)


@kernel
def _cube_axes(dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    """A direction in the cube's axes: MuJoCo turns the skybox by 90 degrees about x."""
    return dx, dz, -dy


@kernel
def _project(dx: float, dy: float, dz: float) -> tuple[int, float, float, float]:
    """Face and place in it, -1 to 1, of a direction in the world, and its length along the face's axis."""
    s, t, r = _cube_axes(dx, dy, dz)
    if abs(r) >= abs(s) and abs(r) >= abs(t):
        face = 4 if r > 0.0 else 5
    elif abs(s) > abs(t):
        face = 0 if s > 0.0 else 1
    else:
        face = 2 if t > 0.0 else 3
    across, down, major = _turn(face, dx, dy, dz)
    inverse = 1.0 / major
    return face, across * inverse, down * inverse, major


@kernel
def _turn(face: int, dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    """A direction in the world in a face's axes: across, down and towards it (OpenGL's table of cube map faces)."""
    s, t, r = _cube_axes(dx, dy, dz)
    if face == 0:
        return -r, -t, s
    if face == 1:
        return r, -t, -s
    if face == 2:
        return s, r, t
    if face == 3:
        return s, -r, -t
    return (s, -t, r) if face == 4 else (-s, -t, -r)


@kernel
def _unproject(face: int, across: float, down: float) -> tuple[float, float, float]:
    """A direction in the world from a place in the plane of a face."""
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
def _read(pixels: np.ndarray, level: Record, faces: int, face: int, s: float, t: float) -> int:
    """Fine colour at s, t of a face in a level; over a face's edge lie the texels of the next face."""
    width = level.width
    x, y = to_steps(s, width), to_steps(t, width)
    x0, y0, across, down = x >> BITS, y >> BITS, x & STEP, y & STEP
    if x0 >= 0 and y0 >= 0 and x0 + 1 < width and y0 + 1 < width:
        a = _texel(level, faces, face, x0, y0)
        return bilinear(pixels, a, a + 1, a + width, a + width + 1, across, down)
    a, b = _over_the_edge(level, faces, face, x0, y0), _over_the_edge(level, faces, face, x0 + 1, y0)
    c, d = _over_the_edge(level, faces, face, x0, y0 + 1), _over_the_edge(level, faces, face, x0 + 1, y0 + 1)
    return bilinear(pixels, a, b, c, d, across, down)


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
    dx, dy, dz = _unproject(face, (2 * x + 1) / width - 1.0, (2 * y + 1) / width - 1.0)
    face, across, down, _major = _project(dx, dy, dz)
    column, row = int((0.5 + 0.5 * across) * width), int((0.5 + 0.5 * down) * width)
    return _texel(level, faces, face, min(column, width - 1), min(row, width - 1))


@kernel
def _squared_change(view: np.ndarray, face: int, across: float, down: float, major: float, width: int) -> float:
    """The greater of the squared changes of a texel's place from a pixel to its neighbours along x and y.

    By the derivatives of the quotient in the pixel's face (lp_bld_sample.c, `lp_build_cube_lookup`).
    """
    greatest = 0.0
    for step in range(RIGHT, UP + 1):
        more_across, more_down, more = _turn(face, view[step, 0], view[step, 1], view[step, 2])
        one, other = more_across - across * more, more_down - down * more
        greatest = max(greatest, one * one + other * other)
    return 0.25 * width * width * greatest / (major * major)
