"""Videos waiting for a slot of the tracker, and which frame each slot is at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distractor_data.errors import DmaskError
from distractor_data.masks.prompts import Prompt


@dataclass
class Video:
    """What to track: `frames[t]` is (H, W, 3) uint8, `prompt` shows the object on frame 0, `name` is for messages."""

    key: Any
    frames: Sequence[np.ndarray]
    prompt: Prompt
    name: str = "the video"
    masks: Any = None  # what takes them as they come, by `[t] = (H, W) bool`, and has their `shape`; or an array does


@dataclass
class Track:
    """The object in one video. On a frame where it is lost the mask is empty."""

    key: Any
    masks: Any  # (T, H, W) bool, or what the video has for them
    logits: np.ndarray | None = None  # (T, H, W) float32, on request


@dataclass(eq=False)
class Run:
    """A video that has a slot. `missing` counts the frames whose masks have not arrived."""

    video: Video
    track: Track
    missing: int

    @property
    def size(self) -> tuple[int, int]:
        return self.track.masks.shape[1:]


@dataclass
class Item:
    """Frame `t` of a run, in a slot."""

    slot: int
    t: int
    run: Run


class Schedule:
    """Which frame of which video each slot gets: a video keeps its slot to its end, then the next one has it."""

    def __init__(self, videos: Iterator[Video], slots: int, runs: list[Run], keep_logits: bool) -> None:
        self.videos, self.runs, self.keep_logits = videos, runs, keep_logits
        self.slots: list[Iterator[Item]] = [iter(()) for _ in range(slots)]

    def take(self, steps: int) -> list[list[Item]]:
        """The items of the next steps; fewer at the end, none after it."""
        taken = []
        for _ in range(steps):
            items = [item for slot in range(len(self.slots)) if (item := self._next(slot))]
            if not items:
                break
            taken.append(items)
        return taken

    def _next(self, slot: int) -> Item | None:
        item = next(self.slots[slot], None)
        if item is None and (video := next(self.videos, None)) is not None:
            run = _start(video, self.keep_logits)
            self.runs.append(run)
            self.slots[slot] = iter([Item(slot, t, run) for t in range(run.missing)])
            item = next(self.slots[slot])
        return item


def _start(video: Video, keep_logits: bool) -> Run:
    if not len(video.frames):
        raise DmaskError(f"{video.name} has no frames; give a video of at least one")
    height, width = video.frames[0].shape[:2]
    video.prompt.check(height, width, video.name)
    shape = (len(video.frames), height, width)
    masks = np.zeros(shape, bool) if video.masks is None else video.masks
    track = Track(video.key, masks, np.zeros(shape, np.float32) if keep_logits else None)
    return Run(video, track, len(video.frames))
