"""What looks wrong in the masks of a video, told without any ground truth."""

from __future__ import annotations

import numpy as np

JUMP = 2.0  # times as large as on the frame before, or as small
SMALL = 0.001  # of the pixels: a change of less is no jump
FILLS = 0.8  # of the pixels: no object, but all there is
AGREES = 0.5  # intersection over union of a mask and the one that tracking back from a later frame gives
WORDS = {
    "lost": "the object is lost",
    "jump": "the mask is suddenly elsewhere or of another size",
    "fills_frame": "the mask fills the frame",
    "border": "the mask touches the border: the object may reach beyond",
    "disagrees": "tracking back gives another mask",
}


class Seen:
    """What is remembered of each mask of a video: a few numbers a frame, whatever the size of the frames."""

    def __init__(self, length: int) -> None:
        self.area = np.zeros(length, np.float32)  # share of the pixels
        self.border = np.zeros(length, bool)
        self.apart = np.zeros(length, bool)  # from the mask of the frame before
        self.agreement = np.ones(length, np.float32)  # intersection over union with the mask tracked back

    def add(self, t: int, mask: np.ndarray, before: np.ndarray | None) -> None:
        """Frame `t`'s mask (H, W) bool, and the one of the frame before, or after where tracking goes back."""
        self.area[t] = mask.mean()
        self.border[t] = mask[[0, -1]].any() or mask[:, [0, -1]].any()
        self.apart[t] = before is not None and mask.any() and before.any() and not (mask & before).any()

    def flags(self) -> dict[str, list[tuple[int, int]]]:
        """For each of `WORDS` the frames where it holds, as (first, last) of each run of them."""
        low, high = np.minimum(self.area[1:], self.area[:-1]), np.maximum(self.area[1:], self.area[:-1])
        jump = self.apart.copy()
        jump[1:] |= (low > 0) & (high > JUMP * low) & (high - low > SMALL)
        return {
            "lost": runs(self.area == 0),
            "jump": runs(jump),
            "fills_frame": runs(self.area > FILLS),
            "border": runs(self.border),
            "disagrees": runs(self.agreement < AGREES),
        }


def runs(where: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of true values, (T,) bool."""
    edges = np.flatnonzero(np.diff(where, prepend=False, append=False))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]
