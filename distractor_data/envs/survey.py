"""A folder of background videos, looked through: which are used, which are not and why, and whether all decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from distractor_data import clips
from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.envs.videos import SPLIT_FOLDERS, VideoFolder, split_folder
from distractor_data.errors import DmaskError


@dataclass(frozen=True)
class Used:
    """A video of a split, of which every frame was decoded."""

    split: str
    name: str
    frames: int
    sizes: list[str]  # width×height, those that occur
    fps: float
    notes: list[str]
    error: str  # empty where all is well


@dataclass(frozen=True)
class Skipped:
    """What lies there and is not used."""

    name: str
    why: str


def survey(
    folder: str, on_checked: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Used], list[Skipped]]:
    """What `--backgrounds folder` uses, with every frame decoded, and what it skips.

    `on_checked` hears how many videos were checked now, and of how many. Raises `DmaskError` where there are none.
    """
    backgrounds = open_backgrounds(folder)
    if not isinstance(backgrounds, VideoFolder):
        raise DmaskError(f"{folder} videos are made on the spot, there is nothing to check; give a folder of videos")
    every = [(split, name, clip) for split, videos in backgrounds.by_split.items() for name, clip in videos.items()]
    used = []
    on_checked(0, len(every))
    with ThreadPoolExecutor() as pool:
        for one in pool.map(lambda of: _check(*of), every):
            used.append(one)
            on_checked(1, len(every))
    return used, list(_skipped(Path(folder)))


def _check(split: str, name: str, clip: clips.Clip) -> Used:
    sizes: dict[str, None] = {}
    count, fps, notes, error = 0, 0.0, [], ""
    try:
        fps = clip.fps
        for frame in clip.read(0, len(clip) - 1):
            sizes.setdefault(f"{frame.shape[1]}×{frame.shape[0]}")
            count += 1
        if clip.turned:
            notes.append("shown otherwise than stored: turned upright, or 16 bits or alpha made 8-bit RGB")
        if clip.dropped:
            notes.append(f"{clip.dropped} frames at its beginning can't be decoded: it was cut between key frames")
        if len(sizes) > 1:
            notes.append("its pictures differ in size")
    except DmaskError as failure:
        error = str(failure)
    return Used(split, name, count, list(sizes), round(fps, 3), notes, error)


def _skipped(folder: Path) -> Iterator[Skipped]:
    parts = [part for split in SPLIT_FOLDERS if (part := split_folder(folder, split))]
    if parts:
        names = " and ".join(f"{part.name}/" for part in parts)
        yield from (Skipped(path.name, f"beside {names}") for path in sorted(folder.iterdir()) if path not in parts)
    for part in parts or [folder]:
        for path in sorted(part.iterdir()):
            if not clips.visible(path) or not clips.is_clip(path):
                yield Skipped(str(path.relative_to(folder)), clips.why_not(path))
            elif path.is_dir():
                inner = set(path.iterdir()) - set(clips.pictures_in(path))
                yield from (Skipped(str(other.relative_to(folder)), _why_no_frame(other)) for other in sorted(inner))


def _why_no_frame(path: Path) -> str:
    return "no picture by its name" if clips.visible(path) and path.is_file() else clips.why_not(path)
