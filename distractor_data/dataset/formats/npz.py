"""An episode a file for `numpy.load`: its arrays under the names that `Episode` has for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data.dataset.read import Episodes
from distractor_data.episode import Episode
from distractor_data.spec import Import, Spec


def place(spec: Spec | Import) -> str:
    """Folder of the episodes below the one that was asked for."""
    return f"{spec.env}/{spec.split}"


def check(episodes: Episodes) -> None:
    """Every dataset can be written so."""


def write(episodes: Iterable[Episode], spec: Spec | Import, folder: Path) -> None:
    """Write `episode-000000.npz` … into a new folder."""
    folder.mkdir(parents=True)
    for number, episode in enumerate(episodes):
        arrays: dict[str, Any] = {
            name: value for name, value in vars(episode).items() if isinstance(value, np.ndarray)
        }
        np.savez_compressed(folder / f"episode-{number:06d}.npz", **arrays)
