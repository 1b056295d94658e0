"""Training: settings, the one loop that every stage runs, and the stages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.spec import DEFAULT_DIR, full_name
from masklam import card, data, probe
from masklam.data import Frames, Sampler
from masklam.models import Model
from masklam.objectives import Batch, Method, Reconstruction, method
from masklam.run import Run


@dataclass(frozen=True)
class Settings:
    """What a run is. Everything in `config.json` under `training`."""

    dataset: str = DEFAULT_DIR
    env: str = "walker-run"
    method: str = "masklam"
    steps: int = 10_000
    batch: int = 128
    latent_dim: int = 64
    frame_stack: int = 1
    encoder_scale: int = 1
    res_blocks: int = 2
    lr: float = 1e-3
    warmup: int = 200
    clip: float = 1.0
    background_weight: float = 0.0
    image_column: str = schema.IMAGE
    mask_column: str = schema.MASK
    held_out: float = 0.1  # share of the training episodes that only the probe's report sees
    probe_every: int = 1000
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("steps", "batch", "latent_dim", "frame_stack", "encoder_scale", "probe_every"):
            if getattr(self, field) < 1:
                name = field.replace("_", "-")
                raise DmaskError(f"--{name} is {getattr(self, field)}; give a number of at least 1")
        method(self.method)


LOG_EVERY = 20  # steps; losses leave the device, and are checked, this often
PROBE_FRAMES = 20_000  # at most so many transitions fit the probe
FREE = ("probe_every", "checkpoint_every")  # settings that may change when a run goes on


def train(
    settings: Settings, out: str, device: str | None = None, cache: str | None = None
) -> dict[str, Any]:
    """Train, probe and save a latent action model into the folder `out`; the final measures.

    Goes on from the last checkpoint where `out` has one.
    """
    run, row = Run(out), method(settings.method)
    run.open(settings, FREE)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    mask_column = settings.mask_column if row.masked else None
    frames = data.load(
        settings.dataset, full_name(settings.env), "train", settings.image_column, mask_column, cache
    ).to(place)
    training, held = split_episodes(frames.episodes, settings.held_out)
    torch.manual_seed(settings.seed)
    model = Model(
        method=settings.method,
        action_dim=frames.action.shape[1],
        latent_dim=settings.latent_dim,
        image_size=frames.image.shape[1],
        frame_stack=settings.frame_stack,
        encoder_scale=settings.encoder_scale,
        res_blocks=settings.res_blocks,
    ).to(place)
    run.configure(model, settings)
    train_lam(run, settings, row, model, frames, training, held)
    results = run.metrics()[-1]
    run.save_model(model)
    card.write_card(run)
    return results


def split_episodes(episodes: int, share: float) -> tuple[list[int], list[int]]:
    """Episodes to train on and to report on: the last `share`, at least one of each."""
    if episodes < 2:
        raise DmaskError(f"the dataset has {episodes} episode; training needs at least 2, one to hold out")
    held = min(max(round(share * episodes), 1), episodes - 1)
    return list(range(episodes - held)), list(range(episodes - held, episodes))


def train_lam(
    run: Run,
    settings: Settings,
    row: Method,
    model: Model,
    frames: Frames,
    training: list[int],
    held: list[int],
) -> None:
    """Stage `lam`: the latent action model, probed every `probe_every` steps and at the end."""
    sampler = Sampler(frames.transitions(training), settings.batch, settings.seed, row.offset)
    objective = Reconstruction(model.lam, row.masked, settings.background_weight)

    def batch(step: int) -> Batch:
        return gather(frames, *sampler(step, frames.last), settings.frame_stack)

    def report(step: int) -> None:
        measures = probe_actions(model, frames, training, held)
        run.log(stage="lam", step=step, **{f"probe_{k}": v for k, v in measures.items()})

    fit(run, "lam", objective, batch, settings, report)


def gather(frames: Frames, t: Tensor, later: Tensor, stack: int) -> Batch:
    """One batch: the observations at t and `later`, the frame at t + 1, and its mask where there is one."""
    target = frames.observations(t + 1)
    return Batch(
        now=frames.observations(t, stack),
        later=frames.observations(later, stack),
        target=target,
        mask=frames.masks(t + 1) if frames.mask is not None else None,
    )


def fit(
    run: Run,
    stage: str,
    objective: nn.Module,
    batch: Callable[[int], Any],
    settings: Settings,
    report: Callable[[int], None],
) -> None:
    """The loop of every stage: from the last checkpoint to `settings.steps`."""
    optimizer = torch.optim.Adam(objective.parameters(), settings.lr)
    start = saved = run.load_checkpoint(stage, objective, optimizer)
    run.forget(stage, start)
    losses: list[Tensor] = []
    began = time.perf_counter()
    for step in tqdm(range(start, settings.steps), stage, settings.steps, initial=start, unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * schedule(step, settings.warmup, settings.steps)
        loss = objective(batch(step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), settings.clip)
        optimizer.step()
        losses.append(loss.detach())
        done = step + 1
        if done % LOG_EVERY == 0 or done == settings.steps:
            mean = finite_mean(losses, done, stage, saved)
            rate = settings.batch * len(losses) / (time.perf_counter() - began)
            run.log(stage=stage, step=done, loss=mean, samples_per_second=round(rate, 1))
            losses = []
            if done - saved >= settings.checkpoint_every or done == settings.steps:
                run.save_checkpoint(stage, done, objective, optimizer)
                saved = done
            if (
                done // settings.probe_every > (done - LOG_EVERY) // settings.probe_every
                and done < settings.steps
            ):
                report(done)
            began = time.perf_counter()
    report(settings.steps)


def schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero; a factor of the learning rate."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def finite_mean(losses: list[Tensor], done: int, stage: str, saved: int) -> float:
    """Mean of the last losses. Raises `DmaskError` naming the first step at which one isn't finite."""
    values = torch.stack(losses).float()
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        first = done - len(losses) + int(bad[0]) + 1
        raise DmaskError(
            f"the loss of stage {stage} is not finite from step {first} on; the checkpoint of step {saved} "
            "is kept: start again with a smaller --lr and another --out"
        )
    return float(values.mean())


@torch.no_grad()
def latents(model: Model, frames: Frames, t: Tensor, batch: int = 512) -> Tensor:
    """Latent actions between t and t + 1; (M,) → (M, d)."""
    pairs = (
        (frames.observations(i, model.frame_stack), frames.observations(i + 1, model.frame_stack))
        for i in t.split(batch)
    )
    return torch.cat([model.latent(now, later) for now, later in pairs])


def probe_actions(model: Model, frames: Frames, training: list[int], held: list[int]) -> dict[str, Any]:
    """Linear probe, latent action → action: fitted on training episodes, reported on held-out ones."""
    fitting, test = frames.transitions(training), frames.transitions(held)
    fitting = fitting[:: -(-len(fitting) // PROBE_FRAMES)]
    ridge = probe.fit(latents(model, frames, fitting), frames.action[fitting], frames.episode[fitting])
    measures = probe.nmse(ridge(latents(model, frames, test)), frames.action[test])
    return {**measures, "strength": ridge.strength, "frames": len(test)}
