"""Help in getting up, for bodies that the task doesn't reward before they stand.

humanoid-walk begins with a fall from a random pose and pays nothing until the head is up again: a learner settles on
sitting. Here height itself earns a little, and a force at the torso carries a share of a body's weight while it is
below its standing height; the more episodes end upright, the smaller the share (as in Huang et al. 2025, "Learning
Humanoid Standing-up Control across Diverse Postures", arXiv 2502.08378). A body that stands is on its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distractor_data.errors import DmaskError

# The measure of the body's height and the height from which the suite's reward counts it as standing.
STANDING = {"hopper": ("height", 0.6), "humanoid": ("head_height", 1.4), "walker": ("torso_height", 1.2)}
BONUS = 0.2  # a control step, for standing; in proportion below
UPRIGHT = 0.6  # of the standing height: the mean of an episode's second half, where it ended upright
CHANGE = 0.005  # of the support, by an episode that ended upright, or did not


class Curriculum:
    """What all environments of a training share: `support`, in [0, 1] of the body's weight.

    Raises `DmaskError` for a domain whose standing height is not known.
    """

    def __init__(self, env: str, support: float = 1.0) -> None:
        domain = env.split("-")[0]
        if domain not in STANDING:
            raise DmaskError(f"--curriculum is for {', '.join(STANDING)}, not for {env}; leave it out")
        self._measure, self._standing = STANDING[domain]
        self.support = support

    def height(self, physics: Any) -> float:
        """The body's height as a share of the standing one, in [0, 1]."""
        return float(np.clip(getattr(physics, self._measure)() / self._standing, 0, 1))

    def learn(self, heights: list[float]) -> None:
        """Carry less after an episode of these heights if it ended upright, more if it did not."""
        upright = np.mean(heights[len(heights) // 2 :]) > UPRIGHT
        self.support = float(np.clip(self.support + (-CHANGE if upright else CHANGE), 0, 1))


class Helped:
    """A task of the suite whose body is carried, and rewarded for its height, as `curriculum` says."""

    def __init__(self, task: Any, curriculum: Curriculum) -> None:
        self._task, self._curriculum = task, curriculum
        self.action_spec = task.action_spec
        self._heights: list[float] = []

    def reset(self) -> Any:
        """The task's own beginning, after what the last episode taught; nothing is carried until a step is done."""
        if self._heights:
            self._curriculum.learn(self._heights)
        self._heights = []
        return self._task.reset()

    def step(self, action: np.ndarray) -> Any:
        """The task's step, with its reward raised by the height; then the force of the next one is set."""
        physics, step = self._task.physics, self._task.step(action)
        height = self._curriculum.height(physics)
        weight = physics.model.body_mass.sum() * -physics.model.opt.gravity[2]
        share = self._curriculum.support * min(4 * (1 - height), 1)  # less in the last quarter of the way up
        physics.named.data.xfrc_applied["torso", 2] = share * weight
        self._heights.append(height)
        return step._replace(reward=step.reward + BONUS * height)
