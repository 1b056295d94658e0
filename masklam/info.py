"""What a model is: its method, its data, how far its stages got, what was measured, and the command that makes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distractor_data import untrusted
from distractor_data.errors import DmaskError, plain
from distractor_data.untrusted.values import BYTES
from masklam import card, limits, measures
from masklam.run import Run
from masklam.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass(frozen=True)
class Described:
    """A run's folder or a model on the Hub."""

    name: str
    method: str
    env: str
    dataset: str | None  # its name, and on the Hub its revision
    parts: list[str]  # that are trained
    stages: dict[str, int]  # steps that each has logged; of a folder
    bytes: int | None  # of the weights
    measures: list[tuple[str, float]]
    command: str  # that trains the same


def describe(source: str) -> Described:
    """The run in a folder, or the model `org/name[@revision]`. Raises `DmaskError` where there is none."""
    return _of_folder(Path(source)) if Path(source).is_dir() else _of_hub(source)


def lines(model: Described) -> str:
    """What is known of a model, a line for each thing."""
    told = (
        ("method", model.method),
        ("environment", model.env),
        ("trained on", model.dataset),
        ("stages", ", ".join(f"{stage} {step:,} steps" for stage, step in model.stages.items())),
        ("parts", ", ".join(model.parts)),
        ("weights", "none yet" if model.bytes is None else f"{model.bytes / 1e6:,.1f} MB"),
        *((name, f"{value:.3f}") for name, value in model.measures),
        ("made by", model.command),
    )
    return "\n".join(plain(f"{what}: {said}") for what, said in told if said)


def _of_folder(folder: Path) -> Described:
    run = Run(folder)
    config, data, weights = run.config(), run.dataset(), untrusted.inside(folder, limits.WEIGHTS)
    stages = {str(one["stage"]): int(one["step"]) for one in run.metrics()}
    size = weights.stat().st_size if weights.exists() else None
    found = [(f"{m.name}, {m.where}", m.value) for m in measures.measures(run.results())]
    return _described(str(folder), config, _at(data["name"], data["revision"]), stages, size, found)


def _of_hub(source: str) -> Described:
    from distractor_data.hub.fetch import card_of
    from distractor_data.hub.patience import hub_errors
    from distractor_data.hub.repository import Repository, api_of, named

    name, _, revision = source.partition("@")
    if "/" not in name:
        raise DmaskError(f"{source}: no such folder; give one that `masklam train` wrote, or ORG/NAME on the Hub")
    named(name)
    with hub_errors(name, "load"):
        repository = Repository(api_of(), name, "model", revision or None)
        repository = repository.at(repository.head())
        there = repository.files()
        if limits.CONFIG not in there or there[limits.CONFIG].size > BYTES:
            raise DmaskError(f"{name} holds no model that masklam trained")
        config = limits.read_config(repository.download(limits.CONFIG).parent)
        text = card_of(repository, there).decode("utf-8", "replace")
    told = [one for one in _results(text) if isinstance(one.metric_value, int | float)]
    found = [(str(one.metric_name or one.metric_type), float(one.metric_value)) for one in told]
    dataset = next((_at(str(one.dataset_type), one.dataset_revision) for one in told), None)
    size = there[limits.WEIGHTS].size if limits.WEIGHTS in there else None
    return _described(source, config, dataset, {}, size, found)


def _described(
    name: str,
    config: dict[str, Any],
    dataset: str | None,
    stages: dict[str, int],
    size: int | None,
    found: list[tuple[str, float]],
) -> Described:
    if "training" not in config:
        raise DmaskError(f"{name} has no settings of a training; it is no model that masklam trained")
    training = config["training"]
    parts = [str(part) for part in config.get("parts", [])]
    return Described(
        name, training["method"], training["env"], dataset, parts, stages, size, found, command(training)
    )


def command(training: dict[str, Any]) -> str:
    """The `masklam train` line of recorded settings: those that are not what they are by default."""
    words = ["masklam", "train"]
    for one in fields(Settings):
        value = card.public(training).get(one.name, one.default)
        value = tuple(value) if isinstance(value, list) else value
        if value == one.default and one.name not in ("dataset", "env", "method"):
            continue
        option = f"--{one.name.replace('_', '-')}"
        if isinstance(value, tuple):
            value = ",".join("all" if part == 0 else str(part) for part in value)
        words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def _results(text: str) -> list[EvalResult]:
    """The results that a card states; none where it can't be read."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        data: Any = ModelCard(text, ignore_metadata_errors=True).data
    except (yaml.YAMLError, TypeError, ValueError):
        return []
    return list(data.eval_results or [])


def _at(name: str, revision: str | None) -> str:
    return f"{name}@{revision}" if revision else name
