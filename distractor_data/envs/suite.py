"""Distracting Control Suite: dm_control's tasks, upstream's camera and colour, our background and renderer."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from distractor_data.envs import gl  # says what is missing more clearly than dm_control, so it comes first

# isort: split
from dm_control import suite
from dm_control.rl import control

from distractor_data.envs import mjcf, upstream
from distractor_data.envs.backgrounds import skybox, skybox_size
from distractor_data.envs.base import Observation, flatten, to_bounds
from distractor_data.envs.dimensions import SIZES
from distractor_data.envs.distract import Video, change_colours, move_camera
from distractor_data.envs.renderers.agent import agent_parts
from distractor_data.envs.videos import UPSTREAM_SIZE
from distractor_data.errors import DmaskError
from distractor_data.spec import SHORT_NAMES, Purpose, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from distractor_data.envs.renderers import Renderer

assert gl  # imported for what it says


class Undistracted(control.Environment):
    """Remembers what the distractions further out change, as the task left it: its model and the cameras' poses."""

    def __init__(self, env: control.Environment) -> None:
        self._env = env

    def reset(self) -> Any:
        time_step = self._env.reset()
        # Tasks change their model here: sizes, places and colours of targets, height fields.
        self.model = copy.copy(self._env.physics.model.ptr)
        self._remember_cameras()
        return time_step

    def step(self, action: np.ndarray) -> Any:
        time_step = self._env.step(action)
        self._remember_cameras()
        return time_step

    def _remember_cameras(self) -> None:
        data = self._env.physics.data
        self.cameras = data.cam_xpos.copy(), data.cam_xmat.copy()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class BackgroundEnv(control.Environment):
    """Plays a video in the skybox, with upstream's semantics."""

    def __init__(self, env: control.Environment, video: Video, ground_plane_alpha: float) -> None:
        self._env, self.video, self._ground_plane_alpha = env, video, ground_plane_alpha

    def show(self) -> None:
        """Write the present frame into the model's texture."""
        self._texture[:] = self.video.picture.reshape(-1)

    def reset(self) -> Any:
        time_step = self._env.reset()
        physics = self._env.physics
        model = physics.model.ptr
        physics.named.model.mat_rgba["grid", "a"] = self._ground_plane_alpha
        texture, size = skybox(model), len(self.video.picture)
        model.tex_width[texture] = model.tex_height[texture] = size
        address = model.tex_adr[texture]
        self._texture = model.tex_data[address : address + self.video.picture.size]
        self.show()
        return time_step

    def step(self, action: np.ndarray) -> Any:
        time_step = self._env.step(action)
        if self.video.dynamic:
            self.video.advance()
            self.show()
        return time_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class SuiteEnv:
    """One episode of one task (see `base.Environment`)."""

    success = None

    def __init__(self, spec: Spec, episode: int) -> None:
        domain, task = split_name(spec.env)
        self.spec, self.episode = spec, episode
        env = mjcf.load(domain, task, random=spec.seed32(episode, Purpose.TASK), time_limit=float("inf"))
        self.physics = env.physics
        self.camera = camera_index(domain)
        self.fps = round(1 / env.control_timestep())
        self._action_spec = env.action_spec()
        self.action_size = int(self._action_spec.shape[0])
        self._background: BackgroundEnv | None = None
        self._undistracted: Undistracted | None = None
        self._env = env if spec.difficulty == "clean" else self._distract(env, domain)
        self._steps = 0
        self._renderer: Renderer | None = None
        self._clean_renderer: Renderer | None = None

    def _distract(self, env: control.Environment, domain: str) -> control.Environment:
        spec, episode = self.spec, self.episode
        plane = upstream.get_background_kwargs(domain, None, spec.dynamic, None)["ground_plane_alpha"]
        if spec.difficulty == "scale-easy-video-hard" and domain == "hopper" and spec.version > 1:
            plane = 1.0  # in the setting of LAOM; upstream's own table has 0.3
        if spec.clean:
            env = self._undistracted = Undistracted(env)
        self._background = BackgroundEnv(env, _video(spec, episode), plane)
        return change_colours(move_camera(self._background, self.camera, domain, spec, episode), spec, episode)

    @property
    def background(self) -> str:
        """Name of the video behind the agent; empty without one."""
        return self._background.video.name if self._background else ""

    @property
    def background_frame(self) -> int:
        """Index of the video's frame shown now; -1 without a video."""
        return self._background.video.frame if self._background else -1

    def reset(self) -> Observation:
        """Start the episode."""
        self._steps = 0
        time_step = self._env.reset()
        # Only now: a task's reset may change sizes, places and height fields, which a renderer reads when it is made.
        model = self.physics.model.ptr
        agent, draw = agent_parts(model), self._renderer_class(model)
        self._renderer = draw(model, self.camera, self.spec.image_size, agent)
        if self._undistracted:
            self._clean_renderer = draw(self._undistracted.model, self.camera, self.spec.image_size, agent)
        return self._observe(time_step)

    def _renderer_class(self, model: Any) -> Callable[..., Renderer]:
        """The spec's renderer. Raises `DmaskError` where it can't draw the model."""
        if self.spec.renderer == "opengl":
            from distractor_data.envs.renderers.opengl import OpenGL

            return functools.partial(OpenGL, fidelity=self.spec.fidelity)
        from distractor_data.envs.renderers.caster import Caster, castable

        if not castable(model):
            raise DmaskError(f"the caster can't draw all that {self.spec.env} shows; give --renderer opengl")
        return Caster

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Take an action in [-1, 1]^A: the next observation, the reward, and whether the episode is over."""
        observation, reward, ended = self.step_blind(action)
        return self._observe(observation), reward, ended

    def step_blind(self, action: np.ndarray) -> tuple[Any, float, bool]:
        """The same without drawing anything: dm_control's time step in place of the observation."""
        time_step = self._env.step(to_bounds(action, self._action_spec.minimum, self._action_spec.maximum))
        self._steps += 1
        ended = time_step.last() or self._steps >= self.spec.steps
        return time_step, float(time_step.reward or 0.0), bool(ended)

    def close(self) -> None:
        """Free what the graphics card holds."""
        for renderer in (self._renderer, self._clean_renderer):
            if renderer:
                renderer.close()

    def _observe(self, time_step: Any) -> Observation:
        assert self._renderer, "reset comes before step"
        data = self.physics.data.ptr
        if self._background and (self._background.video.dynamic or self._steps == 0):
            self._renderer.show_skybox(self.background_frame)
        image = self._renderer.image(data)
        mask = self._renderer.mask()
        clean, mask_clean = (image, mask) if self.spec.clean else (None, None)
        if self._clean_renderer and self._undistracted:
            distracted = data.cam_xpos.copy(), data.cam_xmat.copy()
            data.cam_xpos[:], data.cam_xmat[:] = self._undistracted.cameras
            clean, mask_clean = self._clean_renderer.image(data), self._clean_renderer.mask()
            data.cam_xpos[:], data.cam_xmat[:] = distracted
        return Observation(image, mask, flatten(time_step.observation), clean, mask_clean)


class SuiteTask:
    """One episode of a task without distractors and pictures."""

    success = None

    def __init__(self, env: str, seed: int) -> None:
        self._task = load_task(env, seed)
        self._bounds = self._task.action_spec()
        self.action_size = int(self._bounds.shape[0])

    def reset(self) -> np.ndarray:
        """Start the episode: the state (S,) float32."""
        return flatten(self._task.reset().observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Take an action in [-1, 1]^A: the next state, the reward, and whether the episode is over."""
        step = self._task.step(to_bounds(action, self._bounds.minimum, self._bounds.maximum))
        return flatten(step.observation), float(step.reward), bool(step.last())


distracted, alone = SuiteEnv, SuiteTask  # the doors of a family


def load_task(env: str, seed: int) -> control.Environment:
    """dm_control's own task (`walker-run`) with its initial states drawn from `seed`."""
    domain, task = split_name(env)
    return mjcf.load(domain, task, random=seed)


@functools.cache
def environments() -> list[str]:
    """Names of all tasks that upstream's camera process supports, `domain-task`."""
    # dog-fetch's camera follows a body, which upstream refuses.
    return sorted(f"{domain}-{task}" for domain, task in suite.ALL_TASKS if (domain, task) != ("dog", "fetch"))


def sizes(env: str) -> tuple[int, int]:
    """How many numbers a state and an action have; a task that is new to us is asked itself."""
    if env in SIZES:
        return SIZES[env]
    task = SuiteTask(env, 0)
    return len(task.reset()), task.action_size


def groups() -> dict[str, list[str]]:
    """Names of groups → full names of their tasks: `laom`, the four of Nikulin et al. 2025."""
    return {"laom": list(SHORT_NAMES.values())}


def _video(spec: Spec, episode: int) -> Video:
    """The video behind the agent, in the size that the spec's renderer needs."""
    size = UPSTREAM_SIZE if spec.fidelity == "exact" else skybox_size(spec.image_size)
    return Video(spec, episode, size, rounded_up=spec.fidelity == "fast")


def can_cast(env: str) -> bool:
    """Whether the caster draws all that a task shows."""
    from distractor_data.envs.renderers.caster import castable

    domain, name = split_name(env)
    return castable(suite.load(domain, name).physics.model.ptr)


def split_name(env: str) -> tuple[str, str]:
    """`walker-run` → ("walker", "run")."""
    domain, task = env.split("-", 1)
    return domain, task


def camera_index(domain: str) -> int:
    """The camera that upstream renders from."""
    return 2 if domain == "quadruped" else 0
