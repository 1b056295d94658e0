"""OpenGL: image and agent mask of one camera, straight through MuJoCo's own calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distractor_data.envs import gl  # says what is missing, so it comes before MuJoCo

# isort: split
import mujoco

from distractor_data.envs.backgrounds import skybox
from distractor_data.envs.renderers.agent import AgentParts
from distractor_data.envs.renderers.lists import Floors, outlines, shorten_cylinders

_MAX_GEOMS = 4000
_SKYBOX_MEMORY = 2**26  # bytes of all the video frames that are kept as textures
_TEXEL = 6 * 4 * 4 / 3  # bytes that a pixel of a skybox takes: six faces of four bytes, and their mipmaps


@dataclass(frozen=True)
class Fidelity:
    """How much is drawn of what upstream draws."""

    shadow: int | None = None  # edge of the shadow map in pixels; None: the model's own, 2048 in the suite
    facets: tuple[int, int] | None = None  # slices and stacks of round shapes; None: the model's own, 28 and 16
    local: bool = False  # a floor has its grid, at whose lines light is computed, near the agent alone


FIDELITIES = {
    "exact": Fidelity(),
    "medium": Fidelity(shadow=512),
    "fast": Fidelity(shadow=256, facets=(20, 8), local=True),
}


class OpenGL:
    """A `Renderer` for every scene."""

    def __init__(
        self, model: mujoco.MjModel, camera: int, size: int, agent: AgentParts, fidelity: str = "exact"
    ) -> None:
        """`camera` is the camera's index, `size` the edge of the square image in pixels.

        Changes the model's sizes for drawing. Raises `DmaskError` where OpenGL can't be opened, as the other methods
        do where its driver fails.
        """
        chosen, quality = FIDELITIES[fidelity], model.vis.quality
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        if chosen.shadow:
            quality.shadowsize = chosen.shadow
        outline = int(quality.numslices), int(quality.numstacks)
        if chosen.facets:
            quality.numslices, quality.numstacks = chosen.facets
        self._model, self._agent = model, agent
        with gl.drawing():
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            self._shapes = self._outlines = self._context.baseBuiltin
            if chosen.facets:
                shorten_cylinders(self._context, chosen.facets[0])
                self._outlines = outlines(*outline).baseBuiltin
        self._floors = Floors(model, agent, self._context) if chosen.local else None
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0  # no rays of sensors, as in dm_control's pictures
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._skybox = skybox(model)
        self._textures: dict[int, int] = {}  # a video's frame → the texture that holds it

    def show_skybox(self, frame: int) -> None:
        """Show the model's skybox texture as it is now. The same `frame`, a video's, has the same pixels.

        A video is longer on the screen than it is: its frames stay on the graphics card as textures of their own.
        """
        shown = self._context.texture
        if frame in self._textures:
            shown[self._skybox] = self._textures[frame]
            return
        with gl.drawing():
            from OpenGL import GL

            texels = int(self._model.tex_width[self._skybox]) ** 2
            if len(self._textures) >= max(1, _SKYBOX_MEMORY // (texels * _TEXEL)):
                farthest = max(self._textures, key=lambda other: abs(other - frame))  # videos run back and forth
                texture = self._textures.pop(farthest)
            else:
                texture = int(GL.glGenTextures(1)) if self._textures else int(shown[self._skybox])
            shown[self._skybox] = self._textures[frame] = texture
            mujoco.mjr_uploadTexture(self._model, self._context, self._skybox)

    def image(self, data: mujoco.MjData) -> np.ndarray:
        """The camera's image of the state in `data`: (size, size, 3) uint8."""
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if self._floors:
            self._floors.follow(data)
        return self._read()

    def mask(self) -> np.ndarray:
        """The agent's pixels in the image drawn last: (size, size) bool."""
        scene = self._scene
        for index in range(scene.ngeom):
            geom = scene.geoms[index]
            # Agent white, all else black: one comparison reads the mask, and what hides the agent hides it here.
            geom.segid = 0xFFFFFE if (geom.objtype, geom.objid) in self._agent else 0
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        self._context.baseBuiltin = self._outlines
        try:
            pixels = self._read()
        finally:
            self._context.baseBuiltin = self._shapes  # which are freed with the context
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        return pixels[..., 0] > 127

    def close(self) -> None:
        """Free the buffers and textures on the graphics card."""
        with gl.drawing():
            from OpenGL import GL

            if others := set(self._textures.values()) - {int(self._context.texture[self._skybox])}:
                GL.glDeleteTextures(list(others))
            self._context.free()

    def _read(self) -> np.ndarray:
        with gl.drawing():
            # another renderer's may be bound
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        return self._pixels[::-1].copy()  # OpenGL's first row is the bottom one
