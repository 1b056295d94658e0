"""Encoders, the latent action models, policy and action decoder, and the one module that a run publishes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(relu6(conv(relu6(x)))), 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu6(self.first(F.relu6(x))))


class Encoder(nn.Sequential):
    """(B, C, H, W) → (B, C', H / 2ⁿ, W / 2ⁿ): n times a convolution of stride 2, then residual blocks."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int) -> None:
        layers: list[nn.Module] = []
        for size in channels:
            layers.append(nn.Conv2d(channels_in, size, 3, stride=2, padding=1))
            layers += [ResidualBlock(size) for _ in range(blocks)]
            channels_in = size
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """The mirror: transposed convolutions of stride 2 and residual blocks, to an image in (-1, 1)."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, channels_out: int = 3) -> None:
        layers: list[nn.Module] = []
        for size in channels:
            layers.append(nn.ConvTranspose2d(channels_in, size, 2, stride=2))
            layers += [ResidualBlock(size) for _ in range(blocks)]
            channels_in = size
        super().__init__(*layers, nn.GELU(), nn.Conv2d(channels_in, channels_out, 1), nn.Tanh())


def widths(scale: int, deep: bool = False) -> list[int]:
    """Channels of an encoder, LAOM's shallow or deep one, times `scale`."""
    return [scale * c for c in ((16, 32, 64, 128, 256) if deep else (16, 32, 32))]


class InverseDynamics(nn.Module):
    """Latent action of a pair of observations: both on the channels, encoded, one linear bottleneck."""

    def __init__(
        self, channels_in: int, channels: list[int], blocks: int, side: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.encoder = Encoder(2 * channels_in, channels, blocks)
        self.bottleneck = nn.Linear(channels[-1] * side * side, latent_dim)

    def forward(self, now: Tensor, later: Tensor) -> Tensor:
        features = self.encoder(torch.cat([now, later], dim=1))  # (B, C', h, w)
        return self.bottleneck(F.gelu(features.flatten(1)))  # (B, d)


class ForwardDynamics(nn.Module):
    """The next frame from an observation and a latent action, joined at the encoder's last map."""

    def __init__(
        self, channels_in: int, channels: list[int], blocks: int, side: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.shape = (channels[-1], side, side)
        self.encoder = Encoder(channels_in, channels, blocks)
        self.latent = nn.Linear(latent_dim, channels[-1] * side * side)
        self.decoder = Decoder(2 * channels[-1], [*channels[-2::-1], channels[0]], blocks)

    def forward(self, now: Tensor, z: Tensor) -> Tensor:
        joined = torch.cat([self.encoder(now), self.latent(z).unflatten(1, self.shape)], dim=1)
        return self.decoder(joined)  # (B, 3, H, W)


class Lapo(nn.Module):
    """LAPO (Schmidt & Jiang 2024): inverse and forward dynamics that meet in a latent action."""

    def __init__(
        self, channels_in: int, channels: list[int], blocks: int, side: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.idm = InverseDynamics(channels_in, channels, blocks, side, latent_dim)
        self.fdm = ForwardDynamics(channels_in, channels, blocks, side, latent_dim)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        return self.idm(now, later)

    def forward(self, now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Latent action (B, d) and the next frame as predicted from it (B, 3, H, W)."""
        z = self.latent(now, later)
        return z, self.fdm(now, z)


class Model(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="dmask",
    tags=["latent-action-model", "masklam"],
    license="apache-2.0",
    pipeline_tag="robotics",
):
    """Everything that a run learns. What stands in `config.json` are this constructor's arguments."""

    def __init__(
        self,
        method: str,
        action_dim: int,
        latent_dim: int = 64,
        image_size: int = 64,
        frame_stack: int = 1,
        encoder_scale: int = 1,
        encoder_deep: bool = False,
        res_blocks: int = 2,
    ) -> None:
        super().__init__()
        channels = widths(encoder_scale, encoder_deep)
        side = -(-image_size // 2 ** len(channels))
        self.frame_stack = frame_stack
        self.lam = Lapo(3 * frame_stack, channels, res_blocks, side, latent_dim)
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """Latent actions (B, d) of observations (B, 3·stack, H, W) in [-1, 1]."""
        return self.lam.latent(now, later)


def _initialise(module: nn.Module) -> None:
    """Orthogonal weights, zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
