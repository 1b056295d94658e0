"""A study's plan, as its TOML file states it: the datasets and the runs, each with its label and folder."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from distractor_data.errors import DmaskError, nearest
from distractor_data.spec import Spec, full_name
from masklam.methods import Method, find
from masklam.settings import Settings, budgets

LABELLED = "labelled_trajectories"
SECTIONS = ("name", "data", "grid", "train", "extra")


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    env: str
    difficulty: str
    label: str  # what tells its group (all of its seeds) from others: `masklam-d64-dilate2`
    folder: str
    settings: Settings


@dataclass(frozen=True)
class Study:
    """A study as its file states it. See `scripts/studies/` for examples."""

    name: str
    data: dict[str, Any]  # envs, difficulties, directory, test_episodes, and options of `dmask generate`
    grid: dict[str, list[Any]]  # option of `masklam train` → the values it takes; runs are their product
    train: dict[str, Any]  # options that runs share, as far as their method takes them
    extra: list[dict[str, Any]]  # runs beside the grid, with its seeds: options that differ from `train`; `name` them

    def runs(self) -> list[Planned]:
        """All runs; those that differ only in an option which their method doesn't take are one."""
        rows = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        rows = [{k: v for k, v in row.items() if self._method(row).takes(k)} for row in rows]
        beside = [{"seed": seed, **row} for row in self.extra for seed in self.grid.get("seed", [0])]
        each = [run for row in [*rows, *beside] for run in self._by_budget(row)]
        found: dict[str, Planned] = {}
        for env, difficulty, row in itertools.product(self.data["envs"], self.data["difficulties"], each):
            planned = self._plan(full_name(env), difficulty, row)
            found.setdefault(planned.folder, planned)
        return list(found.values())

    def _method(self, row: dict[str, Any]) -> Method:
        return find({**self.train, **row}.get("method", Settings.method))

    def _by_budget(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """A row for each number of labelled trajectories, where the method learns from one of them."""
        chosen = {**self.train, **row}.get(LABELLED, ())
        if not self._method(row).labels or isinstance(chosen, str) or len(chosen) < 2:
            return [row]
        named = [{"name": f"{row['name']}-labels-{budget or 'all'}"} if "name" in row else {} for budget in chosen]
        return [{**row, **name, LABELLED: [budget]} for name, budget in zip(named, chosen, strict=True)]

    def _plan(self, env: str, difficulty: str, row: dict[str, Any]) -> Planned:
        row = dict(row)
        name = row.pop("name", "")
        shared = {k: v for k, v in self.train.items() if self._method(row).takes(k)}
        options = {k: _tuple(v) for k, v in {**shared, **row}.items()}
        if isinstance(options.get(LABELLED), str):
            options[LABELLED] = budgets(options[LABELLED])
        if difficulty == "clean":
            options["backgrounds"] = ""
        settings = Settings(dataset=f"{self.data['directory']}/{difficulty}", env=env, **options)
        usual = {**dataclasses.asdict(Settings()), **self.train}
        name = name or label(settings, {key: usual[key] for key in [*self.grid, *row]})
        places = (env, difficulty, f"{name}-seed{settings.seed}")
        folder = "/".join([f"runs/studies/{self.name}", *(_folder(place) for place in places)])
        return Planned(env, difficulty, name, folder, settings)

    def specs(self) -> Iterator[tuple[str, Spec]]:
        """The datasets that the runs read: (folder, spec)."""
        data = dict(self.data)
        directory, envs, difficulties = (data.pop(key) for key in ("directory", "envs", "difficulties"))
        test_episodes = data.pop("test_episodes", 0)
        for env, difficulty in itertools.product(map(full_name, envs), difficulties):
            options: dict[str, Any] = {k: v.format(env=env) if isinstance(v, str) else v for k, v in data.items()}
            yield f"{directory}/{difficulty}", Spec(env=env, difficulty=difficulty, **options)
            if test_episodes:
                options["episodes"] = test_episodes
                yield f"{directory}/{difficulty}", Spec(env=env, difficulty=difficulty, split="test", **options)


def _folder(value: str) -> str:
    """A value as the name of one folder, out of which it doesn't lead."""
    return value.replace("/", "-").lstrip(".") or "-"


def label(settings: Settings, usual: dict[str, Any]) -> str:
    """What tells a run's group from others: in which of a study's varied options it is not as usual, and how."""
    parts = [settings.method] + ([f"d{settings.latent_dim}"] if find(settings.method).latent else [])
    for name, common in usual.items():
        value = getattr(settings, name)
        if name in ("method", "latent_dim", "seed") or value == _tuple(common):
            continue
        if name in ("mask_corruption", "quantize", "image_column", "mask_column"):  # the value says what it is
            parts.append(value.rpartition(".")[2] if name.endswith("column") else value.replace(":", "") or "none")
        elif name == LABELLED:
            parts.append("labels-" + "-".join(str(n or "all") for n in value))
        else:
            text = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
            parts.append(f"{name.replace('_', '-')}{text.replace('/', '-')}")
    return "-".join(parts)


def read(path: str | Path) -> Study:
    """Read a study. Raises `DmaskError` for a missing or damaged file, or an option that isn't there."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise DmaskError(f"{path} can't be read ({error.strerror}); give a study's TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise DmaskError(f"{path} is no TOML ({error})") from error
    data_options = {field.name for field in fields(Spec)} | {"directory", "envs", "difficulties", "test_episodes"}
    train_options = {field.name for field in fields(Settings)} - {"dataset", "env"}
    data, grid, train = (content.get(key, {}) for key in ("data", "grid", "train"))
    extra = content.get("extra", [])
    checks = [(SECTIONS, content), (data_options, data), (train_options, grid), (train_options, train)]
    for known, given in [*checks, *((train_options | {"name"}, row) for row in extra)]:
        for key in given:
            if key not in known:
                raise DmaskError(f"{path}: unknown option {key!r}{nearest(key, known)}")
    for key in ("envs", "difficulties"):
        if not data.get(key):
            raise DmaskError(f"{path}: [data] names no {key}")
    methods = [find(name) for name in grid.get("method", [train.get("method", Settings.method)])]
    for key in grid:
        if not any(method.takes(key) for method in methods):
            raise DmaskError(f"{path}: none of the methods of [grid] takes {key}; leave it out")
    name = content.get("name", Path(path).stem)
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)):
        raise DmaskError(f"{path}: the name {name!r} is no plain word; results lie in folders and files of that name")
    data.setdefault("directory", f"data/studies/{name}")
    return Study(name, data, grid, train, extra)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
