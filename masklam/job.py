"""A run's data and model: what all of its stages work on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from distractor_data import arrays, sources
from distractor_data.dataset import foreign
from distractor_data.errors import DmaskError
from masklam import data, others
from masklam.data import Frames
from masklam.encoders import initialise
from masklam.methods import Method, find
from masklam.models import Model
from masklam.objectives import Batch
from masklam.run import Run
from masklam.settings import BUDGETS, Settings


@dataclass(frozen=True)
class Job:
    """What all stages work on."""

    settings: Settings
    method: Method
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
    def acts(self) -> bool:
        """Whether the dataset has actions."""
        return self.frames.action.shape[1] > 0

    @property
    def offset(self) -> int:
        """How far ahead the inverse dynamics looks, at most."""
        return self.settings.offset or self.method.offset


def prepare(
    settings: Settings, run: Run, device: torch.device, cache: str | None, share: tuple[int, int] = (0, 1)
) -> Job:
    """Load the data and build the method's model; of streamed data only this process's share (rank, world)."""
    method = find(settings.method)
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
    acts = frames.action.shape[1] > 0
    if method.labels and not acts:
        raise DmaskError(
            f"{settings.method} learns from actions, and {settings.dataset} has none; give --action-column"
        )
    budgets = budgets_of(settings, method, len(training)) if acts else []
    offset = settings.offset or method.offset
    if not len(frames.transitions(order[: budgets[-1]] if method.labels else training, offset)):
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
        policy_layers=settings.policy_layers or method.policy_layers,
        parts=[stage for stage in method.stages if stage != "evaluation" and (acts or stage != "decoder")],
        budgets=budgets,
    )
    for budget in budgets:
        model.units(budget).measure(frames.action[frames.within(order[:budget])])
    finished = set()
    for part in model.parts:
        names = {part: part} if part != "decoder" else {f"decoder-{n}": f"decoder.{n}" for n in budgets}
        steps = {"lam": settings.steps, "policy": settings.policy_steps, "decoder": settings.decoder_steps}[part]
        if all(run.restore(name, steps, model.get_submodule(path)) for name, path in names.items()):
            finished.add(part)
    if fits(frames, device):
        frames, masks = frames.to(device), masks.to(device)
    return Job(settings, method, model.to(device), frames, masks, training, held, order, budgets, finished, cache)


def budgets_of(settings: Settings, method: Method, episodes: int) -> list[int]:
    """Numbers of labelled trajectories among so many training episodes, ascending."""
    usual = [n for n in BUDGETS if n <= episodes] or [1]
    chosen = settings.labelled_trajectories or (usual[-1:] if method.labels else usual)
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
    if sources.is_foreign(settings.dataset):
        there = settings.mask_column in foreign.columns(Path(settings.dataset))
        return others.load(settings, split, there or find(settings.method).masked, cache)
    root = sources.locate(settings.dataset, env, split, frames=False)
    wanted = find(settings.method).masked or settings.mask_column in arrays.columns_of(root)
    mask_column = settings.mask_column if wanted else None
    frames = data.load(
        settings.dataset, env, split, settings.image_column, mask_column, cache, settings.streaming, share
    )
    if settings.image_size not in (0, frames.image.shape[1]):
        raise DmaskError(f"--image-size is for datasets of others; {root} has {frames.image.shape[1]}; leave it out")
    return frames


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


def need(job: Job, run: Run, part: str) -> None:
    """Raise `DmaskError` where a stage that the next one builds on is not finished."""
    if part in job.model.parts and part not in job.finished:
        raise DmaskError(f"stage {part} is not finished in {run.folder}; run it first with --stages {part}")


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
        mask=job.masks.packed(t + 1, stack) if job.method.masked else None,
        action=frames.action[t] if job.method.labels else None,
    )
