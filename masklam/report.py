"""Measures of a run: for the terminal and the model card, and its curves as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import storage

PLACES = {"in": ("train", "held-out episodes, training videos"), "out": ("test", "test episodes, unseen videos")}
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
            split, where = PLACES[place]
            yield Measure("nmse", title, where, split, found["nmse"])
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

    stages = list(dict.fromkeys(m["stage"] for m in metrics if "loss" in m))
    drawn = [(stage, "loss") for stage in stages] + [("lam", "probe_nmse")]
    series = {key: [(m["step"], m[key[1]]) for m in metrics if m["stage"] == key[0] and key[1] in m] for key in drawn}
    series = {key: points for key, points in series.items() if points}
    if not series:
        return None
    figure = Figure(figsize=(3.2 * len(series), 2.6), layout="constrained")
    for (stage, what), axes in zip(series, np.atleast_1d(figure.subplots(1, len(series))), strict=True):
        steps, values = zip(*series[stage, what], strict=True)
        axes.plot(steps, values, marker="." if len(steps) < 20 else None, linewidth=1)
        title = "linear probe NMSE, held-out episodes" if what == "probe_nmse" else f"{stage}: loss"
        axes.set(title=title, xlabel="step", yscale="linear" if what == "probe_nmse" else "log")
        axes.title.set_fontsize(9)
    with storage.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    return path
