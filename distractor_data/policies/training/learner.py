"""The learner: SAC, Truncated Quantile Critics or PPO of `sbx-rl` (JAX on the processor) on the task's states.

With the first two, on one core the gradient steps cost most, not the simulator, so there are fewer of them than
environment steps: several environments a step, action repeat 2 while training (the policy is measured and used at
repeat 1), 3-step returns, LayerNorm in the critics and an actor updated every other time. PPO is for the last of the
way: from what the others have reached, without a replay buffer, it takes many times as many steps in the same time.

A training may begin with the actor of another one. The critics know nothing of it, and would undo it: they learn
alone at first, from what it does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import policies
from distractor_data.errors import DmaskError
from distractor_data.policies.training.curriculum import Curriculum
from distractor_data.policies.training.settings import AVERAGE, LOG_STD, PPO, PPO_RATES, Settings

Tensors = dict[str, np.ndarray]


def make_model(settings: Settings, envs: Any) -> Any:
    """The learner, untrained."""
    # The matrices are too small to gain by more threads. JAX reads this once, when it starts.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import sbx
    from flax import linen

    network = [settings.hidden, settings.hidden]
    if settings.algorithm == "ppo":
        noise = LOG_STD if settings.start else 0.0

        class TwoRates(sbx.PPO):
            """The library's has one rate for both networks, and a critic that lags spoils what the actor learns."""

            def _update_learning_rate(self, optimizers: Any, learning_rate: float) -> None:  # type: ignore[override]
                for optimizer, rate in zip(optimizers, (learning_rate, PPO_RATES[1]), strict=True):
                    super()._update_learning_rate(optimizer, rate)

        return TwoRates(
            "MlpPolicy",
            envs,
            learning_rate=PPO_RATES[0],
            gamma=settings.discount,
            policy_kwargs={"net_arch": network, "activation_fn": linen.relu, "log_std_init": noise},
            seed=settings.seed,
            **PPO,
        )
    # An actor that knows something needs little noise, one that is helped up less than one that must explore.
    temperature = 0.01 if settings.start else 0.05 if settings.curriculum else 1.0
    return getattr(sbx, settings.algorithm.upper())(
        "MlpPolicy",
        envs,
        learning_rate=settings.learning_rate,
        qf_learning_rate=settings.learning_rate,
        buffer_size=settings.buffer,
        learning_starts=0 if settings.start else settings.warmup // settings.action_repeat,
        batch_size=settings.batch_size,
        gamma=settings.discount,
        n_steps=settings.n_steps,
        gradient_steps=settings.updates,
        policy_delay=2,
        ent_coef=f"auto_{temperature}",
        target_entropy=settings.target_entropy * envs.action_space.shape[0],
        policy_kwargs={"layer_norm": True, "net_arch": network},
        seed=settings.seed,
    )


def averaged(average: Tensors, latest: Tensors, steps: int, since: int, over: int = AVERAGE["sac"]) -> Tensors:
    """The running mean of the actor over about the last `over` steps, or a tenth of a shorter training.

    What is learnt jumps about the best that is known; the mean of it acts better than the last of it.
    `latest` is the actor after `steps` steps, `average` the mean after `since`.
    """
    share = min((steps - since) / min(over, steps / 10), 1.0)
    return {name: tensor + np.float32(share) * (latest[name] - tensor) for name, tensor in average.items()}


class Learner:
    """A training, and what it has learnt after `steps` control steps.

    `average` is the running mean of its actor, which is what counts; `before` the metadata of the policy that it
    began with, if it did. `begun` varies the episodes of a training that goes on.
    """

    def __init__(self, settings: Settings, begun: int = 0) -> None:
        from stable_baselines3.common.logger import Logger

        from distractor_data.policies.training.environments import make_envs  # which needs the extra's packages

        self.settings = settings
        self.curriculum = Curriculum(settings.env) if settings.curriculum else None
        self.envs = make_envs(settings, begun, self.curriculum)
        self.model = make_model(settings, self.envs)
        self.model.set_logger(Logger(None, []))  # the library's own makes a temporary folder at every `learn`
        self.average = self.actor_tensors()
        self.before: dict[str, str] = {}

    @property
    def steps(self) -> int:
        """Control steps done."""
        return int(self.model.num_timesteps) * self.settings.action_repeat

    def learn(self, steps: int) -> None:
        """Go on for about so many control steps (whole steps of all environments)."""
        since = self.steps
        self.model.learn(-(-steps // self.settings.action_repeat), reset_num_timesteps=False, log_interval=None)
        over = AVERAGE[self.settings.algorithm]
        self.average = averaged(self.average, self.actor_tensors(), self.steps, since, over)

    def actor_tensors(self) -> Tensors:
        """The actor's mean and the normalisation of its states, in the layout of `policies`."""
        params = self.model.policy.actor_state.params["params"]
        tensors = {"obs_mean": self.envs.obs_rms.mean, "obs_var": self.envs.obs_rms.var}
        for index in range(3):
            layer = params[f"Dense_{index}"]
            tensors[f"layers.{index}.weight"] = np.asarray(layer["kernel"]).T
            tensors[f"layers.{index}.bias"] = np.asarray(layer["bias"])
        return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}

    def begin_with(self, policy: Path) -> None:
        """Take the actor and the normalisation of a policy's file.

        Raises `DmaskError` where the file is not of the learner's sizes and activations.
        """
        tensors, metadata = policies.read(policy)
        here = {name: tensor.shape for name, tensor in self.average.items()}
        there = {name: tensor.shape for name, tensor in tensors.items()}
        if there != here or (metadata.get("activation"), metadata.get("output")) != ("relu", "tanh"):
            raise DmaskError(f"--from {policy} is not of this training's layout; give a file of `dmask expert train`")
        model, states = self.model, self.envs.obs_rms
        params = dict(model.policy.actor_state.params["params"])
        for index in range(3):
            kernel, bias = tensors[f"layers.{index}.weight"].T, tensors[f"layers.{index}.bias"]
            params[f"Dense_{index}"] = {"kernel": kernel, "bias": bias}
        if noise := params.get("Dense_3"):  # PPO's has one deviation for all states
            params["Dense_3"] = {"kernel": 0 * noise["kernel"], "bias": 0 * noise["bias"] + LOG_STD}
        model.policy.actor_state = model.policy.actor_state.replace(params={"params": params})
        states.mean, states.var = (tensors[name].astype(np.float64) for name in ("obs_mean", "obs_var"))
        states.count = max(float(metadata.get("steps", 0)), 1e5)
        self.average, self.before = self.actor_tensors(), metadata

    def set_phase(self) -> int:
        """What learns now: with a `start` nothing, then the critics alone, then all. Returns when that ends."""
        settings, steps = self.settings, self.steps
        critics, actor = (settings.warmup, settings.warmup + settings.critic_first) if settings.start else (0, 0)
        rate = PPO_RATES[0] if settings.algorithm == "ppo" else settings.learning_rate
        self.model.gradient_steps = settings.updates if steps >= critics else 0  # PPO has no such number
        self.model.lr_schedule = lambda progress: rate if steps >= actor else 0.0  # the actor's
        return next((end for end in (critics, actor) if steps < end), settings.steps)
