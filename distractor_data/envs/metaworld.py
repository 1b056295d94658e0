"""Distracting Meta-World: the package's tasks, rewards and success; its scene, cut out, before a video.

The package's cameras but topview hang upside down; pictures here stand upright, distracted or not.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from distractor_data.envs import gl  # says what is missing, so it comes before MuJoCo

# isort: split
import mujoco

from distractor_data.envs.base import Observation
from distractor_data.envs.distract import Video, change_colours, move_camera
from distractor_data.envs.renderers.cutout import CutoutRenderer, before
from distractor_data.envs.standin import Frame, Pose, StandIn
from distractor_data.errors import DmaskError
from distractor_data.spec import FAMILIES, Purpose, Spec, full_name

CENTRE = np.array([0.0, 0.6, 0.2])  # of the place in which all tasks happen, in metres
ARM = "right_arm_base_link"  # the body from which on the robot moves
ROBOT = "base"  # the body with arm and mount
SURROUNDINGS = ("floor", "RetainingWall")  # a geom and a body: what gives way to the video

assert gl  # imported for what it says


def _package(module: str) -> Any:
    try:
        return importlib.import_module(f"metaworld.{module}")
    except ImportError as error:
        raise DmaskError(f"Meta-World is an optional part: pip install 'dmask[metaworld]' ({error})") from error


@functools.cache
def _classes() -> dict[str, Any]:
    """Full name → the package's class."""
    every = _package("env_dict").ALL_V3_ENVIRONMENTS
    return {FAMILIES["metaworld"] + name.removesuffix("-v3"): made for name, made in every.items()}


def environments() -> list[str]:
    """Names of all tasks, `metaworld/task`."""
    return sorted("metaworld/" + name.removeprefix(FAMILIES["metaworld"]) for name in _classes())


def sizes(env: str) -> tuple[int, int]:
    """How many numbers a state and an action have, which are the same for all tasks."""
    return MetaworldTask.state_size, MetaworldTask.action_size


def groups() -> dict[str, list[str]]:
    """Names of groups → full names of their tasks, as the package has them."""
    found = {name: getattr(_package("env_dict"), f"{name.upper()}_V3") for name in ("mt10", "mt25", "mt50")}
    return {name: [full_name(f"metaworld/{task.removesuffix('-v3')}") for task in of] for name, of in found.items()}


class MetaworldTask:
    """One episode of a task without distractors and pictures.

    The goal stands in the state, as the scripted experts need it.
    """

    state_size, action_size = 39, 4

    def __init__(self, env: str, seed: int) -> None:
        self._env = _classes()[env]()
        # What `set_task` does for one of fifty stored goals, for one that is drawn from the seed.
        self._env._freeze_rand_vec, self._env.seeded_rand_vec, self._env._set_task_called = False, True, True
        self._env._partially_observable = False
        self._env.__dict__.pop("sawyer_observation_space", None)  # made for a hidden goal, it clips it to zero
        self._env.seed(seed)
        self.model, self.data = self._env.model, self._env.data
        self.fps = round(1 / self._env.dt)
        self.success = False

    def reset(self) -> np.ndarray:
        """Start the episode: the state (39,) float32, which is now (18), before (18) and the goal (3)."""
        self.success = False
        return self._env.reset()[0].astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Take an action in [-1, 1]^4: the next state, the reward, and whether time is up."""
        state, reward, _, ended, info = self._env.step(np.clip(np.asarray(action, np.float32), -1, 1))
        self.success = bool(info["success"])
        return state.astype(np.float32), float(reward), bool(ended)


class MetaworldEnv:
    """One episode of one task (see `base.Environment`)."""

    action_size = MetaworldTask.action_size

    def __init__(self, spec: Spec, episode: int) -> None:
        if spec.renderer != "opengl":
            raise DmaskError(f"the {spec.renderer} can't draw all that {spec.env} shows; give --renderer opengl")
        self.spec, self.episode = spec, episode
        self._task = MetaworldTask(spec.env, spec.seed32(episode, Purpose.TASK))
        self.fps = self._task.fps
        self.camera = self._task.model.camera(spec.camera).id
        self._video = None if spec.difficulty == "clean" else Video(spec, episode, spec.image_size)
        self._renderer: CutoutRenderer | None = None
        self._steps, self._since_success = 0, -1

    @property
    def success(self) -> bool:
        """Whether the last step's outcome solves the task."""
        return self._task.success

    @property
    def background(self) -> str:
        """Name of the video behind the scene; empty without one."""
        return self._video.name if self._video else ""

    @property
    def background_frame(self) -> int:
        """Index of the video's frame shown now; -1 without a video."""
        return self._video.frame if self._video else -1

    def reset(self) -> Observation:
        """Start the episode."""
        state = self._task.reset()
        self._steps, self._since_success = 0, -1
        model, data = self._task.model, self._task.data
        self._pose = upright(data.cam_xpos[self.camera], data.cam_xmat[self.camera], self.spec.camera_back)
        size, parts, hidden = self.spec.image_size, masked_parts(model, self.spec), surroundings(model)
        distance, angle = np.linalg.norm(self._pose.position - CENTRE), np.radians(model.cam_fovy[self.camera])
        pixel = float(2 * distance * np.tan(angle / 2) / size)
        self._renderer = CutoutRenderer(model, self.camera, size, pixel, parts, hidden)
        if self._video:
            self._frame = Frame.before(self._pose, CENTRE)
            self._stand_in = StandIn(self._frame.into(self._pose), self._renderer.colours())
            domain = "reacher" if self._frame.from_above else "metaworld"
            camera = move_camera(self._stand_in, 0, domain, self.spec, self.episode)
            self._distractors = change_colours(camera, self.spec, self.episode)
            self._distractors.reset()
        return self._observe(state)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Take an action in [-1, 1]^4: the next observation, the reward, and whether the episode is over."""
        state, reward, ended = self._task.step(action)
        self._steps += 1
        if self.success or self._since_success >= 0:
            self._since_success += 1
        if self._video:
            self._distractors.step(action)
            self._video.advance()
        enough = 0 < self.spec.steps_after_success <= self._since_success
        return self._observe(state), reward, ended or enough or self._steps >= self.spec.steps

    def close(self) -> None:
        """Free what the graphics card holds."""
        if self._renderer:
            self._renderer.close()

    def _observe(self, state: np.ndarray) -> Observation:
        assert self._renderer, "reset comes before step"
        draw, data, clean = self._renderer, self._task.data, self.spec.clean
        image_clean = mask_clean = None
        if self._video:
            draw.recolour(self._stand_in.colours)
            image = before(draw.cutout(data, self._frame.out_of(self._stand_in.pose)), self._video.picture)
            mask = draw.mask()
            if clean:
                image_clean, mask_clean = draw.image(data, self._pose), draw.mask()
        else:
            image, mask = draw.image(data, self._pose), draw.mask()
            image_clean, mask_clean = (image, mask) if clean else (None, None)
        return Observation(image, mask, state, image_clean, mask_clean)


distracted, alone = MetaworldEnv, MetaworldTask  # the doors of a family


def upright(position: np.ndarray, xmat: np.ndarray, back: float) -> Pose:
    """A camera's pose, turned by 180° where it hangs upside down, and moved back by so many metres."""
    axes = xmat.reshape(3, 3).copy()  # columns: right, up, back
    if axes[2, 1] < -1e-6:
        axes[:, :2] *= -1
    return Pose(position + back * axes[:, 2], axes)


def masked_parts(model: mujoco.MjModel, spec: Spec) -> frozenset[tuple[int, int]]:
    """(object type, index) of every geom and site that the spec's mask covers."""
    robot, arm = subtree(model, ROBOT), subtree(model, ARM)
    bodies = robot if spec.mask_mount else arm
    if spec.mask_objects:
        bodies = bodies | (moving(model) - robot)
    kinds = ((mujoco.mjtObj.mjOBJ_GEOM, model.geom_bodyid), (mujoco.mjtObj.mjOBJ_SITE, model.site_bodyid))
    return frozenset((int(kind), index) for kind, of in kinds for index, body in enumerate(of) if body in bodies)


def subtree(model: mujoco.MjModel, name: str) -> set[int]:
    """A body and all that hangs on it."""
    found = {model.body(name).id}
    for body in range(model.nbody):  # parents come first
        if model.body_parentid[body] in found:
            found.add(body)
    return found


def moving(model: mujoco.MjModel) -> set[int]:
    """Bodies that a joint moves, their own or one further up."""
    found: set[int] = set()
    for body in range(1, model.nbody):
        if model.body_jntnum[body] or model.body_parentid[body] in found:
            found.add(body)
    return found


def surroundings(model: mujoco.MjModel) -> list[int]:
    """The geoms of floor and fence, which stand where the video is to be seen; some tasks have no fence."""
    names = [(model.geom(geom).name, model.body(model.geom_bodyid[geom]).name) for geom in range(model.ngeom)]
    return [geom for geom, of in enumerate(names) if set(of) & set(SURROUNDINGS)]


def can_cast(env: str) -> bool:
    """Whether the caster draws all that a task shows: never, for they show meshes."""
    return False
