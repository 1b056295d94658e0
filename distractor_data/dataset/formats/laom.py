"""The HDF5 files of LAOM's authors (dunnolab/laom, `scripts/data_collection`): read and written.

Groups `0` … `N - 1` hold an episode each: `obs` (T, H, W, 3) uint8, `states` (T, S) and `actions` (T, A) float32, row
t what was seen, known and done at step t, and the attribute `traj_return`. There are no rewards and no masks. Actions
are the policy's own, before the environment clips them to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distractor_data import schema
from distractor_data.dataset.read import Episodes
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.spec import Import, Spec
from distractor_data.untrusted import hdf5
from distractor_data.untrusted.records import EDGE
from distractor_data.untrusted.tables import ROWS

NAME = "laom"
ADVICE = "give a whole file in the format of LAOM's authors"
EPISODE_BYTES = 4 << 30  # of an episode's images, which are held in memory
# Control steps a second of the suite's domains (`_CONTROL_TIMESTEP` in dm_control) and of Meta-World, which the files
# don't tell.
FPS = {"cheetah": 100, "hopper": 50, "humanoid": 40, "walker": 40, "metaworld": 80}
_VIDEOS = {"train": "train", "training": "train", "val": "test", "validation": "test", "test": "test"}
_DIFFICULTY = {"clean": "vanilla", "scale-easy-video-hard": "scale_easy_video_hard"}  # ours → theirs
_ARRAYS = {"obs": (np.uint8, 4), "states": (np.float32, 2), "actions": (np.float32, 2)}


@dataclass(frozen=True)
class Contents:
    """What a file says of itself, compared with what lies in it."""

    env: str
    split: str
    difficulty: str
    dynamic: bool
    image_size: int
    lengths: tuple[int, ...]  # frames of each episode


def contents(path: Path) -> Contents:
    """Look through a file without reading its arrays. Raises `DmaskError` where it is damaged or something else."""
    with hdf5.hdf5(path, ADVICE) as file:
        said = {name: hdf5.attribute(file, name, str) for name in ("domain_name", "task_name", "difficulty", "split")}
        size = hdf5.attribute(file, "img_hw", int)
        if said["split"] not in _VIDEOS:
            raise ValueError(f"its attribute split is none of {', '.join(_VIDEOS)}")
        if not len(file) or (strange := {*map(str, range(len(file)))} ^ {*file}):
            raise ValueError(
                f"its groups are not numbered from 0 on ({min(strange) if len(file) else 'none is there'})"
            )
        lengths, shapes, total = [], set(), 0
        for number in range(len(file)):
            arrays = _arrays(file, number)
            hdf5.attribute(file[str(number)], "traj_return", float)
            lengths.append(len(arrays["obs"]))
            shapes.add(tuple(array.shape[1:] for array in arrays.values()))
            total += sum(array.nbytes for array in arrays.values())
        if len(shapes) > 1 or next(iter(shapes))[0] != (size, size, 3):
            raise ValueError(f"its episodes have arrays of several shapes, or other images than {size}×{size} pixels")
        if total > path.stat().st_size:  # several groups are one
            raise ValueError(f"it tells of {total:,} bytes that are not there")
        return Contents(
            env=f"{said['domain_name']}-{said['task_name']}",
            split=_VIDEOS[said["split"]],
            difficulty=said["difficulty"],
            dynamic=hdf5.attribute(file, "dynamic", bool),
            image_size=size,
            lengths=tuple(lengths),
        )


def read(path: Path, number: int) -> Episode:
    """One episode, without masks and rewards. Raises `DmaskError` where it can't be read."""
    with hdf5.hdf5(path, ADVICE) as file:
        arrays = {name: array[()] for name, array in _arrays(file, number).items()}
        for name in ("states", "actions"):
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"/{number}/{name} has a value that is not finite")
        length = len(arrays["obs"])
        return Episode(
            image=arrays["obs"],
            mask=None,
            state=arrays["states"],
            action=arrays["actions"],
            reward=None,
            done=np.arange(length) == length - 1,
            info={
                schema.EPISODE: number,
                schema.LENGTH: length,
                schema.RETURN: hdf5.attribute(file[str(number)], "traj_return", float),
            },
        )


def _arrays(file: hdf5.h5py.File, number: int) -> dict[str, hdf5.h5py.Dataset]:
    """An episode's arrays, of sizes that may be."""
    group = hdf5.group(file, str(number))
    arrays = {name: hdf5.array(group, name, *kind) for name, kind in _ARRAYS.items()}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1 or not 0 < min(lengths) <= ROWS or arrays["obs"].nbytes > EPISODE_BYTES:
        raise ValueError(f"{group.name} has arrays of no, too great, or several lengths")
    if not all(0 < size <= EDGE for array in arrays.values() for size in array.shape[1:]):
        raise ValueError(f"{group.name} has arrays that are empty or too wide")
    return arrays


def place(spec: Spec | Import) -> str:
    """Name of the file below the folder that was asked for."""
    return f"{spec.env}-{spec.split}.hdf5"


def check(episodes: Episodes) -> None:
    """Raise `DmaskError` where episodes differ in length, which LAOM's scripts don't expect."""
    hdf5.library()
    lengths = {record[schema.LENGTH] for record in episodes.records}
    if len(lengths) > 1:
        raise DmaskError(
            f"{episodes.root} has episodes of {min(lengths)} to {max(lengths)} frames, and LAOM's scripts take one "
            "length; export it with --format minari or npz"
        )


def write(episodes: Iterable[Episode], spec: Spec | Import, path: Path) -> None:
    """Write a new file that LAOM's scripts train on, with `masks` (T, H, W), 0 or 1, beside what they read."""
    domain, _, task = spec.env.partition("-")
    with hdf5.library().File(path, "w", track_order=True) as file:
        file.attrs.update(
            domain_name=domain,
            task_name=task,
            difficulty=_DIFFICULTY.get(spec.difficulty, spec.difficulty),
            dynamic=spec.dynamic,
            img_hw=spec.image_size,
            split="train" if spec.split == "train" else "val",
        )
        returns = []
        for number, episode in enumerate(episodes):
            group = file.create_group(str(number))
            assert episode.mask is not None
            arrays = {"obs": episode.image, "states": episode.state, "actions": episode.action}
            for name, values in {**arrays, "masks": episode.mask.astype(np.uint8)}.items():
                group.create_dataset(name, data=values)
            group.attrs["traj_return"] = episode.info[schema.RETURN]
            returns.append(episode.info[schema.RETURN])
        file.attrs["dataset_return"] = float(np.mean(returns))
