"""Meta-World's experts in our environments beside the package's own evaluation of them: how often a task is solved.

    python -m scripts.parity_metaworld --episodes 20

Theirs is `metaworld.evaluation.evaluation` on MT10 with the experts as its agent: fifty stored goals, an episode ends
when it is solved. Ours draws every goal from the episode's seed, and goes on. Fisher's exact test compares the two;
exit code 1 where it tells a task's rates apart at 1 %.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from distractor_data import envs
from distractor_data.policies import scripted
from distractor_data.policies.evaluate import outcomes


class Experts:
    """The package's experts as the agent of its evaluation, one for each of its environments."""

    def __init__(self, tasks: list[str]) -> None:
        self._policies = [scripted.load("expert", task) for task in tasks]
        self._rng = np.random.default_rng(0)

    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 4) for observations (N, 39)."""
        pairs = zip(self._policies, observations, strict=True)
        return np.stack([policy.act(state, self._rng) for policy, state in pairs]).astype(np.float32)

    def reset(self, env_mask: Any) -> None:
        """Experts remember nothing."""


def theirs(tasks: list[str], episodes: int) -> dict[str, float]:
    """Success rate of each task by the package's evaluation."""
    import metaworld
    from metaworld.evaluation import evaluation

    made: Any = metaworld.make_mt_envs("MT10", seed=0)
    _, _, rates, _ = evaluation(Experts(tasks), made, episodes)
    return {f"metaworld-{name.removesuffix('-v3')}": rate for name, rate in rates.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20)
    count = parser.parse_args().episodes
    tasks = envs.expand(["metaworld/mt10"])
    package = theirs(tasks, count)
    print("| task | solved here | by the package's evaluation | p | return here |\n|---|---|---|---|---|")
    differ = False
    for task in tasks:
        returns, solved = outcomes("expert", task, count).T
        ours, other = int(solved.sum()), round(package[task] * count)
        p = float(fisher_exact([[ours, count - ours], [other, count - other]]).pvalue)
        differ |= p < 0.01
        print(f"| {task} | {ours} of {count} | {other} of {count} | {p:.2f} | {returns.mean():.0f} |", flush=True)
    sys.exit(differ)


if __name__ == "__main__":
    main()
