"""The page of runs: their curves and measures together, each model at work, a study's results; all in one file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.viewer import page
from masklam import measures, results, scenes
from masklam.limits import CONFIG
from masklam.run import Run

CHUNK = 250  # frames of a scene that are decoded together
_TEXT = ("env", "difficulty", "label", "measure", "where", "split", "kind")
_NUMBERS = ("seed", "samples", "budget", "control", "value")


def view(
    found: list[Path],
    out: Path,
    dataset: str | None = None,
    rollouts: bool = False,
    backgrounds: str | None = None,
    device: str = "auto",
    cache: str | None = None,
) -> Path:
    """Write the page `out` of runs (folders) and of at most one study's results (Parquet).

    Scenes need the data of a run, at `dataset` or where they were, and `rollouts` its environment and videos, at
    `backgrounds` or where they were; what can't be shown is named in the page. Raises `DmaskError` for what is
    neither a run nor a study's results.
    """
    folders = [path for path in found if path.suffix != ".parquet"]
    studies = [path for path in found if path.suffix == ".parquet"]
    if len(studies) > 1:
        raise DmaskError(f"{studies[1]}: a page has one study's results; give one of them")
    for folder in folders:
        if not (folder / CONFIG).is_file():
            raise DmaskError(
                f"{folder} holds no run of `masklam train`, nor is it a study's .parquet; give one of both"
            )
    runs = {name: Run(folder) for name, folder in zip(_names(folders), folders, strict=True)}
    study = _study(studies[0]) if studies else None
    told = [_told(name, run) for name, run in runs.items()]
    shown: list[dict[str, Any]] = []
    attached: list[tuple[str, Any]] = []
    places = {name: value for name, value in (("dataset", dataset), ("backgrounds", backgrounds)) if value}
    for one, (name, run) in zip(told, runs.items(), strict=True):
        for scene in _scenes(run, one["missing"], places, rollouts, device, cache):
            shown.append(scenes.described(scene, name, CHUNK))
            attached.append((shown[-1]["key"], _chunks(scene)))
    data = {
        "runs": told,
        "curves": curves({name: run.metrics() for name, run in runs.items()}),
        "measures": [row for name, run in runs.items() for row in _measured(name, run)],
        "scenes": shown,
        "study": study,
    }
    title = ", ".join(runs) or f"Study {study['name'] if study else ''}"
    page.write(out, "run.html", ["run.js"], title, data, attached)
    return out


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names; where two have the same, their paths."""
    names = [folder.resolve().name for folder in folders]
    if repeated := {str(folder) for folder in folders if folders.count(folder) > 1}:
        raise DmaskError(f"{min(repeated)} is given twice; give each run once")
    return [str(f) if names.count(name) > 1 else name for f, name in zip(folders, names, strict=True)]


def _told(name: str, run: Run) -> dict[str, Any]:
    """What a run is, and what was not measured."""
    config, data, found = run.config(), run.dataset(), run.results()
    training, metrics = config["training"], run.metrics()
    told = {
        "Method": training["method"],
        "Environment": training["env"],
        "Data": data["name"] + (f"@{data['revision'][:8]}" if data["revision"] else ""),
        "Latent action": config.get("latent_dim"),
        "Steps": ", ".join(f"{stage} {step:,}" for stage, step in {m["stage"]: m["step"] for m in metrics}.items()),
    }
    facts = [[key, value] for key, value in told.items() if value not in (None, "")]
    return {"name": name, "facts": facts, "missing": measures.remarks(found)}


def _measured(name: str, run: Run) -> Iterator[dict[str, Any]]:
    for one in measures.measures(run.results()):
        yield {"run": name, "measure": one.name, "split": one.split, "value": one.value, "control": one.control}


def curves(metrics: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of all runs together (name → lines of `metrics.jsonl`): a plot for the losses of each stage and one for the
    probe; a line for each run, and for each budget of its decoders."""
    plots: dict[str, dict[str, Any]] = {}
    for number, (name, lines) in enumerate(metrics.items()):
        for m in lines:
            stage, _, budget = m["stage"].partition("-")
            for key, title in (("probe_nmse", "Linear probe NMSE, held-out episodes"), ("loss", f"Loss, {stage}")):
                if key in m:
                    plot = plots.setdefault(title, {"title": title, "logarithmic": key == "loss", "lines": {}})
                    label = f"{name}, {budget} labelled" if budget else name
                    other = any(line["colour"] == number for line in plot["lines"].values())
                    new = {"name": label, "x": [], "y": [], "colour": number, "dashed": other}
                    line = plot["lines"].setdefault(label, new)
                    line["x"].append(m["step"])
                    line["y"].append(m[key] if math.isfinite(m[key]) else None)  # a gap
    return [{**plot, "lines": list(plot["lines"].values())} for plot in plots.values()]


def _scenes(
    run: Run, missing: list[str], places: dict[str, str], rollouts: bool, device: str, cache: str | None
) -> Iterator[scenes.Scene]:
    """What can be shown of a run; what can't is added to `missing`."""
    try:
        job, place = scenes.open_job(run, places, device, cache)
    except DmaskError as error:
        missing.append(f"not shown: the model at work ({error})")
        return
    scene = scenes.held_out(job, place)
    if not any(view["image"] == "made" for view in scene.views):
        missing.append(f"no reconstructions: {job.settings.method} makes no pixels")
    yield scene
    if (training := scenes.over_training(run, job)) is not None:
        yield training
    if not rollouts:
        missing.append("no rollouts: runs keep none; --rollouts plays an episode for each split")
        return
    try:
        yield from scenes.played(job, place)
    except DmaskError as error:
        missing.append(f"no rollouts: {error}")


def _chunks(scene: scenes.Scene) -> list[str]:
    return [
        page.base64_text(page.pack({name: blobs[at : at + CHUNK] for name, blobs in scene.pictures.items()}))
        for at in range(0, scene.length, CHUNK)
    ]


def _study(path: Path) -> dict[str, Any]:
    """A study's name and results: what its seeds have in common, a row for each condition and measure.

    Raises `DmaskError` where the file holds other columns than `masklam study` writes.
    """
    table = untrusted.parquet(path).read()
    for name in (*_TEXT, *_NUMBERS):
        kind = table.schema.field(name).type if name in table.column_names else pa.null()
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        if name not in table.column_names or not (pa.types.is_string(kind) if name in _TEXT else number):
            raise DmaskError(f"{path} holds no results of `masklam study`: its column {name} is missing or no {kind}")
    rows = [row for row in table.select([*_TEXT, *_NUMBERS]).to_pylist() if row["kind"] != "curve"]
    keys = ("env", "difficulty", "label", "samples", "measure", "split", "budget")
    summed = []
    for condition, found in results.groups(rows, *keys).items():
        middle, low, high = results.interval(results.seeds(found)[:, None])
        controls = [row["control"] for row in found if row["control"] is not None]
        one = {"seeds": len(found), "value": middle, "low": low, "high": high}
        control = sum(controls) / len(controls) if controls else None
        summed.append({**dict(zip(keys, condition, strict=True)), **one, "control": control})
    return {"name": path.stem, "rows": summed}
