"""What each method minimises. A mask is a weight map, nothing more."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.augment import Draw, augment
from masklam.data import normalise, unpack
from masklam.models import ActionModel, Laom, Lapo


@dataclass(frozen=True)
class Batch:
    """What one step sees: images (B, C, H, W) in [-1, 1], channels-last. Before `floats`, uint8 and bit-packed."""

    now: Tensor
    later: Tensor  # k steps on: what the inverse dynamics sees
    target: Tensor  # one step on: what the forward dynamics predicts
    mask: Tensor | None = None  # (B, stack, H, W), of the target's frames; packed (B, stack, H·W/8)
    action: Tensor | None = None  # (B, A), standardised before it reaches an objective
    labelled: Batch | None = None  # a second batch, with true actions, where the method has one

    def floats(self, device: torch.device) -> Batch:
        """This gathered batch on `device`, where bytes become floats: a quarter of them has to travel."""
        target = normalise(self.target.to(device))
        return replace(
            self,
            now=normalise(self.now.to(device)),
            later=target if self.later is self.target else normalise(self.later.to(device)),
            target=target,
            mask=None if self.mask is None else unpack(self.mask.to(device), *target.shape[-2:]),
            action=None if self.action is None else self.action.to(device),
        )

    def augmented(self, now: Draw, later: Draw, target: Draw | None = None) -> Batch:
        """These floats, each observation as its own draw says; the masks go with the target, if that has one."""
        moved = replace(self, now=augment(self.now, now), later=augment(self.later, later))
        if target is None:
            return moved
        mask = None if self.mask is None else augment(self.mask, target)
        return replace(moved, target=augment(self.target, target), mask=mask)


def pixel_weights(mask: Tensor | None, target: Tensor, background: float = 0.0, blur: float = 0.0) -> Tensor:
    """1 on the agent and `background` off it, softened by a Gaussian of `blur` pixels; 1 everywhere without a mask.

    (B, stack, H, W), or (B, 1, H, W) without a mask
    """
    if mask is None:
        return torch.ones_like(target[:, :1])
    if blur:
        mask = gaussian_blur(mask, blur)
    return background + (1.0 - background) * mask


def gaussian_blur(mask: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W), its edge repeated outwards."""
    radius = math.ceil(3 * sigma)
    offset = torch.arange(-radius, radius + 1, device=mask.device)
    kernel = torch.exp(-0.5 * (offset / sigma).square())
    kernel = (kernel / kernel.sum()).to(mask.dtype)
    padded = F.pad(mask, [radius] * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return blurred.view(mask.shape)


def weighted_error(prediction: Tensor, target: Tensor, weight: Tensor, normalise: str = "none") -> Tensor:
    """‖W ⊙ (o' - ô')‖² of a batch, divided as `normalise` says; what has weight 0 has no influence on any gradient.

    `none`: by the number of all values, so that it is the mean squared error with masked errors, the paper's form
    but for a constant. `image`: image by image by the weights' sum, so that each counts the same however large the
    agent is in it. `batch`: by the weights' sum over the batch, of all processes. Weights are binary in the paper
    (W² = W). Predictions and targets (B, C, H, W); weights (B, N, H, W), each for C / N channels.
    """
    # Channels last in shape, as they are in memory: so the gradient is, too, which the convolutions' speed needs.
    prediction, target, weight = (x.permute(0, 2, 3, 1) for x in (prediction, target, weight))
    each = weight.shape[-1]
    squared = (prediction.float() - target).square()
    weighted = squared.unflatten(-1, (each, -1)) * weight.unsqueeze(-1) if each > 1 else squared * weight
    error = weighted.flatten(1).sum(1)  # (B,)
    if normalise == "none":
        return error.sum() / target.numel()
    area = target.shape[-1] / each * weight.sum(dim=(1, 2, 3))
    if normalise == "image":
        return (error / area.clamp(min=1.0)).mean()
    return error.sum() / over_processes(area.sum()).clamp(min=1.0)


def over_processes(value: Tensor) -> Tensor:
    """The mean of a value over all processes: gradients are averaged over them, too."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    dist.all_reduce(value)
    return value / dist.get_world_size()


@dataclass(frozen=True)
class Weighting:
    """How a mask weights an error: see `pixel_weights` and `weighted_error`."""

    masked: bool = False
    background: float = 0.0
    blur: float = 0.0
    normalise: str = "none"


class Reconstruction(nn.Module):
    """LAPO's objective, and MaskLAM's where the weighting is masked."""

    def __init__(self, lam: Lapo, weighting: Weighting) -> None:
        super().__init__()
        self.lam, self.weighting = lam, weighting

    def forward(self, batch: Batch) -> Tensor:
        how = self.weighting
        z, code_loss = self.lam.bottleneck(batch.now, batch.later)
        weight = pixel_weights(batch.mask if how.masked else None, batch.target, how.background, how.blur)
        return weighted_error(self.lam.predict(batch.now, z), batch.target, weight, how.normalise) + code_loss


class Consistency(nn.Module):
    """LAOM's objective: predict the next observation's embedding as an EMA copy of the encoder gives it.

    Where the weighting is masked, cells of the embedding's map count by the mask pooled to its grid (MaskLAOM); with
    labelled batches, a linear head on z also predicts their true actions (LAOM + labels).
    """

    def __init__(self, lam: Laom, weighting: Weighting, ema: float = 0.001, label_weight: float = 0.0) -> None:
        super().__init__()
        self.lam, self.weighting, self.ema, self.label_weight = lam, weighting, ema, label_weight
        self.target = copy.deepcopy(lam.encoder).requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        embedding = self.lam.embed(batch.now)
        z = self.lam.between(embedding, self.lam.embed(batch.later))
        with torch.no_grad():
            goal = self.target(batch.target).float()
        mask = batch.mask if self.weighting.masked else None
        loss = consistency_loss(self.lam.predict(embedding, z), goal, mask, self.weighting.normalise)
        if batch.labelled is not None:
            seen = batch.labelled
            assert seen.action is not None
            action = self.lam.to_action(self.lam.latent(seen.now, seen.later))
            loss = loss + self.label_weight * F.mse_loss(action.float(), seen.action)
        return loss

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the target towards the encoder."""
        for slow, fast in zip(self.target.parameters(), self.lam.encoder.parameters(), strict=True):
            slow.lerp_(fast, self.ema)


def consistency_loss(prediction: Tensor, goal: Tensor, mask: Tensor | None, normalise: str = "none") -> Tensor:
    """Error between square maps (B, C, h, h), cells weighted by the masks (B, stack, H, W) pooled to their grid.

    A stack's cell counts as much as in the frame in which the agent covers it most.
    """
    if mask is None:
        weight = torch.ones_like(goal[:, :1])
    else:
        weight = F.adaptive_avg_pool2d(mask, goal.shape[-1]).amax(1, keepdim=True)
    return weighted_error(prediction, goal, weight, normalise)


class Supervised(nn.Module):
    """Inverse dynamics on true actions."""

    def __init__(self, lam: ActionModel) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, batch: Batch) -> Tensor:
        assert batch.action is not None
        return F.mse_loss(self.lam.latent(batch.now, batch.later).float(), batch.action)


class Regression(nn.Module):
    """Mean squared error of a network's output on the first of a pair, the second being the goal."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, goal = batch
        return F.mse_loss(self.network(inputs).float(), goal)


def lam_objective(lam: nn.Module, weighting: Weighting, ema: float, label_weight: float) -> nn.Module:
    """The objective of stage `lam` for a latent action model."""
    if isinstance(lam, Lapo):
        return Reconstruction(lam, weighting)
    if isinstance(lam, Laom):
        return Consistency(lam, weighting, ema, label_weight)
    assert isinstance(lam, ActionModel)
    return Supervised(lam)
