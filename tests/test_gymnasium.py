"""The environments keep Gymnasium's contract, and show what the datasets hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from distractor_data import make_env
from distractor_data.errors import DmaskError
from distractor_data.rollout import rollout
from distractor_data.spec import Spec

gymnasium = pytest.importorskip("gymnasium", reason="the extra [gym] is not installed")
SPEC = Spec(env="cheetah-run", policy="random", steps=6, image_size=16, seed=3)


@pytest.mark.filterwarnings("ignore")
def test_gymnasiums_own_check() -> None:
    from gymnasium.utils.env_checker import check_env

    env = make_env("cheetah", steps=6, image_size=16)
    check_env(env, skip_render_check=True)
    env.close()


def test_an_episode_is_the_datasets() -> None:
    """With the actions of a dataset's episode, the frames, masks, states and rewards of that episode."""
    options = {field.name: getattr(SPEC, field.name) for field in dataclasses.fields(SPEC) if field.name != "env"}
    env = gymnasium.make("distractor_data.gymnasium:dmask/cheetah-run-v0", render_mode="rgb_array", **options)
    for number in range(2):
        episode = rollout(SPEC, number)
        image, info = env.reset(seed=SPEC.seed) if number == 0 else env.reset()
        for t, action in enumerate(episode.action):
            np.testing.assert_array_equal(image, episode.image[t])
            np.testing.assert_array_equal(info["mask"], episode.mask[t])
            np.testing.assert_array_equal(info["state"], episode.state[t])
            np.testing.assert_array_equal(env.render(), image)
            image, reward, terminated, truncated, info = env.step(action)
            assert np.float32(reward) == episode.reward[t]
            assert (terminated, truncated) == (False, t == SPEC.steps - 1)
    env.close()


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(DmaskError, match="walker"):
        make_env("wakler")
    with pytest.raises(TypeError, match="colour"):
        make_env("walker", colour="red")
