"""Train an expert on the suite's states: Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905).

The learner is `sbx-rl` (JAX on the processor). Ours are the task as a Gymnasium environment, a training state that
survives a kill and holds no pickles, and the export of the actor into the layout of `policies`.

On one core the gradient steps cost most, not the simulator, so there are fewer of them than environment steps:
several environments a step, action repeat 2 while training (the policy is measured and used at repeat 1), 3-step
returns, LayerNorm in the critics and an actor updated every other time.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from distractor_data import policies
from distractor_data.envs.suite import flatten
from distractor_data.errors import DmaskError
from distractor_data.policies.evaluate import (
    HELD_OUT,
    SELECTION,
    load_task,
    returns,
    task_action,
)

CHUNK = 2000  # control steps between two looks at the clock
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Settings:
    """What a training run depends on. Steps are control steps of the environment, whatever the repeat."""

    env: str
    steps: int = 3_000_000
    seed: int = 0
    action_repeat: int = 2
    num_envs: int = 8
    updates: int = 4  # gradient steps for each step of all environments
    batch_size: int = 128
    hidden: int = 256
    n_steps: int = 3
    discount: float = 0.99
    learning_rate: float = 3e-4
    target_entropy: float = -0.5  # nats a dimension of the action; at -1 walker-run learnt more slowly
    warmup: int = 10_000  # steps of random actions at the beginning
    buffer: int = 1_000_000  # transitions
    eval_every: int = 50_000
    eval_episodes: int = 5  # for choosing a checkpoint; what is reported has `final_episodes`
    final_episodes: int = 20

    def __post_init__(self) -> None:
        for field in ("steps", "eval_every"):
            if getattr(self, field) < 1:
                raise DmaskError(f"--{field.replace('_', '-')} is {getattr(self, field)}; give at least 1")
        if self.seed < 0:
            raise DmaskError(f"--seed is {self.seed}; give a number of at least 0")


def make_vec_env(settings: Settings, start: int) -> Any:
    """`num_envs` copies of the task behind a running normalisation of the states; `start` varies their seeds."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    class StateEnv(gym.Env):
        """The task on flat states, each action in [-1, 1] applied `action_repeat` times."""

        def __init__(self, seed: int) -> None:
            self.task = load_task(settings.env, seed)
            self.bounds = self.task.action_spec()
            size = flatten(self.task.reset().observation).size
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
            self.action_space = gym.spaces.Box(-1, 1, self.bounds.shape, np.float32)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return flatten(self.task.reset().observation), {}

        def step(self, action: np.ndarray) -> Any:
            reward = 0.0
            for _ in range(settings.action_repeat):
                step = self.task.step(task_action(self.bounds, action))
                reward += step.reward
                if step.last():
                    break
            fallen, timed_out = step.last() and step.discount == 0, step.last() and step.discount > 0
            return flatten(step.observation), reward, fallen, timed_out, {}

    def seeded(index: int) -> Callable[[], gym.Env]:
        seed = np.random.SeedSequence((settings.seed, index, start)).generate_state(1)[0] % SELECTION
        return lambda: StateEnv(int(seed))

    envs = DummyVecEnv([seeded(index) for index in range(settings.num_envs)])
    return VecNormalize(envs, norm_reward=False, clip_obs=10.0, gamma=settings.discount)


def make_model(settings: Settings, envs: Any) -> Any:
    """The learner, untrained."""
    # The matrices are too small to gain by more threads. JAX reads this once, when it starts.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from sbx import SAC

    return SAC(
        "MlpPolicy",
        envs,
        learning_rate=settings.learning_rate,
        buffer_size=settings.buffer,
        learning_starts=settings.warmup // settings.action_repeat,
        batch_size=settings.batch_size,
        gamma=settings.discount,
        n_steps=settings.n_steps,
        gradient_steps=settings.updates,
        policy_delay=2,
        target_entropy=settings.target_entropy * envs.action_space.shape[0],
        policy_kwargs={"layer_norm": True, "net_arch": [settings.hidden, settings.hidden]},
        seed=settings.seed,
    )


def actor_tensors(model: Any, envs: Any) -> dict[str, np.ndarray]:
    """The actor's mean and the normalisation of its states, in the layout of `policies`."""
    params = model.policy.actor_state.params["params"]
    tensors = {"obs_mean": envs.obs_rms.mean, "obs_var": envs.obs_rms.var}
    for index in range(3):
        layer = params[f"Dense_{index}"]
        tensors[f"layers.{index}.weight"] = np.asarray(layer["kernel"]).T
        tensors[f"layers.{index}.bias"] = np.asarray(layer["bias"])
    return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def default_state(settings: Settings) -> Path:
    """The folder of a run's training state where none is given."""
    return Path("runs/experts") / f"{settings.env}-seed{settings.seed}"


def save_policy(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a policy's file, whole or not at all."""
    from safetensors.numpy import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(tensors, temporary, metadata)
    os.replace(temporary, path)


def _learned(model: Any) -> dict[str, Any]:
    return {
        "actor": model.policy.actor_state,
        "critic": model.policy.qf_state,
        "temperature": model.ent_coef_state,
        "key": model.key,
    }


def save_state(path: Path, settings: Settings, model: Any, envs: Any) -> None:
    """Everything that training goes on from, replay buffer included, as one uncompressed .npz without pickles."""
    from flax import serialization

    buffer = model.replay_buffer
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {f"buffer.{name}": getattr(buffer, name)[:filled] for name in _BUFFER}
    for name, state in _learned(model).items():
        arrays[f"learned.{name}"] = np.frombuffer(serialization.to_bytes(state), np.uint8)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        settings=np.array(json.dumps(dataclasses.asdict(settings))),
        counters=np.array([model.num_timesteps, model._n_updates, buffer.pos, buffer.full]),
        obs_mean=envs.obs_rms.mean,
        obs_var=envs.obs_rms.var,
        obs_count=np.array(envs.obs_rms.count),
        **arrays,
    )
    os.replace(temporary, path)


def restore_state(path: Path, model: Any, envs: Any) -> None:
    """The inverse of `save_state`, into a fresh model of the same settings."""
    from flax import serialization

    with np.load(path, allow_pickle=False) as file:
        learned = {
            name: serialization.from_bytes(state, file[f"learned.{name}"].tobytes())
            for name, state in _learned(model).items()
        }
        buffer = model.replay_buffer
        counters = [int(n) for n in file["counters"]]
        model.num_timesteps, model._n_updates, buffer.pos, buffer.full = *counters[:3], bool(counters[3])
        for name in _BUFFER:
            saved = file[f"buffer.{name}"]
            getattr(buffer, name)[: len(saved)] = saved
        buffer.timeouts[buffer.pos - 1] = 1  # the kill cut these episodes: no n-step return goes across
        envs.obs_rms.mean, envs.obs_rms.var = file["obs_mean"], file["obs_var"]
        envs.obs_rms.count = float(file["obs_count"])
    model.policy.actor_state, model.policy.qf_state = learned["actor"], learned["critic"]
    model.ent_coef_state, model.key = learned["temperature"], learned["key"]


def _check_state(path: Path, settings: Settings, resume: bool) -> int:
    """Steps that were done, 0 for a fresh start. Raises `DmaskError` where that isn't what was asked for."""
    if not path.exists():
        if resume:
            raise DmaskError(f"{path} is not there, so nothing can be resumed; leave out --resume")
        return 0
    if not resume:
        raise DmaskError(f"{path} holds an earlier training; add --resume to continue it, or delete it")
    try:
        with np.load(path, allow_pickle=False) as file:
            then, now = json.loads(str(file["settings"])), dataclasses.asdict(settings)
            steps = int(file["counters"][0]) * then["action_repeat"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DmaskError(f"{path} is no whole training state ({error}); delete it and start again") from error
    odd = [f"{name} ({then.get(name)} there, {now[name]} now)" for name in now if then.get(name) != now[name]]
    odd = [text for text in odd if not text.startswith("steps ")]
    if odd:
        raise DmaskError(f"{path} belongs to other settings: {', '.join(odd)}; give those, or delete it")
    return steps


def train(
    settings: Settings,
    out: Path,
    state_dir: Path,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Callable[[int], None] = lambda steps: None,
) -> Path:
    """Train until `settings.steps` and keep the best actor in `out`, its medium level in `medium_file(out)`.

    `state_dir` holds the training state (`state.npz`, replay buffer included) and the actor of every evaluation;
    `report` gets a line per evaluation, `progress` the number of steps done. Returns `out`.
    Raises `DmaskError` where the environment is unknown, the library missing or the state another run's.
    """
    if importlib.util.find_spec("sbx") is None:
        raise DmaskError("training an expert needs sbx-rl; install it with: pip install 'dmask[experts]'")
    if out.suffix != policies.SUFFIX:
        raise DmaskError(f"--out {out}: a policy's file ends in {policies.SUFFIX}; name it so")
    state = state_dir / "state.npz"
    load_task(settings.env, 0)
    start = _check_state(state, settings, resume)
    envs = make_vec_env(settings, start)
    model = make_model(settings, envs)
    state_dir.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    best = -np.inf
    if start:
        restore_state(state, model, envs)
        if out.exists():  # it may be newer than the state
            best = float(policies.read(out)[1].get("selection_return", best))
        report(f"resumed at {start:,} steps")
    steps, saved, cost = start, -np.inf, 0.0
    while steps < settings.steps:
        due = min((steps // settings.eval_every + 1) * settings.eval_every, settings.steps)
        wanted = -(-min(CHUNK, due - steps) // settings.action_repeat)
        model.learn(wanted, reset_num_timesteps=False, log_interval=None)
        steps = model.num_timesteps * settings.action_repeat
        progress(steps)
        if steps >= due:
            best = _evaluate(settings, out, state_dir, model, envs, steps, best, report)
        # At most a twentieth of the time goes into saving; a finished run is always saved.
        if steps >= settings.steps or time.monotonic() - saved > max(10.0, 20 * cost):
            begun = time.monotonic()
            save_state(state, settings, model, envs)
            saved = time.monotonic()
            cost = saved - begun
    record = policies.read(out)[1]
    report(
        f"{out}: return {record['return_mean']} ± {record['return_std']} over {record['return_episodes']} unseen "
        f"episodes, after {int(record['steps']):,} steps"
    )
    return out


def _evaluate(
    settings: Settings,
    out: Path,
    state_dir: Path,
    model: Any,
    envs: Any,
    steps: int,
    best: float,
    report: Callable[[str], None],
) -> float:
    """Measure the actor and keep it; export it where it is the best so far. Returns the best selection return."""
    metadata = {
        "env": settings.env,
        "activation": "relu",
        "output": "tanh",
        "obs_norm_eps": "1e-8",
        "obs_clip": "10",
        "algorithm": "SAC",
        "steps": str(steps),
        "seed": str(settings.seed),
        "settings": json.dumps(dataclasses.asdict(settings)),
        "versions": json.dumps({name: version(name) for name in ("sbx-rl", "jax", "mujoco", "dm_control")}),
        "command": _command(settings, out),
    }
    actor = state_dir / f"actor-{steps:010d}.safetensors"
    tensors = actor_tensors(model, envs)
    seeds = [SELECTION + k for k in range(settings.eval_episodes)]
    chosen = returns(_network(tensors, metadata), settings.env, seeds)
    metadata["selection_return"] = f"{chosen.mean():.2f}"
    save_policy(actor, tensors, metadata)
    better = bool(chosen.mean() > best)
    report(f"{steps:,} steps: return {chosen.mean():.1f} ± {chosen.std():.1f}{', the best so far' * better}")
    if better:
        best = float(chosen.mean())
        export(actor, out, "expert", settings.final_episodes)
        export_medium(state_dir, out, settings.final_episodes)
    return best


def _network(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> policies.Policy:
    sizes = tensors["obs_mean"].size, tensors["layers.2.bias"].size
    return policies.network("the actor", tensors, metadata, metadata["env"], *sizes)


def _command(settings: Settings, out: Path) -> str:
    return f"dmask expert train --env {settings.env} --steps {settings.steps} --seed {settings.seed} --out {out.name}"


def medium_file(out: Path) -> Path:
    """`walker-run-expert.safetensors` → `walker-run-medium.safetensors`."""
    return out.with_name(f"{out.stem.removesuffix('-expert')}-medium{policies.SUFFIX}")


def export(actor: Path, out: Path, level: str, episodes: int) -> np.ndarray:
    """Write `actor` to `out` with its level and its measured return on the held-out seeds, which it returns."""
    tensors, metadata = policies.read(actor)
    seeds = [HELD_OUT + k for k in range(episodes)]
    measured = returns(_network(tensors, metadata), metadata["env"], seeds)
    record = {
        "level": level,
        "return_mean": f"{measured.mean():.2f}",
        "return_std": f"{measured.std():.2f}",
        "return_episodes": str(episodes),
    }
    save_policy(out, tensors, {**metadata, **record})
    return measured


def export_medium(state_dir: Path, out: Path, episodes: int) -> Path | None:
    """Beside `out`, the earlier actor of the same training whose return is nearest to half of the expert's.

    The few episodes of the selection give the order, those of the record decide: None, and no file, where no kept
    actor lies between a quarter and three quarters of the expert by both.
    """
    medium = medium_file(out)
    expert = policies.read(out)[1]
    kept = {path: policies.read(path)[1] for path in state_dir.glob("actor-*.safetensors")}

    def share(record: dict[str, str], measure: str) -> float:
        return float(record[measure]) / max(float(expert[measure]), 1e-9)

    off = {path: abs(share(record, "selection_return") - 0.5) for path, record in kept.items()}
    for actor in sorted((path for path in kept if off[path] < 0.25), key=lambda path: (off[path], path)):
        if not medium.exists() or policies.read(medium)[1]["steps"] != kept[actor]["steps"]:
            export(actor, medium, "medium", episodes)
        if abs(share(policies.read(medium)[1], "return_mean") - 0.5) < 0.25:
            return medium
    medium.unlink(missing_ok=True)
    return None
