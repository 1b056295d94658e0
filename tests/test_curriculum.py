"""Help in getting up: whom it carries, and how it goes away."""

from __future__ import annotations

import numpy as np
import pytest

from distractor_data.envs.suite import load_task
from distractor_data.errors import DmaskError
from distractor_data.policies.training import curriculum


@pytest.mark.parametrize("env", ["hopper-hop", "humanoid-walk", "walker-run"])
def test_the_curriculum_carries_a_body_that_is_down_and_none_that_stands(env: str) -> None:
    heights: dict[float, list[float]] = {}
    for support in (0.0, 1.0):
        task = load_task(env, 0)
        shared = curriculum.Curriculum(env, support)
        helped = curriculum.Helped(task, shared)
        spec = helped.action_spec()
        helped.reset()
        seen, plain = [], []
        for _ in range(100):
            step = helped.step(np.zeros(spec.shape))
            seen.append(shared.height(task.physics))
            plain.append(task.task.get_reward(task.physics))
            assert step.reward == pytest.approx(plain[-1] + curriculum.BONUS * seen[-1])
            carried = task.physics.data.xfrc_applied.any()
            assert carried == (support > 0 and seen[-1] < 1)
        assert 0 <= min(seen) <= max(seen) <= 1
        heights[support] = seen
    assert np.mean(heights[1.0][50:]) > np.mean(heights[0.0][50:]) + 0.1


def test_the_curriculum_carries_less_of_a_body_that_ends_upright() -> None:
    help_up = curriculum.Curriculum("walker-run", 0.5)
    help_up.learn([0.1] * 50 + [0.95] * 50)
    assert help_up.support < 0.5
    for _ in range(1000):
        help_up.learn([1.0] * 50 + [0.1] * 50)
    assert help_up.support == 1
    for _ in range(1000):
        help_up.learn([1.0])
    assert help_up.support == 0
    with pytest.raises(DmaskError, match="--curriculum is for hopper, humanoid, walker, not for cheetah-run"):
        curriculum.Curriculum("cheetah-run")
