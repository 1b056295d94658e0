"""The latent action models, policy and action decoder, and the one module that a run publishes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import Tensor, nn

from distractor_data.hub.repository import hub_errors
from masklam import limits
from masklam.data import Frames
from masklam.encoders import Decoder, Encoder, ResidualBlock, flat, initialise, unflat, widths
from masklam.limits import VERSION
from masklam.methods import find
from masklam.published import pictures, published
from masklam.standard import Standard

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

    With `spatial`, the embedding is predicted as a map, so that a mask can weight its cells; with `action_dim`, a
    linear head predicts true actions from the latent one.
    """

    def __init__(
        self,
        channels_in: int,
        channels: list[int],
        blocks: int,
        side: int,
        latent_dim: int,
        heads: int,
        action_dim: int = 0,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.map = (channels[-1], side, side)
        size = channels[-1] * side * side
        self.encoder = Encoder(channels_in, channels, blocks)
        self.act_head = Head(2 * size, 2 * size, heads, latent_dim)
        self.obs_head: Head | MapHead = (
            MapHead(channels[-1], side, latent_dim) if spatial else Head(size + latent_dim, latent_dim, heads, size)
        )
        if action_dim:
            self.to_action = nn.Linear(latent_dim, action_dim)

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


class ActionModel(nn.Module):
    """Plain inverse dynamics with LAOM's encoder and head: its latent action is the standardised action itself."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, side: int, heads: int, action_dim: int):
        super().__init__()
        size = 2 * channels[-1] * side * side
        self.encoder = Encoder(channels_in, channels, blocks)
        self.act_head = Head(size, size, heads, action_dim)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """(B, C, H, W) twice → (B, A)."""
        pair = torch.cat([flat(self.encoder(now)), flat(self.encoder(later))], dim=1)
        return self.act_head(pair, pair)


# --- policy, decoder, and the whole --------------------------------------------------------------------------


class Policy(nn.Module):
    """Observation → latent action: residual encoder, average pool, ReLU6, then a linear layer or an MLP."""

    def __init__(self, channels_in: int, channels: list[int], blocks: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, channels, blocks)
        self.head = mlp(channels[-1], outputs, layers)

    def forward(self, observation: Tensor) -> Tensor:
        return self.head(F.relu6(self.encoder(observation).mean(dim=(2, 3))))


def mlp(inputs: int, outputs: int, layers: int = 3, width: int = 256) -> nn.Sequential:
    """Linear layers of a width with ReLU6 between them."""
    sizes = [inputs, *[width] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        parts += [nn.Linear(a, b), nn.ReLU6()]
    return nn.Sequential(*parts[:-1])


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
    `idm` and `bc`) and `decoder` (one for each of `budgets`, the numbers of labelled trajectories). What sees
    actions sees them standardised, by the statistics of those trajectories (`standard`, one for each budget).
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
        heads: int = 256,
        quantize: str = "",
        policy_scale: int = 2,
        policy_layers: int = 3,
        parts: list[str] = ["lam"],  # noqa: B006 (goes into config.json; never changed)
        budgets: list[int] = [1],  # noqa: B006
        version: int = VERSION,
    ) -> None:
        limits.check({name: value for name, value in locals().items() if name in limits.ARGUMENTS})
        super().__init__()
        channels, channels_in = widths(encoder_scale, encoder_deep), 3 * frame_stack
        side = -(-image_size // 2 ** len(channels))
        kind = find(method)
        self.method, self.frame_stack, self.parts, self.budgets = method, frame_stack, parts, sorted(budgets)
        self.image_size = image_size
        if "lam" in parts:
            shape = (channels_in, channels, res_blocks, side)
            if kind.family == "lapo":
                self.lam: Lapo | Laom | ActionModel = Lapo(*shape, latent_dim, quantize)
            elif kind.family == "laom":
                self.lam = Laom(*shape, latent_dim, heads, action_dim if kind.labels else 0, spatial=kind.masked)
            else:
                self.lam = ActionModel(*shape, heads, action_dim)
        if "policy" in parts:
            outputs = latent_dim if kind.latent else action_dim
            self.policy = Policy(channels_in, widths(policy_scale), res_blocks, outputs, policy_layers)
        self.apply(initialise)
        if "decoder" in parts:  # with torch's own initial weights
            self.decoder = nn.ModuleDict({str(n): mlp(latent_dim, action_dim) for n in budgets})
        self.standard = nn.ModuleDict({str(n): Standard(action_dim) for n in budgets})
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Model:  # type: ignore[override]
        """The model of a run's folder, or of `org/name` on the Hub; `options` are those of `snapshot_download`.

        Raises `DmaskError` at once where it is in neither, and where its configuration or its weights are missing,
        damaged or another model's.
        """
        folder = Path(name)
        if not folder.is_dir():
            published(str(name), options.get("revision"), options.get("token"), options.get("cache_dir"))
            with hub_errors(str(name), "load"):
                folder = Path(snapshot_download(str(name), allow_patterns=[limits.CONFIG, limits.WEIGHTS], **options))
        return limits.load(cls, folder)

    def encode(self, images: Any) -> Tensor:
        """Observations (B, 3·stack, H, W) in [-1, 1] on the model's device, as `latent` and `act` take them.

        `images` are what `datasets` and `distractor_data.load` give: PIL images or uint8 (H, W, 3), one of them, a
        batch or a list. In a stack they are consecutive frames, the first being that of an episode. Raises
        `DmaskError` for images of another size than the model's.
        """
        frames = Frames.of_episode(pictures(images, self.image_size))
        device = next(self.parameters()).device
        return frames.observations(torch.arange(len(frames.image)), self.frame_stack, device)

    def latent(self, now: Tensor, later: Tensor) -> Tensor:
        """Latent actions (B, d) of observations (B, 3·stack, H, W) in [-1, 1]; for `idm` standardised actions."""
        return self.lam.latent(now, later)

    def act(self, observation: Tensor, budget: int = 0) -> Tensor:
        """Actions (B, A) in the data's units, within [-1, 1]; `budget` is one of `budgets`, 0 the largest."""
        z = self.policy(observation)
        if hasattr(self, "decoder"):
            z = self.decoder[str(budget or self.budgets[-1])](z)
        return self.units(budget).undo(z).clamp(-1, 1)

    def units(self, budget: int = 0) -> Standard:
        """The standard units of actions under a budget, 0 being the largest."""
        return cast(Standard, self.standard[str(budget or self.budgets[-1])])
