"""What is in latent actions, whoever's: tables of probes and of their controls for any (now, later) → latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distractor_data.errors import NoSplitError
from masklam import probe
from masklam.data import Frames, generator
from masklam.job import Job
from masklam.models import Model
from masklam.reconstruction import FSQ, VQ, Lapo

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


def of_splits(
    latents: Latents,
    frames: Frames,
    episodes: tuple[Sequence[int], Sequence[int]],
    test: Callable[[], Frames] | None,
    seed: int,
    most: int = MOST,
) -> dict[str, Any]:
    """Tables fitted on the first `episodes`, reported on the second (`in`) and on the `test` split (`out`), if any.

    Raises `DmaskError` where that is there and can't be read.
    """
    fit, held = (Place(frames, thin(frames.transitions(chosen), most)) for chosen in episodes)
    places, missing = {"in": held}, []
    try:
        if test is not None:
            found = test()
            places["out"] = Place(found, thin(found.transitions(), most))
    except NoSplitError:
        missing = ["probes on the test split: the dataset has none"]
    results = tables(latents, fit, places, seed)
    return results | {"missing": results["missing"] + missing}


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


# --- of a run, while it trains and after ---------------------------------------------------------------------


@torch.no_grad()
def latents(
    model: Model, frames: Frames, t: Tensor, device: torch.device, later: Tensor | None = None, batch: int = 256
) -> Tensor:
    """Latent actions between t and `later`, which is t + 1 by default; (M,) → (M, d), on the frames' device."""
    stack = model.frame_stack
    pairs = zip(t.split(batch), (t + 1 if later is None else later).split(batch), strict=True)
    found = [
        model.latent(frames.observations(i, stack, device), frames.observations(j, stack, device)) for i, j in pairs
    ]
    return torch.cat(found).float().to(frames.image.device)


def probe_actions(job: Job, device: torch.device) -> dict[str, Any]:
    """Linear probe, latent action → action: fitted on training episodes, reported on held-out ones."""
    frames = job.frames
    fit, test = (thin(frames.transitions(episodes)) for episodes in (job.training, job.held))
    ridge = probe.fit(latents(job.model, frames, fit, device), frames.action[fit], frames.episode[fit])
    z = latents(job.model, frames, test, device)
    measures = probe.nmse(ridge(z), frames.action[test])
    return {**measures, "strength": ridge.strength, "constant": probe.constant(z)}


def codes(job: Job, device: torch.device) -> dict[str, Any] | None:
    """How the codebook is used on held-out episodes; None for a model without one."""
    quantise = getattr(job.model.lam, "quantize", None)
    if not isinstance(quantise, FSQ | VQ):
        return None
    z = latents(job.model, job.frames, thin(job.frames.transitions(job.held)), device)
    return probe.usage(quantise.codes(z.to(device)).cpu(), quantise.size)


@torch.no_grad()
def pictures(job: Job, device: torch.device, t: Tensor) -> Tensor:
    """Rows of the frame, the next one, its mask where there is one, and the prediction; (H', W', 3) uint8."""
    frames, model = job.frames, job.model
    now = frames.observations(t, model.frame_stack, device)
    after = frames.observations(t + 1, model.frame_stack, device)
    assert isinstance(model.lam, Lapo)
    rows = [x[:, -3:] for x in (now, after, model.lam.predict(now, model.latent(now, after)))]  # the newest frame
    if frames.mask is not None:
        rows.insert(2, 2 * frames.masks(t + 1).to(device).expand(-1, 3, -1, -1) - 1)
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)  # (3, H', W')
    return ((grid.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu()
