"""Results of a study: one row a number, and tables in which only seeds are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from masklam import measures
from masklam.methods import find
from masklam.plan import Planned
from masklam.run import Run

Rows = list[dict[str, Any]]
CURVE = "linear probe NMSE while training"
CONDITIONS = ("env", "difficulty", "label", "samples")
TITLES = {"env": "environment", "label": "method", "budget": "labelled trajectories"}
RETURNS = {
    "return": "return",
    "normalised_return": "return / expert's",
    "success": "success rate",
    "normalised_success": "success rate / expert's",
    "bc_normalised_return": "return / behaviour cloning's",
}
NOTES = """\
NMSE is the mean squared error over the variance: 0 is perfect, 1 no better than the mean. "train" are held-out
episodes, or rollouts, in front of the training videos; "test" are those in front of other videos; for runs on
`image_clean` there are no videos. "shuffled" is the same probe on latents of an observation and a random other one.
Returns and success rates are divided by the mean of the dataset's own episodes, returns also by that of behaviour
cloning on all true actions of the same data and images, in front of the same videos. With several seeds: the
interquartile mean and its 95 % bootstrap interval over seeds.
"""


def collect(study: str, run: Planned) -> Iterator[dict[str, Any]]:
    """Everything measured in a run, one row a number."""
    folder, settings = Run(run.folder), run.settings
    results, method = folder.results(), find(settings.method)
    common = {
        "study": study,
        "env": run.env,
        "difficulty": run.difficulty,
        "label": run.label,
        "variant": run.label.replace(f"-d{settings.latent_dim}", "", 1),  # whatever the size of its latent action
        "series": _series(run) if method.labels else run.label,  # whatever its budget
        "method": settings.method,
        "latent_dim": settings.latent_dim if method.latent else None,
        "mask_corruption": settings.mask_corruption,
        "image_column": settings.image_column,
        "seed": settings.seed,
        "samples": settings.batch * settings.steps,
        "training_episodes": results.get("training_episodes"),
    }
    for found in measures.measures(results):
        if found.kind != "bc_normalised_return":  # the study has its own, of all its seeds
            measured = {"measure": found.name, "where": found.where, "split": found.split, "budget": found.budget}
            value = {"step": settings.steps, "control": found.control, "value": found.value}
            yield {**common, "kind": found.kind, **measured, **value}
    for metric in folder.metrics():
        if metric["stage"] == "lam" and "probe_nmse" in metric:
            measured = {"measure": CURVE, "where": measures.PLACES["in"], "split": "train", "budget": None}
            value = {"step": metric["step"], "control": None, "value": metric["probe_nmse"]}
            yield {**common, "kind": "curve", **measured, **value}


def _series(run: Planned) -> str:
    """A label without the budget of a method that has a run for each."""
    return run.label.replace(
        "-labels-" + "-".join(str(n or "all") for n in run.settings.labelled_trajectories), "", 1
    )


def over_cloning(rows: Rows) -> Rows:
    """Returns once more, divided by those of behaviour cloning on all true actions, as Nikulin et al. 2025 do.

    Its mean is that of its seeds, for the same environment, difficulty, images and videos; where a study has several
    such groups of runs, that of the best.
    """
    keys = ("env", "difficulty", "image_column", "split")
    returns = [row for row in rows if row["kind"] == "return"]
    whole = [row for row in returns if row["method"] == "bc" and row["budget"] == row["training_episodes"]]
    best = {
        place: max(float(seeds(group).mean()) for group in groups(found, "label", "samples").values())
        for place, found in groups(whole, *keys).items()
    }
    return [
        {
            **row,
            "kind": "bc_normalised_return",
            "measure": row["measure"].replace("return", "return over behaviour cloning's", 1),
            "value": row["value"] / mean,
        }
        for row in returns
        if (mean := best.get(tuple(row[key] for key in keys), 0)) > 0
    ]


def summary(rows: Rows) -> str:
    """Markdown tables of probes and of returns: a row is a condition, a cell what its seeds have in common."""
    probed: Rows = []
    for row in rows:
        if row["kind"] in ("nmse", "share", "codes"):
            probed.append({**row, "column": f"{row['measure']}, {row['split']}"})
        if row["control"] is not None:
            column = f"{row['measure']}, shuffled, {row['split']}"
            probed.append({**row, "column": column, "value": row["control"]})
    returned = [
        {**row, "column": f"{RETURNS[row['kind']]}, {row['split']}"} for row in rows if row["kind"] in RETURNS
    ]
    tables = [(probed, CONDITIONS), (returned, (*CONDITIONS, "budget"))]
    return "\n".join(markdown(found, keys) for found, keys in tables if found)


def markdown(rows: Rows, keys: tuple[str, ...]) -> str:
    """A table with a row for each combination of `keys` and a column for each value of `column`."""
    columns = list(groups(rows, "column"))
    header = [*(TITLES.get(key, key) for key in keys), "seeds", *(column for (column,) in columns)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for condition, found in groups(rows, *keys).items():
        cells = groups(found, "column")
        number = len(groups(found, "seed"))
        text = [*map(str, condition), str(number), *(_cell(cells.get(column, [])) for column in columns)]
        lines.append("| " + " | ".join(text) + " |")
    return "\n".join(lines) + "\n"


def _cell(rows: Rows) -> str:
    if not rows:
        return ""
    middle, low, high = interval(seeds(rows)[:, None])
    return f"{middle:.3f}" if len(rows) == 1 else f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def groups(rows: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], Rows]:
    """Rows by their values of some columns, in the order in which these appear."""
    found: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def seeds(rows: Rows) -> np.ndarray:
    """The values of a condition's seeds; raises `ValueError` where rows of one seed differ in something else."""
    if len({row["seed"] for row in rows}) < len(rows):
        raise ValueError(f"rows of several conditions in one place: {rows[:2]}")
    return np.array([row["value"] for row in rows])


def interval(scores: np.ndarray, samples: int = 2000) -> tuple[float, float, float]:
    """Interquartile mean of scores (seeds, tasks) and its 95 % interval.

    The interval is rliable's: percentiles of a bootstrap over seeds, stratified by task (Agarwal et al. 2021).
    rliable itself can't be imported beside pandas 3, which breaks the `arch` it pins.
    """
    rng = np.random.default_rng(0)
    count, tasks = scores.shape
    drawn = scores[rng.integers(count, size=(samples, count, tasks)), np.arange(tasks)]
    low, high = np.percentile(iqm(drawn.reshape(samples, -1)), [2.5, 97.5])
    return float(iqm(scores.reshape(1, -1))[0]), float(low), float(high)


def iqm(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half of each row; (N, M) → (N,)."""
    cut = values.shape[1] // 4
    return np.sort(values, axis=1)[:, cut : values.shape[1] - cut].mean(1)
