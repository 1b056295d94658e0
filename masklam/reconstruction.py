"""LAPO, and MaskLAM, which is LAPO with a masked error: a latent action model of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.encoders import Decoder, Encoder, Sizes, flat, unflat
from masklam.objectives import Batch, Objective, Weighting, pixel_weights, weighted_error


class Lapo(nn.Module):
    """LAPO (Schmidt & Jiang 2024): inverse and forward dynamics that meet in a latent action.

    The inverse dynamics encodes both observations on the channels; the forward dynamics joins the latent action
    to the encoded observation at the encoder's last map.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels_in, channels, blocks, self.map = sizes.channels_in, sizes.channels, sizes.blocks, sizes.map
        self.idm = Encoder(2 * channels_in, channels, blocks)
        self.to_latent = nn.Linear(sizes.embedding, sizes.latent_dim)
        self.quantize = bottleneck(sizes.quantize, sizes.latent_dim)
        self.fdm = Encoder(channels_in, channels, blocks)
        self.from_latent = nn.Linear(sizes.latent_dim, sizes.embedding)
        self.decoder = Decoder(2 * channels[-1], channels[::-1], blocks, channels_in)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, d)."""
        return self.bottleneck(now, later)[0]

    def bottleneck(self, now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        features = self.idm(torch.cat([now, later], dim=1))  # (B, C', h, w)
        return self.quantize(self.to_latent(F.gelu(flat(features))))

    def predict(self, now: Tensor, z: Tensor) -> Tensor:
        """The next observation (B, C, H, W), all frames of its stack, from an observation and a latent action."""
        joined = torch.cat([self.fdm(now), unflat(self.from_latent(z), self.map)], dim=1)
        return self.decoder(joined)


class Reconstruction(Objective):
    """LAPO's objective, and MaskLAM's where the weighting is masked."""

    def __init__(self, lam: Lapo, weighting: Weighting) -> None:
        super().__init__()
        self.lam, self.weighting = lam, weighting

    def forward(self, batch: Batch) -> Tensor:
        how = self.weighting
        z, code_loss = self.lam.bottleneck(batch.now, batch.later)
        weight = pixel_weights(batch.mask if how.masked else None, batch.target, how.background, how.blur)
        return weighted_error(self.lam.predict(batch.now, z), batch.target, weight, how.normalise) + code_loss


# --- bottlenecks ---------------------------------------------------------------------------------------------


class FSQ(nn.Module):
    """Finite scalar quantisation (Mentzer et al. 2023): each dimension rounded to one of `levels` in [-1, 1]."""

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self.size, self.reach = levels, (levels - 1) / 2

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        bounded = torch.tanh(z) * self.reach
        rounded = bounded + (bounded.round() - bounded).detach()  # straight-through
        return rounded / self.reach, z.new_zeros(())

    def codes(self, quantised: Tensor) -> Tensor:
        """Which level each dimension of a quantised latent action has; (B, d) → (B, d) int64."""
        return ((quantised + 1) * self.reach).round().long()


class VQ(nn.Module):
    """Vector quantisation (van den Oord et al. 2017) of groups of dimensions, with one codebook for all groups."""

    def __init__(self, latent_dim: int, codes: int = 64, group: int = 16, commitment: float = 0.25) -> None:
        super().__init__()
        self.size, self.group = codes, min(group, latent_dim)
        self.commitment = commitment
        self.codebook = nn.Embedding(codes, self.group)
        nn.init.uniform_(self.codebook.weight, -1 / codes, 1 / codes)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        parts = z.reshape(-1, self.group)
        nearest = torch.cdist(parts.detach(), self.codebook.weight.detach()).argmin(1)
        code = self.codebook(nearest).reshape(z.shape)
        loss = F.mse_loss(code, z.detach()) + self.commitment * F.mse_loss(z, code.detach())
        return z + (code - z).detach(), loss

    def codes(self, quantised: Tensor) -> Tensor:
        """Which code each group of a quantised latent action is; (B, d) → (B, groups) int64."""
        parts = quantised.reshape(-1, self.group)
        return torch.cdist(parts, self.codebook.weight).argmin(1).reshape(len(quantised), -1)


class Continuous(nn.Module):
    """No quantisation."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(())


def bottleneck(quantize: str, latent_dim: int) -> nn.Module:
    """`fsq`, `vq` or, for an empty name, none; each maps z to (z, the loss of its codes)."""
    if quantize == "vq":
        return VQ(latent_dim)
    return FSQ() if quantize == "fsq" else Continuous()
