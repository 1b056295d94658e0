"""A training state that survives a kill: one uncompressed .npz, replay buffer included, without pickles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.policies.training.learner import Learner
from distractor_data.policies.training.settings import Settings

_AVERAGE = "average."
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def default_state(settings: Settings) -> Path:
    """The folder of a run's training state where none is given."""
    return Path("runs/experts") / f"{settings.env}-seed{settings.seed}"


def _learned(learner: Learner) -> dict[str, tuple[Any, str]]:
    """Where what is learnt stands, by name: (its owner, its attribute there)."""
    model = learner.model
    critics = {"sac": {"critic": "qf_state"}, "tqc": {"critic1": "qf1_state", "critic2": "qf2_state"}}
    critics["ppo"] = {"critic": "vf_state"}
    attributes = {"actor": "actor_state", **critics[learner.settings.algorithm]}
    learned = {name: (model.policy, attribute) for name, attribute in attributes.items()}
    if learner.settings.algorithm == "ppo":
        return {**learned, "key": (model.policy, "key")}
    return {**learned, "temperature": (model, "ent_coef_state"), "key": (model, "key")}


def save(path: Path, learner: Learner) -> None:
    """Everything that training goes on from, replay buffer included, as one uncompressed .npz without pickles."""
    from flax import serialization

    model, states = learner.model, learner.envs.obs_rms
    counters, arrays = [model.num_timesteps, model._n_updates], {}
    if buffer := getattr(model, "replay_buffer", None):  # PPO has none
        filled = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {f"buffer.{name}": getattr(buffer, name)[:filled] for name in _BUFFER}
        counters += [buffer.pos, buffer.full]
    for name, (owner, attribute) in _learned(learner).items():
        arrays[f"learned.{name}"] = np.frombuffer(serialization.to_bytes(getattr(owner, attribute)), np.uint8)
    arrays |= {f"{_AVERAGE}{name}": tensor for name, tensor in learner.average.items()}
    if learner.curriculum:
        arrays["support"] = np.array(learner.curriculum.support)
    with storage.atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            settings=np.array(json.dumps(dataclasses.asdict(learner.settings))),
            counters=np.array(counters),
            obs_mean=states.mean,
            obs_var=states.var,
            obs_count=np.array(states.count),
            **arrays,
        )


def restore(path: Path, learner: Learner) -> None:
    """The inverse of `save`, into a fresh learner of the same settings."""
    from flax import serialization

    model, states = learner.model, learner.envs.obs_rms
    with np.load(path, allow_pickle=False) as file:
        for name, (owner, attribute) in _learned(learner).items():
            state = serialization.from_bytes(getattr(owner, attribute), file[f"learned.{name}"].tobytes())
            setattr(owner, attribute, state)
        model.num_timesteps, model._n_updates, *filled = (int(n) for n in file["counters"])
        if filled:
            buffer = model.replay_buffer
            buffer.pos, buffer.full = filled[0], bool(filled[1])
            for name in _BUFFER:
                saved = file[f"buffer.{name}"]
                getattr(buffer, name)[: len(saved)] = saved
            buffer.timeouts[buffer.pos - 1] = 1  # the kill cut these episodes: no n-step return goes across
        states.mean, states.var, states.count = file["obs_mean"], file["obs_var"], float(file["obs_count"])
        if learner.curriculum:
            learner.curriculum.support = float(file["support"])
        average = {name.removeprefix(_AVERAGE): file[name] for name in file.files if name.startswith(_AVERAGE)}
    learner.average = average or learner.actor_tensors()


def check(path: Path, settings: Settings, resume: bool) -> int:
    """Steps that were done, 0 for a fresh start. Raises `DmaskError` where that isn't what was asked for."""
    if not path.exists():
        if resume:
            raise DmaskError(f"{path} is not there, so nothing can be resumed; leave out --resume")
        return 0
    if not resume:
        raise DmaskError(f"{path} holds an earlier training; add --resume to continue it, or delete it")
    try:
        with np.load(path, allow_pickle=False) as file:
            now, defaults = dataclasses.asdict(settings), dataclasses.asdict(Settings(settings.env))
            then = {**defaults, **json.loads(str(file["settings"]))}  # an option that was not yet had its default
            steps = int(file["counters"][0]) * then["action_repeat"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DmaskError(f"{path} is no whole training state ({error}); delete it and start again") from error
    odd = [f"{name} ({then[name]} there, {now[name]} now)" for name in now if then[name] != now[name]]
    odd = [text for text in odd if not text.startswith("steps ")]
    if odd:
        raise DmaskError(f"{path} belongs to other settings: {', '.join(odd)}; give those, or delete it")
    return steps
