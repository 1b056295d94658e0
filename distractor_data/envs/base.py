"""What an environment is, whatever family it is of: the protocols that all of them keep, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_UNBOUNDED = 1e6  # a larger action range is no range: actions of such a task (lqr) are taken as they are


@dataclass(frozen=True)
class Observation:
    """What one instant shows, before the action taken there."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool, the agent
    state: np.ndarray  # (S,) float32
    image_clean: np.ndarray | None  # (H, W, 3) uint8, the same instant without any distractor
    mask_clean: np.ndarray | None  # (H, W) bool, the agent in `image_clean`


class Environment(Protocol):
    """One episode of one task before its distractors: `reset` once, then `step` until it is over, then `close`."""

    fps: int
    action_size: int
    success: bool | None  # whether the last step's outcome solves the task; None where a task has no such measure

    @property
    def background(self) -> str:
        """Name of the video behind the agent; empty without one."""
        ...

    @property
    def background_frame(self) -> int:
        """Index of the video's frame shown now; -1 without a video."""
        ...

    def reset(self) -> Observation:
        """Start the episode."""
        ...

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Take an action in [-1, 1]^A: the next observation, the reward, and whether the episode is over."""
        ...

    def close(self) -> None:
        """Free what the graphics card holds."""
        ...


class Task(Protocol):
    """One episode of a task alone: nothing is distracted, nothing is drawn."""

    action_size: int
    success: bool | None

    def reset(self) -> np.ndarray:
        """Start the episode: the state (S,) float32."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Take an action in [-1, 1]^A: the next state, the reward, and whether the episode is over."""
        ...


def to_bounds(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions in [-1, 1]^A, one or more (…, A), in the bounds that a task asks for; where it has none, as given."""
    action = np.clip(np.asarray(action, np.float64), -1, 1)
    return np.where(high - low < _UNBOUNDED, low + (action + 1) / 2 * (high - low), action)


def flatten(observation: dict[str, Any]) -> np.ndarray:
    """An observation of several parts as one float32 vector, in sorted key order."""
    return np.concatenate([np.ravel(observation[key]) for key in sorted(observation)]).astype(np.float32)
