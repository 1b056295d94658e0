"""The environments as Gymnasium's: `make_env(...)`.

Once this is imported, `gymnasium.make("dmask/walker-run-v0", ...)` knows the tasks of the papers; Gymnasium imports
it by itself for `gymnasium.make("distractor_data.gymnasium:dmask/walker-run-v0", ...)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

from distractor_data import envs
from distractor_data.envs.base import Observation
from distractor_data.spec import SHORT_NAMES, Spec


class DmaskEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Episodes of a spec, one after the other: what is observed is the image, (H, W, 3) uint8.

    `info` has `mask` (H, W) bool, the agent; `state` (S,) float32; with `clean`, `image_clean` and `mask_clean`;
    where the task can be solved, `success`. A reset with a seed begins with that seed's first episode; each other one
    is the next episode of the same seed. Episodes end by truncation alone, as those of the suite do.
    """

    def __init__(self, spec: Spec, render_mode: str | None = None) -> None:
        self.spec_, self.render_mode, self._episode = spec, render_mode, -1
        self._env: envs.Environment | None = None
        self._seen: Observation | None = None
        first = envs.make(spec, 0)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": first.fps}
        size = spec.image_size
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = spaces.Box(-1.0, 1.0, (first.action_size,), np.float32)
        first.close()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next episode, or the first of `seed`."""
        super().reset(seed=seed)
        if seed is not None:
            self.spec_, self._episode = dataclasses.replace(self.spec_, seed=seed), -1
        self._episode += 1
        self.close()
        self._env = envs.make(self.spec_, self._episode)
        return self._told(self._env.reset())

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action in [-1, 1]^A."""
        assert self._env is not None, "reset comes before step"
        seen, reward, over = self._env.step(np.asarray(action))
        image, info = self._told(seen)
        return image, float(reward), False, over, info

    def render(self) -> np.ndarray | None:
        """What was observed last."""
        return None if self.render_mode is None or self._seen is None else self._seen.image

    def close(self) -> None:
        """Free what the graphics card holds."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _told(self, seen: Observation) -> tuple[np.ndarray, dict[str, Any]]:
        self._seen = seen
        held = {name: value for name, value in vars(seen).items() if name != "image" and value is not None}
        success = self._env.success if self._env else None
        return seen.image, held | ({} if success is None else {"success": success})


def make_env(env: str = "walker-run", render_mode: str | None = None, **options: Any) -> DmaskEnv:
    """A task by any of its names; `options` are fields of `Spec`: difficulty, backgrounds, image_size, clean, seed …

    Raises `DmaskError` for an unknown task or option, and where backgrounds can't be read.
    """
    unknown = set(options) - {field.name for field in dataclasses.fields(Spec)}
    if unknown:
        raise TypeError(f"{sorted(unknown)[0]} is no option; give fields of distractor_data.Spec")
    (name,) = envs.expand([env])
    return DmaskEnv(Spec(env=name, **options), render_mode)


for _name in SHORT_NAMES.values():
    register(f"dmask/{_name}-v0", entry_point="distractor_data.gymnasium:make_env", kwargs={"env": _name})
