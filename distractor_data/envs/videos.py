"""Which videos stand behind the agent: those of a folder, shared out to the splits."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from distractor_data import clips
from distractor_data.errors import DmaskError
from distractor_data.spec import UNWRITABLE

UPSTREAM_SIZE = 800  # pixels, the edge of the texture into which upstream stretches a frame
# Names that hold the videos of one split.
SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("val", "validation", "test")}


class Backgrounds(ABC):
    """A set of videos in two parts, one for each split."""

    @abstractmethod
    def videos(self, split: str) -> list[str]:
        """Names of the split's videos, in an order that never changes."""

    @abstractmethod
    def length(self, split: str, video: str) -> int:
        """Number of frames in a video."""

    @abstractmethod
    def frames(
        self, split: str, video: str, first: int, last: int, size: int, rounded_up: bool = False
    ) -> np.ndarray:
        """Frames `first` to `last`, both included, resized to a square: (N, size, size, 3) uint8.

        Smaller than upstream's texture they are means of its pixels, or with `rounded_up` Mesa's mipmaps of it.
        """

    def digest(self) -> str:
        """What the set is made of, as a short hash: same digest, same videos."""
        return ""


class VideoFolder(Backgrounds):
    """Videos in a folder, each a folder of frames or a video file.

    The splits are its subfolders `train` and `val`, if it has them. Else a video whose name is one of DAVIS 2017's
    is in the split where upstream's lists have it, and of the others every fifth, in the order of their names, is in
    the test split.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_split = {split: _split_videos(folder, split) for split in SPLIT_FOLDERS}

    def videos(self, split: str) -> list[str]:
        return list(self.by_split[split])

    def length(self, split: str, video: str) -> int:
        return len(self.by_split[split][video])

    def frames(
        self, split: str, video: str, first: int, last: int, size: int, rounded_up: bool = False
    ) -> np.ndarray:
        frames = self.by_split[split][video].read(first, last)
        return np.stack([_resize(frame, size, rounded_up) for frame in frames])

    def digest(self) -> str:
        """Hash of the splits' names, files and file sizes; of contents, only whether they are shown as stored."""
        content = hashlib.sha256()
        for split, videos in self.by_split.items():
            for name, clip in videos.items():
                for file in clip.files:
                    line = f"{split}/{name}/{file.name}:{file.stat().st_size}\n"
                    content.update(line.encode(errors="surrogateescape"))
                if clip.turned:
                    content.update(b"turned\n")
        return content.hexdigest()[:16]


def split_folder(folder: Path, split: str) -> Path | None:
    """The subfolder that holds a split's videos, if there is one."""
    return next((folder / name for name in SPLIT_FOLDERS[split] if (folder / name).is_dir()), None)


def _split_videos(folder: Path, split: str) -> dict[str, clips.Clip]:
    """Name → clip of one split's videos."""
    if own := split_folder(folder, split):
        return _videos_in(own)
    if any(split_folder(folder, other) for other in SPLIT_FOLDERS):
        return {}  # it has a folder for the other split only
    from distractor_data.envs.upstream import DAVIS_VIDEOS

    found = _videos_in(folder)
    davis = [name for name in DAVIS_VIDEOS[split] if name in found]
    others = [name for name in found if not any(name in names for names in DAVIS_VIDEOS.values())]
    mine = [name for rank, name in enumerate(others) if (rank % 5 == 4) == (split == "test")]
    return {name: found[name] for name in davis + mine}


def _videos_in(folder: Path) -> dict[str, clips.Clip]:
    """Name → clip of the videos in a folder; pipes, devices and links that lead nowhere are none."""
    found = {path.name: clips.clip(path) for path in clips.entries(folder) if clips.is_clip(path)}
    for name in found:
        if UNWRITABLE.search(name):
            raise DmaskError(f"background video {name!r} in {folder} has a name that can't be recorded; rename it")
    return found


def _resize(image: np.ndarray, size: int, rounded_up: bool) -> np.ndarray:
    """Stretch to upstream's square texture as upstream does, then take the mean over the pixels of a smaller one.

    The mean is what the graphics card's mipmaps hold, so where the card would look at those, nothing changes.
    """
    import cv2

    square = UPSTREAM_SIZE, UPSTREAM_SIZE
    if not rounded_up:
        texture = cv2.resize(image, square, interpolation=cv2.INTER_LINEAR)
        return texture if size == UPSTREAM_SIZE else cv2.resize(texture, (size, size), interpolation=cv2.INTER_AREA)
    planes = [cv2.resize(plane, square, interpolation=cv2.INTER_LINEAR) for plane in cv2.split(image)]
    while len(planes[0]) > size:
        planes = [_halve(plane) for plane in planes]
    return cv2.merge(planes)


def _halve(plane: np.ndarray) -> np.ndarray:
    """The next mipmap of a channel (H, W) as Mesa makes it: means of pairs, rounded up, along x, then along y."""
    pairs = plane.view(np.uint16)
    rows = ((pairs & 255) + (pairs >> 8) + 1) >> 1
    return ((rows[::2] + rows[1::2] + 1) >> 1).astype(np.uint8)
