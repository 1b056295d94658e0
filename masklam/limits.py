"""What a model may ask for. A configuration may be a stranger's: its weights are compared before they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.untrusted.values import Kind, flag, listing, matching, record, text, whole

if TYPE_CHECKING:
    from torch import nn

Built = TypeVar("Built", bound="nn.Module")
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
VERSION = 2  # of the networks; weights of other versions have other names, or another meaning
LIMITS = {
    "action_dim": (0, 4096),
    "latent_dim": (1, 1 << 16),
    "image_size": (8, 4096),
    "frame_stack": (1, 64),
    "encoder_scale": (1, 64),
    "res_blocks": (0, 64),
    "heads": (1, 1 << 16),
    "policy_scale": (1, 64),
    "policy_layers": (0, 16),  # 0 are the method's own
}
ARGUMENTS: dict[str, Kind] = {
    **{name: whole(*limits) for name, limits in LIMITS.items()},
    "method": text,
    "encoder_deep": flag,
    "quantize": matching("|fsq|vq", "fsq, vq or nothing"),
    "parts": listing(matching("lam|policy|decoder", "lam, policy or decoder"), 3),
    "budgets": listing(whole(1), 100),
    "version": whole(1),
}
_TRAINING = record({"method": text, "env": text}, {"dataset": text, "backgrounds": text})
_CONFIG = record({}, {**ARGUMENTS, "training": _TRAINING})
_TRAINED = record({name: ARGUMENTS[name] for name in ("method", "action_dim")}, {"training": _TRAINING})


def check(arguments: Mapping[str, Any]) -> None:
    """Raise `DmaskError` where one of a model's arguments is of another kind or size than a model's can be."""
    record({}, ARGUMENTS)(dict(arguments), "the model")


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a run. Raises `DmaskError` where it is missing, damaged, or asks for what no model has."""
    return untrusted.read_json(untrusted.inside(folder, CONFIG), _CONFIG)


def check_version(place: object, version: int | None) -> None:
    """Raise `DmaskError` where a model is of another version than these networks; `None` is the first."""
    if version != VERSION:
        raise DmaskError(
            f"{place} holds a model of version {version or 1}, and this masklam reads version {VERSION}, whose "
            "networks are others; train it again into another folder"
        )


def load(model: Callable[..., Built], folder: Path) -> Built:
    """The model of a folder, on the CPU.

    Raises `DmaskError` where its weights lack one, or one has another shape: their header is compared with a model
    that takes no memory, in which they then take their place.
    """
    import torch
    from safetensors.torch import load_file

    path, config = untrusted.inside(folder, CONFIG), read_config(folder)
    _TRAINED(config, str(path))
    check_version(folder, config.get("version"))
    with torch.device("meta"):
        built = model(**{name: value for name, value in config.items() if name in ARGUMENTS})
    weights = untrusted.inside(folder, WEIGHTS)
    wanted = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    found = untrusted.shapes(weights)
    if odd := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise DmaskError(
            f"{weights} holds the weights of another model than {CONFIG} tells of ({len(odd)} tensors differ, the "
            f"first is {odd[0]}); train it again"
        )
    built.load_state_dict(load_file(weights), assign=True)
    return built.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
