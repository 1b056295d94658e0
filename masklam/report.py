"""Measures of a run: for the terminal and the model card, and its curves as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import storage

PLACES = {"in": "held-out episodes, training videos", "out": "test episodes, unseen videos"}
SPLIT_OF = {"in": "train", "out": "test"}
PROBES = {
    "linear_probe": "linear probe NMSE",
    "mlp_probe": "MLP probe NMSE",
    "background_probe": "background probe NMSE",
}
VIDEOS = {"train": "training videos", "test": "unseen videos"}


@dataclass(frozen=True)
class Measure:
    """One number that was measured."""

    kind: str  # `nmse`, `return` or `normalised_return`
    name: str
    where: str
    split: str  # of the dataset, or of the videos behind the rollouts
    value: float


def measures(results: dict[str, Any]) -> Iterator[Measure]:
    """Everything in `results.json`."""
    for name, title in PROBES.items():
        for place, found in results.get(name, {}).items():
            yield Measure("nmse", title, PLACES[place], SPLIT_OF[place], found["nmse"])
    for split, budgets in results.get("returns", {}).items():
        for budget, found in budgets.items():
            labels = f"{budget} labelled {'trajectory' if budget == '1' else 'trajectories'}"
            mean = float(np.mean(found["returns"]))
            yield Measure("return", f"return, {labels}", VIDEOS[split], split, mean)
            normalised = found["normalised"]
            yield Measure("normalised_return", f"normalised return, {labels}", VIDEOS[split], split, normalised)


def lines(results: dict[str, Any]) -> str:
    """One line a measure."""
    return "\n".join(f"  {m.name}, {m.where}: {m.value:.3f}" for m in measures(results))


def curves(metrics: list[dict[str, Any]], path: Path) -> Path | None:
    """A PNG of every stage's loss, and of the probe, over the steps; None where nothing was logged."""
    from matplotlib.figure import Figure

    drawn: dict[str, dict[str, list[tuple[int, float]]]] = {}  # title of a plot → its lines
    for m in metrics:
        if "loss" in m:
            lines = drawn.setdefault(f"{m['stage'].partition('-')[0]}: loss", {})
            lines.setdefault(m["stage"], []).append((m["step"], m["loss"]))
        if "probe_nmse" in m:
            lines = drawn.setdefault("linear probe NMSE, held-out episodes", {})
            lines.setdefault("lam", []).append((m["step"], m["probe_nmse"]))
    if not drawn:
        return None
    figure = Figure(figsize=(3.2 * len(drawn), 2.6), layout="constrained")
    for (title, lines), axes in zip(drawn.items(), np.atleast_1d(figure.subplots(1, len(drawn))), strict=True):
        for stage, points in lines.items():
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, marker="." if len(points) < 20 else None, linewidth=1, label=stage)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step")
        if len(lines) > 1:
            axes.legend(fontsize=7, title="labelled trajectories" if "decoder" in title else None)
    with storage.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    return path
