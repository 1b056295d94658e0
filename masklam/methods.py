"""The registry of methods: one row each."""

from __future__ import annotations

from dataclasses import dataclass

from distractor_data.errors import DmaskError, nearest


@dataclass(frozen=True)
class Method:
    """What distinguishes a method from the others."""

    title: str
    family: str  # which model: `lapo`, `laom`, `idm` (inverse dynamics on labels) or `bc` (no model)
    masked: bool = False  # its loss is weighted by the agent's mask
    labels: bool = False  # it sees true actions of the labelled fraction while it learns
    offset: int = 1  # how far ahead its inverse dynamics looks, at most
    augment: bool = False

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


METHODS = {
    "lapo": Method("LAPO: inverse and forward dynamics, pixel reconstruction", "lapo"),
    "masklam": Method("MaskLAM: LAPO, its reconstruction weighted by the agent's mask", "lapo", masked=True),
    "laom": Method("LAOM: latent temporal consistency, multi-step, augmented", "laom", offset=10, augment=True),
    "laom-labels": Method(
        "LAOM with supervision by true actions of the labelled fraction",
        "laom",
        labels=True,
        offset=10,
        augment=True,
    ),
    "masklaom": Method(
        "MaskLAOM: LAOM on a spatial map, its consistency weighted by the agent's mask",
        "laom",
        masked=True,
        offset=10,
        augment=True,
    ),
    "idm": Method("inverse dynamics trained on the labelled fraction, which labels the rest", "idm", labels=True),
    "bc": Method("behaviour cloning on the true actions of the labelled fraction", "bc", labels=True),
}


def find(name: str) -> Method:
    """The row of a method. Raises `DmaskError` for an unknown name."""
    if name not in METHODS:
        close = nearest(name, METHODS)
        raise DmaskError(f"unknown --method {name!r}{close}; choose one of {', '.join(METHODS)}")
    return METHODS[name]
