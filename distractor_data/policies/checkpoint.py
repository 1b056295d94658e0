"""A training state that survives a kill: one uncompressed .npz, replay buffer included, without pickles."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from distractor_data.errors import DmaskError
from distractor_data.policies.learner import Settings, Tensors, actor_tensors

_AVERAGE = "average."
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def default_state(settings: Settings) -> Path:
    """The folder of a run's training state where none is given."""
    return Path("runs/experts") / f"{settings.env}-seed{settings.seed}"


def _learned(model: Any) -> dict[str, Any]:
    return {
        "actor": model.policy.actor_state,
        "critic": model.policy.qf_state,
        "temperature": model.ent_coef_state,
        "key": model.key,
    }


def save(path: Path, settings: Settings, model: Any, envs: Any, average: Tensors) -> None:
    """Everything that training goes on from, replay buffer included, as one uncompressed .npz without pickles."""
    from flax import serialization

    buffer = model.replay_buffer
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {f"buffer.{name}": getattr(buffer, name)[:filled] for name in _BUFFER}
    for name, state in _learned(model).items():
        arrays[f"learned.{name}"] = np.frombuffer(serialization.to_bytes(state), np.uint8)
    arrays |= {f"{_AVERAGE}{name}": tensor for name, tensor in average.items()}
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


def restore(path: Path, model: Any, envs: Any) -> Tensors:
    """The inverse of `save`, into a fresh model of the same settings; returns the averaged actor."""
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
        average = {name.removeprefix(_AVERAGE): file[name] for name in file.files if name.startswith(_AVERAGE)}
    model.policy.actor_state, model.policy.qf_state = learned["actor"], learned["critic"]
    model.ent_coef_state, model.key = learned["temperature"], learned["key"]
    return average or actor_tensors(model, envs)


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
