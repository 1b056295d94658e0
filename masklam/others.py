"""Transitions from a dataset of others: a LeRobotDataset v3.0 or Parquet with images, of whatever size and camera."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distractor_data.dataset import cache, foreign
from distractor_data.dataset.foreign import Clip, Group, Source
from distractor_data.errors import DmaskError, NoSplitError
from distractor_data.untrusted import cells
from masklam import decoded
from masklam.bar import bar
from masklam.data import Frames

if TYPE_CHECKING:
    from masklam.settings import Settings

SIDE = 64  # pixels, of frames that are not square and for which no size was asked
_FORMAT = "others 1"  # of the decoded arrays; part of their key


def load(settings: Settings, split: str, masked: bool, folder: str | None) -> Frames:
    """The frames of a split as squares, decoded on the first call; `masked` asks for the masks.

    Files whose names say test or validation are the test split, all others the training split; a LeRobotDataset has
    the latter alone. Frames without actions have an array (N, 0) of them. Raises `DmaskError` where the dataset or a
    column isn't there, `NoSplitError` for the split, and where a mask is empty on every frame.
    """
    root = Path(settings.dataset)
    if settings.streaming:
        raise DmaskError(f"--streaming is for datasets on the Hub, and {root} is a folder; leave it out")
    columns = [settings.image_column, *([settings.mask_column] if masked else [])]
    source = foreign.opened(root, columns, settings.episode_column or None)
    groups = [group for group in source.groups if group.test == (split == "test")]
    if not groups:
        raise NoSplitError(f"{root} has no files of a split {split!r}")
    clips = [(group, clip) for group in groups for clip in group.clips]
    side = settings.image_size or _side(source, clips[0], settings.image_column)
    actions = _actions(source, groups, settings.action_column)
    key = "\n".join([_FORMAT, foreign.digest(root), split, str(side), *columns])
    place = cache.folder(folder) / hashlib.sha256(key.encode()).hexdigest()
    rows = sum(clip.length for _, clip in clips)
    if not place.exists():
        decoded.build(place, lambda new: _decode(new, source, clips, columns, side))
    image = decoded.mapped(place, settings.image_column, rows, np.uint8, (side, side, 3))
    mask = decoded.mapped(place, settings.mask_column, rows, np.uint8, _packed(side)) if masked else None
    lengths = np.array([clip.length for _, clip in clips])
    return Frames.of_episodes(lengths, image, mask, torch.from_numpy(actions))


def _side(source: Source, first: tuple[Group, Clip], column: str) -> int:
    """Pixels that a frame has on a side: its own, where it is square."""
    height, width = source.frames(*first, column)[0].shape[:2]
    return height if height == width else SIDE


def _packed(side: int) -> tuple[int]:
    """Shape of a frame's mask as bits."""
    return (-(-side * side // 8),)


def _actions(source: Source, groups: list[Group], column: str) -> np.ndarray:
    """(N, A) float32; (N, 0) where there is no such column."""
    files = [source.root / name for group in groups for name in group.names]
    if not all(column in cells.columns(file).names for file in files):
        return np.zeros((sum(group.edges[-1] for group in groups), 0), np.float32)
    found = [cells.vectors(file, column) for file in files]
    if len({values.shape[1] for values in found}) > 1:
        raise DmaskError(f"{source.root} has lists of several lengths in its column {column}; give another")
    return np.concatenate(found)


def _decode(folder: Path, source: Source, clips: list[tuple[Group, Clip]], columns: Sequence[str], side: int) -> None:
    """Decode and resize every frame of the first of `columns`, images, and of the second, masks, into `folder`."""
    rows = sum(clip.length for _, clip in clips)
    with bar(total=rows * len(columns), desc="decode", unit="frame", unit_scale=True, disable=rows < 4096) as shown:
        for name, mask in zip(columns, (False, True), strict=False):
            array = decoded.reserve(
                folder / f"{name}.npy", rows, np.uint8, _packed(side) if mask else (side, side, 3)
            )
            for row, frame in enumerate(frame for place in clips for frame in source.frames(*place, name)):
                square = _square(frame, side)
                array[row] = np.packbits(square[..., 0] > 127) if mask else square
                shown.update()
            if mask and not array.any():
                raise DmaskError(f"{name} is empty on every frame; mask the dataset again with `dmask mask`")
            del array  # unmaps, which writes what is still in memory


def _square(frame: np.ndarray, side: int) -> np.ndarray:
    """A frame (H, W, 3), squeezed into a square where it is none; (S, S, 3)."""
    import cv2

    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA))
