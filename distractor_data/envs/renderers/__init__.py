"""Renderers: what draws the image and the agent's mask of one fixed camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import mujoco
    import numpy as np


class Renderer(Protocol):
    """Draws what one fixed camera of a model sees.

    What is read when it is made is the model's textures and sizes; its colours and the data's camera pose are read
    at every frame, which is how upstream's camera and colour distractions reach the picture.
    """

    def show_skybox(self, frame: int) -> None:
        """Show the model's skybox texture as it is now. The same `frame`, a video's, has the same pixels."""
        ...

    def image(self, data: mujoco.MjData) -> np.ndarray:
        """The camera's image of the state in `data`: (size, size, 3) uint8."""
        ...

    def mask(self) -> np.ndarray:
        """The agent's pixels in the image drawn last: (size, size) bool."""
        ...

    def close(self) -> None:
        """Free what the graphics card holds."""
        ...
