"""Actions in standard units, in which all losses on actions are taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standard(nn.Module):
    """Actions in units in which each dimension's mean is 0 and the mean of the dimensions' variances is 1.

    One scale for all dimensions: a squared error is then the one on raw actions divided by their mean variance, and
    the dimensions weigh against each other as they do there.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(action_dim))
        self.register_buffer("scale", torch.ones(()))

    def measure(self, actions: Tensor) -> None:
        """Take mean and scale from actions (N, A); actions that never change keep the scale 1."""
        variance = actions.double().var(0, unbiased=False).mean()
        self.mean.copy_(actions.double().mean(0))
        self.scale.copy_(variance.sqrt() if variance > 1e-12 else torch.ones(()))

    def forward(self, actions: Tensor) -> Tensor:
        """Units of the data → standard ones."""
        return (actions - self.mean) / self.scale

    def undo(self, standard: Tensor) -> Tensor:
        """Standard units → those of the data."""
        return standard * self.scale + self.mean
