"""Policy, action decoder, and the one module that a run publishes."""

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
from masklam.encoders import Encoder, Sizes, initialise, widths
from masklam.limits import VERSION
from masklam.methods import find, latent_action_model
from masklam.published import pictures, published
from masklam.settings import Settings
from masklam.standard import Standard


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
        latent_dim: int = Settings.latent_dim,
        image_size: int = 64,
        frame_stack: int = Settings.frame_stack,
        encoder_scale: int = Settings.encoder_scale,
        encoder_deep: bool = Settings.encoder_deep,
        res_blocks: int = Settings.res_blocks,
        heads: int = Settings.heads,
        quantize: str = Settings.quantize,
        policy_scale: int = Settings.policy_scale,
        policy_layers: int = Settings.policy_layers,
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
            sizes = Sizes(channels_in, channels, res_blocks, side, latent_dim, action_dim, heads, quantize)
            self.lam = latent_action_model(kind, sizes)
        if "policy" in parts:
            outputs = latent_dim if kind.latent else action_dim
            layers = policy_layers or kind.policy_layers
            self.policy = Policy(channels_in, widths(policy_scale), res_blocks, outputs, layers)
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
