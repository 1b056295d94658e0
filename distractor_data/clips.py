"""Frames in: a folder of pictures or a video file, as a person's camera, phone or file manager left it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distractor_data import untrusted
from distractor_data.errors import DmaskError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp"}
FOLDER_FPS = 24  # of a folder of pictures, which doesn't tell
# Frames that a reader keeps behind it: so many bytes of them, but more than threads ask for at once.
_KEPT_BYTES, _KEPT_LEAST = 1 << 26, 32


class Clip(ABC):
    """The frames of one video, each (H, W, 3) uint8 and upright, in the order of time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """What it is read from."""

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames per second."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames. Raises `DmaskError` where there are none."""

    @abstractmethod
    def read(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Frames `first` to `last`, both included. Raises `DmaskError` where one can't be decoded."""

    @abstractmethod
    def frames(self) -> Sequence[np.ndarray]:
        """Any frame at any time, for several threads; quick for one that is close to the last one."""

    @property
    @abstractmethod
    def turned(self) -> bool:
        """Whether what is stored must be changed to be seen rightly: it lies on its side, has 16 bits or alpha."""

    @property
    def dropped(self) -> int:
        """How many frames at the beginning can't be decoded, because what they build on was cut off."""
        return 0


def is_clip(path: Path) -> bool:
    """Whether a path is a folder of pictures or a file named as a video."""
    if path.is_dir():
        return bool(pictures_in(path))
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def clip(path: Path) -> Clip:
    """The clip at a path: a folder is one of pictures, a file a video, whatever its name."""
    return PictureFolder(path) if path.is_dir() else VideoFile(path)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, but for hidden files (macOS leaves a `._x.jpg` beside each `x.jpg`)."""
    try:
        with os.scandir(folder) as found:
            return [folder / entry.name for entry in sorted(found, key=lambda entry: entry.name) if visible(entry)]
    except OSError as error:
        raise DmaskError(f"{folder} can't be read ({error.strerror}); give a folder of videos or frames") from error


def why_not(path: Path) -> str:
    """Why a path is no clip."""
    if path.name.startswith(".") or path.name == "__MACOSX":
        return "hidden, as macOS leaves them"
    if path.is_dir():
        return "no pictures in this folder"
    if not path.is_file():
        return "no regular file"
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return "a single picture; the frames of a video belong in a folder of their own"
    return "not a video by its name"


def visible(entry: os.DirEntry[str] | Path) -> bool:
    """Whether a file or folder is one that people see."""
    return not entry.name.startswith(".") and entry.name != "__MACOSX"


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, their numbers in numeric order: `frame_2.png` comes before `frame_10.png`."""
    found = [path for path in entries(folder) if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: (natural(path.name), path.name))


def natural(name: str) -> list[str | int]:
    """A key that sorts by the numbers in a name, in the digits of any script."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))]


def below(folder: Path, depth: int = 3) -> list[Path]:
    """Folders at most `depth` levels down that hold clips, where people who gave too high a folder meant to point."""
    folders = [path for path in entries(folder) if path.is_dir() and not path.is_symlink()]
    found = [path for path in folders if any(is_clip(inner) for inner in entries(path))]
    if found or depth == 1:
        return found
    return [deeper for path in folders for deeper in below(path, depth - 1)]


class PictureFolder(Clip):
    """A folder of pictures, one a frame."""

    @functools.cached_property
    def files(self) -> list[Path]:
        if not (found := pictures_in(self.path)):
            raise DmaskError(f"{self.path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); give a folder")
        return found

    fps = FOLDER_FPS

    def __len__(self) -> int:
        return len(self.files)

    def read(self, first: int, last: int) -> Iterator[np.ndarray]:
        return map(untrusted.picture, self.files[first : last + 1])

    def frames(self) -> Sequence[np.ndarray]:
        return _Pictures(self.files)

    @property
    def turned(self) -> bool:
        return untrusted.turned(self.files[0])


class _Pictures(Sequence[np.ndarray]):
    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, t: Any) -> Any:
        return untrusted.picture(self.files[t])


class _Index(NamedTuple):
    """Time stamps, ascending, of the frames and of the key frames; without key frames, numbers in their place."""

    stamps: np.ndarray
    keys: np.ndarray
    dropped: int  # frames before the first that decodes


class VideoFile(Clip):
    """A video file. Its frames are those that decode: one that was cut between two key frames begins at the second.

    A frame is found by its time stamp, from the key frame before it; where there are no time stamps, by counting.
    """

    @property
    def files(self) -> list[Path]:
        return [self.path]

    @functools.cached_property
    def fps(self) -> float:
        with untrusted.video(self.path) as (_, stream):
            return float(stream.average_rate or FOLDER_FPS)

    def __len__(self) -> int:
        return len(self._index.stamps)

    @property
    def turned(self) -> bool:
        return self._orientation != (1, 0, 0, 1)

    @functools.cached_property
    def _orientation(self) -> tuple[int, int, int, int]:
        """Of the first frame, for all: in PyAV 18 a frame that was asked lives on until cycles are collected."""
        with untrusted.video(self.path) as opened:
            frame = next(_decode(*opened), None)
            return (1, 0, 0, 1) if frame is None else _orientation(frame)

    @property
    def dropped(self) -> int:
        return self._index.dropped

    @functools.cached_property
    def _index(self) -> _Index:
        with untrusted.video(self.path) as (container, stream):
            packets = [
                (packet.pts, packet.is_keyframe, packet.is_discard)
                for packet in container.demux(stream)
                if packet.size and not packet.is_corrupt
            ]
        kept = sum(not trimmed for _, _, trimmed in packets)  # on what is trimmed others may still build
        found = [pts for pts, _, trimmed in packets if not trimmed and pts is not None]
        if len(set(found)) < kept or not any(key for _, key, _ in packets):  # some containers have none
            with untrusted.video(self.path) as opened:
                stamps = list(range(sum(1 for _ in _decode(*opened))))
            keys: list[int] = []
        else:
            keys = [pts for pts, key, _ in packets if key and pts is not None]
            with untrusted.video(self.path) as opened:
                first = next((frame.pts for frame in _decode(*opened) if frame.pts is not None), None)
            stamps = [] if first is None else [pts for pts in found if pts >= max([first, *keys[:1]])]
        if not stamps:
            raise DmaskError(f"{self.path} has no frames that can be decoded; replace or delete it")
        return _Index(np.array(sorted(stamps)), np.array(sorted(keys)), kept - len(stamps))

    def read(self, first: int, last: int) -> Iterator[np.ndarray]:
        stamps, keys, _ = self._index
        before = keys[: np.searchsorted(keys, stamps[first], side="right")]
        for key in [*before[-1:], None]:  # from the beginning where seeking doesn't lead to the frame
            with untrusted.video(self.path) as (container, stream):
                if key is not None and key > stamps[0]:
                    container.seek(int(key), stream=stream)
                for count, frame in enumerate(_decode(container, stream)):
                    stamp = frame.pts if len(keys) else count
                    if stamp is None or stamp < stamps[first]:
                        continue
                    if stamp > stamps[first]:
                        break
                    yield _upright(frame.to_ndarray(format="rgb24"), self._orientation)
                    first += 1
                    if first > last:
                        return
        raise DmaskError(f"{self.path} is damaged: frame {first} can't be decoded; replace or delete it")

    def frames(self) -> Sequence[np.ndarray]:
        return _Reader(self)

    def key_before(self, t: int) -> int:
        """The frame from which on decoding leads to frame `t`."""
        stamps, keys, _ = self._index
        before = keys[: np.searchsorted(keys, stamps[t], side="right")]
        return max(0, int(np.searchsorted(stamps, before[-1]))) if len(before) else 0


class _Reader(Sequence[np.ndarray]):
    """The frames of a video file, decoded on from the last one; some before it are kept, for who goes backwards."""

    def __init__(self, file: VideoFile) -> None:
        self.file, self.lock = file, threading.Lock()
        self.kept: list[np.ndarray] = []
        self.end = 0  # the frame after the last that is kept
        self.decoded: Iterator[np.ndarray] = iter(())

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, t: Any) -> Any:
        with self.lock:
            if t < self.end - len(self.kept):
                room = _room(self.kept[0])
                self._start(max(self.file.key_before(t), t - room + 1))
            elif t >= self.end and (not self.end or self.file.key_before(t) > self.end):
                self._start(t)
            while self.end <= t:
                self.kept.append(next(self.decoded))
                self.end += 1
                del self.kept[: -_room(self.kept[-1])]
            return self.kept[t - self.end]

    def _start(self, t: int) -> None:
        self.kept, self.end, self.decoded = [], t, self.file.read(t, len(self.file) - 1)


def _room(frame: np.ndarray) -> int:
    """How many such frames a reader keeps."""
    return max(_KEPT_LEAST, _KEPT_BYTES // frame.nbytes)


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames of what can be decoded."""
    import av

    for packet in container.demux(stream):
        with contextlib.suppress(av.error.InvalidDataError):
            yield from packet.decode()


def _orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The signs of the 2×2 matrix that the player is to apply, (1, 0, 0, 1) where the frame is upright.

    FFmpeg's `libavutil/display.h`: x' = a·x + c·y, y' = b·x + d·y. A phone writes how it was held.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5]
    if abs(b) > abs(a):
        return 0, int(np.sign(b)), int(np.sign(c)), 0
    return int(np.sign(a)), 0, 0, int(np.sign(d))


def _upright(picture: np.ndarray, orientation: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = orientation
    if b:
        picture = picture.swapaxes(0, 1)
    return np.ascontiguousarray(picture[:: (b or d) or 1, :: (a or c) or 1])
