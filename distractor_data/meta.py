"""The files in `meta/`: what LeRobot reads, checksums, and the record of how a split was made.

All but the record are derived from the shards that are there, so they can be written anew at any time.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from distractor_data import policies, schema, storage, untrusted
from distractor_data.errors import DmaskError
from distractor_data.spec import Spec

_PACKAGES = (
    "dmask",
    "mujoco",
    "dm_control",
    "distracting-control",
    "numpy",
    "opencv-python-headless",
    "av",
    "pyarrow",
    "pillow",
)


def write_record(root: Path, spec: Spec, fps: int, renderer: str = "") -> None:
    """`meta/dmask.json`: the spec, the versions that ran, where the masks come from, what the policy reaches.

    `renderer` names what drew the frames, several of them with "; " between; empty where it isn't known.
    """
    storage.write_json(
        root / schema.DMASK,
        {
            "spec": spec.to_json(),
            "fps": fps,
            "mask": {"source": "simulator"},
            "expert_return": policies.recorded_return(spec.policy, spec.env),
            "versions": versions() | ({"renderer": renderer} if renderer else {}),
        },
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the data's bytes depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def read_record(root: Path) -> dict[str, Any]:
    """`meta/dmask.json`. Raises `DmaskError` where it is missing or damaged."""
    return untrusted.dmask(root)


def read_spec(root: Path) -> Spec:
    """The spec that a split was made by."""
    return Spec.from_json(read_record(root)["spec"])


def refresh(root: Path) -> None:
    """Write info, stats, tasks and checksums anew from the shards that are there.

    A file's checksum is taken once: one whose size and time of change are as recorded is not read again.
    """
    record = read_record(root)
    numbers = storage.shards(root)
    if not numbers:
        return
    episodes = storage.read_episodes(root)
    here = [root / schema.data_file(number) for number in numbers if number not in storage.released(root)]
    spec = Spec.from_json(record["spec"])
    total = len(episodes)
    task = episodes["tasks"][0].as_py()[0]
    storage.write_json(
        root / schema.INFO,
        {
            "codebase_version": "v3.0",
            "robot_type": spec.env.split("-")[0],
            "total_episodes": total,
            "total_frames": int(np.sum(episodes["length"].to_numpy())),
            "total_tasks": 1,
            "chunks_size": schema.CHUNK_SIZE,
            "data_files_size_in_mb": max(1, storage.SHARD_FRAMES * 6 // 1000),
            "video_files_size_in_mb": 0,
            "fps": record["fps"],
            "splits": {spec.split: f"0:{total}"},
            "data_path": schema.DATA_PATH,
            "video_path": None,
            "features": _features(here[0], spec) if here else untrusted.info(root)["features"],
        },
    )
    storage.write_json(root / schema.STATS, _aggregate(episodes))
    with storage.atomic_write(root / schema.TASKS) as temporary:
        pd.DataFrame({"task_index": [0]}, index=pd.Index([task], name="task")).to_parquet(temporary)
    checksums = _read_checksums(root)
    fresh = {}
    for path in (path for number in numbers for path in (schema.data_file(number), schema.episodes_file(number))):
        known = checksums.get(path)
        if known and not (root / path).exists():
            fresh[path] = known  # its frames lie on the Hub
            continue
        size = (root / path).stat().st_size
        if (
            known
            and known["size"] == size
            and (root / schema.CHECKSUMS).stat().st_mtime_ns > ((root / path).stat().st_mtime_ns)
        ):
            fresh[path] = known
        else:
            fresh[path] = {"sha256": storage.sha256(root / path), "size": size}
    storage.write_json(root / schema.CHECKSUMS, fresh)


def _features(frames: Path, spec: Spec) -> dict[str, Any]:
    return schema.lerobot_features(untrusted.parquet(frames).schema_arrow, (spec.image_size, spec.image_size))


def _read_checksums(root: Path) -> dict[str, dict[str, Any]]:
    return untrusted.checksums(root)


def verify(root: Path) -> int:
    """Compare every shard with its checksum and count the files. Raises `DmaskError` naming the first bad one."""
    checksums = _read_checksums(root)
    expected = {
        path for number in storage.shards(root) for path in (schema.data_file(number), schema.episodes_file(number))
    }
    if not checksums or not expected <= set(checksums):
        raise DmaskError(f"{root}: checksums are missing; run the `dmask generate` that made it again")
    for file, fault in damaged(root).items():
        raise DmaskError(f"{file} {fault}; generate or pull it again")
    return len(checksums)


def damaged(root: Path) -> dict[Path, str]:
    """Every file of frames or records that is not as its checksum says, and in what way."""
    found = {}
    elsewhere = {schema.data_file(number) for number in storage.released(root)}
    for path, known in _read_checksums(root).items():
        if path in elsewhere:
            continue
        file = untrusted.inside(root, path)
        if not file.exists():
            found[file] = "is missing"
        elif storage.sha256(file) != known["sha256"]:
            found[file] = "has changed since it was written (SHA-256 differs)"
    return found


def _aggregate(episodes: pa.Table) -> dict[str, dict[str, Any]]:
    """Statistics of the split from those of its episodes, weighted by their counts."""
    whole = [name for name in episodes.column_names if not episodes[name].null_count]  # while shards get new masks
    names = [name.split("/")[1] for name in whole if name.startswith("stats/")]
    stats: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        low, high, mean, std, count = (
            np.array(episodes[f"stats/{name}/{key}"].to_pylist()) for key in ("min", "max", "mean", "std", "count")
        )
        total = count.sum()
        average = (mean * count).sum(0) / total
        variance = ((std**2 + (mean - average) ** 2) * count).sum(0) / total
        values = {"min": low.min(0), "max": high.max(0), "mean": average, "std": np.sqrt(variance)}
        shape = (-1, 1, 1) if name in schema.IMAGE_COLUMNS else (-1,)
        stats[name] = {key: value.reshape(shape).tolist() for key, value in values.items()}
        stats[name]["count"] = [int(total)]
    return stats


def verify_all(directory: str | Path) -> dict[str, int]:
    """`verify` every config and split of a dataset: their names and numbers of files."""
    roots = untrusted.splits(directory, schema.DMASK)
    if not roots:
        raise DmaskError(f"{directory} holds no dataset; give the folder that `dmask generate` wrote")
    return {"/".join(root.parts[-2:]): verify(root) for root in roots}
