"""Transitions from a dataset: decoded once into memory-mapped arrays, then gathered by index arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distractor_data import arrays, schema
from distractor_data.errors import DmaskError
from distractor_data.masks.corrupt import Corruption
from distractor_data.masks.corrupt import corrupt as degrade
from masklam.bar import decoding


@dataclass(frozen=True)
class Frames:
    """All frames of one split, in order, episode after episode."""

    image: Tensor  # (N, H, W, 3) uint8
    mask: Tensor | None  # (N, H·W/8) uint8, bit-packed
    action: Tensor  # (N, A) float32
    episode: Tensor  # (N,) int64, 0 … episodes - 1
    first: Tensor  # (N,) int64, the first frame of the frame's episode
    last: Tensor  # (N,) int64, the last one

    @classmethod
    def of_episode(cls, images: Tensor) -> Frames:
        """Images (T, H, W, 3) of one episode, without masks and actions."""
        zero = torch.zeros(len(images), dtype=torch.int64)
        return cls(images, None, torch.zeros(len(images), 0), zero, zero, zero + len(images) - 1)

    @classmethod
    def of_episodes(cls, lengths: np.ndarray, image: Tensor, mask: Tensor | None, action: Tensor) -> Frames:
        """Arrays of all frames (N, …), of episodes of `lengths` one after the other."""
        sizes = torch.from_numpy(lengths)
        number, ends = torch.arange(len(lengths)).repeat_interleave(sizes), sizes.cumsum(0)
        return cls(image, mask, action, number, (ends - sizes)[number], (ends - 1)[number])

    @property
    def episodes(self) -> int:
        return int(self.episode[-1]) + 1

    def to(self, device: str | torch.device) -> Frames:
        """The same arrays on another device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def within(self, episodes: Iterable[int]) -> Tensor:
        """Whether each frame is of one of the episodes; (N,) bool."""
        return torch.isin(self.episode, torch.as_tensor(list(episodes), device=self.episode.device))

    def transitions(self, episodes: Sequence[int] | None = None, ahead: int = 1) -> Tensor:
        """Indices t for which t + `ahead` lies in the same episode, of the given episodes only; (M,) int64."""
        valid = self.last >= ahead + torch.arange(len(self.last), device=self.last.device)
        if episodes is not None:
            valid &= self.within(episodes)
        return valid.nonzero().flatten()

    def pixels(self, t: Tensor, stack: int = 1) -> Tensor:
        """Frames t-stack+1, … t-1, t on the channels, oldest first; before the start its first frame repeats.

        (B,) → (B, 3·stack, H, W) uint8, channels-last in memory.
        """
        frames = [self.image.index_select(0, i) for i in self.stacked(t, stack)]  # (B, H, W, 3) each
        pixels = frames[0] if stack == 1 else torch.cat(frames, dim=3)
        return pixels.permute(0, 3, 1, 2)

    def stacked(self, t: Tensor, stack: int) -> list[Tensor]:
        """The frames' indices of the observations at t, oldest first; `stack` times (B,)."""
        first = self.first[t]
        return [torch.maximum(t - back, first) for back in reversed(range(stack))]

    def observations(self, t: Tensor, stack: int = 1, device: str | torch.device | None = None) -> Tensor:
        """`pixels` as a model sees them, in [-1, 1] on `device`; (B,) → (B, 3·stack, H, W) float32."""
        return normalise(self.pixels(t, stack).to(device or self.image.device))

    def packed(self, t: Tensor, stack: int = 1) -> Tensor:
        """The masks as they lie in memory; (B,) → (B, stack, H·W/8) uint8."""
        assert self.mask is not None
        return torch.stack([self.mask.index_select(0, i) for i in self.stacked(t, stack)], dim=1)

    def masks(self, t: Tensor, stack: int = 1) -> Tensor:
        """(B,) → (B, stack, H, W) float32 in {0, 1}, 1 on the agent."""
        return unpack(self.packed(t, stack), self.image.shape[1], self.image.shape[2])


def normalise(pixels: Tensor) -> Tensor:
    """uint8 → float32 in [-1, 1], in one pass over memory."""
    return torch.add(torch.tensor(-1.0, device=pixels.device), pixels, alpha=1 / 127.5)


def unpack(packed: Tensor, height: int, width: int) -> Tensor:
    """Undo `numpy.packbits`: (B, N, H·W/8) uint8 → (B, N, H, W) float32."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    every = torch.arange(256, dtype=torch.uint8, device=packed.device)
    bits = ((every[:, None] >> shifts) & 1).to(torch.float32)  # (256, 8), those of each byte
    unpacked = F.embedding(packed.int(), bits).flatten(2)
    return unpacked[..., : height * width].unflatten(2, (height, width))


def load(
    source: str,
    env: str,
    split: str = "train",
    image_column: str = schema.IMAGE,
    mask_column: str | None = None,
    cache: str | Path | None = None,
    streaming: bool = False,
    share: tuple[int, int] = (0, 1),
) -> Frames:
    """The frames of one environment and split, decoded on the first call and memory-mapped after it.

    `source` is a folder or a dataset repository of the Hub; with `streaming` a repository's shards are fetched one
    at a time, and none is kept once it is decoded. `share` is (rank, world): one process's part of the shards.
    Raises `DmaskError` where the dataset, the environment, the split or a column is not there, and where a mask is
    empty on every frame.
    """
    columns = [image_column] + ([mask_column] if mask_column else [])
    lengths, found = arrays.load(source, env, split, columns, cache, streaming, share, decoding)
    image, action = (torch.from_numpy(found[name]) for name in (image_column, schema.ACTION))
    mask = torch.from_numpy(found[mask_column]) if mask_column else None
    return Frames.of_episodes(lengths, image, mask, action)


_CHUNK = 4096  # masks made worse at a time


def corrupt(frames: Frames, how: str, seed: int) -> Frames:
    """Frames whose masks are made worse, as `dmask corrupt-masks` does it; `how` is as `corruption` reads it."""
    degradation = corruption(how)
    assert frames.mask is not None
    packed = torch.empty_like(frames.mask)
    for number, index in enumerate(torch.arange(len(packed)).split(_CHUNK)):
        masks = frames.masks(index)[:, 0].numpy() > 0  # (B, H, W)
        worse = degrade(
            masks, degradation, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, number)))
        )
        packed[index] = torch.from_numpy(np.packbits(worse.reshape(len(worse), -1), axis=1))
    return replace(frames, mask=packed)


def corruption(how: str) -> Corruption:
    """What `dilate:PIXELS`, `erode:PIXELS` or `noise:SHARE` does to a mask. Raises `DmaskError` for anything else."""
    kind, _, amount = how.partition(":")
    try:
        if kind == "noise":
            return Corruption(flip=float(amount))
        if kind in ("dilate", "erode"):
            return Corruption(**{kind: int(amount)})
    except ValueError:
        pass
    raise DmaskError(f"--mask-corruption {how!r}: give dilate:PIXELS, erode:PIXELS or noise:SHARE")


@dataclass(frozen=True)
class Sampler:
    """Which transitions a step sees: a function of (seed, step) alone, so that a resumed run goes on exactly.

    Every epoch is one permutation, or with `replacement` every draw is independent of the others; of each batch of
    `batch` transitions a process takes every `world`-th. `transitions` must leave room for `offset` steps.
    """

    transitions: Tensor  # (M,) int64
    batch: int
    seed: int
    offset: int = 1  # how far ahead the inverse dynamics may look
    rank: int = 0
    world: int = 1
    replacement: bool = False

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Times t and t + k of a batch, k uniform in 1 … offset; both (B,) int64."""
        t = self.transitions[self._chosen(step).to(self.transitions.device)]
        k = torch.randint(1, self.offset + 1, (self.batch,), generator=generator(self.seed, 1, step))
        return t[self.rank :: self.world], (t + k.to(t.device))[self.rank :: self.world]

    def _chosen(self, step: int) -> Tensor:
        """Places in `transitions`; (batch,) int64."""
        size = len(self.transitions)
        if self.replacement:
            return torch.randint(size, (self.batch,), generator=generator(self.seed, 4, step))
        epoch, position = divmod(step, max(size // self.batch, 1))
        order = permutation(size, self.seed, epoch)
        chosen = order[position * self.batch : (position + 1) * self.batch]
        if len(chosen) < self.batch:  # fewer transitions than one batch
            chosen = order[torch.arange(self.batch) % size]
        return chosen


@functools.lru_cache(maxsize=2)
def permutation(size: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits its transitions; (size,) int64."""
    return torch.randperm(size, generator=generator(seed, 0, epoch))


def generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a function of `key`."""
    seed = int(np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
