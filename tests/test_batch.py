"""Many copies of a task in one call of MuJoCo, and the training that steps them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_experts import same_states

from distractor_data import policies
from distractor_data.envs.base import flatten, to_bounds
from distractor_data.envs.suite import load_task
from distractor_data.errors import DmaskError
from distractor_data.policies import evaluate
from distractor_data.policies.training import checkpoint, learner, train
from distractor_data.policies.training.settings import ALGORITHMS, CRITIC_FIRST, PPO, PPO_ENVS, Settings

pytest.importorskip("sbx")
import mujoco

from distractor_data.policies.training import batch, environments


@pytest.mark.parametrize("env", batch.TASKS)
def test_copies_do_what_as_many_of_the_suites_environments_do(env: str) -> None:
    copies = batch.BatchEnv(env, 4, 1, seed=0)
    policy, rng = evaluate.open_policy("expert", env), np.random.default_rng(0)
    states = copies.reset()
    tasks = [load_task(env, 0) for _ in range(copies.num_envs)]
    for task, state in zip(tasks, copies._states, strict=True):
        task.reset()
        with task.physics.reset_context():
            mujoco.mj_setState(copies._model, task.physics.data.ptr, state, batch._STATE)
    total, copies._ages = 0.0, np.zeros(4)
    for _ in range(100 if env == "walker-run" else 150):  # a walker in the end multiplies what rounding differs by
        actions = np.stack([policy.act(state, rng) for state in states])
        states, rewards, _, _ = copies.step(actions)
        bounds = tasks[0].action_spec()
        theirs = [to_bounds(action, bounds.minimum, bounds.maximum) for action in actions]
        steps = [task.step(action) for task, action in zip(tasks, theirs, strict=True)]
        np.testing.assert_allclose(states, [flatten(step.observation) for step in steps], rtol=0, atol=1e-4)
        np.testing.assert_allclose(rewards, [step.reward for step in steps], rtol=0, atol=1e-5)
        total += rewards.sum()
    assert total > 10  # there was something to compare


def test_the_copies_episodes_have_the_suites_length_and_do_not_end_together() -> None:
    copies = batch.BatchEnv("cheetah-run", 8, repeat=4, seed=0)
    copies.reset()
    length, ended = evaluate.STEPS // 4, []
    for step in range(2 * length):
        states, _, ends, infos = copies.step(np.zeros((8, *copies.action_space.shape)))
        ended += [(copy, step) for copy in np.flatnonzero(ends)]
        for copy in np.flatnonzero(ends):
            assert infos[copy]["TimeLimit.truncated"]
            assert np.abs(infos[copy]["terminal_observation"] - states[copy]).max() > 0  # a new episode began
    firsts, seconds = ended[:8], ended[8:]
    assert len({step for _, step in firsts}) > 1
    assert {(copy, step + length) for copy, step in firsts} == set(seconds)


@pytest.mark.parametrize("env", ["cheetah-run", "cartpole-balance"])
def test_a_trainings_episodes_have_the_length_that_was_asked_for(env: str) -> None:
    settings = Settings(env, algorithm="ppo", action_repeat=3, episode_steps=60)
    envs = environments.make_envs(settings, 0)
    envs.reset()
    ended: dict[int, list[int]] = {}
    for step in range(45):
        _, _, ends, infos = envs.step(np.zeros((envs.num_envs, *envs.action_space.shape)))
        assert all(infos[copy]["TimeLimit.truncated"] for copy in np.flatnonzero(ends))  # the return goes on
        for copy in np.flatnonzero(ends):
            ended.setdefault(copy, []).append(step)
    assert len(ended) == envs.num_envs
    assert {length for steps in ended.values() for length in np.diff(steps)} == {20}


@pytest.mark.parametrize(("steps", "repeat"), [(1, 2), (1001, 1)])
def test_an_episode_holds_an_action_and_is_not_longer_than_the_suites(steps: int, repeat: int) -> None:
    with pytest.raises(DmaskError, match=f"--episode-steps is {steps} with --action-repeat {repeat}; give at least"):
        Settings("hopper-hop", action_repeat=repeat, episode_steps=steps)


def test_repeated_actions_earn_each_steps_reward() -> None:
    once, thrice = (batch.BatchEnv("cheetah-run", 2, repeat, seed=0) for repeat in (1, 3))
    np.testing.assert_array_equal(once.reset(), thrice.reset())
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, (2, 6))
        singles = [once.step(action) for _ in range(3)]
        states, rewards, _, _ = thrice.step(action)
        np.testing.assert_array_equal(states, singles[-1][0])
        np.testing.assert_allclose(rewards, sum(single[1] for single in singles), atol=1e-6)


@pytest.mark.parametrize(("env", "start"), [("hopper-hop", "expert"), ("cartpole-balance", "")])
def test_ppo_goes_on_from_an_actor_and_its_training_comes_back_whole(
    env: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PPO, "n_steps", 64)  # less to do
    rollout = 64 * PPO_ENVS
    settings = Settings(
        env, algorithm="ppo", start=start, action_repeat=1, steps=2 * rollout, eval_every=rollout,
        warmup=0, critic_first=rollout, eval_episodes=1, final_episodes=1,
    )  # fmt: skip
    out = tmp_path / f"{env}-expert.safetensors"
    train.train(settings, out, tmp_path / "state")
    kept = [policies.read(path) for path in sorted((tmp_path / "state").glob("actor-*.safetensors"))]
    layers = [name for name in kept[0][0] if name.startswith("layers.")]
    if start:  # whose actor waits until the critic has learnt
        before, record = policies.read(policies.file_of(start, env))
        assert [int(metadata["steps"]) - int(record["steps"]) for _, metadata in kept] == [rollout, 2 * rollout]
        for name in layers:
            np.testing.assert_array_equal(kept[0][0][name], before[name], err_msg=name)
    assert all(np.abs(kept[1][0][name] - kept[0][0][name]).max() > 0 for name in layers)
    assert kept[1][1]["algorithm"] == "PPO"
    recorded = json.loads(kept[1][1]["settings"])
    assert recorded["n_steps"] == 64
    assert {"buffer", "updates", "target_entropy", "curriculum"}.isdisjoint(recorded)  # which PPO doesn't have
    again = learner.Learner(settings)
    checkpoint.restore(tmp_path / "state" / "state.npz", again)
    assert again.steps == 2 * rollout
    checkpoint.save(tmp_path / "again.npz", again)
    same_states(tmp_path / "state" / "state.npz", tmp_path / "again.npz")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_actor_waits_until_its_algorithms_critics_have_learnt(algorithm: str) -> None:
    settings = Settings("cartpole-balance", algorithm=algorithm, start="expert.safetensors")
    training = learner.Learner(settings)
    first, rates = settings.warmup + CRITIC_FIRST[algorithm], []
    for steps in (first - settings.action_repeat, first):
        training.model.num_timesteps = steps // settings.action_repeat
        training.set_phase()
        rates.append(training.model.lr_schedule(1.0))
    assert rates[0] == 0 < rates[1]


@pytest.mark.parametrize(
    "changes", [{"curriculum": True}, {"batch_size": 64}, {"n_steps": 5}, {"target_entropy": -1}]
)
def test_ppo_refuses_what_it_does_not_have(changes: dict[str, int]) -> None:
    with pytest.raises(DmaskError, match=f"--{next(iter(changes)).replace('_', '-')} is not for --algorithm ppo"):
        Settings("hopper-hop", algorithm="ppo", **changes)  # type: ignore[arg-type]
