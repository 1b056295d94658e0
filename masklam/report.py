"""Measures as rows of text: for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PLACES = {"in": "held-out episodes, training videos", "out": "test episodes, unseen videos"}
PROBES = {
    "linear_probe": "linear probe NMSE",
    "mlp_probe": "MLP probe NMSE",
    "background_probe": "background probe NMSE",
}
VIDEOS = {"train": "training videos", "test": "unseen videos"}


def rows(results: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(measure, where, value) of everything in `results.json`."""
    for name, title in PROBES.items():
        for place, measures in results.get(name, {}).items():
            yield title, PLACES[place], measures["nmse"]
    for split, budgets in results.get("returns", {}).items():
        for budget, found in budgets.items():
            many = "trajectory" if budget == "1" else "trajectories"
            yield f"normalised return, {budget} labelled {many}", VIDEOS[split], found["normalised"]


def lines(results: dict[str, Any]) -> str:
    """One line a measure."""
    return "\n".join(f"  {name}, {where}: {value:.3f}" for name, where, value in rows(results))


def table(results: dict[str, Any]) -> str:
    """The rows of a Markdown table."""
    return "\n".join(f"| {name} | {where} | {value:.3f} |" for name, where, value in rows(results))
