"""Encoder and decoder of images, and how their weights begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """What a latent action model is built from."""

    channels_in: int  # of an observation: 3 a frame of its stack
    channels: list[int]  # of the encoder's resolutions
    blocks: int  # residual ones a resolution
    side: int  # of the encoder's last map
    latent_dim: int
    action_dim: int
    heads: int  # width of LAOM's
    quantize: str

    @property
    def map(self) -> tuple[int, int, int]:
        """Shape of the encoder's last map (C, h, w)."""
        return self.channels[-1], self.side, self.side

    @property
    def embedding(self) -> int:
        """Values of that map."""
        return self.channels[-1] * self.side**2


class ResidualBlock(nn.Module):
    """x + conv(relu6(conv(relu6(x)))), 3×3. In place where no gradient needs what was there: memory is its limit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu6(self.first(F.relu6(x)), inplace=True)).add_(x)


class Encoder(nn.Sequential):
    """(B, C, H, W) → (B, C', H / 2ⁿ, W / 2ⁿ): n times a convolution of stride 2, then residual blocks.

    Without any blocks, a ReLU6 stands in their place: they hold all other nonlinearities.
    """

    def __init__(self, channels_in: int, channels: list[int], blocks: int) -> None:
        layers: list[nn.Module] = []
        for size in channels:
            layers.append(nn.Conv2d(channels_in, size, 3, stride=2, padding=1))
            layers += [ResidualBlock(size) for _ in range(blocks)] or [nn.ReLU6()]
            channels_in = size
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """(B, C', h, w) → (B, C, h·2ⁿ, w·2ⁿ): transposed convolutions of stride 2, residual blocks; in (-1, 1)."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, channels_out: int) -> None:
        layers: list[nn.Module] = []
        for size in channels:
            layers.append(nn.ConvTranspose2d(channels_in, size, 2, stride=2))
            layers += [ResidualBlock(size) for _ in range(blocks)] or [nn.ReLU6()]
            channels_in = size
        super().__init__(*layers, nn.GELU(), nn.Conv2d(channels_in, channels_out, 1), nn.Tanh())


def flat(features: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h·w·C), as a channels-last map lies in memory: neither it nor its gradient is copied."""
    return features.permute(0, 2, 3, 1).flatten(1)


def unflat(vector: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The inverse: (B, h·w·C) → (B, *shape), shape being (C, h, w)."""
    channels, height, width = shape
    return vector.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2)


def widths(scale: int, deep: bool = False) -> list[int]:
    """Channels of an encoder, LAOM's shallow or deep one, times `scale`."""
    return [scale * c for c in ((16, 32, 64, 128, 256) if deep else (16, 32, 32))]


def initialise(module: nn.Module) -> None:
    """Orthogonal weights, zero biases: of all networks but the action decoders."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        weight = torch.empty(module.weight.shape, device=module.weight.device)  # QR needs it contiguous
        module.weight.data.copy_(nn.init.orthogonal_(weight))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def as_torch_does(module: nn.Module) -> None:
    """torch's own initial weights: of the action decoders."""
    if isinstance(module, nn.Linear):
        module.reset_parameters()
