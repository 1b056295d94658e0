"""The registry of methods and what each minimises. A mask is a weight map, nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distractor_data.errors import DmaskError, nearest
from masklam.models import Lapo


@dataclass(frozen=True)
class Method:
    """One row of the registry: what distinguishes a method from the others."""

    title: str
    masked: bool = False  # its loss is weighted by the agent's mask
    offset: int = 1  # how far ahead the inverse dynamics looks, at most


METHODS = {
    "lapo": Method("LAPO: inverse and forward dynamics, pixel reconstruction"),
    "masklam": Method("MaskLAM: LAPO whose reconstruction is weighted by the agent's mask", masked=True),
}


def method(name: str) -> Method:
    """The registry's row. Raises `DmaskError` for an unknown name."""
    if name not in METHODS:
        raise DmaskError(
            f"unknown --method {name!r}{nearest(name, METHODS)}; choose one of {', '.join(METHODS)}"
        )
    return METHODS[name]


@dataclass(frozen=True)
class Batch:
    """What one step sees."""

    now: Tensor  # (B, C, H, W) in [-1, 1]
    later: Tensor  # (B, C, H, W), k steps on: what the inverse dynamics sees
    target: Tensor  # (B, 3, H, W), one step on: what the forward dynamics predicts
    mask: Tensor | None = None  # (B, 1, H, W), the target's


def pixel_weights(mask: Tensor | None, target: Tensor, background: float = 0.0) -> Tensor:
    """1 on the agent and `background` off it; 1 everywhere without a mask; (B, 1, H, W)."""
    if mask is None:
        return torch.ones_like(target[:, :1])
    return background + (1.0 - background) * mask


def reconstruction_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """‖W ⊙ (o' - ô')‖² over the weights' sum, frame by frame, then the batch's mean.

    The sum is taken per frame, so that a frame counts the same however large the agent is in it, and so that
    the gradient of a batch is the mean of its parts' gradients. Weights are binary in the paper (W² = W).
    A pixel of weight 0 has no influence on any gradient.
    """
    error = (weight * (prediction - target).square()).sum(dim=(1, 2, 3))
    area = target.shape[1] * weight.sum(dim=(1, 2, 3))
    return (error / area.clamp(min=1.0)).mean()


class Reconstruction(nn.Module):
    """LAPO's objective, and MaskLAM's when `masked`."""

    def __init__(self, lam: Lapo, masked: bool, background_weight: float = 0.0) -> None:
        super().__init__()
        self.lam = lam
        self.masked = masked
        self.background_weight = background_weight

    def forward(self, batch: Batch) -> Tensor:
        _, prediction = self.lam(batch.now, batch.later)
        weight = pixel_weights(batch.mask if self.masked else None, batch.target, self.background_weight)
        return reconstruction_loss(prediction.float(), batch.target, weight)
