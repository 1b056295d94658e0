"""The return of a policy on the undistracted task: states only, nothing is rendered."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from distractor_data import envs, policies
from distractor_data.errors import DmaskError
from distractor_data.spec import full_name

STEPS = 1000  # control steps of an episode, as everywhere in the suite
HELD_OUT = 1 << 30  # seeds of the returns that are reported: HELD_OUT + k
SELECTION = 1 << 29  # seeds of the evaluations that choose a checkpoint; those of the training lie below

# The experts of Nikulin et al. 2025 (arXiv 2502.00379): mean return, environment steps, algorithm.
PUBLISHED = {
    "walker-run": (739.79, 1_000_000_000, "PPO"),
    "cheetah-run": (837.70, 1_000_000_000, "PPO"),
    "hopper-hop": (306.63, 1_000_000_000, "PPO"),
    "humanoid-walk": (617.22, 2_000_000, "SAC"),
}

# Steps by algorithm of what a file began with, by its environment and all of its steps, where its metadata has no
# `steps_by` yet. They are those of the files before it; it stays as it is, because datasets know it by its digest.
BEGAN_WITH = {
    ("cheetah-run", 18_956_592): {"SAC": 1_950_000},
    ("hopper-hop", 50_713_616): {"SAC": 4_050_000, "TQC": 600_000},
    ("walker-run", 5_764_656): {"SAC": 2_750_000},
}


def open_policy(policy: str, env: str) -> policies.Policy:
    """`policies.load` with the sizes that the task itself has. Raises `DmaskError` where there is no such task."""
    task = envs.task(env, 0)
    return policies.load(policy, env, len(task.reset()), task.action_size)


def play(policy: policies.Policy, env: str, seed: int) -> tuple[float, float]:
    """Of one episode of at most `STEPS` control steps, at action repeat 1: the return, and whether (1 or 0) the task
    was solved at some step, NaN where it has no such measure."""
    task, rng = envs.task(env, seed), np.random.default_rng(seed)
    state, total, solved = task.reset(), 0.0, []
    for _ in range(STEPS):
        state, reward, ended = task.step(policy.act(state, rng))
        total += reward
        solved.append(task.success)
        if ended:
            break
    return total, float("nan") if None in solved else float(any(solved))


def returns(policy: policies.Policy, env: str, seeds: Sequence[int]) -> np.ndarray:
    """Returns (len(seeds),) of one episode per seed, in this process."""
    return np.array([play(policy, env, seed)[0] for seed in seeds])


def _worker(policy: str, env: str, seeds: Sequence[int]) -> np.ndarray:
    acting = {level: open_policy(level, env) for level in policies.levels_of(policy)}
    levels = [policies.draw_level(policy, np.random.default_rng(seed)) for seed in seeds]
    return np.array([play(acting[level], env, seed) for level, seed in zip(levels, seeds, strict=True)])


def outcomes(policy: str, env: str, episodes: int = 20, workers: int | None = None) -> np.ndarray:
    """Returns and successes (episodes, 2), as `play`, of a policy (level or .safetensors file) on the held-out seeds.

    They are played on all processors. Raises `DmaskError` where the policy or the environment can't be loaded, or
    `episodes` is below 1.
    """
    if episodes < 1:
        raise DmaskError(f"--episodes is {episodes}; give a number of at least 1")
    for level in policies.levels_of(policy):
        open_policy(level, env)  # errors appear here, before any process starts
    workers = min(workers or os.cpu_count() or 1, episodes)
    seeds = [range(HELD_OUT + first, HELD_OUT + episodes, workers) for first in range(workers)]
    result = np.empty((episodes, 2))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_worker, policy, env, some) for some in seeds]
        for first, job in enumerate(jobs):
            result[first::workers] = job.result()
    return result


def evaluate(policy: str, env: str, episodes: int = 20, workers: int | None = None) -> np.ndarray:
    """The returns (episodes,) of `outcomes`."""
    return outcomes(policy, env, episodes, workers)[:, 0]


def evaluate_argument(policy: str, level: str, env: str | None, episodes: int) -> tuple[str, str, np.ndarray]:
    """What `dmask expert eval` takes: a .safetensors file, or an environment whose shipped level is measured.

    Returns the environment's name, the policy's, and its outcomes (episodes, 2). Raises `DmaskError` as `outcomes`.
    """
    if policy.endswith(policies.SUFFIX):
        env = full_name(env) if env else policies.read(Path(policy))[1].get("env")
        if env is None:
            raise DmaskError(f"policy {policy} doesn't say which environment it is for; give it with --env")
        return env, policy, outcomes(policy, env, episodes)
    return full_name(policy), level, outcomes(level, full_name(policy), episodes)


def steps_by(record: dict[str, str]) -> dict[str, int]:
    """How many steps each algorithm took, in order, by a policy's metadata; they sum up to its `steps`."""
    if "steps_by" in record:
        return json.loads(record["steps_by"])
    steps = int(record["steps"])
    began = BEGAN_WITH.get((record["env"], steps), {})
    return {**began, record["algorithm"]: steps - sum(began.values())}


@dataclass(frozen=True)
class Shipped:
    """A policy that comes with the package, by its metadata."""

    env: str
    level: str
    return_mean: float
    return_std: float
    episodes: int
    steps: dict[str, int]  # of the training, by algorithm
    published: str  # the return of another's expert (its steps), where there is one


def shipped() -> list[Shipped]:
    """The policies of the package, experts before the medium ones of the same environment."""
    found = []
    for env in policies.shipped():
        for level in (level for level in ("expert", "medium") if env in policies.shipped(level)):
            record = policies.read(policies.weights_file(level, env))[1]
            published = ""
            if level == "expert" and env in PUBLISHED:
                mean, steps, algorithm = PUBLISHED[env]
                published = f"{mean:.2f} ({steps // 1_000_000:,} M {algorithm})"
            returns = float(record["return_mean"]), float(record["return_std"]), int(record["return_episodes"])
            found.append(Shipped(env, level, *returns, steps_by(record), published))
    return found


def table() -> str:
    """The same as a Markdown table; published returns beside the experts'."""
    lines = [
        "| environment | level | return, mean ± std | episodes | steps | published expert (steps) |",
        "|---|---|---|---|---|---|",
    ]
    for one in shipped():
        returns = f"{one.return_mean:.1f} ± {one.return_std:.1f}"
        steps = ", ".join(f"{number / 1e6:.2f} M {algorithm}" for algorithm, number in one.steps.items())
        lines.append(
            f"| {one.env} | {one.level} | {returns} | {one.episodes} | {steps} | {one.published}".rstrip() + " |"
        )
    return "\n".join(lines)
