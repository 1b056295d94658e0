"""The EGL devices of a machine, over which the workers of a run are spread: those that draw the same pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

CHOICE = "MUJOCO_EGL_DEVICE_ID"  # where it is set, that device alone is drawn on
_DESCRIBE = "from distractor_data.envs import gl; print(gl.describe())"
_SECONDS = 120.0  # after which a driver is given up


def count() -> int:
    """How many devices there are, whether they can draw or not."""
    if os.environ["MUJOCO_GL"] != "egl":
        return 1
    from mujoco.egl import egl_ext

    return len(egl_ext.eglQueryDevicesEXT())


def to_draw_on() -> tuple[int, ...]:
    """Numbers of the devices that draw as this process does; none where there is no choice or one was made."""
    if CHOICE in os.environ or count() < 2:
        return ()
    from distractor_data.envs import gl

    ours = gl.describe()
    return tuple(number for number, other in enumerate(_described(count())) if other == ours)


def _described(devices: int) -> list[str]:
    """What draws on each device, empty where nothing does; each in a process of its own, which a driver may end."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _DESCRIBE],
            env=os.environ | {CHOICE: str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(devices)
    ]
    return [_answer(run) for run in runs]


def _answer(run: subprocess.Popen[str]) -> str:
    try:
        return run.communicate(timeout=_SECONDS)[0].strip()
    except subprocess.TimeoutExpired:
        run.kill()
        run.communicate()
        return ""


def take_turn(devices: Sequence[int], worker: int) -> None:
    """From now on draw on the device whose turn it is; in a worker that has not drawn yet."""
    if devices:
        os.environ[CHOICE] = str(devices[worker % len(devices)])
