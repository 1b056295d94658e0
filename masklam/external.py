"""Latent actions of others in our tables: any function (now, later) → latents, probed on a dataset."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distractor_data import arrays, sources
from distractor_data.errors import DmaskError, nearest
from masklam import data, probes
from masklam.bar import bar
from masklam.data import Frames
from masklam.job import split_episodes
from masklam.settings import Settings, matching

BATCH = 64
FORMS = ("uint8", "float")  # (B, H, W, 3) as stored, or float32 (B, 3, H, W) in [-1, 1]


def probe(
    target: str,
    source: str,
    env: str,
    split: str = "train",
    images: str = "uint8",
    image_column: str = Settings.image_column,
    mask_column: str = "",
    held_out: float = Settings.held_out,
    most: int = probes.MOST,
    seed: int = 0,
    cache: str | None = None,
) -> dict[str, Any]:
    """The tables of `results.json` for `FILE.py:function`, which is called with two batches of observations.

    It gets torch tensors on the CPU, observations at t and at t + 1 in the form that `images` names, and returns
    their latents (B, …) as a tensor or an array. Probes are fitted on episodes of `split` and reported on its last
    ones (`in`) and, where `split` is `train`, on the test split (`out`). Raises `DmaskError` for a function that
    isn't there or gives something else, and for data that can't be read.
    """
    if images not in FORMS:
        raise DmaskError(f"--images is {images!r}; choose one of {', '.join(FORMS)}")
    if most < 1 or not held_out >= 0:
        raise DmaskError("--transitions and --held-out: give a number of at least 1 and a share of at least 0")
    function, mask_column = load(target), matching(image_column, mask_column)

    def frames_of(split: str) -> Frames:
        root = sources.locate(source, env, split, frames=False)
        masks = mask_column if mask_column in arrays.columns_of(root) else None
        return data.load(source, env, split, image_column, masks, cache)

    frames = frames_of(split)
    test = (lambda: frames_of("test")) if split == "train" else None
    episodes = split_episodes(frames.episodes, held_out)
    tables = probes.of_splits(latents(function, target, images), frames, episodes, test, seed, most)
    return {"sees": image_column, **tables}


def load(target: str) -> Callable[[Tensor, Tensor], Any]:
    """The function that `FILE.py:function` names; the file's folder can be imported from."""
    file, _, name = target.rpartition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        raise DmaskError(f"{target}: no such file; give FILE.py:function, a function (now, later) → latents")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.parent.resolve()))
    specification.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise DmaskError(f"{path} has no function {name!r}{nearest(name, known)}")
    return function


def latents(function: Callable[[Tensor, Tensor], Any], name: str, images: str) -> probes.Latents:
    """A function of two batches as one of times in `Frames`; what it gives is checked batch by batch."""

    def observations(frames: Frames, t: Tensor) -> Tensor:
        return frames.image.index_select(0, t) if images == "uint8" else frames.observations(t)

    @torch.no_grad()
    def call(frames: Frames, t: Tensor, later: Tensor) -> Tensor:
        found = []
        batches = list(zip(t.split(BATCH), later.split(BATCH), strict=True))
        for i, j in bar(batches, "latents", unit="batch", leave=False):
            z = torch.as_tensor(function(observations(frames, i), observations(frames, j)))
            if z.ndim < 2 or len(z) != len(i):
                raise DmaskError(f"{name} gave {tuple(z.shape)} for {len(i)} pairs; it must give latents (B, …)")
            found.append(z.detach().cpu().float().flatten(1))
            if not found[-1].isfinite().all():
                raise DmaskError(f"{name} gave latents that are not finite")
        return torch.cat(found)

    return call
