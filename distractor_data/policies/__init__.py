"""Policies that act on the task's state: uniformly random, or an expert's network from a safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from distractor_data.errors import DmaskError, nearest

NAMES = ("random",)


class Policy(Protocol):
    """What acts. `rng` is the episode's own stream, so that a policy may be stochastic and still repeatable."""

    def act(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Action in [-1, 1]^A for a state (S,) float32."""
        ...


@dataclass(frozen=True)
class RandomPolicy:
    """Uniform in [-1, 1]."""

    action_size: int

    def act(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, self.action_size)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}
_OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "clip": lambda x: np.clip(x, -1, 1),
}


@dataclass(frozen=True)
class NetworkPolicy:
    """A multilayer perceptron on the normalised state."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # (weight (out, in), bias (out,)) float32
    mean: np.ndarray  # (S,)
    scale: np.ndarray  # (S,), one over the standard deviation
    clip: float  # of the normalised state
    activation: str
    output: str

    def act(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = np.clip((state - self.mean) * self.scale, -self.clip, self.clip)
        *hidden, (weight, bias) = self.layers
        for hidden_weight, hidden_bias in hidden:
            x = _ACTIVATIONS[self.activation](hidden_weight @ x + hidden_bias)
        return _OUTPUTS[self.output](weight @ x + bias)


def load(policy: str, env: str, state_size: int, action_size: int) -> Policy:
    """The policy of a name or of a `.safetensors` file, checked against the environment it is to act in.

    Raises `DmaskError` for an unknown name, a missing or damaged file, another environment or wrong sizes.
    """
    if policy == "random":
        return RandomPolicy(action_size)
    if not policy.endswith(".safetensors"):
        close = nearest(policy, NAMES)
        raise DmaskError(f"--policy {policy}: give one of {', '.join(NAMES)} or a .safetensors file{close}")
    return _read(Path(policy), env, state_size, action_size)


def digest(policy: str) -> str:
    """SHA-256 of a policy's file, shortened; empty for a name."""
    if not policy.endswith(".safetensors"):
        return ""
    try:
        return hashlib.sha256(Path(policy).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DmaskError(f"--policy {policy}: can't be read ({error.strerror}); give a file that exists") from error


def _read(path: Path, env: str, state_size: int, action_size: int) -> NetworkPolicy:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            meta = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DmaskError(f"--policy {path}: can't be read as safetensors ({error}); give a whole file") from error
    where = f"--policy {path}"
    if meta.get("env", env) != env:
        raise DmaskError(f"{where} was trained on {meta['env']}, not on {env}; give --env {meta['env']}")
    depth = sum(name.startswith("layers.") and name.endswith(".weight") for name in tensors)
    names = {
        "obs_mean",
        "obs_var",
        *(f"layers.{i}.{part}" for i in range(depth) for part in ("weight", "bias")),
    }
    if not depth or names != set(tensors):
        odd = ", ".join(sorted(names ^ set(tensors))) or "no layers"
        raise DmaskError(f"{where} is no policy of dmask's layout (missing or unknown: {odd})")
    sizes = [state_size]
    for i in range(depth):
        weight, bias = tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]
        out = action_size if i == depth - 1 else len(bias)
        if weight.shape != (out, sizes[-1]) or bias.shape != (out,):
            raise DmaskError(
                f"{where}: layer {i} is {weight.shape} with a bias of {bias.shape}, and {env} needs "
                f"{(out, sizes[-1])}; give a policy that was trained on {env}"
            )
        sizes.append(out)
    for name in ("obs_mean", "obs_var"):
        if tensors[name].shape != (state_size,):
            raise DmaskError(f"{where}: {name} has {tensors[name].shape}, and {env} has {state_size} state values")
    activation, output = meta.get("activation", ""), meta.get("output", "")
    if activation not in _ACTIVATIONS or output not in _OUTPUTS:
        raise DmaskError(f"{where}: activation {activation!r} or output {output!r} is unknown to this version")
    return NetworkPolicy(
        layers=tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(depth)),
        mean=tensors["obs_mean"],
        scale=1 / np.sqrt(tensors["obs_var"] + float(meta.get("obs_norm_eps", "0"))),
        clip=float(meta.get("obs_clip", "inf")),
        activation=activation,
        output=output,
    )
