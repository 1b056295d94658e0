"""What the training of a policy depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from distractor_data.errors import DmaskError
from distractor_data.policies.evaluate import STEPS
from distractor_data.spec import full_name

AVERAGE = {"sac": 40_000, "tqc": 40_000, "ppo": 400_000}  # steps
# Steps in which a training that begins with an actor learns its critics alone. PPO's critic begins anew and has few
# gradient steps: with 50,000 hopper-hop lost 4 of 303 at first, and took 3 M steps to make it up.
CRITIC_FIRST = {"sac": 50_000, "tqc": 50_000, "ppo": 500_000}
ALGORITHMS = "sac", "tqc", "ppo"
# Near the end gradients are mostly noise, so batches are large: with a quarter of that hopper-hop got no further.
PPO: dict[str, Any] = {"n_steps": 256, "batch_size": 8192, "n_epochs": 6, "gae_lambda": 0.97}
PPO_RATES = 3e-4, 1e-3  # of learning: the actor's and the critic's
PPO_ENVS = 128
OFF_POLICY = "curriculum", "target_entropy", "batch_size", "n_steps"  # options that PPO doesn't have
UNUSED = *OFF_POLICY, "updates", "buffer"  # settings that PPO doesn't have
LOG_STD = -1.6  # of an actor's noise where a training begins with it; the target entropy is near


@dataclass(frozen=True)
class Settings:
    """What a training run depends on. Steps are control steps of the environment, whatever the repeat."""

    env: str
    steps: int = 3_000_000
    seed: int = 0
    algorithm: str = "sac"  # or "tqc" or "ppo"
    curriculum: bool = False  # help in getting up
    action_repeat: int = 2
    num_envs: int = 8  # PPO: `PPO_ENVS`
    updates: int = 4  # gradient steps for each step of all environments
    batch_size: int = 128
    hidden: int = 256
    n_steps: int = 3
    episode_steps: int = STEPS  # control steps of an episode of the training; the fewer, the more beginnings it sees
    discount: float = 0.99
    learning_rate: float = 3e-4
    target_entropy: float = -0.5  # nats a dimension of the action; at -1 walker-run learnt more slowly
    start: str = ""  # begin with the actor of this policy: a .safetensors file, or a shipped level
    warmup: int = 10_000  # steps of random actions at the beginning, or of `start`'s
    critic_first: int = -1  # steps in which, after those, only `start`'s critics learn; -1: `CRITIC_FIRST`'s number
    buffer: int = 1_000_000  # transitions
    eval_every: int = 50_000
    eval_episodes: int = 20  # for choosing a checkpoint, on other seeds than what is reported; 5 missed rare failures
    final_episodes: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", full_name(self.env))
        for field in ("steps", "eval_every", "action_repeat", "batch_size", "n_steps", "episode_steps"):
            if getattr(self, field) < 1:
                raise DmaskError(f"--{field.replace('_', '-')} is {getattr(self, field)}; give at least 1")
        if not self.action_repeat <= self.episode_steps <= STEPS:
            odd_steps = f"--episode-steps is {self.episode_steps} with --action-repeat {self.action_repeat}"
            raise DmaskError(f"{odd_steps}; give at least the repeat and at most {STEPS}")
        if self.seed < 0:
            raise DmaskError(f"--seed is {self.seed}; give a number of at least 0")
        if not 0 < self.discount < 1:
            raise DmaskError(f"--discount is {self.discount}; give a number between 0 and 1, such as 0.99")
        if self.algorithm not in ALGORITHMS:
            raise DmaskError(f"--algorithm is {self.algorithm}; give {', '.join(ALGORITHMS)}")
        if self.critic_first < 0:
            object.__setattr__(self, "critic_first", CRITIC_FIRST[self.algorithm])
        odd = [name for name in OFF_POLICY if getattr(self, name) != getattr(Settings, name)]
        if self.algorithm == "ppo" and odd:
            raise DmaskError(f"--{odd[0].replace('_', '-')} is not for --algorithm ppo; leave it out")
        if not -10 < self.target_entropy < math.log(2):  # which is that of uniform actions
            raise DmaskError(f"--target-entropy is {self.target_entropy}; give a number such as -0.5 or -1")
