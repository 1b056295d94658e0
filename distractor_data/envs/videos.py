"""Videos as background frames: folders of frames (DAVIS layout) or video files."""

from __future__ import annotations

import functools
import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.spec import UNWRITABLE

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
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
    def frames(self, split: str, video: str, first: int, last: int, size: int) -> np.ndarray:
        """Frames `first` to `last`, both included, resized to a square: (N, size, size, 3) uint8."""

    def digest(self) -> str:
        """What the set is made of, as a short hash: same digest, same videos."""
        return ""


class VideoFolder(Backgrounds):
    """Videos in a folder, each a folder of frames or a video file.

    The splits are its subfolders `train` and `val`, if it has them; upstream's lists of DAVIS 2017, if the names
    are DAVIS's; else every fifth video, in the order of their names, is the test split's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_split = {split: _split_videos(folder, split) for split in SPLIT_FOLDERS}

    def videos(self, split: str) -> list[str]:
        return list(self.by_split[split])

    def length(self, split: str, video: str) -> int:
        path = self.by_split[split][video]
        return len(_frame_files(path)) if path.is_dir() else _count_frames(path)

    def frames(self, split: str, video: str, first: int, last: int, size: int) -> np.ndarray:
        path = self.by_split[split][video]
        if path.is_dir():
            files = _frame_files(path)[first : last + 1]
            return np.stack([_resize(untrusted.picture(file), size) for file in files])
        return _decode_frames(path, first, last, size)

    def digest(self) -> str:
        """Hash of the splits' names, files and file sizes; contents are not read."""
        content = hashlib.sha256()
        for split, videos in self.by_split.items():
            for name, path in videos.items():
                for file in _frame_files(path) if path.is_dir() else [path]:
                    line = f"{split}/{name}/{file.name}:{file.stat().st_size}\n"
                    content.update(line.encode(errors="surrogateescape"))
        return content.hexdigest()[:16]


def _split_videos(folder: Path, split: str) -> dict[str, Path]:
    """Name → path of one split's videos."""
    for name in SPLIT_FOLDERS[split]:
        if (folder / name).is_dir():
            return _videos_in(folder / name)
    if any((folder / name).is_dir() for names in SPLIT_FOLDERS.values() for name in names):
        return {}  # it has a folder for the other split only
    found = _videos_in(folder)
    from distractor_data.envs.upstream import DAVIS_VIDEOS

    davis = {name: found[name] for name in DAVIS_VIDEOS[split] if name in found}
    if davis or any(name in found for names in DAVIS_VIDEOS.values() for name in names):
        return davis
    return {name: path for rank, (name, path) in enumerate(found.items()) if (rank % 5 == 4) == (split == "test")}


def _videos_in(folder: Path) -> dict[str, Path]:
    """Name → path of the videos in a folder; pipes, devices and links that lead nowhere are none."""
    paths = [folder / entry.name for entry in _entries(folder) if not entry.name.startswith(".")]
    found = {
        path.name: path
        for path in paths
        if (path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()) or (path.is_dir() and _frame_files(path))
    }
    for name in found:
        if UNWRITABLE.search(name):
            raise DmaskError(f"background video {name!r} in {folder} has a name that can't be recorded; rename it")
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DmaskError(
            f"--backgrounds: {folder} can't be read ({error.strerror}); give a folder of videos"
        ) from error


@functools.lru_cache(maxsize=256)
def _frame_files(folder: Path) -> list[Path]:
    paths = [folder / entry.name for entry in _entries(folder)]
    return [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    """Stretch to upstream's square texture as upstream does, then take the mean over the pixels of a smaller one.

    The mean is what the graphics card's mipmaps hold, so where the card would look at those, nothing changes.
    """
    import cv2

    texture = cv2.resize(image, (UPSTREAM_SIZE, UPSTREAM_SIZE), interpolation=cv2.INTER_LINEAR)
    return texture if size == UPSTREAM_SIZE else cv2.resize(texture, (size, size), interpolation=cv2.INTER_AREA)


@functools.lru_cache(maxsize=4096)
def _count_frames(path: Path) -> int:
    """Number of frames in a video file, counted by its packets: containers don't always say, or say it wrong."""
    with untrusted.video(path) as (container, stream):
        count = sum(packet.size > 0 for packet in container.demux(stream))
    if not count:
        raise DmaskError(f"background video {path} has no frames; replace or delete it")
    return count


def _decode_frames(path: Path, first: int, last: int, size: int) -> np.ndarray:
    frames: list[np.ndarray] = []
    with untrusted.video(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index > last:
                break
            if index >= first:
                frames.append(_resize(frame.to_ndarray(format="rgb24"), size))
    if len(frames) != last - first + 1:
        raise DmaskError(f"background video {path} ends after {first + len(frames)} frames; replace or delete it")
    return np.stack(frames)
