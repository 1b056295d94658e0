"""The caster: draws scenes of planes, spheres, capsules, ellipsoids, cylinders and boxes as MuJoCo's OpenGL does.

It casts rays at the shapes themselves instead of drawing facets, so that a picture of 64×64 pixels takes under a
millisecond, and imitates what OpenGL does with them where that shows: four samples a pixel, light at the facets'
vertices, mipmaps, additive passes in 8 bits. Its bytes are the same on every processor (compiled.py).
"""

from __future__ import annotations

import mujoco
import numpy as np

from distractor_data.envs.backgrounds import skybox
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import divide
from distractor_data.envs.renderers.light import constant_lights
from distractor_data.envs.renderers.paint import draw_mirrored, draw_opaque, draw_transparent, resolve
from distractor_data.envs.renderers.plane import read_patterns
from distractor_data.envs.renderers.scene import Source, half_height, source, update
from distractor_data.envs.renderers.skybox import RADIUS, draw_skybox, skybox_texture, upload
from distractor_data.envs.renderers.structs import (
    BOX,
    DIRECT,
    FRAME,
    MAX_LAYERS,
    MAX_SLICES,
    MAX_STACKS,
    NOTHING,
    PLANE,
    SHAPE,
    SHAPES,
    VERTEX,
    Buffers,
    Tables,
)
from distractor_data.envs.renderers.visible import CENTRE, cast, cast_mirrored, empty_buffers

_MAX_GEOMS = 4000
VERSION = 2  # part of a dataset's record: another version may draw other bytes


class Caster:
    """Draws what one fixed camera of a model sees, a `Renderer` for simple shapes."""

    def __init__(self, model: mujoco.MjModel, camera: int, size: int, agent: frozenset[tuple[int, int]]) -> None:
        """`camera` is the camera's index, `size` the image's edge in pixels, `agent` (object type, index) pairs."""
        self._model, self._camera = model, camera
        self._data: mujoco.MjData | None = None
        self._source: Source | None = None
        frame = np.zeros(1, FRAME)[0]
        frame["size"], frame["height"] = size, half_height(model, camera)
        frame["near"] = model.vis.map.znear * model.stat.extent
        frame["far"] = model.vis.map.zfar * model.stat.extent * RADIUS
        parts = divide(model, frame)
        for kind, index in agent:
            if kind == mujoco.mjtObj.mjOBJ_GEOM:
                parts[index]["agent"] = 1
            elif kind == mujoco.mjtObj.mjOBJ_SITE:
                parts[model.ngeom + index]["agent"] = 1
        most = model.ngeom + model.nsite
        vertices = np.zeros(int(parts[-1]["first"]), VERTEX)
        texture, patterns = read_patterns(model)
        shapes, order, lights = np.zeros(most, SHAPE), np.zeros(most, np.int64), constant_lights(model)
        self._tables = Tables(frame, shapes, order, lights, parts, vertices, patterns, *texture)
        self._buffers = empty_buffers(size)
        self._skybox = skybox(model)
        self._sky = skybox_texture(model, self._skybox)
        upload(self._sky, model, self._skybox)

    def show_skybox(self, frame: int) -> None:
        """Take over the model's skybox texture as it is now, whichever `frame` it shows."""
        upload(self._sky, self._model, self._skybox)

    def image(self, data: mujoco.MjData) -> np.ndarray:
        """The camera's image of the state in `data`: (size, size, 3) uint8."""
        if data is not self._data or self._source is None:
            self._data, self._source = data, source(self._model, data, self._camera)
        picture = np.empty((*self._buffers.hit.shape[:2], 3), np.uint8)
        _draw(self._tables, self._buffers, *self._sky, self._source, picture)
        return picture

    def mask(self) -> np.ndarray:
        """The agent's pixels in the image drawn last: (size, size) bool."""
        mask = np.empty(self._buffers.hit.shape[:2], np.bool_)
        _fill_mask(self._tables, self._buffers, mask)
        return mask

    def close(self) -> None:
        """Nothing to free."""


@kernel
def _draw(
    tables: Tables,
    buffers: Buffers,
    sky_pixels: np.ndarray,
    sky_levels: np.ndarray,
    source: Source,
    picture: np.ndarray,
) -> None:
    """All passes of a picture, in MuJoCo's order but for the mirror: it comes first there, and is only added to."""
    update(tables, source)
    cast(tables, buffers)
    cast_mirrored(tables, buffers)
    draw_opaque(tables, buffers)
    draw_mirrored(tables, buffers)
    draw_skybox(tables.frame, sky_pixels, sky_levels, buffers)
    draw_transparent(tables, buffers, DIRECT)
    resolve(buffers.colour, picture)


@kernel
def _fill_mask(tables: Tables, buffers: Buffers, mask: np.ndarray) -> None:
    size = mask.shape[0]
    for y in range(size):
        for x in range(size):
            index = buffers.hit[y, x, CENTRE]
            agent = index != NOTHING and tables.parts[tables.shapes[index].index].agent != 0
            mask[size - 1 - y, x] = agent


def castable(model: mujoco.MjModel) -> bool:
    """Whether the caster can draw all that MuJoCo would show of a model.

    Not, among others: meshes, height fields, skins, tendons, infinite planes, textures on what isn't a plane,
    reflecting boxes, more than two lights with shadows, orthographic cameras.
    """
    materials = model.mat_texid.max(axis=1, initial=-1)
    scene, data = mujoco.MjvScene(model, _MAX_GEOMS), mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    option, every = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
    option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0  # no rays of sensors, as in dm_control's pictures
    mujoco.mjv_updateScene(model, data, option, None, mujoco.MjvCamera(), every, scene)
    for geom in scene.geoms[: scene.ngeom]:
        texture = -1 if geom.matid < 0 else int(materials[geom.matid])
        if geom.type not in SHAPES or geom.objtype not in (mujoco.mjtObj.mjOBJ_GEOM, mujoco.mjtObj.mjOBJ_SITE):
            return False
        if geom.type == PLANE:
            if min(geom.size[:2]) <= 0 or (texture >= 0 and not model.mat_texuniform[geom.matid]):
                return False
            if texture >= 0 and model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_2D:
                return False
        elif texture >= 0 or (geom.type == BOX and geom.reflectance > 0):
            return False
    quality = model.vis.quality
    casting = sum(light.castshadow for light in scene.lights[: scene.nlight])
    return (
        casting < MAX_LAYERS
        and quality.numslices % 2 == quality.numstacks % 2 == 0
        and quality.numslices <= MAX_SLICES
        and quality.numstacks <= MAX_STACKS
        and not model.cam_sensorsize.any()
        and not (hasattr(model, "cam_orthographic") and model.cam_orthographic.any())
        and bool((model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX).any())
    )
