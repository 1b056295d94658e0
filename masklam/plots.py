"""Plots of a study: curves, NMSE, returns by labels, NMSE by latent dimension; only seeds are ever averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distractor_data.dataset import storage
from masklam import measures
from masklam.results import CURVE, Rows, groups, interval, seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Plot = Callable[[Any, Rows], bool]  # draws rows of one environment and difficulty on axes; whether there were any
NMSE = measures.PROBES["linear_probe"]
SPLITS = {"train": "held-out episodes, training split", "test": "test split"}


def draw(rows: Rows, folder: Path, name: str) -> None:
    """Write every plot for which there are numbers as `folder/name-….png`."""
    plots: dict[str, Plot] = {
        "curves": curves,
        "nmse": bars,
        "returns": returns,
        "bc-returns": cloned_returns,
        "latent-dim": by_latent_dim,
    }
    for kind, plot in plots.items():
        drawn = figure(plot, rows)
        if drawn is not None:
            with storage.atomic_write(folder / f"{name}-{kind}.png") as temporary:
                drawn.savefig(temporary, format="png", dpi=150)


def figure(plot: Plot, rows: Rows) -> Figure | None:
    """A plot with a panel for each environment (down) and difficulty (across); None where nothing is drawn."""
    from matplotlib.figure import Figure

    envs, difficulties = (list(groups(rows, key)) for key in ("env", "difficulty"))
    panels = groups(rows, "env", "difficulty")
    whole = Figure(figsize=(6 * len(difficulties), 4 * len(envs)), layout="constrained")
    grid = whole.subplots(len(envs), len(difficulties), squeeze=False)
    empty = True
    for i, j in np.ndindex(grid.shape):
        place = (*envs[i], *difficulties[j])
        axes: Any = grid[i, j]
        if not plot(axes, panels.get(place, [])):
            axes.set_axis_off()
            continue
        axes.set_title(", ".join(place), fontsize="medium")
        axes.legend(fontsize="small")
        empty = False
    return None if empty else whole


def select(rows: Rows, **wanted: Any) -> Rows:
    """Rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def line(axes: Any, rows: Rows, x: str, label: str, style: str = "-") -> None:
    """The middle of a condition's seeds by the column `x`, in their interval."""
    at = {place: interval(seeds(found)[:, None]) for (place,), found in groups(rows, x).items()}
    places = sorted(at)
    band = np.array([at[place] for place in places])
    drawn = axes.plot(places, band[:, 0], style, marker=".", label=label)
    axes.fill_between(places, band[:, 1], band[:, 2], alpha=0.15, color=drawn[0].get_color())


def curves(axes: Any, rows: Rows) -> bool:
    """Probe NMSE on held-out episodes by step."""
    found = select(rows, measure=CURVE)
    for (name, _), group in groups(found, "label", "samples").items():
        line(axes, group, "step", name)
    axes.set(xlabel="gradient steps", ylabel="linear probe NMSE, held-out episodes")
    return bool(found)


def bars(axes: Any, rows: Rows) -> bool:
    """Probe NMSE in and out of distribution."""
    found = select(rows, measure=NMSE)
    names = list(groups(found, "label", "samples"))
    for index, ((split,), group) in enumerate(groups(found, "split").items()):
        each = groups(group, "label", "samples")
        middle = np.array([interval(seeds(each[name])[:, None]) for name in names if name in each])
        places = np.array([k for k, name in enumerate(names) if name in each]) + 0.4 * index - 0.2
        error = [middle[:, 0] - middle[:, 1], middle[:, 2] - middle[:, 0]]
        axes.bar(places, middle[:, 0], 0.4, yerr=np.maximum(error, 0), label=SPLITS[split], capsize=3)
    axes.set_xticks(range(len(names)), [name for name, _ in names], rotation=20, ha="right")
    axes.set_ylabel("linear probe NMSE")
    return bool(found)


def returns(axes: Any, rows: Rows, kind: str = "normalised_return", over: str = "expert's return") -> bool:
    """Normalised return by the number of labelled trajectories; the test split's dashed."""
    found = select(rows, kind=kind)
    for (name, _, split), group in groups(found, "series", "samples", "split").items():
        line(axes, group, "budget", f"{name}, {split} split", "-" if split == "train" else "--")
    if found:
        axes.set_xscale("log", base=2)
    axes.set(xlabel="labelled trajectories", ylabel=f"return / {over}")
    return bool(found)


def cloned_returns(axes: Any, rows: Rows) -> bool:
    """The same over the return of behaviour cloning on all true actions."""
    return returns(axes, rows, "bc_normalised_return", "that of behaviour cloning on all actions")


def by_latent_dim(axes: Any, rows: Rows) -> bool:
    """Probe NMSE on held-out episodes by the size of the latent action."""
    found = [row for row in select(rows, measure=NMSE, split="train") if row["latent_dim"] is not None]
    for (name, _), group in groups(found, "variant", "samples").items():
        line(axes, group, "latent_dim", name)
    if found:
        axes.set_xscale("log", base=2)
    axes.set(xlabel="latent dimension", ylabel="linear probe NMSE, held-out episodes")
    return len(groups(found, "latent_dim")) > 1
