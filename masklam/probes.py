"""What is in latent actions, whoever's: tables of probes and of their controls for any (now, later) → latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from masklam import probe
from masklam.data import Frames, generator

GRID = 4  # the background's motion is measured on so many cells a side
MOST = 20_000  # transitions of a place, at most
Latents = Callable[[Frames, Tensor, Tensor], Tensor]  # frames, times now and later (M,) each → (M, d)


@dataclass(frozen=True)
class Place:
    """Transitions (t, t + 1) that a probe is fitted or reported on."""

    frames: Frames
    t: Tensor  # (M,) int64


def tables(latents: Latents, fit: Place, places: dict[str, Place], seed: int) -> dict[str, Any]:
    """Linear, MLP and background probes, fitted on `fit`, reported on each of `places`, as `results.json` has them.

    Beside each NMSE stands its control, `shuffled`: the same probe, fitted and reported on latents of
    (o_t, o_random), the second being any observation of the place. What a probe reads from those it knows from o_t
    alone. `constant` is the share of dimensions that don't vary. What can't be measured is named under `missing`.
    """
    results: dict[str, Any] = {"constant": {}}
    for control in (False, True):
        z = latents(fit.frames, fit.t, _later(fit, control, seed))
        fitted = _fitted(z, fit, seed)
        for where, place in places.items():
            z = latents(place.frames, place.t, _later(place, control, seed))
            if not control:
                results["constant"][where] = probe.constant(z)
            for name, predict in fitted.items():
                if name == "background_probe" and place.frames.mask is None:
                    continue
                goal = _goal(name, place)
                found = probe.nmse(predict(z).to(goal.device), goal)
                if control:
                    results[name][where]["shuffled"] = found["nmse"]
                else:
                    results.setdefault(name, {})[where] = found
    if fit.frames.mask is None:
        missing = ["background probe: the dataset has no masks of these images"]
    else:
        unmasked = [where for where, place in places.items() if place.frames.mask is None]
        missing = [f"background probe, {where}: that split has no masks of these images" for where in unmasked]
    return results | {"missing": missing}


def _later(place: Place, control: bool, seed: int) -> Tensor:
    """The second times of the pairs: t + 1, or for the control those of other transitions."""
    if not control:
        return place.t + 1
    other = torch.randperm(len(place.t), generator=generator(seed, 4)).to(place.t.device)
    return place.t[other] + 1


def _fitted(z: Tensor, place: Place, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    action, episode = place.frames.action[place.t].to(z.device), place.frames.episode[place.t].to(z.device)
    fitted: dict[str, Callable[[Tensor], Tensor]] = {
        "linear_probe": probe.fit(z, action, episode),
        "mlp_probe": probe.fit_mlp(z, action, seed),
    }
    if place.frames.mask is not None:
        fitted["background_probe"] = probe.fit(z, background_motion(place.frames, place.t).to(z.device), episode)
    return fitted


def _goal(name: str, place: Place) -> Tensor:
    if name == "background_probe":
        return background_motion(place.frames, place.t)
    return place.frames.action[place.t]


def thin(t: Tensor, most: int = MOST) -> Tensor:
    """At most `most` of the transitions, evenly spaced."""
    return t[:: max(-(-len(t) // most), 1)]


def background_motion(frames: Frames, t: Tensor) -> Tensor:
    """How the grey value off the agent changes from t to t + 1, by cells of a grid; (M,) → (M, 16)."""
    found = []
    for index in t.split(1024):
        change = (frames.observations(index + 1) - frames.observations(index)).mean(1, keepdim=True)
        off = (1 - frames.masks(index)) * (1 - frames.masks(index + 1))
        share = F.adaptive_avg_pool2d(off, GRID).clamp(min=1e-3)
        found.append((F.adaptive_avg_pool2d(change * off, GRID) / share).flatten(1))
    return torch.cat(found)
