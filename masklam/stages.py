"""The stages: latent action model, policy on latent actions, action decoders, evaluation."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from distractor_data import sources
from distractor_data.errors import DmaskError
from masklam import data, probe
from masklam.augment import draw
from masklam.data import Frames, Sampler
from masklam.encoders import as_torch_does, initialise
from masklam.methods import Method, find
from masklam.models import FSQ, VQ, Lapo, Model
from masklam.objectives import Batch, Regression, Weighting, lam_objective
from masklam.probes import thin
from masklam.report import describe_codes
from masklam.run import Run
from masklam.settings import BUDGETS, Settings

if TYPE_CHECKING:
    from masklam.train import Trainer


@dataclass(frozen=True)
class Job:
    """What all stages work on."""

    settings: Settings
    row: Method
    model: Model
    frames: Frames
    masks: Frames  # the same with the masks that the objective sees, worse ones with `mask_corruption`
    training: list[int]  # episodes to learn from
    held: list[int]  # episodes that only reports see
    order: list[int]  # the training episodes, in the order in which they are labelled
    budgets: list[int]  # numbers of labelled trajectories
    finished: set[str]  # parts of the model that are trained
    cache: str | None

    def labelled(self) -> list[int]:
        """The episodes whose actions a method with labels sees."""
        return self.order[: self.budgets[-1]]

    @property
    def offset(self) -> int:
        """How far ahead the inverse dynamics looks, at most."""
        return self.settings.offset or self.row.offset


def prepare(
    settings: Settings, run: Run, device: torch.device, cache: str | None, share: tuple[int, int] = (0, 1)
) -> Job:
    """Load the data and build the method's model; of streamed data only this process's share (rank, world)."""
    row = find(settings.method)
    if settings.streaming and share[1] > 1 and not set(settings.todo) <= {"lam", "policy"}:
        raise DmaskError(
            "with --streaming each process sees its own shards, which the last stages can't use; give "
            "--stages lam,policy, and run the others in one process"
        )
    frames = load(settings, "train", cache, share if settings.streaming else (0, 1))
    masks = frames
    if settings.mask_corruption:
        if frames.mask is None:
            raise DmaskError("--mask-corruption needs a dataset with masks")
        masks = data.corrupt(frames, settings.mask_corruption, settings.seed)
    training, held = split_episodes(frames.episodes, settings.held_out)
    order = random.Random(settings.seed).sample(training, len(training))
    budgets = budgets_of(settings, row, len(training))
    offset = settings.offset or row.offset
    if not len(frames.transitions(order[: budgets[-1]] if row.labels else training, offset)):
        raise DmaskError(f"--offset is {offset}, and the episodes aren't longer; give a smaller one")
    torch.manual_seed(settings.seed)
    model = Model(
        method=settings.method,
        action_dim=frames.action.shape[1],
        latent_dim=settings.latent_dim,
        image_size=frames.image.shape[1],
        frame_stack=settings.frame_stack,
        encoder_scale=settings.encoder_scale,
        encoder_deep=settings.encoder_deep,
        res_blocks=settings.res_blocks,
        heads=settings.heads,
        quantize=settings.quantize,
        policy_scale=settings.policy_scale,
        policy_layers=settings.policy_layers or row.policy_layers,
        parts=[stage for stage in row.stages if stage != "evaluation"],
        budgets=budgets,
    )
    for budget in budgets:
        seen = torch.isin(frames.episode, torch.tensor(order[:budget], device=frames.episode.device))
        model.units(budget).measure(frames.action[seen])
    finished = set()
    for part in model.parts:
        names = {part: part} if part != "decoder" else {f"decoder-{n}": f"decoder.{n}" for n in budgets}
        steps = {"lam": settings.steps, "policy": settings.policy_steps, "decoder": settings.decoder_steps}[part]
        if all(run.restore(name, steps, model.get_submodule(path)) for name, path in names.items()):
            finished.add(part)
    if fits(frames, device):
        frames, masks = frames.to(device), masks.to(device)
    return Job(settings, row, model.to(device), frames, masks, training, held, order, budgets, finished, cache)


def budgets_of(settings: Settings, row: Method, episodes: int) -> list[int]:
    """Numbers of labelled trajectories among so many training episodes, ascending."""
    usual = [n for n in BUDGETS if n <= episodes] or [1]
    chosen = settings.labelled_trajectories or (usual[-1:] if row.labels else usual)
    budgets = sorted({n or episodes for n in chosen})
    if budgets[-1] > episodes:
        raise DmaskError(
            f"--labelled-trajectories asks for {budgets[-1]} and there are {episodes} training episodes; give "
            "smaller numbers, all, or generate more episodes"
        )
    return budgets


def load(settings: Settings, split: str, cache: str | None, share: tuple[int, int] = (0, 1)) -> Frames:
    """The frames of a split, or a process's share; with masks where the method needs them or the dataset has them."""
    env = settings.env
    root = sources.locate(settings.dataset, env, split, frames=False)
    wanted = find(settings.method).masked or settings.mask_column in data.columns_of(root)
    mask_column = settings.mask_column if wanted else None
    return data.load(
        settings.dataset, env, split, settings.image_column, mask_column, cache, settings.streaming, share
    )


def sampler(
    job: Job, trainer: Trainer, episodes: list[int], offset: int = 1, batch: int = 0, replacement: bool = False
) -> Sampler:
    """What the steps of a stage see: this process's share of each batch, or a batch of this process's own data."""
    transitions, batch = job.frames.transitions(episodes, offset), batch or job.settings.batch
    if job.settings.streaming:
        seed = job.settings.seed + 1000 * trainer.rank
        return Sampler(transitions, batch // trainer.world, seed, offset, replacement=replacement)
    return Sampler(transitions, batch, job.settings.seed, offset, trainer.rank, trainer.world, replacement)


def fits(frames: Frames, device: torch.device) -> bool:
    """Whether the frames leave at least half of a GPU's free memory to the training."""
    if device.type != "cuda":
        return False
    size = sum(v.numel() * v.element_size() for v in vars(frames).values() if isinstance(v, Tensor))
    return size < torch.cuda.mem_get_info(device)[0] / 2


def split_episodes(episodes: int, share: float) -> tuple[list[int], list[int]]:
    """Episodes to train on and to report on: the last `share`, at least one of each."""
    if episodes < 2:
        raise DmaskError(f"the dataset has {episodes} episode; training needs at least 2, one to hold out")
    held = min(max(round(share * episodes), 1), episodes - 1)
    return list(range(episodes - held)), list(range(episodes - held, episodes))


def need(job: Job, trainer: Trainer, part: str) -> None:
    """Raise `DmaskError` where a stage that the next one builds on is not finished."""
    if part in job.model.parts and part not in job.finished:
        raise DmaskError(f"stage {part} is not finished in {trainer.run.folder}; run it first with --stages {part}")


def begin(module: nn.Module, seed: int, how: Callable[[nn.Module], None] = initialise) -> None:
    """Initial weights of one part as a function of the seed, whatever was trained before."""
    torch.manual_seed(seed)
    module.apply(how)


def gather(job: Job, t: Tensor, later: Tensor, supervised: bool = False) -> Batch:
    """One batch as it lies in memory: observations at t and `later`, what comes at t + 1, its masks, the actions.

    Where it is for `supervised` learning of actions, nothing is predicted: the target is `later` again.
    """
    frames, stack = job.frames, job.settings.frame_stack
    seen = frames.pixels(later, stack)
    return Batch(
        now=frames.pixels(t, stack),
        later=seen,
        target=seen if supervised or torch.equal(later, t + 1) else frames.pixels(t + 1, stack),
        mask=job.masks.packed(t + 1, stack) if job.row.masked else None,
        action=frames.action[t] if job.row.labels else None,
    )


# --- measures while training ---------------------------------------------------------------------------------


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


def fitting(job: Job) -> Tensor:
    """The transitions that fit a probe: of training episodes, thinned evenly."""
    return thin(job.frames.transitions(job.training))


def probe_actions(job: Job, device: torch.device) -> dict[str, Any]:
    """Linear probe, latent action → action: fitted on training episodes, reported on held-out ones."""
    frames, fit, test = job.frames, fitting(job), thin(job.frames.transitions(job.held))
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


# --- stages --------------------------------------------------------------------------------------------------


def train_lam(job: Job, trainer: Trainer) -> None:
    """The latent action model, probed every `probe_every` steps and at the end."""
    settings, row, model = job.settings, job.row, job.model
    supervised, helped = row.family == "idm", row.labels and row.latent
    draws = sampler(job, trainer, job.labelled() if supervised else job.training, job.offset)
    if helped:
        labels = sampler(job, trainer, job.labelled(), job.offset, settings.labelled_batch, replacement=True)
    begin(model.lam, settings.seed)
    weighting = Weighting(row.masked, settings.background_weight, settings.mask_blur, settings.mask_normalise)
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
        if row.augment:
            found = augmented(found, settings.batch, generator)
        if helped:
            seen = gather(job, *labels(step), True).floats(trainer.device)
            seen = replace(seen, action=model.units()(seen.action))
            if row.augment:
                seen = augmented(seen, settings.labelled_batch, generator, supervised=True)
            found = replace(found, labelled=seen)
        return found

    def report(step: int) -> None:
        measures = probe_actions(job, trainer.device)
        used = codes(job, trainer.device) or {}
        probed = {f"probe_{k}": v for k, v in measures.items()} | {f"codebook_{k}": v for k, v in used.items()}
        trainer.run.log(stage="lam", step=step, **probed)
        if used.get("collapsed"):
            tqdm.write(f"lam, step {step}: {describe_codes(used)}", file=sys.stderr)
        if row.family == "lapo":
            t = job.frames.transitions(job.held)
            trainer.run.picture(step, pictures(job, trainer.device, t[:: max(len(t) // 8, 1)][:8]))

    warmup = round(settings.warmup * settings.steps)
    trainer.fit("lam", objective, batch, settings.steps, settings.lr, warmup, report)
    job.finished.add("lam")


def train_policy(job: Job, trainer: Trainer) -> None:
    """Observation → latent action as the frozen model labels it; for `bc`, → the labelled trajectories' actions."""
    settings, row, model, frames = job.settings, job.row, job.model, job.frames
    need(job, trainer, "lam")
    episodes = job.labelled() if row.family == "bc" else job.training
    draws = sampler(job, trainer, episodes)
    begin(model.policy, settings.seed)

    @torch.no_grad()
    def batch(step: int) -> tuple[Tensor, Tensor]:
        t, _ = draws(step)
        now = frames.observations(t, settings.frame_stack, trainer.device)
        if row.family == "bc":
            return now, model.units()(frames.action[t].to(trainer.device))
        return now, model.latent(now, frames.observations(t + 1, settings.frame_stack, trainer.device))

    trainer.fit("policy", Regression(model.policy), batch, settings.policy_steps, settings.lr)
    job.finished.add("policy")


@torch.no_grad()
def train_decoder(job: Job, trainer: Trainer) -> None:
    """For each budget, an MLP from the frozen policy's latent action to the true one, standardised."""
    settings, model, frames = job.settings, job.model, job.frames
    need(job, trainer, "policy")
    for budget in job.budgets:
        t = torch.isin(frames.episode, torch.tensor(job.order[:budget], device=frames.episode.device)).nonzero()
        t = t.flatten()
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


def evaluate(job: Job, trainer: Trainer) -> None:
    """All measures, into `results.json`."""
    from masklam.evaluate import measure

    need(job, trainer, "policy" if job.row.family == "bc" else "lam")
    if trainer.main:
        trainer.run.save_results(measure(job, trainer.device), job.settings)


STAGES: dict[str, Callable[[Job, Trainer], None]] = {
    "lam": train_lam,
    "policy": train_policy,
    "decoder": train_decoder,
    "evaluation": evaluate,
}
