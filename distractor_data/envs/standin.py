"""A stand-in for dm_control's environment, on which upstream's processes for camera and colour act as they are."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pose:
    """Where a camera is and how it is turned."""

    position: np.ndarray  # (3,) metres
    axes: np.ndarray  # (3, 3), columns: right, up, back


@dataclass(frozen=True)
class Frame:
    """A frame of reference about the point that a camera looks at, seen from azimuth -90°.

    Upstream's process moves a camera on a sphere about the origin and keeps its azimuth in [-180°, 0].
    """

    origin: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3), columns: the frame's axes in the world's
    from_above: bool  # the camera looks down, so that it has no azimuth

    @classmethod
    def before(cls, pose: Pose, centre: np.ndarray) -> Frame:
        """The frame of an upright camera, about the point of its line of sight that is nearest to `centre`."""
        forward, up = -pose.axes[:, 2], pose.axes[:, 1]
        ahead = (forward + up) * [1, 1, 0]  # in a picture without roll both lead away from the camera
        ahead /= np.linalg.norm(ahead)
        axes = np.stack([np.cross(ahead, [0, 0, 1]), ahead, np.array([0.0, 0.0, 1.0])], 1)
        origin = pose.position + forward * ((centre - pose.position) @ forward)
        return cls(origin, axes, bool(forward[2] < -0.99))

    def into(self, pose: Pose) -> Pose:
        """A pose of the world in this frame."""
        return Pose(self.axes.T @ (pose.position - self.origin), self.axes.T @ pose.axes)

    def out_of(self, pose: Pose) -> Pose:
        """A pose of this frame in the world."""
        return Pose(self.axes @ pose.position + self.origin, self.axes @ pose.axes)


class StandIn:
    """One fixed camera, looking at the origin, and a list of colours; each step leaves both as they are."""

    def __init__(self, pose: Pose, colours: np.ndarray) -> None:
        """`colours` (N, 4) are RGBA in [0, 1]."""
        self._camera = SimpleNamespace(
            cam_xpos=pose.position[None].copy(),
            cam_xmat=pose.axes.reshape(1, 9).copy(),
            subtree_com=np.zeros((2, 3)),  # upstream takes body 1 for the agent: what the camera looks at
        )
        self.colours = colours.copy()
        self.physics = self._physics = SimpleNamespace(
            model=SimpleNamespace(cam_mode=[0], mat_rgba=self.colours), named=SimpleNamespace(data=self._camera)
        )

    @property
    def pose(self) -> Pose:
        """Where the process has put the camera."""
        return Pose(self._camera.cam_xpos[0].copy(), self._camera.cam_xmat[0].reshape(3, 3).copy())

    def reset(self) -> Any:
        """What upstream asks of a first time step."""
        return SimpleNamespace(first=lambda: True)

    def step(self, action: np.ndarray) -> Any:
        """The same of any other."""
        return SimpleNamespace(first=lambda: False)
