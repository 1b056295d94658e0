"""A run at work, to be looked at: a held-out episode through its model, and its policy in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distractor_data import sources, untrusted
from distractor_data.dataset.rows import encode_image, encode_mask
from distractor_data.device import pick_device
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS
from masklam import probe
from masklam.evaluate import rollout_spec
from masklam.job import Job, prepare
from masklam.limits import WEIGHTS
from masklam.measures import VIDEOS
from masklam.models import Model
from masklam.probes import latents, thin
from masklam.reconstruction import Lapo
from masklam.rollouts import rollouts
from masklam.run import Run
from masklam.settings import Settings

MOST = 500  # frames of a held-out episode
PROBES = 40  # of a training, whose pictures are shown
FPS = 20  # shown of data that doesn't tell
BATCH = 128


@dataclass(frozen=True)
class Scene:
    """Frames for the player and what is plotted under them."""

    kind: str
    title: str
    fps: int
    pictures: dict[str, list[bytes]]  # column → encoded frames, as many in each
    views: list[dict[str, str | None]]  # columns of `image` and of the `mask` over it, and their `label`
    signals: list[dict[str, Any]] = field(default_factory=list)  # a plot each: `title`, `lines`, `range`

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(next(iter(self.pictures.values())))


def open_job(run: Run, places: dict[str, str], device: str, cache: str | None) -> tuple[Job, torch.device]:
    """The run's data and its trained model. `places` are settings that differ here: `dataset`, `backgrounds`.

    Raises `DmaskError` where the data aren't there or are others, and where nothing is trained.
    """
    place, settings = torch.device(pick_device(device)), _settings(run)
    settings = replace(settings, **{"reference": "", **places})  # type: ignore[arg-type]
    run.check_dataset(settings.dataset, settings.env)
    if not (run.folder / WEIGHTS).exists():
        raise DmaskError("no stage of it is finished yet")
    job = prepare(settings, run, place, cache)
    model = Model.from_pretrained(run.folder)
    return replace(job, model=model.to(place), finished=set(model.parts)), place


def _settings(run: Run) -> Settings:
    known = {one.name for one in fields(Settings)}
    held: dict[str, Any] = {name: value for name, value in run.settings().items() if name in known}
    held = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
    try:
        return Settings(**held)
    except (TypeError, ValueError) as error:
        raise DmaskError(f"{run.folder} has settings of another kind than masklam's; train it again") from error


@torch.no_grad()
def held_out(job: Job, device: torch.device) -> Scene:
    """The first held-out episode: each next frame, its mask, and what the model makes of it; its actions, and what
    the linear probe reads from the latent actions (for `bc`: what the policy does)."""
    frames, t = job.frames, job.frames.transitions(job.held[:1])[:MOST]
    pictures = {"next": [encode_image(image) for image in frames.image[t + 1].cpu().numpy()]}
    views: list[dict[str, str | None]] = [{"image": "next", "mask": None, "label": "Next frame"}]
    if frames.mask is not None:
        masks = frames.masks(t + 1)[:, -1].bool().cpu().numpy()
        pictures["mask"] = [encode_mask(mask) for mask in masks]
        views[0]["mask"] = "mask"
        views.append({"image": "mask", "mask": None, "label": "Its mask"})
    if isinstance(getattr(job.model, "lam", None), Lapo) and "lam" in job.finished:
        pictures["made"] = [encode_image(image) for image in _reconstructed(job, device, t)]
        mask = "mask" if "mask" in pictures else None
        views.append({"image": "made", "mask": mask, "label": "Reconstruction"})
    title = f"held-out episode {job.held[0]}"
    return Scene("held-out", title, _fps(job), pictures, views, _actions(job, device, t))


def over_training(run: Run, job: Job) -> Scene | None:
    """Some held-out frames and what the model made of them at each probe of the training, as one picture a probe.

    None where the run kept no pictures: of a model that makes no pixels, or by an older version.
    """
    if not (found := run.pictures(PROBES)):
        return None
    probed = {m["step"]: m["probe_nmse"] for m in run.metrics() if m["stage"] == "lam" and "probe_nmse" in m}
    signals = [_plot("Training step", [float(step) for step in found])]
    if found.keys() <= probed.keys():
        signals.append(_plot("Linear probe NMSE, held-out episodes", [probed[step] for step in found]))
    rows = ["frame", "next frame", *(["its mask"] if job.frames.mask is not None else []), "reconstruction"]
    views: list[dict[str, str | None]] = [{"image": "sheet", "mask": None, "label": f"Rows: {', '.join(rows)}"}]
    title = f"reconstructions over training, step {min(found):,} to {max(found):,}"
    return Scene("training", title, 2, {"sheet": list(found.values())}, views, signals)


def _plot(title: str, y: list[float]) -> dict[str, Any]:
    return {"title": title, "lines": [{"name": title, "y": _rounded(torch.tensor(y))}], "range": None}


def _reconstructed(job: Job, device: torch.device, t: Tensor) -> Iterator[np.ndarray]:
    """Frames t + 1, (H, W, 3) uint8 each, as a model with pixels predicts them from t and the latent action."""
    stack, model = job.model.frame_stack, job.model
    assert isinstance(model.lam, Lapo)
    for part in t.split(BATCH):
        now, later = (job.frames.observations(i, stack, device) for i in (part, part + 1))
        made = model.lam.predict(now, model.latent(now, later))[:, -3:].float().clamp(-1, 1)  # the newest frame
        yield from ((made + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _actions(job: Job, device: torch.device, t: Tensor) -> list[dict[str, Any]]:
    """A plot for each dimension: the true action and the predicted one."""
    if not job.acts:
        return []
    true = job.frames.action[t].cpu()
    if "lam" in job.finished:
        fit = thin(job.frames.transitions(job.training))
        ridge = probe.fit(
            latents(job.model, job.frames, fit, device), job.frames.action[fit], job.frames.episode[fit]
        )
        name, found = "linear probe", ridge(latents(job.model, job.frames, t, device)).cpu()
    elif "policy" in job.finished:
        stack = job.model.frame_stack
        acted = [job.model.act(job.frames.observations(part, stack, device)) for part in t.split(BATCH)]
        name, found = "policy", torch.cat(acted).cpu()
    else:
        return []
    errors = probe.nmse(found, true)["per_dimension"]
    assert isinstance(errors, list)
    return [
        {
            "title": f"Action {number}, NMSE here {error:.3f}",
            "lines": [{"name": "true", "y": _rounded(true[:, number])}, _line(name, found[:, number])],
            "range": None,
        }
        for number, error in enumerate(errors)
    ]


def _line(name: str, values: Tensor) -> dict[str, Any]:
    return {"name": name, "y": _rounded(values), "colour": 1, "dashed": True}


def _rounded(values: Tensor) -> list[float]:
    return np.asarray(values, np.float64).round(4).tolist()


def played(job: Job, device: torch.device) -> Iterator[Scene]:
    """The policy of the largest budget in an episode in front of each split's videos.

    Raises `DmaskError` where it can't act or the environment isn't known.
    """
    if "policy" not in job.finished or (job.method.latent and "decoder" not in job.finished):
        raise DmaskError("no policy that acts is trained")
    if (spec := rollout_spec(job)) is None:
        raise DmaskError("the dataset is of others or was imported, and its environment isn't known")
    for split in SPLITS:
        seen: list[bytes] = []

        def act(observation: Tensor, seen: list[bytes] = seen) -> Tensor:
            newest = ((observation[0, -3:].float().clamp(-1, 1) + 1) * 127.5).round().byte()
            seen.append(encode_image(newest.permute(1, 2, 0).cpu().numpy()))
            return job.model.act(observation)

        found = rollouts(act, replace(spec, split=split), 1, job.settings.frame_stack, device)
        title = f"rollout, {VIDEOS[split]}, return {found.returns[0]:.1f}"
        views: list[dict[str, str | None]] = [{"image": "seen", "mask": None, "label": "What the policy sees"}]
        yield Scene(f"rollout-{split}", title, _fps(job), {"seen": seen}, views)


def _fps(job: Job) -> int:
    if sources.is_foreign(job.settings.dataset):
        return FPS
    root = sources.locate(job.settings.dataset, job.settings.env, "train", frames=False)
    return untrusted.info(root)["fps"]


def described(scene: Scene, run: str, chunk: int) -> dict[str, Any]:
    """A scene but for its pictures, as the page knows it."""
    told = {key: value for key, value in asdict(scene).items() if key != "pictures"}
    masks = {str(view["mask"]): "dataset" for view in scene.views if view["mask"]}
    return {**told, "run": run, "length": scene.length, "chunk": chunk, "masks": masks, "key": f"{run}/{scene.kind}"}
