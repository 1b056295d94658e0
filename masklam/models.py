"""Encoders, the latent action models, policy and action decoder, and the one module that a run publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import Tensor, nn

from distractor_data.repository import hub_errors
from masklam import limits
from masklam.methods import find


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
    """The mirror: transposed convolutions of stride 2 and residual blocks, to an image in (-1, 1)."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, channels_out: int = 3) -> None:
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


# --- latent action models ------------------------------------------------------------------------------------


class Lapo(nn.Module):
    """LAPO (Schmidt & Jiang 2024): inverse and forward dynamics that meet in a latent action.

    The inverse dynamics encodes both observations on the channels; the forward dynamics joins the latent action
    to the encoded observation at the encoder's last map.
    """

    def __init__(self, channels_in: int, channels: list[int], blocks: int, side: int, latent_dim: int, quantize: str):
        super().__init__()
        self.map = (channels[-1], side, side)
        size = channels[-1] * side * side
        self.idm = Encoder(2 * channels_in, channels, blocks)
        self.to_latent = nn.Linear(size, latent_dim)
        self.quantize = bottleneck(quantize, latent_dim)
        self.fdm = Encoder(channels_in, channels, blocks)
        self.from_latent = nn.Linear(latent_dim, size)
        self.decoder = Decoder(2 * channels[-1], [*channels[-2::-1], channels[0]], blocks)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, d)."""
        return self.bottleneck(now, later)[0]

    def bottleneck(self, now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        features = self.idm(torch.cat([now, later], dim=1))  # (B, C', h, w)
        return self.quantize(self.to_latent(F.gelu(flat(features))))

    def predict(self, now: Tensor, z: Tensor) -> Tensor:
        """The next frame (B, 3, H, W) from an observation and a latent action."""
        joined = torch.cat([self.fdm(now), unflat(self.from_latent(z), self.map)], dim=1)
        return self.decoder(joined)


class Head(nn.Module):
    """LAOM's head: three residual MLP blocks (4× expansion, ReLU6, LayerNorm), each fed the inputs again."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.expand = nn.ModuleList(nn.Linear(width + inputs, 4 * width) for _ in range(3))
        self.shrink = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(3))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.leave = nn.Linear(width, outputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs, dim=1)
        h = self.enter(x)
        for expand, shrink, norm in zip(self.expand, self.shrink, self.norm, strict=True):
            h = norm(h + shrink(F.relu6(expand(torch.cat([h, x], dim=1)))))
        return self.leave(h)


class MapHead(nn.Module):
    """The same for a spatial map: convolutional residual blocks, so that a cell of it stays in its place."""

    def __init__(self, channels: int, side: int, latent_dim: int) -> None:
        super().__init__()
        self.map = (channels, side, side)
        self.from_latent = nn.Linear(latent_dim, channels * side * side)
        self.enter = nn.Conv2d(2 * channels, channels, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(3)))

    def forward(self, embedding: Tensor, z: Tensor) -> Tensor:
        features = torch.cat([unflat(embedding, self.map), unflat(self.from_latent(z), self.map)], dim=1)
        return flat(self.blocks(self.enter(features)))


class Laom(nn.Module):
    """LAOM (Nikulin et al. 2025): one encoder; the latent action predicts the next observation's embedding.

    With `spatial`, the embedding is predicted as a map, so that a mask can weight its cells.
    """

    def __init__(
        self,
        channels_in: int,
        channels: list[int],
        blocks: int,
        side: int,
        latent_dim: int,
        heads: int,
        action_dim: int,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.map = (channels[-1], side, side)
        size = channels[-1] * side * side
        self.encoder = Encoder(channels_in, channels, blocks)
        self.act_head = Head(2 * size, heads, latent_dim)
        self.obs_head: nn.Module = (
            MapHead(channels[-1], side, latent_dim) if spatial else Head(size + latent_dim, heads, size)
        )
        self.to_action = nn.Linear(latent_dim, action_dim)  # trained by `laom-labels` alone

    def embed(self, observation: Tensor) -> Tensor:
        """(B, C, H, W) → (B, h·w·C'), the last map, flattened."""
        return flat(self.encoder(observation))

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, d)."""
        return self.act_head(self.embed(now), self.embed(later))


class ActionModel(nn.Module):
    """Plain inverse dynamics with LAOM's encoder and head: its latent action is the action itself."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, side: int, heads: int, action_dim: int):
        super().__init__()
        self.encoder = Encoder(channels_in, channels, blocks)
        self.act_head = Head(2 * channels[-1] * side * side, heads, action_dim)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        return self.act_head(flat(self.encoder(now)), flat(self.encoder(later)))


# --- policy, decoder, and the whole --------------------------------------------------------------------------


class Policy(nn.Module):
    """Observation → latent action: residual encoder, average pool, three-layer MLP."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, channels, blocks)
        self.head = mlp(channels[-1], outputs)

    def forward(self, observation: Tensor) -> Tensor:
        return self.head(F.relu6(self.encoder(observation)).mean(dim=(2, 3)))


def mlp(inputs: int, outputs: int, width: int = 256) -> nn.Sequential:
    """Three layers."""
    hidden = [nn.Linear(inputs, width), nn.ReLU6(), nn.Linear(width, width), nn.ReLU6()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Model(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="dmask",
    tags=["latent-action-model", "masklam"],
    license="apache-2.0",
    pipeline_tag="robotics",
):
    """Everything that a run learns. What stands in `config.json` are this constructor's arguments.

    `parts` names what is inside: `lam` (latent action model), `policy` (of latent actions, or of actions for
    `idm` and `bc`) and `decoder` (one for each of `budgets`, the numbers of labelled trajectories).
    """

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
        heads: int = 1024,
        quantize: str = "",
        policy_scale: int = 2,
        parts: list[str] = ["lam"],  # noqa: B006 (goes into config.json; never changed)
        budgets: list[int] = [],  # noqa: B006
    ) -> None:
        limits.check({name: value for name, value in locals().items() if name in limits.ARGUMENTS})
        super().__init__()
        channels, channels_in = widths(encoder_scale, encoder_deep), 3 * frame_stack
        side = -(-image_size // 2 ** len(channels))
        row = find(method)
        self.method, self.frame_stack, self.parts = method, frame_stack, parts
        if "lam" in parts:
            shape = (channels_in, channels, res_blocks, side)
            if row.family == "lapo":
                self.lam: Lapo | Laom | ActionModel = Lapo(*shape, latent_dim, quantize)
            elif row.family == "laom":
                self.lam = Laom(*shape, latent_dim, heads, action_dim, spatial=row.masked)
            else:
                self.lam = ActionModel(*shape, heads, action_dim)
        if "policy" in parts:
            outputs = latent_dim if row.latent else action_dim
            self.policy = Policy(channels_in, widths(policy_scale), res_blocks, outputs)
        if "decoder" in parts:
            self.decoder = nn.ModuleDict({str(n): mlp(latent_dim, action_dim) for n in budgets})
        self.apply(initialise)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Model:  # type: ignore[override]
        """The model of a run's folder, or of `org/name` on the Hub; `options` are those of `snapshot_download`.

        Raises `DmaskError` where its configuration or its weights are missing, damaged or another model's.
        """
        folder = Path(name)
        if not folder.is_dir():
            with hub_errors(str(name), "load"):
                folder = Path(snapshot_download(str(name), allow_patterns=[limits.CONFIG, limits.WEIGHTS], **options))
        return limits.load(cls, folder)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """Latent actions (B, d) of observations (B, 3·stack, H, W) in [-1, 1]."""
        return self.lam.latent(now, later)

    def act(self, observation: Tensor, budget: int = 0) -> Tensor:
        """Actions (B, A) in [-1, 1]; `budget` chooses the decoder, 0 the one of the most labels."""
        z = self.policy(observation)
        if hasattr(self, "decoder"):
            z = self.decoder[str(budget or max(map(int, self.decoder)))](z)
        return z.clamp(-1, 1)


def initialise(module: nn.Module) -> None:
    """Orthogonal weights, zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        weight = torch.empty(module.weight.shape, device=module.weight.device)  # QR needs it contiguous
        module.weight.data.copy_(nn.init.orthogonal_(weight))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
