"""From standing to the task's own beginnings, for bodies that must get up before the task rewards them.

humanoid-walk pays nothing before the head is up, and the suite begins with a fall from a random pose: a learner
settles on sitting. Here height itself earns a little, and half of the environments begin their episodes near standing
at first, nearer to the task's own pose the more of them end upright (reverse curriculum, Florensa et al. 2017,
arXiv 1707.05300); a body that is down ends such an episode. Once the task's own poses are reached, all episodes are
the task's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distractor_data.errors import DmaskError

# The measure of the body's height and the height from which the suite's reward counts it as standing.
STANDING = {"hopper": ("height", 0.6), "humanoid": ("head_height", 1.4), "walker": ("torso_height", 1.2)}
BONUS = 0.2  # a control step, for standing; in proportion below
DOWN = 0.65  # of the standing height; below it a body is down
LIMIT = 400  # control steps of an episode that is not yet the task's own
GRACE = 20, 180  # control steps to get up: at a beginning that stands, and as many more at the task's own
CHANGE = 0.002  # of the difficulty, by an episode that ends upright, or does not: half of them do


class Curriculum:
    """The beginnings and ends of the episodes of the environments that follow it.

    `difficulty` in [0.1, 1] is the furthest share of the way from standing to the task's own pose.
    Raises `DmaskError` for a domain whose standing height is not known.
    """

    def __init__(self, env: str, difficulty: float = 0.1) -> None:
        domain = env.split("-")[0]
        if domain not in STANDING:
            raise DmaskError(f"--curriculum is for {', '.join(STANDING)}, not for {env}; leave it out")
        self._measure, self._standing = STANDING[domain]
        self.difficulty = difficulty

    @property
    def done(self) -> bool:
        """Whether the episodes are the task's own."""
        return self.difficulty >= 1

    def begin(self, physics: Any, rng: np.random.Generator) -> float:
        """Move a body that the task has just placed nearer to standing; returns the share of the way that is left."""
        if self.done:
            return 1.0
        import mujoco

        share = rng.uniform(0, self.difficulty)
        model, data = physics.model.ptr, physics.data.ptr
        way = np.zeros(model.nv)
        mujoco.mj_differentiatePos(model, way, 1, model.qpos0, data.qpos)
        pose = model.qpos0.copy()
        mujoco.mj_integratePos(model, pose, way, share)
        height = model.joint("rootz").qposadr[0] if "rootz" in physics.named.data.qpos.axes.row.names else 2
        drop = 0.0
        with physics.reset_context():  # which moves everything back to `qpos0` first
            data.qpos[:] = pose
            mujoco.mj_forward(model, data)
            while data.ncon == 0 and drop < 1:  # the suite begins above the ground
                drop += 0.01
                data.qpos[height] = pose[height] - drop
                mujoco.mj_forward(model, data)
            data.qpos[height] = pose[height] - max(drop - 0.01, 0) * (1 - share)
        return share

    def height(self, physics: Any) -> float:
        """The body's height as a share of the standing one, in [0, 1]."""
        return float(np.clip(getattr(physics, self._measure)() / self._standing, 0, 1))

    def over(self, height: float, share: float, steps: int) -> bool:
        """Whether the body is down after so many control steps, which ends its episode for good."""
        return not self.done and steps > GRACE[0] + share * GRACE[1] and height < DOWN

    def learn(self, upright: bool) -> None:
        """Make the beginnings harder after an episode that ended upright, easier after another."""
        if not self.done:
            self.difficulty = min(max(self.difficulty + (CHANGE if upright else -CHANGE), 0.1), 1.0)
