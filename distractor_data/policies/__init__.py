"""Policies that act on the task's state: uniformly random, a network from a safetensors file, or a script.

The package ships an expert and a medium network for some environments in `weights`; `train` makes them. Those of
Meta-World are scripts that come with its own package.
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from distractor_data.errors import DmaskError, nearest
from distractor_data.policies import scripted
from distractor_data.policies.file import content, read, refuse_values
from distractor_data.spec import family_of

WEIGHTS = Path(__file__).parent / "weights"
NAMES = ("expert", "medium", "mixed", "random")
MIXTURE = ("expert", "medium", "random")  # what an episode of `mixed` is drawn from, each as likely
SUFFIX = ".safetensors"


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
    """The policy of a level or of a `.safetensors` file, checked against the environment it is to act in.

    `mixed` is no policy but a choice for each episode: give what `draw_level` returns.
    Raises `DmaskError` for an unknown name, a missing or damaged file, another environment or wrong sizes.
    """
    refuse_unknown(policy)
    if policy == "random":
        return RandomPolicy(action_size)
    if is_scripted(policy, env):
        return scripted.load(policy, env)
    tensors, metadata = read(file_of(policy, env))
    return network(f"--policy {policy}", tensors, metadata, env, state_size, action_size)


def levels_of(policy: str) -> tuple[str, ...]:
    """What an episode of a policy can be acted by: the levels of `mixed`, or the policy itself."""
    return MIXTURE if policy == "mixed" else (policy,)


def draw_level(policy: str, rng: np.random.Generator) -> str:
    """The level of one episode: for `mixed` one of `MIXTURE`, for all else `policy` itself."""
    levels = levels_of(policy)
    return levels[rng.integers(len(levels))] if len(levels) > 1 else policy


def level_name(policy: str) -> str:
    """How an episode's record names its policy: the level, or `file` for a safetensors file."""
    return "file" if policy.endswith(SUFFIX) else policy


def is_scripted(policy: str, env: str) -> bool:
    """Whether a level, which is none of a file's, acts by a script of Meta-World's package."""
    return family_of(env) == "metaworld" and not policy.endswith(SUFFIX)


def has_expert(env: str) -> bool:
    """Whether there is an expert of an environment, by its full name."""
    return family_of(env) == "metaworld" or weights_file("expert", env).exists()


def weights_file(level: str, env: str) -> Path:
    """Where the package keeps the network of a level."""
    return WEIGHTS / f"{env}-{level}{SUFFIX}"


def shipped(level: str = "expert") -> list[str]:
    """Environments for which the package has weights of a level."""
    ending = f"-{level}{SUFFIX}"
    return sorted(path.name.removesuffix(ending) for path in WEIGHTS.glob(f"*{ending}"))


def digest(policy: str, env: str) -> str:
    """SHA-256 of what a policy's file or level holds, shortened; empty for `random`."""
    refuse_unknown(policy)
    levels = [level for level in levels_of(policy) if level != "random"]
    blobs = [
        scripted.content(level, env) if is_scripted(level, env) else content(file_of(level, env)) for level in levels
    ]
    return hashlib.sha256(b"".join(blobs)).hexdigest()[:16] if blobs else ""


def recorded_return(policy: str, env: str) -> float | None:
    """The mean return that a policy's file says it reaches without distractors; None where none says so."""
    if policy in ("random", "mixed") or is_scripted(policy, env):
        return None
    mean = read(file_of(policy, env))[1].get("return_mean")
    return None if mean is None else float(mean)


def file_of(policy: str, env: str) -> Path:
    """The file of a level or the file itself. Raises `DmaskError` for unknown names and what isn't shipped."""
    if policy.endswith(SUFFIX):
        return Path(policy)
    refuse_unknown(policy)
    path = weights_file(policy, env)
    if not path.exists():
        raise DmaskError(
            f"no {policy} policy for {env} comes with dmask, only for {', '.join(shipped(policy)) or 'none'}; train "
            f"one with `dmask expert train --env {env} --out {env}-expert{SUFFIX}` and give --policy "
            f"{env}-{policy}{SUFFIX}, or choose --policy random"
        )
    return path


def refuse_unknown(policy: str) -> None:
    """Raise `DmaskError` where a policy is neither a level nor a file."""
    if policy not in NAMES and not policy.endswith(SUFFIX):
        close = nearest(policy, NAMES)
        raise DmaskError(f"--policy {policy}: give one of {', '.join(NAMES)} or a {SUFFIX} file{close}")


def network(
    where: str,
    tensors: dict[str, np.ndarray],
    meta: dict[str, str],
    env: str,
    state_size: int,
    action_size: int,
) -> NetworkPolicy:
    """The policy of a file's content (see `read`), checked; `where` begins the messages of its errors."""
    if meta.get("env", env) != env:
        raise DmaskError(f"{where} was trained on {meta['env']}, not on {env}; give --env {meta['env']}")
    depth = sum(name.startswith("layers.") and name.endswith(".weight") for name in tensors)
    names = {
        "obs_mean",
        "obs_var",
        *(f"layers.{i}.{part}" for i in range(depth) for part in ("weight", "bias")),
    }
    if not depth or names != set(tensors):
        odd = ", ".join(map(reprlib.repr, sorted(names ^ set(tensors))[:9])) or "no layers"
        raise DmaskError(f"{where} is no policy of dmask's layout (missing or unknown: {odd})")
    sizes = [state_size]
    for i in range(depth):
        weight, bias = tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]
        out = action_size if i == depth - 1 else bias.size
        if weight.shape != (out, sizes[-1]) or bias.shape != (out,):
            raise DmaskError(
                f"{where}: layer {i} is {weight.shape} with a bias of {bias.shape}, and {env} needs "
                f"{(out, sizes[-1])}; give a policy that was trained on {env}"
            )
        sizes.append(out)
    for name in ("obs_mean", "obs_var"):
        if tensors[name].shape != (state_size,):
            raise DmaskError(f"{where}: {name} has {tensors[name].shape}, and {env} has {state_size} state values")
    refuse_values(where, tensors)
    activation, output = meta.get("activation", ""), meta.get("output", "")
    if activation not in _ACTIVATIONS or output not in _OUTPUTS:
        shown = f"activation {reprlib.repr(activation)} or output {reprlib.repr(output)}"
        raise DmaskError(f"{where}: {shown} is unknown to this version")
    epsilon, clip = float(meta.get("obs_norm_eps", "0")), float(meta.get("obs_clip", "inf"))
    if clip <= 0 or (tensors["obs_var"] + epsilon <= 0).any():
        raise DmaskError(
            f"{where}: a state can't be normalised by its obs_var, obs_norm_eps and obs_clip; give another"
        )
    return NetworkPolicy(
        layers=tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(depth)),
        mean=tensors["obs_mean"],
        scale=1 / np.sqrt(tensors["obs_var"] + epsilon),
        clip=clip,
        activation=activation,
        output=output,
    )
