"""The masks of a split as its records tell: numbers for a table, a histogram for the eye."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distractor_data import schema
from distractor_data.dataset import meta, storage
from distractor_data.masks import quality


@dataclass(frozen=True)
class Report:
    """The masks of one config and split, as its records tell."""

    name: str
    source: str
    episodes: int
    frames: int
    iou: float | None
    boundary_f: float | None
    j_and_f: float | None
    coverage: float
    lost_frames: int
    lost_episodes: int  # with at least one such frame
    worst: int | None  # the episode of lowest J&F


def report(root: Path) -> Report:
    """What a split's records say of its masks; also draws the histogram `meta/mask_quality.png`."""
    rows = storage.read_episodes(root).to_pylist()
    lengths = np.array([row[schema.LENGTH] for row in rows])

    def mean(column: str) -> float | None:
        values = [row.get(column) for row in rows]
        return None if None in values else float(np.average(np.array(values, float), weights=lengths))

    with storage.recorded_write(root, schema.HISTOGRAM) as temporary:
        draw(root, temporary)
    lost = [row.get(schema.LOST_FRAMES) or 0 for row in rows]
    measured = mean(schema.J_AND_F) is not None
    return Report(
        name="/".join(root.parts[-2:]),
        source=meta.read_record(root)["mask"]["source"],
        episodes=len(rows),
        frames=int(lengths.sum()),
        iou=mean(schema.IOU),
        boundary_f=mean(schema.BOUNDARY_F),
        j_and_f=mean(schema.J_AND_F),
        coverage=mean(schema.COVERAGE) or 0.0,
        lost_frames=sum(lost),
        lost_episodes=sum(count > 0 for count in lost),
        worst=min(rows, key=lambda row: row[schema.J_AND_F])[schema.EPISODE] if measured else None,
    )


def draw(root: Path, path: Path) -> None:
    """The histogram of a split's mask quality, or where that was not measured of its coverage, into `path`."""
    rows = storage.read_episodes(root).to_pylist()
    labels = {schema.IOU: "J (IoU)", schema.BOUNDARY_F: "F (boundary)", schema.J_AND_F: "J&F"}
    found = {label: [row.get(column) for row in rows] for column, label in labels.items()}
    measured = {label: values for label, values in found.items() if None not in values}
    quality.histogram(
        measured or {schema.COVERAGE: [row[schema.COVERAGE] for row in rows]}, path, "/".join(root.parts[-2:])
    )
