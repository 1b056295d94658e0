"""Measures of a run: for the terminal and the model card, and its curves as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema
from distractor_data.dataset import storage

PLACES = {"in": "held-out episodes, training videos", "out": "test episodes, unseen videos"}
SPLIT_OF = {"in": "train", "out": "test"}
PROBES = {
    "linear_probe": "linear probe NMSE",
    "mlp_probe": "MLP probe NMSE",
    "background_probe": "background probe NMSE",
}
VIDEOS = {"train": "training videos", "test": "unseen videos"}
CLEAN_PLACES = {"in": "held-out episodes, no distractors", "out": "test episodes, no distractors"}
CLEAN_VIDEOS = {"train": "training split, no distractors", "test": "test split, no distractors"}


@dataclass(frozen=True)
class Measure:
    """One number that was measured."""

    kind: str  # `nmse`, `share`, `codes`, `return`, `success`, or one of `NORMALISED`
    name: str
    where: str
    split: str  # of the dataset, or of the videos behind the rollouts
    value: float
    control: float | None = None  # of a probe: the same on latents of shuffled pairs
    budget: int | None = None  # of a return: labelled trajectories


def measures(results: dict[str, Any]) -> Iterator[Measure]:
    """Everything in `results.json`."""
    clean = results.get("sees") == schema.IMAGE_CLEAN
    places, videos = (CLEAN_PLACES, CLEAN_VIDEOS) if clean else (PLACES, VIDEOS)
    for name, title in PROBES.items():
        for place, found in results.get(name, {}).items():
            yield Measure("nmse", title, places[place], SPLIT_OF[place], found["nmse"], found.get("shuffled"))
    for place, share in results.get("constant", {}).items():
        yield Measure("share", "constant latent dimensions", places[place], SPLIT_OF[place], share)
    if codes := results.get("codes"):
        for name, title in CODES.items():
            yield Measure("codes", title, places["in"], "train", codes[name])
    for split, budgets in results.get("returns", {}).items():
        for budget, found in budgets.items():
            labels = f"{budget} labelled {'trajectory' if budget == '1' else 'trajectories'}"
            mean, number = float(np.mean(found["returns"])), int(budget)
            yield Measure("return", f"return, {labels}", videos[split], split, mean, budget=number)
            if found.get("solved"):
                rate = float(np.mean(found["solved"]))
                yield Measure("success", f"success rate, {labels}", videos[split], split, rate, budget=number)
            for key, (kind, title) in NORMALISED.items():
                if found.get(key) is not None:
                    yield Measure(kind, f"{title}, {labels}", videos[split], split, found[key], budget=number)


CODES = {"used": "codes used", "perplexity": "perplexity of the codes"}
NORMALISED = {
    "normalised": ("normalised_return", "normalised return"),
    "normalised_success": ("normalised_success", "normalised success rate"),
    "normalised_bc": ("bc_normalised_return", "return over behaviour cloning's"),
}


def lines(results: dict[str, Any]) -> str:
    """One line a measure, then what is to be known of them: a collapsed codebook, what was not measured."""
    return "\n".join(
        [
            *(f"  {m.name}, {m.where}: {m.value:.3f}{_beside(m)}" for m in measures(results)),
            *(f"  {remark}" for remark in remarks(results)),
        ]
    )


def _beside(measure: Measure) -> str:
    return "" if measure.control is None else f" (shuffled pairs: {measure.control:.3f})"


def remarks(results: dict[str, Any]) -> list[str]:
    """What numbers alone don't say."""
    codes = results.get("codes")
    described = [describe_codes(codes)] if codes else []
    return described + [f"not measured: {what}" for what in results.get("missing", [])]


def describe_codes(codes: dict[str, Any]) -> str:
    """A codebook's use in one line."""
    text = (
        f"codebook: {codes['used']} of {codes['codes']} codes used, perplexity {codes['perplexity']:.2f}, "
        f"{codes['latents']} different latent actions"
    )
    return text + ("; it has collapsed" if codes["collapsed"] else "")


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
