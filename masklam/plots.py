"""Plots of a study: curves with confidence bands, bars of NMSE, returns by labels, NMSE by latent dimension."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import storage
from masklam import report
from masklam.study import CURVE

Rows = list[dict[str, Any]]
NMSE = report.PROBES["linear_probe"]


def draw(rows: Rows, folder: Path, name: str) -> None:
    """Write every plot for which there are numbers as `folder/name-….png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plots: dict[str, Callable[[Any, Rows], bool]] = {
        "curves": curves,
        "nmse": bars,
        "returns": returns,
        "latent-dim": by_latent_dim,
    }
    for kind, plot in plots.items():
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        if plot(axes, rows):
            axes.legend(fontsize="small")
            with storage.atomic_write(folder / f"{name}-{kind}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=150)
        plt.close(figure)


def interval(scores: np.ndarray, samples: int = 2000) -> tuple[float, float, float]:
    """Interquartile mean of scores (seeds, tasks) and its 95 % interval.

    The interval is rliable's: percentiles of a bootstrap over seeds, stratified by task (Agarwal et al. 2021).
    rliable itself can't be imported beside pandas 3, which breaks the `arch` it pins.
    """
    rng = np.random.default_rng(0)
    seeds, tasks = scores.shape
    drawn = scores[rng.integers(seeds, size=(samples, seeds, tasks)), np.arange(tasks)]
    low, high = np.percentile(iqm(drawn.reshape(samples, -1)), [2.5, 97.5])
    return float(iqm(scores.reshape(1, -1))[0]), float(low), float(high)


def iqm(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half of each row; (N, M) → (N,)."""
    cut = values.shape[1] // 4
    return np.sort(values, axis=1)[:, cut : values.shape[1] - cut].mean(1)


def select(rows: Rows, **wanted: Any) -> Rows:
    """Rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def groups(rows: Rows, key: str) -> dict[Any, Rows]:
    """Rows by the value of a column, in the order in which values appear."""
    found: dict[Any, Rows] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def scores(rows: Rows) -> np.ndarray:
    """(seeds, tasks): tasks are environment × difficulty; seeds that not all tasks have are left out."""
    by_seed = [[row["value"] for row in found] for found in groups(rows, "seed").values()]
    most = max(map(len, by_seed))
    return np.array([values for values in by_seed if len(values) == most])


def curves(axes: Any, rows: Rows) -> bool:
    """Probe NMSE on held-out episodes by step."""
    found = select(rows, measure=CURVE)
    for name, group in groups(found, "label").items():
        steps = groups(group, "step")
        band = np.array([interval(scores(at)) for _, at in sorted(steps.items())])
        axes.plot(sorted(steps), band[:, 0], marker=".", label=name)
        axes.fill_between(sorted(steps), band[:, 1], band[:, 2], alpha=0.2)
    axes.set(xlabel="gradient steps", ylabel="linear probe NMSE, held-out episodes")
    return bool(found)


def bars(axes: Any, rows: Rows) -> bool:
    """Probe NMSE in and out of distribution."""
    found = select(rows, measure=NMSE)
    names = list(groups(found, "label"))
    for index, (where, group) in enumerate(groups(found, "where").items()):
        each = groups(group, "label")
        middle = np.array([interval(scores(each[name])) for name in names if name in each])
        places = np.array([k for k, name in enumerate(names) if name in each]) + 0.4 * index - 0.2
        error = [middle[:, 0] - middle[:, 1], middle[:, 2] - middle[:, 0]]
        axes.bar(places, middle[:, 0], 0.4, yerr=np.maximum(error, 0), label=where, capsize=3)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_ylabel("linear probe NMSE")
    return bool(found)


def returns(axes: Any, rows: Rows) -> bool:
    """Normalised return by the number of labelled trajectories; unseen videos dashed."""
    found = [row for row in rows if row["kind"] == "normalised_return"]
    for name, group in groups(found, "label").items():
        for where, part in groups(group, "where").items():
            budgets = {int(measure.split()[2]): at for measure, at in groups(part, "measure").items()}
            band = np.array([interval(scores(at)) for _, at in sorted(budgets.items())])
            style = "-" if where == report.VIDEOS["train"] else "--"
            line = axes.plot(sorted(budgets), band[:, 0], style, marker=".", label=f"{name}, {where}")
            axes.fill_between(sorted(budgets), band[:, 1], band[:, 2], alpha=0.15, color=line[0].get_color())
    axes.set_xscale("log", base=2)
    axes.set(xlabel="labelled trajectories", ylabel="return / expert's return")
    return bool(found)


def by_latent_dim(axes: Any, rows: Rows) -> bool:
    """Probe NMSE on held-out episodes by the size of the latent action."""
    found = select(rows, measure=NMSE, where=report.PLACES["in"], mask_corruption="")
    for name, group in groups(found, "method").items():
        sizes = groups(group, "latent_dim")
        band = np.array([interval(scores(at)) for _, at in sorted(sizes.items())])
        axes.plot(sorted(sizes), band[:, 0], marker=".", label=name)
        axes.fill_between(sorted(sizes), band[:, 1], band[:, 2], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="latent dimension", ylabel="linear probe NMSE, held-out episodes")
    return len(groups(found, "latent_dim")) > 1
