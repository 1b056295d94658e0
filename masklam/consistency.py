"""LAOM, with labels and with masks (MaskLAOM): a latent action model of embeddings."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.encoders import Encoder, ResidualBlock, Sizes, flat, unflat
from masklam.objectives import Batch, Objective, Weighting, weighted_error


class Block(nn.Module):
    """LayerNorm(x + W₂ ReLU6(W₁ x)), W₁ fourfold; (B, width) → (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.shrink(F.relu6(self.expand(x))))


class Head(nn.Module):
    """LAOM's head: three times a projection to its width, then a block; the last two are fed `again`, too."""

    def __init__(self, first: int, again: int, width: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(size, width) for size in (first, width + again, width + again))
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.leave = nn.Linear(width, outputs)

    def forward(self, first: Tensor, again: Tensor) -> Tensor:
        """(B, first) and (B, again) → (B, outputs)."""
        x = first
        for number, (project, block) in enumerate(zip(self.project, self.blocks, strict=True)):
            x = block(project(torch.cat([x, again], dim=1) if number else x))
        return self.leave(x)


class MapHead(nn.Module):
    """The same for a spatial map: convolutional residual blocks, so that a cell of it stays in its place."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels, self.map = sizes.channels[-1], sizes.map
        self.from_latent = nn.Linear(sizes.latent_dim, sizes.embedding)
        self.enter = nn.Conv2d(2 * channels, channels, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(3)))

    def forward(self, embedding: Tensor, z: Tensor) -> Tensor:
        features = torch.cat([unflat(embedding, self.map), unflat(self.from_latent(z), self.map)], dim=1)
        return flat(self.blocks(self.enter(features)))


class Laom(nn.Module):
    """LAOM (Nikulin et al. 2025): one encoder; the latent action predicts the next observation's embedding.

    With `labels`, a linear head predicts true actions from the latent one; with `spatial`, the embedding is predicted
    as a map, so that a mask can weight its cells.
    """

    def __init__(self, sizes: Sizes, labels: bool, spatial: bool) -> None:
        super().__init__()
        size, latent_dim, heads, self.map = sizes.embedding, sizes.latent_dim, sizes.heads, sizes.map
        self.encoder = Encoder(sizes.channels_in, sizes.channels, sizes.blocks)
        self.act_head = Head(2 * size, 2 * size, heads, latent_dim)
        self.obs_head: Head | MapHead = (
            MapHead(sizes) if spatial else Head(size + latent_dim, latent_dim, heads, size)
        )
        if labels:
            self.to_action = nn.Linear(latent_dim, sizes.action_dim)

    def embed(self, observation: Tensor) -> Tensor:
        """(B, C, H, W) → (B, h·w·C'), the last map, flattened."""
        return flat(self.encoder(observation))

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, d)."""
        return self.between(self.embed(now), self.embed(later))

    def between(self, now: Tensor, later: Tensor) -> Tensor:
        """The latent action between two embeddings; (B, h·w·C') twice → (B, d)."""
        pair = torch.cat([now, later], dim=1)
        return self.act_head(pair, pair)

    def predict(self, embedding: Tensor, z: Tensor) -> Tensor:
        """The next embedding as a map (B, C', h, w) from an embedding, through which no gradient flows, and z."""
        embedding = embedding.detach()
        if isinstance(self.obs_head, MapHead):
            return unflat(self.obs_head(embedding, z), self.map)
        return unflat(self.obs_head(torch.cat([embedding, z], dim=1), z), self.map)


class Consistency(Objective):
    """LAOM's objective: predict the next observation's embedding as an EMA copy of the encoder gives it.

    Where the weighting is masked, cells of the embedding's map count by the mask pooled to its grid (MaskLAOM); with
    labelled batches, a linear head on z also predicts their true actions (LAOM + labels).
    """

    def __init__(self, lam: Laom, weighting: Weighting, ema: float = 0.0, label_weight: float = 0.0) -> None:
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
