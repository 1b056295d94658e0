"""Where background frames come from: folders of frames (DAVIS layout), video files, or made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import clips
from distractor_data.envs.videos import SPLIT_FOLDERS, UPSTREAM_SIZE, Backgrounds, VideoFolder
from distractor_data.errors import DmaskError
from distractor_data.spec import SYNTHETIC


def open_backgrounds(source: str) -> Backgrounds:
    """`synthetic`, or a folder of video folders or of video files. Raises `DmaskError` where it holds none."""
    if source == SYNTHETIC:
        from distractor_data.envs.synthetic import SyntheticVideos

        return SyntheticVideos()
    folder = Path(source)
    if not folder.is_dir():
        raise DmaskError(
            f"--backgrounds {source}: no such folder; give a folder of videos, or 'synthetic', which needs none"
        )
    backgrounds = VideoFolder(folder)
    if not any(backgrounds.by_split.values()):
        raise DmaskError(f"--backgrounds {source}: {_where_instead(folder)}")
    return backgrounds


def _where_instead(folder: Path) -> str:
    """What to give for a folder without videos: the folder meant may be one level deeper, or one higher."""
    if clips.pictures_in(folder):
        return f"it is one video's frames, not a folder of videos; give {folder.resolve().parent}"
    if deeper := clips.below(folder):
        part = any(deeper[0].name in names for names in SPLIT_FOLDERS.values())
        return f"no videos in it, but in {deeper[0]}; give {deeper[0].parent if part else deeper[0]}"
    return (
        "no videos in it; give a folder of folders of frames (video/00000.jpg …) or of video files "
        f"({', '.join(sorted(clips.VIDEO_SUFFIXES))})"
    )


def skybox_size(image_size: int) -> int:
    """Edge of the background texture in pixels: upstream's 800, halved as often as the picture never shows.

    At 64×64 the graphics card reads upstream's texture at mipmap levels 2 and above, so a texture of 200 pixels
    gives the same picture (scripts/bench_generate.py prints how close) and a sixteenth of the upload.
    """
    size = UPSTREAM_SIZE
    while size // 2 >= UPSTREAM_SIZE * image_size / 256 and size % 2 == 0:
        size //= 2
    return size


def skybox(model: Any) -> int:
    """Index of the model's skybox texture.

    Upstream takes texture 0, which in the fish models is the floor's. Raises `DmaskError` where there is none.
    """
    import mujoco

    (indices,) = np.nonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    if not len(indices):
        raise DmaskError("the model has no skybox, so no background can be drawn behind its agent")
    return int(indices[0])


class VideoPath:
    """Which frame stands behind the agent at each step: a random start, then back and forth, as upstream."""

    def __init__(self, length: int, start: int, direction: int) -> None:
        self.length, self.index, self.direction = length, start, direction

    def advance(self) -> int:
        """The next frame's index. Like upstream, both ends are shown twice."""
        self.index += self.direction
        if self.index <= 0:
            self.index, self.direction = 0, 1
        if self.index >= self.length:
            self.index, self.direction = self.length - 1, -1
        return self.index

    def span(self, steps: int) -> tuple[int, int]:
        """First and last index that the next `steps` steps touch, the present one included."""
        twin = VideoPath(self.length, self.index, self.direction)
        visited = {twin.index, *(twin.advance() for _ in range(min(steps, 2 * self.length + 2)))}
        return min(visited), max(visited)
