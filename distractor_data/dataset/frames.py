"""Frames of an episode that are decoded as they are asked for: in order, as most readers want them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.untrusted import cells, images

KEPT = 32  # frames that stay in memory: more than a tracker looks back, or `--prompt motion` looks at


class Frames(Sequence[np.ndarray]):
    """Frames (H, W, 3) uint8 of a stream that begins anew only where one is asked for that went by long ago."""

    def __init__(self, length: int, begin: Callable[[int], Iterator[np.ndarray]], name: str) -> None:
        """`begin(t)` gives the frames from t on; `name` is for errors."""
        self.length, self.begin, self.name = length, begin, name
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._stream: Iterator[np.ndarray] | None = None
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, t: Any) -> Any:
        if not 0 <= t < self.length:
            raise IndexError(t)  # with which iterating ends
        with self._lock:
            if t not in self._kept:
                self._advance(t)
            return self._kept[t]

    def _advance(self, t: int) -> None:
        if self._stream is None or t < self._next:
            self._stream, self._next = self.begin(t), t
        while self._next <= t:
            frame = next(self._stream, None)
            if frame is None:
                raise DmaskError(f"{self.name} ends after {self._next} of {self.length} frames; get it again")
            self._kept[self._next] = frame
            self._next += 1
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def of_column(files: Sequence[Path], edges: Sequence[int], column: str, row: int) -> Iterator[np.ndarray]:
    """Images from `row` on of a column that goes through several files, which begin at the rows `edges`."""
    for file, start, stop in zip(files, edges, edges[1:], strict=False):
        if row < stop:
            for blob in cells.encoded(file, column, max(row - start, 0)):
                yield images.decode(blob, file)


def of_video(file: Path, fps: float, begin: float, t: int) -> Iterator[np.ndarray]:
    """Frames from `t` on of an episode that begins `begin` seconds into a video.

    Raises `DmaskError` where one is missing: no frame lies within half a frame's time of where it should be.
    """
    with untrusted.video(file) as (container, stream):
        stream.thread_type = "AUTO"
        assert stream.time_base is not None
        container.seek(max(0, int((begin + (t - 0.5) / fps) / stream.time_base)), stream=stream)
        for frame in container.decode(stream):
            at = round((float(frame.time or 0) - begin) * fps)
            if at == t:
                yield frame.to_ndarray(format="rgb24")
                t += 1
            elif at > t:
                raise ValueError(f"it has no frame at {begin + t / fps:.3f} s")
