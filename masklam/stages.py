"""The stages: latent action model, policy on latent actions, action decoders."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from masklam import data
from masklam.augment import draw
from masklam.data import Sampler
from masklam.encoders import as_torch_does
from masklam.job import Job, begin, gather, need
from masklam.loop import Trainer
from masklam.measures import describe_codes
from masklam.methods import objective as lam_objective
from masklam.objectives import Batch, Regression, Weighting
from masklam.probes import codes, pictures, probe_actions


def sampler(
    job: Job, trainer: Trainer, episodes: list[int], offset: int = 1, batch: int = 0, replacement: bool = False
) -> Sampler:
    """What the steps of a stage see: this process's share of each batch, or a batch of this process's own data."""
    transitions, batch = job.frames.transitions(episodes, offset), batch or job.settings.batch
    if job.settings.streaming:
        seed = job.settings.seed + 1000 * trainer.rank
        return Sampler(transitions, batch // trainer.world, seed, offset, replacement=replacement)
    return Sampler(transitions, batch, job.settings.seed, offset, trainer.rank, trainer.world, replacement)


def train_lam(job: Job, trainer: Trainer) -> None:
    """The latent action model, probed every `probe_every` steps and at the end."""
    settings, method, model = job.settings, job.method, job.model
    supervised, helped = method.family == "idm", method.labels and method.latent
    draws = sampler(job, trainer, job.labelled() if supervised else job.training, job.offset)
    if helped:
        labels = sampler(job, trainer, job.labelled(), job.offset, settings.labelled_batch, replacement=True)
    begin(model.lam, settings.seed)
    weighting = Weighting(method.masked, settings.background_weight, settings.mask_blur, settings.mask_normalise)
    objective = lam_objective(model.lam, weighting, settings.ema, settings.label_weight)

    def augmented(batch: Batch, size: int, generator: torch.Generator, supervised: bool = False) -> Batch:
        """Each kind of observation with draws of its own, in float32: this is not under autocast."""
        side = batch.now.shape[-1]
        drawn = [
            draw(size, side, generator).share(trainer.rank, trainer.world) for _ in range(2 if supervised else 3)
        ]
        return batch.augmented(*drawn)

    def batch(step: int) -> Batch:
        found = gather(job, *draws(step), supervised).floats(trainer.device)
        if supervised:
            return replace(found, action=model.units()(found.action))
        generator = data.generator(settings.seed, 3, step)
        if method.augment:
            found = augmented(found, settings.batch, generator)
        if helped:
            seen = gather(job, *labels(step), True).floats(trainer.device)
            seen = replace(seen, action=model.units()(seen.action))
            if method.augment:
                seen = augmented(seen, settings.labelled_batch, generator, supervised=True)
            found = replace(found, labelled=seen)
        return found

    def report(step: int) -> None:
        measures = probe_actions(job, trainer.device) if job.acts else {}
        used = codes(job, trainer.device) or {}
        probed = {f"probe_{k}": v for k, v in measures.items()} | {f"codebook_{k}": v for k, v in used.items()}
        trainer.run.log(stage="lam", step=step, **probed)
        if used.get("collapsed"):
            tqdm.write(f"lam, step {step}: {describe_codes(used)}", file=sys.stderr)
        if method.family == "lapo":
            t = job.frames.transitions(job.held)
            trainer.run.picture(step, pictures(job, trainer.device, t[:: max(len(t) // 8, 1)][:8]))

    warmup = round(settings.warmup * settings.steps)
    trainer.fit("lam", objective, batch, settings.steps, settings.lr, warmup, report)
    job.finished.add("lam")


def train_policy(job: Job, trainer: Trainer) -> None:
    """Observation → latent action as the frozen model labels it; for `bc`, → the labelled trajectories' actions."""
    settings, method, model, frames = job.settings, job.method, job.model, job.frames
    need(job, trainer.run, "lam")
    episodes = job.labelled() if method.family == "bc" else job.training
    draws = sampler(job, trainer, episodes)
    begin(model.policy, settings.seed)

    @torch.no_grad()
    def batch(step: int) -> tuple[Tensor, Tensor]:
        t, _ = draws(step)
        now = frames.observations(t, settings.frame_stack, trainer.device)
        if method.family == "bc":
            return now, model.units()(frames.action[t].to(trainer.device))
        return now, model.latent(now, frames.observations(t + 1, settings.frame_stack, trainer.device))

    trainer.fit("policy", Regression(model.policy), batch, settings.policy_steps, settings.lr)
    job.finished.add("policy")


@torch.no_grad()
def train_decoder(job: Job, trainer: Trainer) -> None:
    """For each budget, an MLP from the frozen policy's latent action to the true one, standardised."""
    settings, model, frames = job.settings, job.model, job.frames
    need(job, trainer.run, "policy")
    for budget in job.budgets:
        t = frames.within(job.order[:budget]).nonzero().flatten()
        seen = (frames.observations(i, settings.frame_stack, trainer.device) for i in t.split(512))
        z = torch.cat([model.policy(now) for now in seen])
        action = model.units(budget)(frames.action[t].to(trainer.device))
        draws = Sampler(torch.arange(len(t)), settings.batch, settings.seed, rank=trainer.rank, world=trainer.world)
        decoder = model.decoder[str(budget)]
        begin(decoder, settings.seed, as_torch_does)

        def batch(step: int, draws: Sampler = draws, z: Tensor = z, action: Tensor = action) -> tuple[Tensor, Tensor]:
            chosen = draws(step)[0].to(z.device)
            return z[chosen], action[chosen]

        with torch.enable_grad():
            name = f"decoder-{budget}"
            trainer.fit(name, Regression(decoder), batch, settings.decoder_steps, settings.decoder_lr)
    job.finished.add("decoder")
