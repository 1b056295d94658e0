"""LeRobotDataset v3.0 of others: what its `meta/` folder says, checked, and written anew with columns of masks."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distractor_data import schema, untrusted
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.untrusted import cells
from distractor_data.untrusted.values import anything, mapping, matching, number, optional, read_json, record, text

VERSION = "v3.0"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
# Paths are made from indices by these two patterns alone: a pattern of a stranger's could be made to say anything.
_INFO = record(
    {
        "codebase_version": text,
        "fps": number,
        "data_path": matching(f"{schema.DATA_PATH}".replace("{", r"\{").replace("}", r"\}"), schema.DATA_PATH),
        "features": mapping(record({"dtype": text, "shape": anything})),
    },
    {"video_path": optional(matching(VIDEO_PATH.replace("{", r"\{").replace("}", r"\}"), VIDEO_PATH))},
)


@dataclass(frozen=True)
class Place:
    """An episode, by its record."""

    episode: int
    length: int
    file: str  # of its rows, relative to the root
    videos: Mapping[
        str, tuple[str, float]
    ]  # column → file, relative to the root, and seconds at which it begins there


def is_lerobot(root: Path) -> bool:
    """Whether a folder is a LeRobotDataset, of whichever version."""
    return (root / schema.INFO).is_file()


def info(root: Path) -> dict[str, Any]:
    """`meta/info.json`. Raises `DmaskError` for another version than v3.0, and where it is damaged."""
    path = untrusted.inside(root, schema.INFO)
    said = read_json(path, record({"codebase_version": text}))
    if said["codebase_version"] != VERSION:
        raise DmaskError(
            f"{root} is a LeRobotDataset {reprlib.repr(said['codebase_version'])}, and {VERSION} is read; convert it "
            "with LeRobot's own convert_dataset_v21_to_v30"
        )
    said = read_json(path, _INFO)
    if not 0 < said["fps"] <= 10**6:
        raise DmaskError(f"{path} says {said['fps']} frames a second; get it again")
    return said


def places(root: Path, videos: list[str]) -> list[Place]:
    """Where each episode's rows and, of the columns `videos`, its frames lie; in order."""
    wanted = {schema.EPISODE, schema.LENGTH, schema.CHUNK, schema.FILE}
    keys = ("chunk_index", "file_index", "from_timestamp")
    wanted |= {f"videos/{column}/{key}" for column in videos for key in keys}
    found: list[Place] = []
    for file in record_files(root):
        table = cells.records(root / file)
        with untrusted.damage(root / file, cells.ADVICE):
            if missing := wanted - set(table.column_names):
                raise ValueError(f"it has no column {min(missing)}")
            for name in wanted:
                kind, real = table[name].type, name.endswith("timestamp")
                fits = pa.types.is_floating(kind) if real else pa.types.is_integer(kind)
                if not fits or table[name].null_count or not pc.all(pc.greater_equal(table[name], 0)).as_py():
                    raise ValueError(f"its column {name} is {kind}, or has values that can't be")
        for row in table.select(sorted(wanted)).to_pylist():
            of = {column: [row[f"videos/{column}/{key}"] for key in keys] for column in videos}
            found.append(
                Place(
                    row[schema.EPISODE],
                    row[schema.LENGTH],
                    schema.DATA_PATH.format(chunk_index=row[schema.CHUNK], file_index=row[schema.FILE]),
                    {
                        column: (VIDEO_PATH.format(video_key=column, chunk_index=chunk, file_index=number), begin)
                        for column, (chunk, number, begin) in of.items()
                    },
                )
            )
    if not found:
        raise DmaskError(f"{root} has no episodes; get it again")
    return sorted(found, key=lambda place: place.episode)


def record_files(root: Path) -> list[str]:
    """The files of episode records, relative to the root, in order."""
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("meta/episodes/chunk-*/file-*.parquet"))
    for name in names:
        untrusted.inside(root, name)
    return names


def write_meta(
    root: Path,
    target: Path,
    columns: Mapping[str, str],
    stats: Mapping[str, Mapping[int, np.ndarray]],
    sizes: Mapping,
) -> None:
    """Write the files of `meta/` that tell of columns, with those of the masks in them.

    `columns` is image column → mask column, `stats` mask column → episode → the share of each of its frames that the
    mask covers, (T,), and `sizes` mask column → (height, width).
    """
    for name in record_files(root):
        table = cells.records(root / name)
        for image, mask in columns.items():
            if f"stats/{image}/mean" not in table.column_names:
                continue
            rows = [_stats(stats[mask][episode]) for episode in table[schema.EPISODE].to_pylist()]
            for key in rows[0]:
                like = f"stats/{image}/{key}"
                if like in table.column_names:
                    column = pa.array([row[key] for row in rows], table[like].type)
                    table = table.append_column(f"stats/{mask}/{key}", column)
        with storage.atomic_write(target / name) as temporary:
            pq.write_table(table, temporary)
    said, path = info(root), untrusted.inside(root, schema.STATS)
    names = ["height", "width", "channels"]
    for mask, (height, width) in sizes.items():
        said["features"][mask] = {"dtype": "image", "shape": [height, width, 1], "names": names}
    storage.write_json(target / schema.INFO, said)
    if path.exists():
        whole = read_json(path, mapping(mapping(anything)))
        for image, mask in columns.items():
            if image in whole:
                mine = _stats(np.concatenate([*stats[mask].values()]))
                whole[mask] = {key: value for key, value in mine.items() if key in whole[image]}
        storage.write_json(target / schema.STATS, whole)


def _stats(covered: np.ndarray) -> dict[str, Any]:
    """Statistics of masks, whose pixels are 0 and 1, in the shapes of LeRobot's for images; (T,) → by name."""
    mean = float(covered.mean())
    values = {
        "min": float(covered.min() == 1),
        "max": float(covered.max() > 0),
        "mean": mean,
        "std": (mean * (1 - mean)) ** 0.5,
        **{f"q{percent:02d}": float(1 - mean < percent / 100) for percent in (1, 10, 50, 90, 99)},
    }
    return {key: [[[value]]] for key, value in values.items()} | {"count": [len(covered)]}
