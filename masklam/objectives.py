"""What each method minimises. A mask is a weight map, nothing more."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.augment import augment
from masklam.data import normalise, unpack
from masklam.models import ActionModel, Laom, Lapo, unflat


@dataclass(frozen=True)
class Batch:
    """What one step sees: images (B, C, H, W) in [-1, 1], channels-last. Before `floats`, uint8 and bit-packed."""

    now: Tensor
    later: Tensor  # k steps on: what the inverse dynamics sees
    target: Tensor  # one step on: what the forward dynamics predicts; for LAPO its newest frame alone
    mask: Tensor | None = None  # (B, 1, H, W), the target's; packed (B, H·W/8)
    action: Tensor | None = None  # (B, A)
    labelled: Batch | None = None  # a second batch, with true actions, where the method has one
    draw: Tensor | None = None  # (B, 3, 9) uniform, from which augmentations follow

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


def pixel_weights(mask: Tensor | None, target: Tensor, background: float = 0.0, blur: float = 0.0) -> Tensor:
    """1 on the agent and `background` off it, softened by a Gaussian of `blur` pixels; 1 everywhere without a mask.

    (B, 1, H, W)
    """
    if mask is None:
        return torch.ones_like(target[:, :1])
    if blur:
        mask = gaussian_blur(mask, blur)
    return background + (1.0 - background) * mask


def gaussian_blur(mask: Tensor, sigma: float) -> Tensor:
    """(B, 1, H, W), its edge repeated outwards."""
    radius = math.ceil(3 * sigma)
    offset = torch.arange(-radius, radius + 1, device=mask.device)
    kernel = torch.exp(-0.5 * (offset / sigma).square())
    kernel = (kernel / kernel.sum()).to(mask.dtype)
    padded = F.pad(mask, [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def weighted_error(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """‖W ⊙ (o' - ô')‖² over the weights' sum, image by image, then the batch's mean.

    The sum is taken per image, so that one counts the same however large the agent is in it, and so that the
    gradient of a batch is the mean of its parts' gradients. Weights are binary in the paper (W² = W). What has
    weight 0 has no influence on any gradient. All (B, C, H, W), `weight` with one channel.
    """
    # Channels last in shape, as they are in memory: so the gradient is, too, which the convolutions' speed needs.
    prediction, target, weight = (x.permute(0, 2, 3, 1) for x in (prediction, target, weight))
    error = (weight * (prediction.float() - target).square()).sum(dim=(1, 2, 3))
    area = target.shape[-1] * weight.sum(dim=(1, 2, 3))
    return (error / area.clamp(min=1.0)).mean()


class Reconstruction(nn.Module):
    """LAPO's objective, and MaskLAM's when `masked`."""

    def __init__(self, lam: Lapo, masked: bool, background_weight: float = 0.0, blur: float = 0.0) -> None:
        super().__init__()
        self.lam = lam
        self.masked, self.background_weight, self.blur = masked, background_weight, blur

    def forward(self, batch: Batch) -> Tensor:
        z, code_loss = self.lam.bottleneck(batch.now, batch.later)
        mask = batch.mask if self.masked else None
        weight = pixel_weights(mask, batch.target, self.background_weight, self.blur)
        return weighted_error(self.lam.predict(batch.now, z), batch.target, weight) + code_loss


class Consistency(nn.Module):
    """LAOM's objective: predict the next observation's embedding as an EMA copy of the encoder gives it.

    With `masked`, cells of the embedding's map count by the mask pooled to its grid (MaskLAOM); with labelled
    batches, a linear head on z also predicts their true actions (LAOM + labels).
    """

    def __init__(self, lam: Laom, masked: bool, ema: float = 0.001, label_weight: float = 0.001) -> None:
        super().__init__()
        self.lam = lam
        self.masked, self.ema, self.label_weight = masked, ema, label_weight
        self.target = copy.deepcopy(lam.encoder).requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        now, later, target = batch.now, batch.later, batch.target
        mask = batch.mask if self.masked else None
        if batch.draw is not None:
            now, later = augment(now, batch.draw[:, 0]), augment(later, batch.draw[:, 1])
            target = augment(target, batch.draw[:, 2])
            mask = augment(mask, batch.draw[:, 2]) if mask is not None else None
        embedding = self.lam.embed(now)
        z = self.lam.act_head(embedding, self.lam.embed(later))
        prediction = unflat(self.lam.obs_head(embedding.detach(), z), self.lam.map)
        with torch.no_grad():
            goal = self.target(target).float()
        loss = consistency_loss(prediction, goal, mask)
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


def consistency_loss(prediction: Tensor, goal: Tensor, mask: Tensor | None) -> Tensor:
    """Error between square maps (B, C, h, h), cells weighted by the mask (B, 1, H, W) pooled to their grid."""
    weight = torch.ones_like(goal[:, :1]) if mask is None else F.adaptive_avg_pool2d(mask, goal.shape[-1])
    return weighted_error(prediction, goal, weight)


class Supervised(nn.Module):
    """Inverse dynamics on true actions."""

    def __init__(self, lam: ActionModel) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, batch: Batch) -> Tensor:
        now, later = batch.now, batch.later
        if batch.draw is not None:
            now, later = augment(now, batch.draw[:, 0]), augment(later, batch.draw[:, 1])
        assert batch.action is not None
        return F.mse_loss(self.lam.latent(now, later).float(), batch.action)


class Regression(nn.Module):
    """Mean squared error of a network's output on the first of a pair, the second being the goal."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, goal = batch
        return F.mse_loss(self.network(inputs).float(), goal)


def lam_objective(
    lam: nn.Module, masked: bool, background_weight: float, blur: float, ema: float, label_weight: float
) -> nn.Module:
    """The objective of stage `lam` for a latent action model."""
    if isinstance(lam, Lapo):
        return Reconstruction(lam, masked, background_weight, blur)
    if isinstance(lam, Laom):
        return Consistency(lam, masked, ema, label_weight)
    assert isinstance(lam, ActionModel)
    return Supervised(lam)
