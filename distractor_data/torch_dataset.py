"""Transitions for a trainer of one's own: a map-style dataset of PyTorch over arrays that were decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distractor_data import arrays, schema
from distractor_data.errors import DmaskError
from distractor_data.spec import full_name


class Transition(NamedTuple):
    """What happened from t to t + horizon; a `DataLoader` gives the same names with a batch before each shape."""

    observation: Tensor  # (3·stack, H, W) uint8, frames t-stack+1 … t, oldest first
    next_observation: Tensor  # the same at t + horizon
    mask: Tensor  # (stack, H, W) bool, the agent in `observation`
    action: Tensor  # (horizon, A) float32, taken at t … t + horizon - 1


class Transitions(Dataset[Transition]):
    """Every t of a split whose t + horizon lies in the same episode, in order.

    Before an episode begins its first frame repeats. For batches without a `DataLoader`'s collating there is `batch`.
    """

    def __init__(
        self, lengths: np.ndarray, image: np.ndarray, mask: np.ndarray, action: np.ndarray, stack: int, horizon: int
    ) -> None:
        """Arrays as `arrays.load` gives them: images (N, H, W, 3), masks bit-packed, actions (N, A)."""
        self.image, self.mask, self.action, self.horizon = image, mask, action, horizon
        starts = np.cumsum(lengths) - lengths
        self.first = np.repeat(starts, lengths)  # (N,), of the frame's episode
        self.times = np.flatnonzero(np.arange(len(image)) + horizon < np.repeat(starts + lengths, lengths))
        self.back = np.arange(stack)[::-1]

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> Transition:
        return Transition(*(part[0] for part in self.batch([index])))

    def batch(self, indices: list[int] | np.ndarray | Tensor) -> Transition:
        """Several at once, gathered by one index each: (B, …) of what `dataset[index]` gives."""
        t = self.times[np.asarray(indices)]
        image, after = (self._stacked(self.image, at) for at in (t, t + self.horizon))
        height, width = self.image.shape[1:3]
        bits = np.unpackbits(self._stacked(self.mask, t), axis=-1)[..., : height * width]
        return Transition(
            _channels(image),
            _channels(after),
            torch.from_numpy(bits.reshape(*bits.shape[:2], height, width).view(bool)),
            torch.from_numpy(self.action[t[:, None] + np.arange(self.horizon)]),
        )

    def _stacked(self, of: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(B, stack, …), oldest first."""
        return np.asarray(of[np.maximum(t[:, None] - self.back, self.first[t][:, None])])


def _channels(images: np.ndarray) -> Tensor:
    """(B, stack, H, W, 3) → (B, 3·stack, H, W)"""
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).flatten(1, 2)


def transitions(
    source: str | Path,
    env: str,
    split: str = "train",
    frame_stack: int = 1,
    horizon: int = 1,
    mask_column: str = schema.MASK,
    cache: str | Path | None = None,
) -> Transitions:
    """Transitions of a dataset: `source` is a folder, or `org/name` on the Hub. Decoded once, into `cache`.

    Raises `DmaskError` where the dataset, the environment, the split or the masks are not there.
    """
    for name, value in (("frame_stack", frame_stack), ("horizon", horizon)):
        if value < 1:
            raise DmaskError(f"{name} is {value}; give 1 or more")
    columns = [schema.IMAGE, mask_column]
    lengths, found = arrays.load(str(source), full_name(env), split, columns, cache)
    image, mask, action = found[schema.IMAGE], found[mask_column], found[schema.ACTION]
    if not (lengths > horizon).any():
        raise DmaskError(f"no episode of {source} is longer than the horizon of {horizon}; give a smaller one")
    return Transitions(lengths, image, mask, action, frame_stack, horizon)
