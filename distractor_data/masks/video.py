"""Masks of one video: a folder of frames or a video file in, mask PNGs and an overlay video out."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import untrusted
from distractor_data.dataset import folders, storage
from distractor_data.dataset.rows import encode_mask
from distractor_data.device import pick_device
from distractor_data.errors import DmaskError
from distractor_data.masks import prompts, quality
from distractor_data.masks.annotate import OnFrames, Settings, tracker_for
from distractor_data.media import overlay

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MASKS, OVERLAY = "masks", "overlay.mp4"
FOLDER_FPS = 24  # of a folder of frames, which doesn't tell


class _Folder(Sequence[np.ndarray]):
    """Image files as frames, read as they are asked for."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, t: Any) -> Any:
        return untrusted.picture(self.files[t])


def mask_video(
    video: Path,
    out: Path | None,
    settings: Settings,
    overwrite: bool = False,
    on_frames: OnFrames = lambda frames, total: None,
) -> quality.Quality:
    """Write `out/masks/00000.png` … (0 or 255) and `out/overlay.mp4`; returns coverage and lost frames.

    Raises `DmaskError` for a video that can't be read and a folder `out` that holds masks already; with `overwrite`
    they are replaced when the new ones are complete.
    """
    if out is None:
        raise DmaskError(f"the masks of {video} need a place; give --out DIR")
    if settings.prompt == "simulator":
        raise DmaskError("a video has no simulator; give --prompt box=x0,y0,x1,y1, point=x,y, mask=FILE or motion")
    _check_place(out, overwrite)
    from distractor_data.masks.schedule import Video

    prompt = prompts.parse(settings.prompt)
    with tempfile.TemporaryDirectory(prefix="dmask-") as scratch:
        frames, fps = open_video(video, Path(scratch))
        pieces = [
            Video(start, prompts.Part(frames, start, stop), given, str(video))
            for start, stop, given in prompts.segments(frames, prompt, settings.reprompt, None, str(video))
        ]
        on_frames(0, len(frames))
        tracker = tracker_for(settings, pick_device(settings.device.split(",")[0]))
        masks = np.zeros((len(frames), *frames[0].shape[:2]), bool)
        for track in tracker.track(pieces):
            masks[track.key : track.key + len(track.masks)] = track.masks
            on_frames(len(track.masks), len(frames))
        _write(out, frames, masks, fps)
    return quality.measure(masks)


def _check_place(out: Path, overwrite: bool) -> None:
    """Raise `DmaskError` where writing to `out` would lose something."""
    folders.recover(out / MASKS)
    if not overwrite and any((out / name).exists() for name in (MASKS, OVERLAY)):
        raise DmaskError(f"{out} holds masks already; choose another --out, or replace them with --overwrite")
    there = sorted((out / MASKS).iterdir()) if (out / MASKS).is_dir() else [out / MASKS]
    for path in there:
        if path.exists() and not re.fullmatch(r"\d{5,}\.png", path.name):
            raise DmaskError(f"{path} is none of our masks and would be lost; choose another --out")


def open_video(path: Path, scratch: Path) -> tuple[Any, int]:
    """Frames (H, W, 3) uint8 and frames per second of a folder or a file.

    A file is decoded once into `scratch`, so that any frame can be read and memory doesn't grow with the video.
    """
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES]
        numbered = all(file.stem.isdigit() for file in files)
        files.sort(key=lambda file: (int(file.stem) if numbered else 0, file.name))
        if not files:
            raise DmaskError(
                f"{path} holds neither a dataset nor frames ({', '.join(SUFFIXES)}); give one of the two"
            )
        return _Folder(files), FOLDER_FPS
    if not path.is_file():
        raise DmaskError(f"{path} is not there; give a dataset, a folder of frames or a video file")
    with untrusted.video(path) as (container, stream), open(scratch / "frames", "wb") as raw:
        fps, count, shape = round(float(stream.average_rate or FOLDER_FPS)), 0, (0, 0, 3)
        for frame in container.decode(stream):
            array = frame.to_ndarray(format="rgb24")
            raw.write(array.tobytes())
            count, shape = count + 1, array.shape
    if not count:
        raise DmaskError(f"{path} has no frames; give a video of at least one")
    return np.memmap(scratch / "frames", np.uint8, "r", shape=(count, *shape)), max(1, fps)


def _write(out: Path, frames: Sequence[np.ndarray], masks: np.ndarray, fps: int) -> None:
    """Write beside what is there, which goes when all of it is complete."""
    new = out / ".new"
    new.mkdir(parents=True, exist_ok=True)
    with storage.lock(new):
        for leftover in (new / MASKS, new / OVERLAY):
            storage.remove(leftover)
        for t, mask in enumerate(masks):
            with storage.atomic_write(new / MASKS / f"{t:05d}.png") as temporary:
                temporary.write_bytes(encode_mask(mask))
        _write_overlay(new / OVERLAY, frames, masks, fps)
        folders.replace_folder(new / MASKS, out / MASKS)
        os.replace(new / OVERLAY, out / OVERLAY)
        storage.remove(new)


def _write_overlay(path: Path, frames: Sequence[np.ndarray], masks: np.ndarray, fps: int) -> None:
    import av

    height, width = (side - side % 2 or 2 for side in masks.shape[1:])  # the codec wants even sides
    with storage.atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t, mask in enumerate(masks):
            picture = overlay(frames[t][None], mask[None])[0][:height, :width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
