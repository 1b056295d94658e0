"""Inverse dynamics learnt from true actions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.consistency import Head
from masklam.encoders import Encoder, Sizes, flat
from masklam.objectives import Batch, Objective


class ActionModel(nn.Module):
    """Plain inverse dynamics with LAOM's encoder and head: its latent action is the standardised action itself."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = Encoder(sizes.channels_in, sizes.channels, sizes.blocks)
        self.act_head = Head(2 * sizes.embedding, 2 * sizes.embedding, sizes.heads, sizes.action_dim)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, A)."""
        pair = torch.cat([flat(self.encoder(now)), flat(self.encoder(later))], dim=1)
        return self.act_head(pair, pair)


class Supervised(Objective):
    """Inverse dynamics on true actions."""

    def __init__(self, lam: ActionModel) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, batch: Batch) -> Tensor:
        assert batch.action is not None
        return F.mse_loss(self.lam.latent(batch.now, batch.later).float(), batch.action)
