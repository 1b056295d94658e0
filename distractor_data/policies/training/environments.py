"""The environments of a training: the task on flat states, many of them, behind a running normalisation."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from distractor_data.envs.base import flatten, to_bounds
from distractor_data.envs.suite import load_task
from distractor_data.policies.evaluate import SELECTION
from distractor_data.policies.training import batch
from distractor_data.policies.training.curriculum import Curriculum, Helped
from distractor_data.policies.training.settings import PPO_ENVS, Settings


class StateEnv(gym.Env):
    """The task on flat states, each action in [-1, 1] applied `repeat` times; a `curriculum` helps the body up."""

    def __init__(self, env: str, repeat: int, seed: int, curriculum: Curriculum | None = None) -> None:
        task = load_task(env, seed)
        self._task, self._repeat = Helped(task, curriculum) if curriculum else task, repeat
        self._bounds = self._task.action_spec()
        size = flatten(self._task.reset().observation).size
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, self._bounds.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """A new episode; its initial state is the next of those that the seed gives."""
        return flatten(self._task.reset().observation), {}

    def step(self, action: np.ndarray) -> Any:
        """The flat state after the action, the sum of the rewards, whether it fell and whether time was up."""
        reward = 0.0
        for _ in range(self._repeat):
            step = self._task.step(to_bounds(action, self._bounds.minimum, self._bounds.maximum))
            reward += step.reward
            if step.last():
                break
        fallen, timed_out = step.last() and step.discount == 0, step.last() and step.discount > 0
        return flatten(step.observation), reward, fallen, timed_out, {}


class Squashed(VecEnvWrapper):
    """The tanh of an actor's outputs as actions, for algorithms that clip, and rewards times `scale`."""

    def __init__(self, envs: VecEnv, scale: float) -> None:
        # The library asks for bounds; beyond 10 the tanh is 1.
        super().__init__(envs, action_space=gym.spaces.Box(-10, 10, envs.action_space.shape, np.float32))
        self._scale = scale

    def reset(self) -> Any:
        """As the wrapped ones."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Actions (count, size), before the tanh."""
        self.venv.step_async(np.tanh(actions))

    def step_wait(self) -> Any:
        """As the wrapped ones, with the rewards scaled."""
        states, rewards, ends, infos = self.venv.step_wait()
        return states, self._scale * rewards, ends, infos


def make_envs(settings: Settings, start: int, curriculum: Curriculum | None = None) -> Any:
    """`num_envs` copies of the task behind a running normalisation of the states; `start` varies their seeds.

    A `curriculum` helps the body up, and learns from how the episodes end. PPO has `PPO_ENVS` copies, which are
    stepped together where the task allows it.
    """

    def seed(index: int) -> int:
        return int(np.random.SeedSequence((settings.seed, index, start)).generate_state(1)[0] % SELECTION)

    ppo = settings.algorithm == "ppo"
    envs: VecEnv
    if ppo and settings.env in batch.TASKS:
        envs = batch.BatchEnv(settings.env, PPO_ENVS, settings.action_repeat, seed(0), settings.episode_steps)
    else:

        def make(number: int) -> gym.Env:
            one = StateEnv(settings.env, settings.action_repeat, number, curriculum)
            return gym.wrappers.TimeLimit(one, settings.episode_steps // settings.action_repeat)

        seeds = map(seed, range(PPO_ENVS if ppo else settings.num_envs))
        envs = DummyVecEnv([functools.partial(make, number) for number in seeds])
    if ppo:
        envs = Squashed(envs, 4 * (1 - settings.discount))  # which makes the values of a good actor about 1
    return VecNormalize(envs, norm_reward=False, clip_obs=10.0, gamma=settings.discount)
