"""What we take from `distracting-control` (Stone et al. 2021, arXiv 2101.02722), as it is."""

from __future__ import annotations

import contextlib
import io
import os

from distractor_data.envs import gl  # says what is missing more clearly than dm_control, so it comes first

# The package reads HOME, and gym, which it imports, prints a banner.
os.environ.setdefault("HOME", os.path.expanduser("~"))
with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
    from distracting_control.background import DAVIS17_TRAINING_VIDEOS, DAVIS17_VALIDATION_VIDEOS
    from distracting_control.camera import DistractingCameraEnv
    from distracting_control.color import DistractingColorEnv
    from distracting_control.suite_utils import (
        DIFFICULTY_NUM_VIDEOS,
        DIFFICULTY_SCALE,
        get_background_kwargs,
        get_camera_kwargs,
        get_color_kwargs,
    )

DAVIS_VIDEOS = {"train": DAVIS17_TRAINING_VIDEOS, "test": DAVIS17_VALIDATION_VIDEOS}

assert gl  # imported for what it says

__all__ = [
    "DAVIS_VIDEOS",
    "DIFFICULTY_NUM_VIDEOS",
    "DIFFICULTY_SCALE",
    "DistractingCameraEnv",
    "DistractingColorEnv",
    "get_background_kwargs",
    "get_camera_kwargs",
    "get_color_kwargs",
]
