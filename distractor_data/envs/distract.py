"""The distractors that families of environments share: upstream's camera and colour, the video behind the agent."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np

from distractor_data.envs import upstream
from distractor_data.envs.backgrounds import Backgrounds, VideoPath, open_backgrounds
from distractor_data.errors import DmaskError
from distractor_data.spec import Purpose, Spec


def strength(spec: Spec) -> tuple[float, int | None]:
    """Of a difficulty: the scale of camera and colour in upstream's tables, and how many videos it draws from."""
    if spec.difficulty == "scale-easy-video-hard":
        return upstream.DIFFICULTY_SCALE["easy"], upstream.DIFFICULTY_NUM_VIDEOS["hard"]
    return upstream.DIFFICULTY_SCALE[spec.difficulty], upstream.DIFFICULTY_NUM_VIDEOS[spec.difficulty]


def move_camera(env: Any, camera: int, domain: str, spec: Spec, episode: int) -> Any:
    """`env` with upstream's process for the pose of one camera; of a `domain` that is seen from above it may roll."""
    options = upstream.get_camera_kwargs(domain, strength(spec)[0], spec.dynamic)
    return upstream.DistractingCameraEnv(env, camera, seed=spec.seed32(episode, Purpose.CAMERA), **options)


def change_colours(env: Any, spec: Spec, episode: int) -> Any:
    """`env` with upstream's process for the colours of all materials."""
    options = upstream.get_color_kwargs(strength(spec)[0], spec.dynamic)
    return upstream.DistractingColorEnv(env, seed=spec.seed32(episode, Purpose.COLOR), **options)


class Video:
    """The video behind the agent in one episode, with upstream's semantics and its order of random draws."""

    def __init__(self, spec: Spec, episode: int, size: int, rounded_up: bool = False) -> None:
        """`size` is the edge in pixels that its frames get, `rounded_up` how (see `Backgrounds.frames`).

        Raises `DmaskError` where the backgrounds have fewer videos than the difficulty asks for.
        """
        backgrounds, split, dynamic = _backgrounds(spec.backgrounds), spec.split, spec.dynamic
        _, num_videos = strength(spec)
        random = np.random.RandomState(spec.seed32(episode, Purpose.BACKGROUND))
        videos = backgrounds.videos(split)
        if not videos:
            raise DmaskError(f"the backgrounds have no videos for split {split!r}; add some, or use 'synthetic'")
        if num_videos is not None and num_videos > len(videos):
            raise DmaskError(
                f"this difficulty draws from {num_videos} videos and the backgrounds have {len(videos)} for split "
                f"{split!r}; add videos or choose difficulty hard, which takes any number"
            )
        # The draws are those of upstream's _reset_background, one for one.
        self.name = str(random.choice(videos[:num_videos]))
        length = backgrounds.length(split, self.name)
        still = None if dynamic else int(random.choice(length))
        start = int(random.choice(length if dynamic else 1))
        self.dynamic = dynamic
        self._path = VideoPath(length if dynamic else 1, start, int(random.choice([-1, 1])))
        self._first, last = (still, still) if still is not None else self._path.span(spec.steps)
        self._frames = _DECODED.frames(spec.backgrounds, split, self.name, self._first, last, size, rounded_up)

    @property
    def frame(self) -> int:
        """Index of the frame now shown, in its video."""
        return self._path.index if self.dynamic else self._first

    @property
    def picture(self) -> np.ndarray:
        """The frame now shown: (size, size, 3) uint8."""
        return self._frames[self.frame - self._first]

    def advance(self) -> None:
        """Go on by one step of the task."""
        if self.dynamic:
            self._path.advance()


class _Decoded:
    """The frames that a process decoded last, as many as fit."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes; what is larger is given and not kept."""
        self._limit = limit
        self._kept: dict[tuple[Any, ...], np.ndarray] = {}  # the one used last comes last

    def frames(self, source: str, *what: Any) -> np.ndarray:
        """`Backgrounds.frames` of a source's."""
        frames = self._kept.pop((source, *what), None)
        if frames is None:
            frames = _backgrounds(source).frames(*what)
            frames.flags.writeable = False
        self._kept[source, *what] = frames
        while sum(each.nbytes for each in self._kept.values()) > self._limit:
            del self._kept[next(iter(self._kept))]
        return frames


_DECODED = _Decoded(2**26)


@functools.lru_cache(maxsize=4)
def _backgrounds(source: str) -> Backgrounds:
    cv2.setNumThreads(1)  # one core a worker
    return open_backgrounds(source)
