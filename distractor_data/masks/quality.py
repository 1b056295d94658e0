"""How good masks are: region similarity J, boundary accuracy F and their mean, as the DAVIS benchmark has them
(Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"), and
frames on which the object was lost. Here every frame counts; DAVIS leaves out the first and the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema

TOLERANCE = 0.008  # of the image's diagonal: how far apart two boundaries may lie and still match
COLUMNS = (schema.IOU, schema.BOUNDARY_F, schema.J_AND_F, schema.COVERAGE, schema.LOST_FRAMES)


@dataclass(frozen=True)
class Quality:
    """One episode's masks. The first three are means over frames and None where there is no reference."""

    iou: float | None
    boundary_f: float | None
    j_and_f: float | None
    coverage: float  # share of the pixels
    lost_frames: int  # empty masks, where the reference (if there is one) shows something

    def record(self) -> dict[str, Any]:
        """The columns that `meta/episodes` holds."""
        return asdict(self)


def measure(masks: np.ndarray, reference: np.ndarray | None = None) -> Quality:
    """Quality of `masks` (T, H, W) bool against `reference` (T, H, W) bool."""
    empty = ~masks.any((1, 2))
    coverage = float(masks.mean())
    if reference is None:
        return Quality(None, None, None, coverage, int(empty.sum()))
    j, f = float(iou(masks, reference).mean()), float(boundary_f(masks, reference).mean())
    return Quality(j, f, (j + f) / 2, coverage, int((empty & reference.any((1, 2))).sum()))


def iou(masks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Intersection over union of each frame, (T, H, W) bool → (T,); 1 where both are empty."""
    union = (masks | reference).sum((1, 2))
    return np.where(union, (masks & reference).sum((1, 2)) / np.maximum(union, 1), 1.0)


def boundary_f(masks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """F-measure of each frame's boundary, (T, H, W) bool → (T,)."""
    import cv2

    radius = int(np.ceil(TOLERANCE * np.hypot(*masks.shape[1:])))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)

    def near(boundaries: np.ndarray) -> np.ndarray:
        return np.stack([cv2.dilate(boundary.astype(np.uint8), disk) > 0 for boundary in boundaries])

    found, wanted = boundary(masks), boundary(reference)
    n_found, n_wanted = found.sum((1, 2)), wanted.sum((1, 2))
    precision = (found & near(wanted)).sum((1, 2)) / np.maximum(n_found, 1)
    recall = (wanted & near(found)).sum((1, 2)) / np.maximum(n_wanted, 1)
    precision, recall = np.where(n_found, precision, 1.0), np.where(n_wanted, recall, 1.0)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.maximum(total, 1e-12), 0.0)


def boundary(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower right neighbour, (T, H, W) bool → the same."""
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    neighbours = (padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:])
    return np.logical_or.reduce([masks ^ neighbour for neighbour in neighbours])


def histogram(values: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """A PNG with one histogram over the episodes for each named quantity in [0, 1]."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from distractor_data.dataset.storage import atomic_write

    figure, axes = plt.subplots(1, len(values), figsize=(4 * len(values), 3), squeeze=False, layout="constrained")
    for axis, (name, numbers) in zip(axes[0], values.items(), strict=True):
        axis.hist(numbers, bins=np.linspace(0, 1, 41).tolist())
        axis.set(xlabel=name, xlim=(0, 1))
        axis.axvline(float(np.mean(numbers)), color="black", linestyle="--", linewidth=1)
    axes[0][0].set_ylabel("episodes")
    figure.suptitle(title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
