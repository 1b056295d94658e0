"""Help in getting up: whom it carries, and how it goes away."""

from __future__ import annotations

import numpy as np
import pytest

from distractor_data.errors import DmaskError
from distractor_data.policies import curriculum, evaluate


@pytest.mark.parametrize("env", ["hopper-hop", "humanoid-walk", "walker-run"])
def test_the_curriculum_carries_a_body_that_is_down_and_none_that_stands(env: str) -> None:
    task, highest = evaluate.load_task(env, 0), {}
    physics = task.physics
    spec = task.action_spec()
    for support in (0.0, 1.0):
        help_up = curriculum.Curriculum(env, support)
        task.task.random.seed(0)
        task.reset()
        heights = []
        for _ in range(100):
            task.step(np.zeros(spec.shape))
            heights.append(help_up.height(physics))
            help_up.hold(physics, heights[-1])
        assert 0 <= min(heights) <= max(heights) <= 1
        highest[support] = np.mean(heights[50:])
    assert highest[1.0] > highest[0.0] + 0.1
    help_up.hold(physics, 1.0)
    assert not physics.data.xfrc_applied.any()


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
