"""Datasets of Minari 0.5 (its HDF5 storage), written: `minari.load_dataset` reads them.

Minari keeps one observation more than actions, and ours are as many: an episode's last action, of which nothing was
seen, is left out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.dataset.read import Episodes
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.spec import Import, Spec
from distractor_data.untrusted import hdf5

VERSION = "0.5.4"  # of the storage; the first in which images need not be JPEG


def place(spec: Spec | Import) -> str:
    """The dataset's name, which is also its folder below Minari's root."""
    return f"dmask/{spec.env}/{spec.split}-v0"


def check(episodes: Episodes) -> None:
    """Raise `DmaskError` where there is something that Minari asks for and the dataset has not."""
    hdf5.library()
    if schema.REWARD not in episodes.layout.columns:
        raise DmaskError(
            f"{episodes.root} has no rewards, which Minari asks for; export it with --format laom or npz"
        )
    if short := [record[schema.EPISODE] for record in episodes.records if record[schema.LENGTH] < 2]:
        raise DmaskError(f"episode {short[0]} of {episodes.root} has one frame, and a step of Minari needs two")


def write(episodes: Iterable[Episode], spec: Spec | Import, folder: Path) -> None:
    """Write a dataset into a new folder: observations `image`, `mask` (0 or 1) and `state`, lossless."""
    (folder / "data").mkdir(parents=True)
    count, steps, space = 0, 0, dict[str, Any]()
    with hdf5.library().File(folder / "data" / "main_data.hdf5", "w", track_order=True) as file:
        for count, episode in enumerate(episodes, 1):
            space = space or _spaces(episode, bounded=isinstance(spec, Spec))
            group, taken = file.create_group(f"episode_{count - 1}"), len(episode) - 1
            group.attrs.update(id=count - 1, total_steps=taken, **_scalars(episode.info))
            assert episode.mask is not None
            assert episode.reward is not None
            seen = {"image": episode.image, "mask": episode.mask.astype(np.uint8), "state": episode.state}
            for name, values in seen.items():
                group.create_dataset(f"observations/{name}", data=values)
            last = np.arange(taken) == taken - 1
            rows = {"actions": episode.action[:-1], "rewards": episode.reward[:-1]}
            for name, values in {**rows, "terminations": np.zeros(taken, bool), "truncations": last}.items():
                group.create_dataset(name, data=values)
            file.require_group(f"episode_{count - 1}/infos")
            steps += taken
    metadata = {
        "dataset_id": place(spec),
        "minari_version": VERSION,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "total_episodes": count,
        "total_steps": steps,
        "dataset_size": round((folder / "data" / "main_data.hdf5").stat().st_size / 1e6, 1),  # MB
        "observation_space": json.dumps(space["observation"]),
        "action_space": json.dumps(space["action"]),
        "algorithm_name": getattr(spec, "policy", ""),
        "description": f"{spec.env}, {spec.split}, difficulty {spec.difficulty}: made by dmask",
        "requirements": [f"python=={platform.python_version()}"],
    }
    storage.write_json(folder / "data" / "metadata.json", metadata)


def _spaces(episode: Episode, bounded: bool) -> dict[str, Any]:
    """What Minari's `serialize_space` gives for an episode's observations and actions."""
    image, state, action = (values.shape[1:] for values in (episode.image, episode.state, episode.action))
    edge = 1.0 if bounded else np.inf
    subspaces = {
        "image": _box("uint8", image, 0, 255),
        "mask": _box("uint8", image[:2], 0, 1),
        "state": _box("float32", state, -np.inf, np.inf),
    }
    return {
        "observation": {"type": "Dict", "subspaces": subspaces},
        "action": _box("float32", action, -edge, edge),
    }


def _box(dtype: str, shape: tuple[int, ...], low: float, high: float) -> dict[str, Any]:
    bounds = {name: np.full(shape, value).tolist() for name, value in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": dtype, "shape": list(shape), **bounds}


def _scalars(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if isinstance(value, (int, float, str))}
