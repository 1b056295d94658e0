"""The caster: draws scenes of planes, spheres, capsules, ellipsoids, cylinders and boxes as MuJoCo's OpenGL does.

It casts rays at the shapes themselves instead of drawing facets, so that a picture of 64×64 pixels takes under a
millisecond, and imitates what OpenGL does with them where that shows: four samples a pixel, light at the facets'
vertices, mipmaps, additive passes in 8 bits. Its bytes are the same on every processor (compiled.py).
"""

from __future__ import annotations

import mujoco
import numpy as np

from distractor_data.envs.rendering import AgentParts, skybox
from distractor_data.envs.renderers.compiled import kernel
from distractor_data.envs.renderers.facets import facets
from distractor_data.envs.renderers.light import lights, nothing_lit
from distractor_data.envs.renderers.paint import Tools, draw_shapes, draw_transparent, resolve
from distractor_data.envs.renderers.scene import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    PLANE,
    SPHERE,
    Source,
    empty_scene,
    half_height,
    source,
    update,
)
from distractor_data.envs.renderers.skybox import RADIUS, draw_skybox, skybox_texture, upload
from distractor_data.envs.renderers.texture import Texture, empty_texture, fill
from distractor_data.envs.renderers.visible import CENTRE, cast, cast_mirrored

VERSION = 1  # part of a dataset's record: another version may draw other bytes


class Caster:
    """Draws what one fixed camera of a model sees, with the interface of `rendering.Renderer`."""

    def __init__(self, model: mujoco.MjModel, camera: int, size: int, agent: AgentParts) -> None:
        """`camera` is the camera's index, `size` the edge of the square image in pixels."""
        self._model, self._camera, self._size = model, camera, size
        self._scene = empty_scene(model)
        self._data: mujoco.MjData | None = None
        self._source: Source | None = None
        self._height = half_height(model, camera)
        self._shadows = model.light_castshadow.astype(np.bool_)
        self._near = float(model.vis.map.znear * model.stat.extent)
        self._far = float(model.vis.map.zfar * model.stat.extent) * RADIUS
        division, lamps = facets(model), lights(model)
        texture, textured = _plane_texture(model)
        self._tools = Tools(
            division, lamps, nothing_lit(division, lamps.layers), texture, textured, np.zeros((lamps.layers + 1, 3))
        )
        self._is_agent = np.zeros(model.ngeom + model.nsite, np.bool_)
        for kind, index in agent:
            if kind == mujoco.mjtObj.mjOBJ_GEOM:
                self._is_agent[index] = True
            elif kind == mujoco.mjtObj.mjOBJ_SITE:
                self._is_agent[model.ngeom + index] = True
        self._hit = np.zeros((size, size, CENTRE + 1), np.int16)
        self._depths = np.zeros((size, size, CENTRE + 1))
        self._mirrored = np.zeros((size, size, 4), np.int16)
        self._colour = np.zeros((size, size, 4, 3), np.uint8)
        self._skybox = skybox(model)
        self._sky = skybox_texture(model, self._skybox)
        self.upload_skybox()

    def upload_skybox(self) -> None:
        """Take over the model's skybox texture after its pixels have changed."""
        upload(self._sky, self._model, self._skybox)

    def image(self, data: mujoco.MjData) -> np.ndarray:
        """The camera's image of the state in `data`: (size, size, 3) uint8."""
        if data is not self._data or self._source is None:
            self._data, self._source = data, source(self._model, data, self._camera)
        picture = np.empty((self._size, self._size, 3), np.uint8)
        update(
            self._scene,
            self._source,
            self._height,
            self._size,
            bool(self._model.vis.headlight.active),
            self._shadows,
        )
        cast(self._scene, self._size, self._height, self._near, self._far, self._hit, self._depths)
        cast_mirrored(self._scene, self._size, self._height, self._far, self._hit, self._depths, self._mirrored)
        draw_shapes(self._scene, self._tools, self._size, self._hit, self._depths, self._mirrored, self._colour)
        draw_skybox(self._scene, self._sky, self._size, self._hit, self._colour)
        draw_transparent(
            self._scene, self._tools, self._size, self._height, self._depths, self._far, self._colour
        )
        resolve(self._size, self._colour, picture)
        return picture

    def mask(self) -> np.ndarray:
        """The agent's pixels in the image drawn last: (size, size) bool."""
        mask = np.empty((self._size, self._size), np.bool_)
        _fill_mask(self._scene.model_index, self._is_agent, self._hit, mask)
        return mask

    def close(self) -> None:
        """Nothing to free; `rendering.Renderer` has something."""


@kernel
def _fill_mask(model_index: np.ndarray, is_agent: np.ndarray, hit: np.ndarray, mask: np.ndarray) -> None:
    size = mask.shape[0]
    for y in range(size):
        for x in range(size):
            shape = hit[y, x, CENTRE]
            mask[size - 1 - y, x] = shape >= 0 and is_agent[model_index[shape]]


def _plane_texture(model: mujoco.MjModel) -> tuple[Texture, np.ndarray]:
    """The one texture that planes have, and of each material whether it has it and how it repeats to a metre."""
    textured = np.zeros((max(1, model.nmat), 3))
    texture = empty_texture(1, 1, 1)
    for material in range(model.nmat):
        index = int(model.mat_texid[material].max())
        if index < 0 or model.tex_type[index] != mujoco.mjtTexture.mjTEXTURE_2D:
            continue
        textured[material] = 1, *model.mat_texrepeat[material]
        width, height, address = int(model.tex_width[index]), int(model.tex_height[index]), int(model.tex_adr[index])
        texture = empty_texture(width, height, 1)
        fill(texture, model.tex_data[address : address + 3 * width * height].reshape(-1, 3), 1)
    return texture, textured


def castable(model: mujoco.MjModel) -> bool:
    """Whether the caster can draw all that MuJoCo would."""
    return True


assert {PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX} == {0, 2, 3, 4, 5, 6}
