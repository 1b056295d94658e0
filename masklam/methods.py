"""The one place where a method is defined: its model, its objective, the options it takes and their defaults.

A new method is one more of `METHODS`. What computes in a new way has a file of its own, such as `reconstruction.py`,
among which the two functions at the end choose.

The networks and losses are those of LAOM's code (dunnolab/laom, with which `scripts/parity_laom.py` compares them).
Where MaskLAM's paper asks for something else it is an option, whose default stands with the method:

- `offset`: LAOM's code looks up to 10 steps ahead in all latent action models; in MaskLAM's paper LAPO and MaskLAM
  look one step ahead, and so they do here. IDM: one step in both.
- `policy_layers`: LAOM's policies end in one linear layer, those of LAPO and MaskLAM in MaskLAM's paper in three.
- `frame_stack`: 3 in LAOM's code, 1 in MaskLAM's paper and here, for all methods. Models of pixels predict the whole
  stack of the next observation, as LAOM's code does; masks weight each of its frames by its own.
- `mask_normalise`: MaskLAM's loss is `none`; the other two divide by the masks' area.

`scripts/studies/paper.toml` has both papers' settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distractor_data.errors import DmaskError, nearest

if TYPE_CHECKING:
    from masklam.consistency import Laom
    from masklam.encoders import Sizes
    from masklam.objectives import Objective, Weighting
    from masklam.reconstruction import Lapo
    from masklam.supervision import ActionModel

# Options of `masklam train` that not all methods take.
_LAM = ("mask_column", "encoder_scale", "encoder_deep", "offset", "steps", "warmup", "probe_every")
_LATENT = (*_LAM, "latent_dim", "decoder_steps", "decoder_lr")
_PIXELS = (*_LATENT, "quantize")
_EMBEDDINGS = (*_LATENT, "heads", "ema")
_MASKS = ("mask_corruption", "mask_normalise")


@dataclass(frozen=True)
class Method:
    """What distinguishes a method from the others."""

    title: str
    family: str  # which latent action model: `lapo`, `laom`, `idm` (inverse dynamics on labels) or `bc` (none)
    options: tuple[str, ...] = ()  # of those that not all methods take
    masked: bool = False  # its loss is weighted by the agent's mask
    labels: bool = False  # its first stage sees the true actions of the labelled trajectories
    offset: int = 1  # how far ahead its inverse dynamics looks, at most
    augment: bool = False
    policy_layers: int = 1  # linear layers after the policy's encoder

    @property
    def latent(self) -> bool:
        """Whether its policy gives latent actions, which need a decoder."""
        return self.family in ("lapo", "laom")

    @property
    def stages(self) -> tuple[str, ...]:
        """What there is to train and measure, in order."""
        if self.family == "bc":
            return ("policy", "evaluation")
        return ("lam", "policy", "decoder", "evaluation") if self.latent else ("lam", "policy", "evaluation")

    def takes(self, option: str) -> bool:
        """Whether an option of `masklam train` does anything for it."""
        return option in self.options or not any(option in other.options for other in METHODS.values())


METHODS = {
    "lapo": Method("LAPO: inverse and forward dynamics, pixel reconstruction", "lapo", _PIXELS, policy_layers=3),
    "masklam": Method(
        "MaskLAM: LAPO, its reconstruction weighted by the agent's mask",
        "lapo",
        (*_PIXELS, *_MASKS, "background_weight", "mask_blur"),
        masked=True,
        policy_layers=3,
    ),
    "laom": Method(
        "LAOM: latent temporal consistency, multi-step, augmented", "laom", _EMBEDDINGS, offset=10, augment=True
    ),
    "laom-labels": Method(
        "LAOM with supervision by true actions of the labelled trajectories",
        "laom",
        (*_EMBEDDINGS, "label_weight", "labelled_batch"),
        labels=True,
        offset=10,
        augment=True,
    ),
    "masklaom": Method(
        "MaskLAOM: LAOM on a spatial map, its consistency weighted by the agent's mask",
        "laom",
        (*_EMBEDDINGS, *_MASKS),
        masked=True,
        offset=10,
        augment=True,
    ),
    "idm": Method(
        "inverse dynamics trained on the labelled trajectories, which labels the rest",
        "idm",
        (*_LAM, "heads"),
        labels=True,
    ),
    "bc": Method("behaviour cloning on the true actions of the labelled trajectories", "bc", labels=True),
}


def find(name: str) -> Method:
    """The method of a name. Raises `DmaskError` for an unknown name."""
    if name not in METHODS:
        close = nearest(name, METHODS)
        raise DmaskError(f"unknown --method {name!r}{close}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def latent_action_model(method: Method, sizes: Sizes) -> Lapo | Laom | ActionModel:
    """The untrained model of stage `lam`. Imported here: `--help` knows methods and needs no torch."""
    from masklam.consistency import Laom
    from masklam.reconstruction import Lapo
    from masklam.supervision import ActionModel

    if method.family == "lapo":
        return Lapo(sizes)
    if method.family == "laom":
        return Laom(sizes, labels=method.labels, spatial=method.masked)
    return ActionModel(sizes)


def objective(lam: Lapo | Laom | ActionModel, weighting: Weighting, ema: float, label_weight: float) -> Objective:
    """What stage `lam` minimises."""
    from masklam.consistency import Consistency, Laom
    from masklam.reconstruction import Lapo, Reconstruction
    from masklam.supervision import Supervised

    if isinstance(lam, Lapo):
        return Reconstruction(lam, weighting)
    if isinstance(lam, Laom):
        return Consistency(lam, weighting, ema, label_weight)
    return Supervised(lam)
