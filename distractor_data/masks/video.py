"""Masks of one video: a folder of frames or a video file in, mask PNGs and an overlay video out.

Frames are read and masks written as they come, so that hours of video need no more memory, nor other disk, than their
masks do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import untrusted
from distractor_data.clips import PICTURE_SUFFIXES, Clip, below, clip, entries, is_clip, pictures_in
from distractor_data.dataset import folders, foreign, storage
from distractor_data.dataset.rows import encode_mask
from distractor_data.device import pick_device
from distractor_data.errors import DmaskError
from distractor_data.masks import prompts, quality
from distractor_data.masks.annotate import OnFrames, Settings, tracker_for
from distractor_data.masks.flags import Seen
from distractor_data.masks.prompts import Prompt
from distractor_data.media import overlay, write_video

MASKS, OVERLAY, FLAGS = "masks", "overlay.mp4", "flags.json"
BACK_STRIDE = 4  # of the frames on which the way back is tracked: one in so many


@dataclass(frozen=True)
class VideoReport:
    """What came out: `flags` are the frames that look wrong, runs of (first, last) for each of `flags.WORDS`."""

    frames: int
    coverage: float  # share of the pixels
    lost_frames: int
    flags: dict[str, list[tuple[int, int]]]


def mask_video(
    video: Path,
    out: Path | None,
    settings: Settings,
    overwrite: bool = False,
    on_frames: OnFrames = lambda frames, total: None,
    prompt_frame: int = 0,
) -> VideoReport:
    """Write `out/masks/00000.png` … (0 or 255), `out/overlay.mp4` and `out/flags.json`.

    The prompt is for frame `prompt_frame`; tracking goes from it to both ends, and then back on every fourth frame,
    to see where both ways disagree (the forward–backward error of Kalal et al. 2010). Raises `DmaskError` for a video
    that can't be read and a folder `out` that holds masks already; with `overwrite` they are replaced when the new
    ones are complete.
    """
    if out is None:
        raise DmaskError(f"the masks of {video} need a place; give --out DIR")
    if settings.prompt == "simulator":
        raise DmaskError("a video has no simulator; give --prompt box=x0,y0,x1,y1, point=x,y, mask=FILE or motion")
    _check_place(out, overwrite)
    source = open_clip(video)
    if not 0 <= prompt_frame < len(source):
        raise DmaskError(f"--prompt-frame is {prompt_frame}; {video} has the frames 0 to {len(source) - 1}")
    work = _Work(source, prompts.parse(settings.prompt), settings.reprompt, prompt_frame)
    tracker = tracker_for(settings, pick_device(settings.device.split(",")[0]))
    new = out / ".new"
    new.mkdir(parents=True, exist_ok=True)
    with storage.lock(new):
        for leftover in (MASKS, OVERLAY, FLAGS):
            storage.remove(new / leftover)
        (new / MASKS).mkdir()
        work.run(tracker, new / MASKS, on_frames)
        work.write_overlay(new / OVERLAY)
        storage.write_json(new / FLAGS, work.seen.flags())
        folders.replace_folder(new / MASKS, out / MASKS)
        for name in (OVERLAY, FLAGS):
            os.replace(new / name, out / name)
        storage.remove(new)
    area = work.seen.area
    return VideoReport(len(area), float(area.mean()), int((area == 0).sum()), work.seen.flags())


def open_clip(path: Path) -> Clip:
    """The video at a path. Raises `DmaskError` where there is none, and says where else one is."""
    if not path.exists():
        raise DmaskError(f"{path} is not there; give a dataset, a folder of frames or a video file")
    if path.is_dir() and not pictures_in(path) and foreign.is_one(path):
        raise DmaskError(f"{path} is a dataset of others; give --image-column, of {', '.join(foreign.cameras(path))}")
    if path.is_dir() and not pictures_in(path):
        found = [str(inner) for folder in (path, *below(path)) for inner in entries(folder) if is_clip(inner)]
        instead = f"give one video, such as {found[0]}" if found else "give one of the two"
        raise DmaskError(
            f"{path} holds neither a dataset nor frames ({', '.join(sorted(PICTURE_SUFFIXES))}); {instead}"
        )
    return clip(path)


def _check_place(out: Path, overwrite: bool) -> None:
    """Raise `DmaskError` where writing to `out` would lose something."""
    folders.recover(out / MASKS)
    if not overwrite and any((out / name).exists() for name in (MASKS, OVERLAY, FLAGS)):
        raise DmaskError(f"{out} holds masks already; choose another --out, or replace them with --overwrite")
    there = sorted((out / MASKS).iterdir()) if (out / MASKS).is_dir() else [out / MASKS]
    for path in there:
        if path.exists() and not re.fullmatch(r"\d{5,}\.png", path.name):
            raise DmaskError(f"{path} is none of our masks and would be lost; choose another --out")


def _size(picture: np.ndarray) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W, 3) uint8 or a mask (H, W) bool at another size (H, W)."""
    import cv2

    if _size(picture) == size:
        return picture
    how = cv2.INTER_NEAREST if picture.dtype == bool else cv2.INTER_AREA
    return cv2.resize(picture.astype(np.uint8), size[::-1], interpolation=how).astype(picture.dtype)


class _Ordered(Sequence[np.ndarray]):
    """Frames of a clip in the order of a range, all of one size; `own` gets the sizes of those that have another."""

    def __init__(self, source: Clip, order: range, size: tuple[int, int], own: dict[int, tuple[int, int]]) -> None:
        self.frames, self.order, self.size, self.own = source.frames(), order, size, own

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, k: Any) -> Any:
        frame = self.frames[self.order[k]]
        if _size(frame) != self.size:
            self.own[self.order[k]] = _size(frame)
        return _fitted(frame, self.size)


class _Work:
    """The masks of one video on their way to files. A piece is what is tracked from a prompt: (frames, prompt)."""

    def __init__(self, source: Clip, prompt: str | Prompt, reprompt: int, at: int) -> None:
        self.source, self.seen = source, Seen(len(source))
        self.own: dict[int, tuple[int, int]] = {}  # sizes of the frames that have another than the first prompt's
        every = reprompt or len(source)
        starts = range(at % every, len(source), every)
        self.size = _size(source.frames()[starts[0]])
        stops = [*starts[1:], len(source)]
        orders = [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
        if prompt == "motion" and len(orders) > 1 and len(orders[-1]) == 1:  # which shows no motion
            orders[-2:] = [range(orders[-2].start, len(source))]
        self.pieces = [(order, self._prompt(prompt, order)) for order in orders]
        if starts[0]:
            self.pieces.append((range(starts[0], -1, -1), self.pieces[0][1]))

    def _prompt(self, prompt: str | Prompt, order: range) -> Prompt:
        name = str(self.source.path)
        if prompt == "motion":
            clip = list(self._frames(order[: prompts.MOTION_FRAMES]))
            return Prompt(box=prompts.motion_box(clip, name))
        assert isinstance(prompt, Prompt)
        prompt.check(*self.size, name, order[0])
        return prompt

    def _frames(self, order: range) -> _Ordered:
        return _Ordered(self.source, order, self.size, self.own)

    def run(self, tracker: Any, folder: Path, on_frames: OnFrames) -> None:
        """Track every piece, and then back from its last mask; write the masks to `folder`."""
        self.folder, self.on_frames = folder, on_frames
        self.total = sum(len(order) + len(order[::BACK_STRIDE]) for order, _ in self.pieces)
        on_frames(0, self.total)
        for videos in (self._there(), self._back()):
            for _ in tracker.track(videos):
                pass

    def _there(self) -> Iterator[Any]:
        from distractor_data.masks.schedule import Video

        for order, prompt in self.pieces:
            sink = _Sink(self, order, self._write)
            yield Video(order, self._frames(order), prompt, str(self.source.path), sink)

    def _back(self) -> Iterator[Any]:
        from distractor_data.masks.schedule import Video

        for there, _ in self.pieces:
            last = next((t for t in reversed(there) if self.seen.area[t]), there[0])
            order = range(last, there[0], -BACK_STRIDE * there.step)
            if len(order) > 1:
                prompt, sink = Prompt(mask=self.mask(last)), _Sink(self, order, self._compare)
                yield Video(order, self._frames(order), prompt, str(self.source.path), sink)

    def _write(self, t: int, mask: np.ndarray, before: np.ndarray | None) -> None:
        self.seen.add(t, mask, before)
        self._file(t).write_bytes(encode_mask(_fitted(mask, self.own.get(t, self.size))))

    def _compare(self, t: int, mask: np.ndarray, before: np.ndarray | None) -> None:
        if before is not None:  # else it is the prompt
            self.seen.agreement[t] = quality.iou(mask[None], self.mask(t)[None])[0]

    def _file(self, t: int) -> Path:
        return self.folder / f"{t:0{max(5, len(str(len(self.source) - 1)))}d}.png"

    def mask(self, t: int) -> np.ndarray:
        """The mask of frame `t` that was written, (H, W) bool at the size of the prompt's frame."""
        return _fitted(untrusted.picture(self._file(t), "L") > 127, self.size)

    def write_overlay(self, path: Path) -> None:
        """An MP4 of the frames, each with its mask."""
        frames = self.source.read(0, len(self.source) - 1)
        pictures = (overlay(_fitted(frame, self.size)[None], self.mask(t)[None])[0] for t, frame in enumerate(frames))
        write_video(pictures, self.size, max(1, round(self.source.fps)), path)


class _Sink:
    """What a tracker puts the masks of a piece into: each goes on at once, with the one before it."""

    def __init__(
        self, work: _Work, order: range, on_mask: Callable[[int, np.ndarray, np.ndarray | None], None]
    ) -> None:
        self.shape = len(order), *work.size
        self.work, self.order, self.on_mask = work, order, on_mask
        self.before: np.ndarray | None = None

    def __setitem__(self, k: int, mask: np.ndarray) -> None:
        self.on_mask(self.order[k], mask, self.before if k else None)
        self.before = mask
        self.work.on_frames(1, self.work.total)
