"""Transitions from a dataset of others: a LeRobotDataset v3.0 or Parquet with images, of whatever size and camera."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distractor_data.dataset import cache, decoded, foreign
from distractor_data.dataset.decoded import Column
from distractor_data.dataset.foreign import Clip, Group, Source
from distractor_data.errors import DmaskError, NoSplitError
from distractor_data.untrusted import cells
from masklam.bar import decoding
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
    kinds = [Column(np.uint8, (side, side, 3)), Column.of_mask(side, side)]
    wanted = dict(zip(columns, kinds, strict=False))
    if not place.exists():
        decoded.build(place, rows, wanted, decoding(_decode(source, clips, wanted, side), rows, len(wanted)))
    image, *masks = (torch.from_numpy(decoded.mapped(place, name, rows, column)) for name, column in wanted.items())
    lengths = np.array([clip.length for _, clip in clips])
    return Frames.of_episodes(lengths, image, masks[0] if masked else None, torch.from_numpy(actions))


def _side(source: Source, first: tuple[Group, Clip], column: str) -> int:
    """Pixels that a frame has on a side: its own, where it is square."""
    height, width = source.frames(*first, column)[0].shape[:2]
    return height if height == width else SIDE


def _actions(source: Source, groups: list[Group], column: str) -> np.ndarray:
    """(N, A) float32; (N, 0) where there is no such column."""
    files = [source.root / name for group in groups for name in group.names]
    if not all(column in cells.columns(file).names for file in files):
        return np.zeros((sum(group.edges[-1] for group in groups), 0), np.float32)
    found = [cells.vectors(file, column) for file in files]
    if len({values.shape[1] for values in found}) > 1:
        raise DmaskError(f"{source.root} has lists of several lengths in its column {column}; give another")
    return np.concatenate(found)


def _decode(source: Source, clips: list[tuple[Group, Clip]], columns: dict[str, Column], side: int) -> decoded.Values:
    """Every frame of the columns, one after the other, resized."""
    for name, column in columns.items():
        for frame in (frame for place in clips for frame in source.frames(*place, name)):
            square = _square(frame, side)
            yield name, (np.packbits(square[..., 0] > 127) if column.mask else square)[None]


def _square(frame: np.ndarray, side: int) -> np.ndarray:
    """A frame (H, W, 3), squeezed into a square where it is none; (S, S, 3)."""
    import cv2

    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA))
