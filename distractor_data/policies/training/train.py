"""Train an expert on the suite's states: Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905).

Ours are the task as a Gymnasium environment (`learner`), a training state that survives a kill
(`checkpoint`), the choice of what to keep, and its export into the layout of `policies`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from distractor_data import envs, policies
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.policies.evaluate import HELD_OUT, SELECTION, returns, steps_by
from distractor_data.policies.training import checkpoint
from distractor_data.policies.training.learner import Learner, Tensors
from distractor_data.policies.training.settings import PPO, PPO_ENVS, PPO_RATES, UNUSED, Settings

CHUNK = 2000  # control steps between two looks at the clock
# Of the settings, those that a record's command names where they are not the default.
OPTIONS = (
    "algorithm",
    "target_entropy",
    "action_repeat",
    "batch_size",
    "n_steps",
    "discount",
    "episode_steps",
    "eval_every",
)


def save_policy(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    """Write a policy's file, whole or not at all."""
    from safetensors.numpy import save_file

    with storage.atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata)


def train(
    settings: Settings,
    out: Path,
    state_dir: Path,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Callable[[int], None] = lambda steps: None,
) -> Path:
    """Train until `settings.steps` and keep the best actor in `out`, its medium level in `medium_file(out)`.

    A better one that is in `out` already stays.

    `state_dir` holds the training state (`state.npz`, replay buffer included) and the actor of every evaluation;
    `report` gets a line per evaluation, `progress` the number of steps done. Returns `out`.
    Raises `DmaskError` where the environment is unknown, the library missing or the state another run's.
    """
    best = _best_there(out, settings.env)
    if importlib.util.find_spec("sbx") is None:
        raise DmaskError("training an expert needs sbx-rl; install it with: pip install 'dmask[experts]'")
    state = state_dir / "state.npz"
    learner = Learner(settings, checkpoint.check(state, settings, resume))
    state_dir.mkdir(parents=True, exist_ok=True)
    with storage.lock(state_dir, "--state"):
        if _begin(learner, state):
            report(f"resumed at {learner.steps:,} steps")
        _go_on(learner, out, state, best, report, progress)
    record = policies.read(out)[1]
    report(
        f"{out}: return {record['return_mean']} ± {record['return_std']} over {record['return_episodes']} unseen "
        f"episodes, after {int(record['steps']):,} steps"
    )
    return out


def _go_on(
    learner: Learner,
    out: Path,
    state: Path,
    best: float,
    report: Callable[[str], None],
    progress: Callable[[int], None],
) -> None:
    """Learn, measure and save until the settings' steps are done."""
    settings = learner.settings
    saved, cost = -np.inf, 0.0
    while learner.steps < settings.steps:
        due = min((learner.steps // settings.eval_every + 1) * settings.eval_every, settings.steps)
        learner.learn(min(CHUNK, min(due, learner.set_phase()) - learner.steps))
        progress(learner.steps)
        if learner.steps >= due:
            best = _evaluate(learner, out, state.parent, best, report)
        # At most a twentieth of the time goes into saving; a finished run is always saved.
        if learner.steps >= settings.steps or time.monotonic() - saved > max(10.0, 20 * cost):
            begun = time.monotonic()
            checkpoint.save(state, learner)
            saved = time.monotonic()
            cost = saved - begun


def _best_there(out: Path, env: str) -> float:
    """The selection return of the actor in `out`: of an earlier training, or of this one, newer than its state."""
    if envs.family_of(env) != "suite":
        raise DmaskError(f"--env {env}: only the suite's tasks are trained on; Meta-World's package has experts")
    envs.known(env)
    if out.suffix != policies.SUFFIX:
        raise DmaskError(f"--out {out}: a policy's file ends in {policies.SUFFIX}; name it so")
    if not out.exists():
        return -np.inf
    there = policies.read(out)[1]
    if there.get("env") != env:
        raise DmaskError(f"--out {out} holds a policy for {there.get('env')}; choose another name")
    return float(there.get("selection_return", -np.inf))


def _begin(learner: Learner, state: Path) -> bool:
    """Give a new learner what `state` holds, or the policy it begins with; True where there was a state.

    A copy of that policy lies beside `state`: what `expert` names may be replaced by what is trained.
    """
    for leftover in state.parent.glob(".*.tmp"):
        leftover.unlink()  # of a training that was killed while it saved
    resumed = state.exists()
    if start := learner.settings.start:
        copy = state.with_name(f"start{policies.SUFFIX}")
        source = copy if resumed and copy.exists() else policies.file_of(start, learner.settings.env)
        learner.begin_with(source)
        if source != copy:
            copy.write_bytes(source.read_bytes())
    if resumed:
        checkpoint.restore(state, learner)
    return resumed


def command(settings: Settings, out: Path) -> str:
    """What a shell is given for these settings; files without their folders, which are this machine's."""
    options = f"--env {settings.env} --steps {settings.steps} --seed {settings.seed} --out {out.name}"
    if settings.start:
        options += f" --from {Path(settings.start).name}"
    if settings.curriculum:
        options += " --curriculum"
    for name in OPTIONS:
        if (value := getattr(settings, name)) != getattr(Settings, name):
            options += f" --{name.replace('_', '-')} {value}"
    return f"dmask expert train {options}"


def _record(learner: Learner, out: Path) -> dict[str, str]:
    """The metadata of the learner's actor."""
    settings, before = learner.settings, learner.before
    used = dataclasses.asdict(settings)
    if settings.algorithm == "ppo":
        used = {name: value for name, value in used.items() if name not in UNUSED}
        used |= {**PPO, "num_envs": PPO_ENVS, "learning_rate": PPO_RATES}
    steps = steps_by(before) if "steps" in before else {}
    steps[settings.algorithm.upper()] = steps.get(settings.algorithm.upper(), 0) + learner.steps
    commands = [*json.loads(before.get("before", "[]")), before["command"]] if "command" in before else []
    return {
        "env": settings.env,
        "activation": "relu",
        "output": "tanh",
        "obs_norm_eps": "1e-8",
        "obs_clip": "10",
        "algorithm": settings.algorithm.upper(),
        "steps": str(sum(steps.values())),
        "steps_by": json.dumps(steps),
        "seed": str(settings.seed),
        "settings": json.dumps({**used, "start": Path(settings.start).name}),
        "versions": json.dumps({name: version(name) for name in ("sbx-rl", "jax", "mujoco", "dm_control")}),
        "command": command(settings, out),
        "before": json.dumps(commands),  # those that made what it began with, in order
    }


def _evaluate(learner: Learner, out: Path, state_dir: Path, best: float, report: Callable[[str], None]) -> float:
    """Measure the actor and keep it; export it where it is the best so far. Returns the best selection return."""
    settings, actor, record = learner.settings, learner.average, _record(learner, out)
    steps = int(record["steps"])
    kept = state_dir / f"actor-{steps:010d}.safetensors"
    seeds = [SELECTION + k for k in range(settings.eval_episodes)]
    chosen = returns(_network(actor, record), settings.env, seeds)
    save_policy(kept, actor, {**record, "selection_return": f"{chosen.mean():.2f}"})
    better = bool(chosen.mean() > best)
    stage = f"; in training {learner.curriculum.support:.0%} of the weight is carried" if learner.curriculum else ""
    report(f"{steps:,} steps: return {chosen.mean():.1f} ± {chosen.std():.1f}{', the best so far' * better}{stage}")
    if better:
        best = float(chosen.mean())
        export(kept, out, "expert", settings.final_episodes)
        export_medium(state_dir, out, settings.final_episodes)
    return best


def _network(tensors: Tensors, metadata: dict[str, str]) -> policies.Policy:
    sizes = tensors["obs_mean"].size, tensors["layers.2.bias"].size
    return policies.network("the actor", tensors, metadata, metadata["env"], *sizes)


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
