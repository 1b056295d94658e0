"""Control steps per second of many copies of a task in one call of MuJoCo, beside as many of the suite's own.

    taskset -c 0 python -m scripts.bench_copies

Both step the same number of bodies with the same actions, one after the other, several times in turn.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv

from distractor_data.policies.training import batch
from distractor_data.policies.training.environments import StateEnv
from distractor_data.policies.training.settings import PPO_ENVS


def rate(step: Callable[[np.ndarray], object], actions: np.ndarray) -> float:
    """Control steps per second."""
    started = time.perf_counter()
    for action in actions:
        step(action)
    return actions.shape[0] * actions.shape[1] / (time.perf_counter() - started)


def main(copies: int = PPO_ENVS, steps: int = 40, rounds: int = 5) -> None:
    """Print the median of `rounds` of each, and their ratio."""
    table = Table("task", "the suite's, steps/s", "ours, steps/s", "ratio", title=f"{copies} copies")
    for env in batch.TASKS:
        theirs = DummyVecEnv([functools.partial(StateEnv, env, 1, seed) for seed in range(copies)])
        ours = batch.BatchEnv(env, copies, 1, seed=0)
        ours.action_space.seed(0)
        actions = np.stack([[ours.action_space.sample() for _ in range(copies)] for _ in range(steps)])
        for envs in (theirs, ours):
            envs.reset()
        measured = [[rate(envs.step, actions) for envs in (theirs, ours)] for _ in range(rounds)]
        slow, fast = np.median(measured, axis=0)
        table.add_row(env, f"{slow:,.0f}", f"{fast:,.0f}", f"{np.median([b / a for a, b in measured]):.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
