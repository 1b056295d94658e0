"""A picture or a clip of a dataset, for cards, papers and talks: frames, and the same with their masks over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distractor_data import media
from distractor_data.dataset import meta
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.viewer.library import Library

SUFFIXES = (".mp4", ".gif", ".png")
RATES = {".mp4": 60, ".gif": 20}  # frames per second at most; browsers slow faster GIFs down
ACROSS = 8  # frames in a row of a sheet
FRAMES = {".mp4": 200, ".gif": 60, ".png": ACROSS}


def preview(
    source: str | Path,
    out: Path,
    env: str | None = None,
    split: str | None = None,
    episodes: list[int] | None = None,
    frames: int | None = None,
) -> Path:
    """Write `out`: a clip (`.mp4`, `.gif`) of `frames` from the beginning, each episode at its own speed, or a sheet
    (`.png`) of so many, spread over the episode.

    Shown are the given episodes of each config and split, or the first of each config. Raises `DmaskError` for
    another suffix, what isn't there, and images of several sizes.
    """
    kind = out.suffix.lower()
    if kind not in SUFFIXES:
        raise DmaskError(f"--out {out} names no kind of preview; let it end with {', '.join(SUFFIXES)}")
    count = FRAMES[kind] if frames is None else frames
    if count < 1:
        raise DmaskError(f"--frames is {count}; give a number of at least 1")
    library = Library(source, env, split)
    shown = _episodes(library, episodes or [])
    if len({one.image.shape[1:] for one, _ in shown}) > 1:
        raise DmaskError(f"{source} has images of several sizes; choose one with --env")
    if kind == ".png":
        return _sheet([one for one, _ in shown], out, count)
    rate = min(RATES[kind], max(fps for _, fps in shown))
    clip = list(_clip(shown, count, rate))
    if kind == ".mp4":
        media.write_video(clip, clip[0].shape[:2], rate, out)
    else:
        media.write_gif(clip, rate, out)
    return out


def _episodes(library: Library, numbers: list[int]) -> list[tuple[Episode, int]]:
    """Episodes and their frames per second: those of the given numbers, or the first of each config."""
    if numbers:
        pairs = [(pair, number) for pair, found in library.chosen(numbers).items() for number in found]
    else:
        first = {config: (config, split) for config, split in reversed(library.splits)}
        pairs = [(pair, library.splits[pair].numbers[0]) for pair in reversed(first.values())]
    shown = []
    for pair, number in pairs:
        split = library.splits[pair]
        shown.append((split.episodes[split.places[number]], meta.read_record(split.episodes.root)["fps"]))
    return shown


def _masks(episode: Episode) -> np.ndarray:
    assert episode.mask is not None  # a library has masks
    return episode.mask


def _sheet(episodes: list[Episode], out: Path, count: int) -> Path:
    """A row of frames, of masks and of overlays; episodes of few frames stand beside each other."""
    count = min(count, *map(len, episodes))
    spread = [np.linspace(0, len(one) - 1, count).round().astype(int) for one in episodes]
    images = np.concatenate([one.image[t] for one, t in zip(episodes, spread, strict=True)])
    masks = np.concatenate([_masks(one)[t] for one, t in zip(episodes, spread, strict=True)])
    return media.contact_sheet(images, masks, out, columns=count * max(1, ACROSS // count))


def _clip(shown: list[tuple[Episode, int]], count: int, rate: int) -> Iterator[np.ndarray]:
    """Frames of a column for each episode, or a single one's row: frame, overlay, the clean one if there is one.

    An episode that has ended stands still.
    """
    episodes = [one for one, _ in shown]
    kinds = max(3 if one.image_clean is not None else 2 for one in episodes)
    rows, columns = (kinds, len(episodes)) if len(episodes) > 1 else (1, kinds)
    height, width = episodes[0].image.shape[1:3]
    scale = max(1, -(-media.CELL // height))
    high, wide = (scale * side + media.GAP for side in (height, width))
    longest = max(math.ceil(len(one) * rate / fps) for one, fps in shown)
    for k in range(min(count, longest)):
        canvas = np.full((rows * high + media.GAP, columns * wide + media.GAP, 3), 255, np.uint8)
        for number, (one, fps) in enumerate(shown):
            now = [min(k * fps // rate, len(one) - 1)]
            cells = [one.image[now], media.overlay(one.image[now], _masks(one)[now])]
            cells += [one.image_clean[now]] if one.image_clean is not None else []
            for kind, (cell,) in enumerate(cells):
                row, column = (kind, number) if len(episodes) > 1 else (0, kind)
                top, left = row * high + media.GAP, column * wide + media.GAP
                canvas[top : top + scale * height, left : left + scale * width] = np.kron(
                    cell, np.ones((scale, scale, 1), np.uint8)
                )
        yield canvas
