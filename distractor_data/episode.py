"""An episode as arrays: what the simulator gives, files hold and readers get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Episode:
    """One episode of T frames; row t is what was seen, what was done there, and what came of it."""

    image: np.ndarray  # (T, H, W, 3) uint8
    mask: np.ndarray | None  # (T, H, W) bool, the agent; None only of what was imported and has no masks yet
    state: np.ndarray  # (T, S) float32
    action: np.ndarray  # (T, A) float32 in [-1, 1]; of an import as it was recorded
    reward: np.ndarray | None  # (T,) float32; None where an import has none
    done: np.ndarray  # (T,) bool
    success: np.ndarray | None = None  # (T,) bool, whether the task was solved after the step, where it tells
    info: dict[str, Any] = field(default_factory=dict)  # the episode's record, as in meta/episodes
    image_clean: np.ndarray | None = None  # (T, H, W, 3) uint8
    mask_sim: np.ndarray | None = None  # (T, H, W) bool, the simulator's, where `mask` is a model's
    mask_clean: np.ndarray | None = None  # (T, H, W) bool, the agent in `image_clean`

    def __len__(self) -> int:
        return len(self.action)


def box(mask: np.ndarray) -> list[int]:
    """Smallest box around a mask (H, W), as x0, y0, x1, y1 in pixels, the last ones excluded; empty: zeros."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
