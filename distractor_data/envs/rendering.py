"""The off-screen renderer: image and agent mask of one camera, straight through MuJoCo's own OpenGL calls."""

from __future__ import annotations

import numpy as np

from distractor_data.envs import opengl  # says what is missing, so it comes before MuJoCo

# isort: split
import mujoco

from distractor_data.envs.backgrounds import skybox
from distractor_data.errors import DmaskError

SHADOW_SIZE = 512  # pixels; the suite's models ask for 2048
_MAX_GEOMS = 4000


class Renderer:
    """Draws what one fixed camera of a model sees.

    The model's texture and shadow sizes are those at construction time; its colours and the data's camera pose
    are read at every frame, which is how upstream's camera and colour distractions reach the picture.
    """

    def __init__(self, model: mujoco.MjModel, camera: int, size: int, agent: AgentParts) -> None:
        """`camera` is the camera's index, `size` the edge of the square image in pixels.

        Raises `DmaskError` where OpenGL can't be opened, as the other methods do where its driver fails.
        """
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        model.vis.quality.shadowsize = SHADOW_SIZE
        self._model, self._agent = model, agent
        with opengl.drawing():
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0  # no rays of sensors, as in dm_control's pictures
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._skybox = skybox(model)

    def upload_skybox(self) -> None:
        """Send the model's skybox texture to the graphics card after its pixels have changed."""
        with opengl.drawing():
            mujoco.mjr_uploadTexture(self._model, self._context, self._skybox)

    def image(self, data: mujoco.MjData) -> np.ndarray:
        """The camera's image of the state in `data`: (size, size, 3) uint8."""
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
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
        pixels = self._read()
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        return pixels[..., 0] > 127

    def close(self) -> None:
        """Free the buffers and textures on the graphics card."""
        with opengl.drawing():
            self._context.free()

    def _read(self) -> np.ndarray:
        with opengl.drawing():
            # another renderer's may be bound
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        return self._pixels[::-1].copy()  # OpenGL's first row is the bottom one


AgentParts = frozenset[tuple[int, int]]


def agent_parts(model: mujoco.MjModel) -> AgentParts:
    """(object type, index) of all that belongs to the agent: every geom, site, skin on an actuated body tree.

    Targets, props, rails and the floor hang on the world or on trees that no actuator moves, so they are not
    part of it. Raises `DmaskError` where nothing is actuated.
    """
    roots: set[int] = set()
    for transmission, (index, _) in zip(model.actuator_trntype, model.actuator_trnid, strict=True):
        roots |= {int(model.body_rootid[body]) for body in _moved_bodies(model, int(transmission), int(index))}
    roots.discard(0)
    if not roots:
        raise DmaskError("the model has no actuated body, so it has no agent to mask")
    objects = mujoco.mjtObj
    parts = {
        (int(kind), index)
        for kind, bodies in (
            (objects.mjOBJ_GEOM, model.geom_bodyid),
            (objects.mjOBJ_SITE, model.site_bodyid),
        )
        for index, body in enumerate(bodies)
        if int(model.body_rootid[body]) in roots
    }
    for skin in range(model.nskin):
        start = model.skin_boneadr[skin]
        bones = model.skin_bonebodyid[start : start + model.skin_bonenum[skin]]
        if all(int(model.body_rootid[body]) in roots for body in bones):
            parts.add((int(objects.mjOBJ_SKIN), skin))
    return frozenset(parts)


def _moved_bodies(model: mujoco.MjModel, transmission: int, index: int) -> list[int]:
    """Bodies that an actuator acts on, given its transmission type and the index of its target."""
    kinds, wraps = mujoco.mjtTrn, mujoco.mjtWrap
    if transmission in (kinds.mjTRN_JOINT, kinds.mjTRN_JOINTINPARENT):
        return [int(model.jnt_bodyid[index])]
    if transmission in (kinds.mjTRN_SITE, kinds.mjTRN_SLIDERCRANK):
        return [int(model.site_bodyid[index])]
    if transmission == kinds.mjTRN_BODY:
        return [index]
    start = model.tendon_adr[index]
    bodies = []
    for wrap in range(start, start + model.tendon_num[index]):
        target = int(model.wrap_objid[wrap])
        if model.wrap_type[wrap] == wraps.mjWRAP_JOINT:
            bodies.append(int(model.jnt_bodyid[target]))
        elif model.wrap_type[wrap] == wraps.mjWRAP_SITE:
            bodies.append(int(model.site_bodyid[target]))
    return bodies
