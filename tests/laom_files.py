"""HDF5 files as `scripts/data_collection/collect_data.py` of dunnolab/laom writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

SIZE, STATE, ACTION, STEPS = 16, 5, 3, 12
ATTRIBUTES = {
    "domain_name": "walker",
    "task_name": "run",
    "difficulty": "scale_easy_video_hard",
    "dynamic": True,
    "img_hw": SIZE,
    "split": "train",
}


def arrays(number: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Episode `number`: a square that moves before a resting picture; actions as far out as theirs."""
    rng = np.random.default_rng(number)
    obs = np.repeat(rng.integers(0, 60, (1, SIZE, SIZE, 3), dtype=np.uint8), steps, 0)
    for t in range(steps):
        obs[t, 5:10, t % 10 : t % 10 + 5] = 200
    states, actions = rng.normal(size=(steps, STATE)), rng.normal(0, 9, (steps, ACTION))
    return {"obs": obs, "states": states.astype(np.float32), "actions": actions.astype(np.float32)}


def write(path: Path, episodes: int = 5, **changed: Any) -> Path:
    """A file of as many episodes; `changed` are attributes."""
    with h5py.File(path, "x", track_order=True) as file:
        file.attrs.update(ATTRIBUTES | changed)
        for number in range(episodes):
            group = file.create_group(str(number))
            for name, values in arrays(number).items():
                group.create_dataset(name, shape=values.shape, data=values, dtype=values.dtype)
            group.attrs["traj_return"] = float(number)
        file.attrs["dataset_return"] = (episodes - 1) / 2
    return path


def imported(file: Path, directory: Path) -> Path:
    """`dmask import`, and the folder of the split."""
    from distractor_data import imports

    spec, fps = imports.describe(file)
    return imports.import_file(file, spec, fps, directory, workers=1).root
