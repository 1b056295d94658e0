"""Off-screen pictures of scenes of detailed meshes: plain, or cut out with their coverage, to stand before a video.

The multisampled buffer is cleared to nothing, so once it is resolved its alpha is the share of a pixel's samples that
the scene covers: its silhouette before the video is as smooth as any other edge.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np

from distractor_data.envs import gl  # says what is missing, so it comes before MuJoCo

# isort: split
import mujoco

from distractor_data.envs.renderers.lists import shorten_cylinders
from distractor_data.envs.renderers.meshes import lighten
from distractor_data.envs.standin import Pose

SHADOW_SIZE = 512  # pixels; the models ask for 4096
SHADOW_EXTENT = 0.7  # of what the models ask for: what is seen lies within, and gets more of the pixels
SLICES, STACKS = 20, 8  # facets of round shapes; the models ask for 28 and 16
GRID = 0.4  # metres between the lines of a floor at which light is computed; the models ask for 0.1
_MAX_GEOMS = 4000
_DEFAULT = np.array([0.5, 0.5, 0.5, 1.0])  # MuJoCo's colour of a geom; one of it shows its material's


class CutoutRenderer:
    """Draws what a camera sees of a model, by one context for both kinds of picture."""

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: int,
        size: int,
        pixel: float,
        agent: Collection[tuple[int, int]],
        surroundings: list[int],
    ) -> None:
        """`size` is the edge of the square image in pixels, `pixel` that of a pixel of the scene in metres.

        `agent` are the (object type, index) of what the mask covers, `surroundings` the geoms that the cut-out
        picture is without. The model stays as it is.
        Raises `DmaskError` where OpenGL can't be opened, as the other methods do where its driver fails.
        """
        self._plain = lighten(model, pixel)
        self._plain.vis.global_.offwidth = self._plain.vis.global_.offheight = size
        _coarsen(self._plain)
        self._cut = copy.copy(self._plain)
        self._cut.geom_rgba[surroundings, 3] = 0
        self._coloured = np.flatnonzero((model.geom_matid < 0) | (model.geom_rgba != _DEFAULT).any(1))
        self._agent = agent
        with gl.drawing():
            self._context = mujoco.MjrContext(self._plain, mujoco.mjtFontScale.mjFONTSCALE_100)
            shorten_cylinders(self._context, SLICES)
        self._scene = mujoco.MjvScene(self._plain, _MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)

    def colours(self) -> np.ndarray:
        """RGBA of the materials and of the geoms that have a colour of their own: (N, 4)."""
        return np.concatenate([self._plain.mat_rgba, self._plain.geom_rgba[self._coloured]]).astype(np.float64)

    def recolour(self, colours: np.ndarray) -> None:
        """Change the RGB of `colours` in the cut-out picture; what is transparent stays so."""
        materials = self._cut.nmat
        self._cut.mat_rgba[:, :3] = colours[:materials, :3]
        self._cut.geom_rgba[self._coloured, :3] = colours[materials:, :3]

    def image(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """The whole scene: (size, size, 3) uint8."""
        self._update(self._plain, data, pose)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 1
        with gl.drawing():
            self._render()
        return self._pixels[::-1].copy()  # OpenGL's first row is the bottom one

    def cutout(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """The scene without its surroundings: (size, size, 4) uint8, colours times coverage, and coverage."""
        from OpenGL import GL

        self._update(self._cut, data, pose)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0
        with gl.drawing():
            # What is half transparent, such as glass, covers by its alpha; blending would take the square of it.
            GL.glBlendEquationSeparate(GL.GL_FUNC_ADD, GL.GL_MAX)
            self._render()
            GL.glBlendEquation(GL.GL_FUNC_ADD)
            resolved = self._context.offFBO_r if self._context.offSamples else self._context.offFBO
            GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, resolved)
            GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0)
            GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
            size = len(self._pixels)
            blob = GL.glReadPixels(0, 0, size, size, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE)
        return np.frombuffer(blob, np.uint8).reshape(size, size, 4)[::-1].copy()

    def mask(self) -> np.ndarray:
        """The agent's pixels in the picture drawn last: (size, size) bool."""
        scene = self._scene
        for index in range(scene.ngeom):
            geom = scene.geoms[index]
            # Agent white, all else black: one comparison reads the mask, and what hides the agent hides it here.
            geom.segid = 0xFFFFFE if (geom.objtype, geom.objid) in self._agent else 0
        flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        scene.flags[flags] = 1
        with gl.drawing():
            self._render()
        scene.flags[flags] = 0
        return self._pixels[::-1, :, 0] > 127

    def close(self) -> None:
        """Free the buffers, meshes and textures on the graphics card."""
        with gl.drawing():
            self._context.free()

    def _update(self, model: mujoco.MjModel, data: mujoco.MjData, pose: Pose) -> None:
        camera = self._camera.fixedcamid
        data.cam_xpos[camera], data.cam_xmat[camera] = pose.position, pose.axes.reshape(9)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)

    def _render(self) -> None:
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)  # another renderer's may be bound
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)


def _coarsen(model: mujoco.MjModel) -> None:
    """Ask for less of all that costs more than it shows in a small picture."""
    quality, planes = model.vis.quality, model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    quality.shadowsize, quality.numslices, quality.numstacks = SHADOW_SIZE, SLICES, STACKS
    model.vis.map.shadowclip *= SHADOW_EXTENT
    model.geom_size[planes, 2] = np.maximum(model.geom_size[planes, 2], GRID)


def before(cutout: np.ndarray, video: np.ndarray) -> np.ndarray:
    """A cut-out picture (H, W, 4) before a video's frame (H, W, 3): (H, W, 3) uint8."""
    uncovered = 255 - cutout[..., 3:].astype(np.uint32)
    return np.minimum(cutout[..., :3] + (video * uncovered + 127) // 255, 255).astype(np.uint8)
