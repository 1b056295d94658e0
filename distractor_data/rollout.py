"""One episode: environment × policy × seed → arrays. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from distractor_data import envs, policies, schema
from distractor_data.episode import Episode, box
from distractor_data.errors import DmaskError
from distractor_data.spec import Purpose, Spec

if TYPE_CHECKING:
    from distractor_data.envs.base import Environment


def rollout(spec: Spec, episode: int) -> Episode:
    """Run one episode of a spec. The same arguments give the same arrays."""
    env = envs.make(spec, episode)
    try:
        return _run(spec, episode, env)
    finally:
        env.close()


def _run(spec: Spec, episode: int, env: Environment) -> Episode:
    rng = np.random.Generator(np.random.PCG64(spec.seed_sequence(episode, Purpose.POLICY)))
    observation = env.reset()
    level = policies.draw_level(spec.policy, rng)
    policy = policies.load(level, spec.env, len(observation.state), env.action_size)
    first_frame = env.background_frame
    observations, actions, rewards, solved = [], [], [], []
    done = False
    while not done:
        action = policy.act(observation.state, rng)
        if not np.isfinite(action).all():
            raise DmaskError(f"--policy {spec.policy} gives an action that is no number; give another policy")
        if spec.noise:
            action = action + rng.normal(0, spec.noise, env.action_size)
        action = np.clip(action, -1, 1).astype(np.float32)
        observations.append(observation)
        actions.append(action)
        observation, reward, done = env.step(action)
        rewards.append(reward)
        solved.append(env.success)
    dones = np.zeros(len(actions), bool)
    dones[-1] = True
    mask = _stack(seen.mask for seen in observations)
    each_reward = np.array(rewards, np.float32)
    success = None if solved[0] is None else np.array(solved)
    return Episode(
        image=_stack(seen.image for seen in observations),
        mask=mask,
        state=_stack(seen.state for seen in observations),
        action=np.stack(actions),
        reward=each_reward,
        done=dones,
        success=success,
        image_clean=_stack(seen.image_clean for seen in observations) if spec.clean else None,
        mask_clean=_stack(seen.mask_clean for seen in observations) if spec.mask_clean else None,
        info={
            schema.EPISODE: episode,
            schema.LENGTH: len(actions),
            schema.SEED: spec.seed32(episode, Purpose.TASK),
            schema.RETURN: float(each_reward.sum(dtype=np.float64)),
            **({} if success is None else {schema.SUCCEEDED: bool(success.any())}),
            schema.LEVEL: policies.level_name(level),
            schema.BACKGROUND: env.background,
            schema.BACKGROUND_FRAME: first_frame,
            schema.BOX: box(mask[0]),
            schema.COVERAGE: float(mask.mean()),
        },
    )


def _stack(arrays: Iterable[np.ndarray | None]) -> np.ndarray:
    """One array of all that are there."""
    return np.stack([array for array in arrays if array is not None])
