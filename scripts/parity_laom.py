"""Our models beside those of LAOM's authors, the same weights in both: how far outputs, loss and gradients differ.

    git clone https://github.com/dunnolab/laom DIR && git -C DIR checkout e133195
    python scripts/parity_laom.py --laom DIR

Their modules are imported from DIR, which is never part of this repository. The losses are those of their training
scripts; with labels, actions are in standard units on both sides. Exit code 1 where a difference is over 1e-5.

Both have their images channels-last in memory, so that both convolve by the same sums: among millions of units other
rounding would put one on the other side of a ReLU6's kink, where gradients jump.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklam.consistency import Head, Laom
from masklam.encoders import flat
from masklam.methods import objective
from masklam.models import Model
from masklam.objectives import Batch, Weighting
from masklam.reconstruction import Lapo
from masklam.supervision import ActionModel

Lam = Lapo | Laom | ActionModel
METHODS = ("lapo", "laom", "laom-labels", "idm")
TOLERANCE, ACTIONS, LABEL_WEIGHT = 1e-5, 6, 0.001


# --- their modules -------------------------------------------------------------------------------------------


class Absent(ModuleType):
    """Stands for a module that theirs import and don't use for models and augmentation: its names are classes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def lenient() -> Iterator[None]:
    """Let a torchvision be imported that lacks compiled operators for this torch: of it only arithmetic is used."""
    known = torch.library.register_fake

    def register(name: str, *arguments: Any, **options: Any) -> Any:
        return (lambda f: f) if name.startswith("torchvision::") else known(name, *arguments, **options)

    class Library(torch.library.Library):
        def impl(self, *arguments: Any, **options: Any) -> None:
            if self.ns != "torchvision":
                super().impl(*arguments, **options)

    with patch.object(torch.library, "register_fake", register), patch.object(torch.library, "Library", Library):
        yield


def load(folder: str, name: str) -> ModuleType:
    """A module of theirs, such as `src.nn`, from a checkout."""
    if not (Path(folder) / "src" / "nn.py").exists():
        sys.exit(f"{folder} holds no checkout of dunnolab/laom: there is no src/nn.py in it")
    # For recording, environments and quantisation.
    names = ("vector_quantize_pytorch", "gymnasium", "h5py", "shimmy")
    absent = [name for name in names if importlib.util.find_spec(name) is None] + ["src.dcs"]
    modules = patch.dict(sys.modules, {name: Absent(name) for name in absent})
    with modules, patch.object(sys, "path", [folder, *sys.path]), lenient():
        return importlib.import_module(name)


# --- their weights in ours -----------------------------------------------------------------------------------


def leaves(module: Any) -> list[Any]:
    """The layers with weights, in the order in which they were made."""
    return [m for m in module.modules() if list(m.parameters(recurse=False))]


def layers(ours: Any) -> list[Any]:
    """The same of ours, in the order in which theirs are made."""
    if isinstance(ours, Head):
        return [*ours.project, ours.leave, *leaves(ours.blocks)]
    if isinstance(ours, Lapo):
        front = [*leaves(ours.idm), ours.to_latent, *leaves(ours.fdm)]
        return [*front, *leaves(ours.decoder), ours.from_latent]
    middle = [ours.to_action] if hasattr(ours, "to_action") else []
    rest = layers(ours.obs_head) if isinstance(ours, Laom) else []
    return [*leaves(ours.encoder), *layers(ours.act_head), *middle, *rest]


def orders(ours: Lam, shape: tuple[int, ...]) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """Of layers on a flattened map, the places of our rows and columns in theirs: ours lies (h, w, C)."""
    map_ = flat(torch.arange(torch.tensor(shape).prod().item()).view(1, *shape))[0]

    def plain(number: int) -> Tensor:
        return torch.arange(number)

    def after(start: int, *parts: Tensor) -> Tensor:
        """Parts one after the other, behind `start` other places."""
        found = [plain(start)]
        for part in parts:
            found.append(part + sum(map(len, found)))
        return torch.cat(found)

    if isinstance(ours, Lapo):
        d = ours.to_latent.out_features
        return {ours.to_latent: (plain(d), map_), ours.from_latent: (map_, plain(d))}
    width = ours.act_head.leave.in_features
    first, *others = (layer for layer in ours.act_head.project)
    found = {first: (plain(width), after(0, map_, map_))}
    found |= {layer: (plain(width), after(width, map_, map_)) for layer in others}
    if isinstance(ours, Laom):
        assert isinstance(ours.obs_head, Head)
        d = ours.act_head.leave.out_features
        found[ours.obs_head.project[0]] = (plain(width), after(0, map_, plain(d)))
        found[ours.obs_head.leave] = (map_, plain(width))
    return found


def pairs(ours: Lam, theirs: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Parameters of both, and the index that takes a tensor of theirs to the order of ours."""
    shape = tuple(theirs.fdm.final_encoder_shape if isinstance(ours, Lapo) else theirs.final_encoder_shape)
    order = orders(ours, shape)
    for mine, other in zip(layers(ours), leaves(theirs), strict=True):
        if mine in order:
            rows, columns = order[mine]
            yield mine.weight, other.weight, (rows[:, None], columns)
            yield mine.bias, other.bias, (rows,)
        else:
            for (_, a), (_, b) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
                yield a, b, ...


# --- the comparison ------------------------------------------------------------------------------------------


def build(method: str, stack: int, laom: ModuleType, options: argparse.Namespace) -> tuple[Lam, Any]:
    """Our model and theirs, with their weights in both."""
    d, heads, scale = options.latent_dim, options.heads, options.scale
    common: dict[str, Any] = {"shape": (3 * stack, 64, 64), "encoder_scale": scale, "encoder_channels": (16, 32, 32)}
    common["encoder_num_res_blocks"] = 2
    hidden: dict[str, Any] = {"act_head_dim": heads, "obs_head_dim": heads, "encoder_norm_out": False}
    theirs = {
        "lapo": lambda: laom.LAPO(latent_act_dim=d, **common),
        "laom": lambda: laom.LAOM(latent_act_dim=d, **hidden, **common),
        "laom-labels": lambda: laom.LAOMWithLabels(true_act_dim=ACTIONS, latent_act_dim=d, **hidden, **common),
        "idm": lambda: laom.IDMLabels(act_dim=ACTIONS, act_head_dim=heads, **common),
    }[method]()
    model = Model(method, ACTIONS, d, frame_stack=stack, encoder_scale=scale, heads=heads, parts=["lam"])
    with torch.no_grad():
        for mine, other, index in pairs(model.lam, theirs):
            other.add_(0.01 * torch.randn_like(other))  # biases begin at zero, and the two orders alike
            mine.copy_(other[index])
    theirs.to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in model.lam.parameters()) == sum(p.numel() for p in theirs.parameters())
    return model.lam, theirs


def their_loss(method: str, theirs: Any, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Outputs and loss as in train_lapo.py, train_laom.py, train_laom_labels.py and train_idm.py."""
    if method == "idm":
        action, _ = theirs(batch.now, batch.later)
        return [action], F.mse_loss(action, actions(batch))
    if method == "lapo":
        image, z = theirs(batch.now, batch.later)
        return [z, image], F.mse_loss(image, batch.target)
    target = copy.deepcopy(theirs)
    embedding, z, _ = theirs(batch.now, batch.later)
    with torch.no_grad():
        goal = target.encoder(batch.target).flatten(1)
    loss = F.mse_loss(embedding, goal)
    if batch.labelled is None:
        return [z, embedding], loss
    _, _, action, _ = theirs(batch.labelled.now, batch.labelled.later, predict_true_act=True)
    return [z, embedding, action], loss + LABEL_WEIGHT * F.mse_loss(action, actions(batch.labelled))


def actions(batch: Batch) -> Tensor:
    assert batch.action is not None
    return batch.action


def our_outputs(lam: Lam, batch: Batch) -> list[Tensor]:
    """The same of ours, maps flattened as theirs are."""
    z = lam.latent(batch.now, batch.later)
    if isinstance(lam, Lapo):
        return [z, lam.predict(batch.now, z)]
    if isinstance(lam, ActionModel):
        return [z]
    found = [z, lam.predict(lam.embed(batch.now), z).flatten(1)]
    return (
        found
        if batch.labelled is None
        else [*found, lam.to_action(lam.latent(batch.labelled.now, batch.labelled.later))]
    )


def compare(method: str, stack: int, laom: ModuleType, options: argparse.Namespace) -> tuple[float, float, float]:
    """The largest differences of outputs, of the loss and of all gradients."""
    torch.manual_seed(0)
    lam, theirs = build(method, stack, laom, options)

    def images() -> Tensor:
        pixels = torch.rand(options.batch, 3 * stack, 64, 64) * 2 - 1
        return pixels.contiguous(memory_format=torch.channels_last)

    batch = Batch(images(), images(), images(), action=torch.randn(options.batch, ACTIONS))
    if method == "laom-labels":
        seen = Batch(images(), images(), images(), action=torch.randn(options.batch, ACTIONS))
        batch = Batch(batch.now, batch.later, batch.target, labelled=seen)
    outputs, loss = their_loss(method, theirs, batch)
    loss.backward()
    ours = objective(lam, Weighting(), ema=0.001, label_weight=LABEL_WEIGHT)(batch)
    ours.backward()
    with torch.no_grad():
        apart = max(largest(a, b) for a, b in zip(our_outputs(lam, batch), outputs, strict=True))
    gradients = max(largest(a.grad, b.grad[index]) for a, b, index in pairs(lam, theirs))
    return apart, largest(ours, loss), gradients


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laom", required=True, metavar="DIR", help="checkout of dunnolab/laom")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scale", type=int, default=1, help="of the encoders (the paper's: 6, for idm 12)")
    parser.add_argument("--latent-dim", type=int, default=64, help="(the paper's: 8192)")
    parser.add_argument("--heads", type=int, default=256, help="width of the heads (the paper's: 1024)")
    options = parser.parse_args()
    laom = load(options.laom, "src.nn")
    print("| method | frame stack | outputs | loss | gradients |\n|---|---|---|---|---|")
    worst = 0.0
    for method in METHODS:
        for stack in (1, 3):
            found = compare(method, stack, laom, options)
            worst = max(worst, *found)
            print(f"| {method} | {stack} | " + " | ".join(f"{value:.1e}" for value in found) + " |", flush=True)
    if worst > TOLERANCE:
        sys.exit(f"a difference is {worst:.1e}, over {TOLERANCE}")


if __name__ == "__main__":
    main()
