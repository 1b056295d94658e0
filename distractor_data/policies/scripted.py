"""Meta-World's scripted experts, and the same with noise."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data.spec import FAMILIES

LEVELS = {"expert": 0.0, "medium": 1.0}  # standard deviation of the Gaussian noise on the expert's actions


@dataclass(frozen=True)
class ScriptedPolicy:
    """The package's expert of a task, on states with the goal, its actions clipped to [-1, 1] and then made noisy."""

    expert: Any
    noise: float  # standard deviation

    def act(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        action = np.clip(self.expert.get_action(state.astype(np.float64)), -1, 1)
        return action + rng.normal(0, self.noise, len(action)) if self.noise else action


def load(level: str, env: str) -> ScriptedPolicy:
    """The policy of a level."""
    # It says so whenever an action is to be clipped, which is most of the time.
    warnings.filterwarnings("ignore", "Constant.* may be too high", module="metaworld.policies")
    return ScriptedPolicy(_class(env)(), LEVELS[level])


def content(level: str, env: str) -> bytes:
    """What a level's actions follow from: the package's code of the policy, and the noise."""
    return Path(str(sys.modules[_class(env).__module__].__file__)).read_bytes() + str(LEVELS[level]).encode()


def _class(env: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[env.removeprefix(FAMILIES["metaworld"]) + "-v3"]
