"""Distracting Control Suite: dm_control's tasks, upstream's camera and colour, our background and renderer."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distractor_data.envs import rendering  # says what is missing more clearly than dm_control, so it comes first

# isort: split
import cv2
from dm_control import suite
from dm_control.rl import control

from distractor_data.envs import upstream
from distractor_data.envs.backgrounds import Backgrounds, VideoPath, open_backgrounds, skybox, skybox_size
from distractor_data.errors import DmaskError
from distractor_data.spec import Purpose, Spec

if TYPE_CHECKING:
    from distractor_data.envs.renderers.caster import Caster

    Renderer = rendering.Renderer | Caster

_UNBOUNDED = 1e6  # a larger action range is no range: actions of such a task (lqr) are taken as they are


@dataclass(frozen=True)
class Observation:
    """What one instant shows, before the action taken there."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool, the agent
    state: np.ndarray  # (S,) float32, the suite's observation flattened in sorted key order
    image_clean: np.ndarray | None  # (H, W, 3) uint8, the same instant without any distractor
    mask_clean: np.ndarray | None  # (H, W) bool, the agent in `image_clean`


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
    """Plays a video in the skybox, with upstream's semantics and its order of random draws."""

    def __init__(
        self,
        env: control.Environment,
        backgrounds: Backgrounds,
        split: str,
        seed: int,
        dynamic: bool,
        num_videos: int | None,
        ground_plane_alpha: float,
        steps: int,
        size: int,
    ) -> None:
        self._env = env
        self.dynamic = dynamic
        random = np.random.RandomState(seed)
        videos = backgrounds.videos(split)
        if not videos:
            raise DmaskError(f"the backgrounds have no videos for split {split!r}; add some, or use 'synthetic'")
        if num_videos is not None and num_videos > len(videos):
            raise DmaskError(
                f"this difficulty draws from {num_videos} videos and the backgrounds have {len(videos)} for split "
                f"{split!r}; add videos or choose difficulty hard, which takes any number"
            )
        # The draws are those of upstream's _reset_background, one for one.
        self.video = str(random.choice(videos[:num_videos]))
        length = backgrounds.length(split, self.video)
        still = None if dynamic else int(random.choice(length))
        start = int(random.choice(length if dynamic else 1))
        self.path = VideoPath(length if dynamic else 1, start, int(random.choice([-1, 1])))
        self.first, last = (still, still) if still is not None else self.path.span(steps)
        self._frames = backgrounds.frames(split, self.video, self.first, last, size)

        self._ground_plane_alpha, self._size = ground_plane_alpha, size

    @property
    def frame(self) -> int:
        """Index of the frame now shown, in its video."""
        return self.first if not self.dynamic else self.path.index

    def show(self) -> None:
        """Write the present frame into the model's texture."""
        self._texture[:] = self._frames[self.frame - self.first].reshape(-1)

    def reset(self) -> Any:
        time_step = self._env.reset()
        physics = self._env.physics
        model = physics.model.ptr
        physics.named.model.mat_rgba["grid", "a"] = self._ground_plane_alpha
        texture = skybox(model)
        model.tex_width[texture] = model.tex_height[texture] = self._size
        address = model.tex_adr[texture]
        self._texture = model.tex_data[address : address + self._frames[0].size]
        self.show()
        return time_step

    def step(self, action: np.ndarray) -> Any:
        time_step = self._env.step(action)
        if self.dynamic:
            self.path.advance()
            self.show()
        return time_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class SuiteEnv:
    """One episode of one task: `reset` once, then `step` until it is done, then `close`."""

    def __init__(self, spec: Spec, episode: int) -> None:
        domain, task = split_name(spec.env)
        self.spec, self.episode = spec, episode
        env = suite.load(
            domain,
            task,
            task_kwargs={"random": spec.seed32(episode, Purpose.TASK), "time_limit": float("inf")},
        )
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
        difficulty = spec.difficulty
        if difficulty == "scale-easy-video-hard":
            scale, num_videos = upstream.DIFFICULTY_SCALE["easy"], upstream.DIFFICULTY_NUM_VIDEOS["hard"]
        else:
            scale, num_videos = (
                upstream.DIFFICULTY_SCALE[difficulty],
                upstream.DIFFICULTY_NUM_VIDEOS[difficulty],
            )
        plane = upstream.get_background_kwargs(domain, num_videos, spec.dynamic, None)["ground_plane_alpha"]
        if difficulty == "scale-easy-video-hard" and domain == "hopper" and spec.version > 1:
            plane = 1.0  # in the setting of LAOM; upstream's own table has 0.3
        if spec.clean:
            env = self._undistracted = Undistracted(env)
        self._background = BackgroundEnv(
            env,
            _backgrounds(spec.backgrounds),
            spec.split,
            spec.seed32(episode, Purpose.BACKGROUND),
            spec.dynamic,
            num_videos,
            plane,
            spec.steps,
            skybox_size(spec.image_size),
        )
        env = upstream.DistractingCameraEnv(
            self._background,
            self.camera,
            seed=spec.seed32(episode, Purpose.CAMERA),
            **upstream.get_camera_kwargs(domain, scale, spec.dynamic),
        )
        return upstream.DistractingColorEnv(
            env, seed=spec.seed32(episode, Purpose.COLOR), **upstream.get_color_kwargs(scale, spec.dynamic)
        )

    @property
    def background(self) -> str:
        """Name of the video behind the agent; empty without one."""
        return self._background.video if self._background else ""

    @property
    def background_frame(self) -> int:
        """Index of the video's frame shown now; -1 without a video."""
        return self._background.frame if self._background else -1

    def reset(self) -> Observation:
        """Start the episode."""
        self._steps = 0
        time_step = self._env.reset()
        # Only now: a task's reset may change sizes, places and height fields, which a renderer reads when it is made.
        model = self.physics.model.ptr
        agent = rendering.agent_parts(model)
        draw = self._renderer_class(model)
        self._renderer = draw(model, self.camera, self.spec.image_size, agent)
        if self._undistracted:
            self._clean_renderer = draw(self._undistracted.model, self.camera, self.spec.image_size, agent)
        return self._observe(time_step)

    def _renderer_class(self, model: Any) -> type[Renderer]:
        """The spec's renderer. Raises `DmaskError` where it can't draw the model."""
        if self.spec.renderer == "opengl":
            return rendering.Renderer
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
        time_step = self._env.step(self._to_task(action))
        self._steps += 1
        ended = time_step.last() or self._steps >= self.spec.steps
        return time_step, float(time_step.reward or 0.0), bool(ended)

    def close(self) -> None:
        """Free what the graphics card holds."""
        for renderer in (self._renderer, self._clean_renderer):
            if renderer:
                renderer.close()

    def _to_task(self, action: np.ndarray) -> np.ndarray:
        low, high = self._action_spec.minimum, self._action_spec.maximum
        bounded = (high - low) < _UNBOUNDED
        scaled = low + (np.clip(action, -1, 1).astype(np.float64) + 1) / 2 * (high - low)
        return np.where(bounded, scaled, action)

    def _observe(self, time_step: Any) -> Observation:
        assert self._renderer, "reset comes before step"
        data = self.physics.data.ptr
        if self._background and (self._background.dynamic or self._steps == 0):
            self._renderer.upload_skybox()
        image = self._renderer.image(data)
        mask = self._renderer.mask()
        clean, mask_clean = (image, mask) if self.spec.clean else (None, None)
        if self._clean_renderer and self._undistracted:
            distracted = data.cam_xpos.copy(), data.cam_xmat.copy()
            data.cam_xpos[:], data.cam_xmat[:] = self._undistracted.cameras
            clean, mask_clean = self._clean_renderer.image(data), self._clean_renderer.mask()
            data.cam_xpos[:], data.cam_xmat[:] = distracted
        return Observation(image, mask, flatten(time_step.observation), clean, mask_clean)


def flatten(observation: dict[str, Any]) -> np.ndarray:
    """The suite's observation as one float32 vector, in sorted key order."""
    return np.concatenate([np.ravel(observation[key]) for key in sorted(observation)]).astype(np.float32)


@functools.cache
def environments() -> list[str]:
    """Names of all tasks that upstream's camera process supports, `domain-task`."""
    # dog-fetch's camera follows a body, which upstream refuses.
    return sorted(f"{domain}-{task}" for domain, task in suite.ALL_TASKS if (domain, task) != ("dog", "fetch"))


def split_name(env: str) -> tuple[str, str]:
    """`walker-run` → ("walker", "run"). Raises `DmaskError` naming the nearest where there is none."""
    from distractor_data.errors import nearest
    from distractor_data.spec import SHORT_NAMES

    if env not in environments():
        close = nearest(env, [*environments(), *SHORT_NAMES])
        raise DmaskError(f"--env {env}: no such environment{close} (`dmask envs` lists all)")
    domain, task = env.split("-", 1)
    return domain, task


def camera_index(domain: str) -> int:
    """The camera that upstream renders from."""
    return 2 if domain == "quadruped" else 0


@functools.lru_cache(maxsize=4)
def _backgrounds(source: str) -> Backgrounds:
    cv2.setNumThreads(1)  # one core a worker
    return open_backgrounds(source)
