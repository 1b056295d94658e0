"""What stages minimise: batches, and errors in which a mask is a weight map, nothing more."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.augment import Draw, augment
from masklam.data import normalise, unpack


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


class Objective(nn.Module):
    """A module that maps a batch to its loss."""

    def after_step(self) -> None:
        """What follows a gradient step; for most nothing."""


class Regression(Objective):
    """Mean squared error of a network's output on the first of a pair, the second being the goal."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, goal = batch
        return F.mse_loss(self.network(inputs).float(), goal)
