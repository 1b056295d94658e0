"""Datasets of others in miniature: LeRobotDataset v3.0 as LeRobot 0.4.4 writes it, and Parquet as `datasets` does."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TOP, WRIST = "observation.images.top", "observation.images.wrist"
SIZES = {TOP: (24, 40), WRIST: (32, 16)}  # height, width
FPS, LENGTHS = 10, (7, 9, 8)


def frames(column: str, episode: int) -> np.ndarray:
    """(T, H, W, 3) uint8: a bright square that moves before a resting picture."""
    height, width = SIZES[column]
    rng = np.random.default_rng([episode, height])
    found = np.repeat(rng.integers(0, 60, (1, height, width, 3), dtype=np.uint8), LENGTHS[episode], 0)
    for t in range(len(found)):
        found[t, 4:14, t : t + 8] = 230
    return found


def blob(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


def _features(video: bool) -> dict[str, Any]:
    names = ["height", "width", "channels"]
    cameras = {c: {"dtype": "video" if video else "image", "shape": [*SIZES[c], 3], "names": names} for c in SIZES}
    vectors = {
        name: {"dtype": "float32", "shape": [size], "names": None}
        for name, size in (("observation.state", 4), ("action", 2))
    }
    numbers = {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in _NUMBERS.items()}
    return {**cameras, **vectors, **numbers}


_NUMBERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def write_lerobot(root: Path, video: bool = False, action: bool = True) -> Path:
    """Episodes of LENGTHS in two files of rows; of video in one file a camera."""
    tables = [_rows(episode, video, action) for episode in range(3)]
    for file, part in enumerate((tables[:2], tables[2:])):
        path = root / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in part:
                writer.write_table(table)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    records = [_record(episode, video) for episode in range(3)]
    pq.write_table(pa.Table.from_pylist(records), root / "meta/episodes/chunk-000/file-000.parquet")
    pd.DataFrame({"task_index": [0]}, index=pd.Index(["push"], name="task")).to_parquet(root / "meta/tasks.parquet")
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if video else None,
        "features": {name: said for name, said in _features(video).items() if action or name != "action"},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/stats.json").write_text(json.dumps({c: {**_STATS, "count": [sum(LENGTHS)]} for c in SIZES}))
    for column in SIZES if video else ():
        images = np.concatenate([frames(column, episode) for episode in range(3)])
        _write_video(root / f"videos/{column}/chunk-000/file-000.mp4", images)
    return root


_STATS = {key: [[[0.5]]] * 3 for key in ("min", "max", "mean", "std", "q01", "q50")}


def _rows(episode: int, video: bool, action: bool) -> pa.Table:
    from datasets import Features, Image, List, Value

    rng, t = np.random.default_rng(episode), np.arange(LENGTHS[episode])
    columns: dict[str, Any] = {
        c: [{"bytes": blob(frame), "path": f"{t}.png"} for t, frame in enumerate(frames(c, episode))]
        for c in (() if video else SIZES)
    }
    columns["observation.state"] = list(rng.normal(size=(len(t), 4)).astype(np.float32))
    columns |= {"action": list(rng.normal(size=(len(t), 2)).astype(np.float32))} if action else {}
    columns |= {
        "timestamp": (t / FPS).astype(np.float32),
        "frame_index": t,
        "episode_index": np.full(len(t), episode),
        "index": sum(LENGTHS[:episode]) + t,
        "task_index": np.zeros(len(t), np.int64),
    }
    kinds = {name: Image() for name in SIZES} | {name: Value(kind) for name, kind in _NUMBERS.items()}
    kinds |= {name: List(Value("float32"), length=size) for name, size in (("observation.state", 4), ("action", 2))}
    layout = Features({name: kinds[name] for name in columns}).arrow_schema
    return pa.table({n: pa.array(list(v), layout.field(n).type) for n, v in columns.items()}, schema=layout)


def _record(episode: int, video: bool) -> dict[str, Any]:
    length, first = LENGTHS[episode], sum(LENGTHS[:episode])
    record: dict[str, Any] = {"episode_index": episode, "tasks": ["push"], "length": length}
    record |= {"data/chunk_index": 0, "data/file_index": int(episode == 2)}
    record |= {"dataset_from_index": first, "dataset_to_index": first + length}
    for column in SIZES if video else ():
        record |= {f"videos/{column}/{key}": 0 for key in ("chunk_index", "file_index")}
        record[f"videos/{column}/from_timestamp"] = first / FPS
        record[f"videos/{column}/to_timestamp"] = (first + length) / FPS
    for column in SIZES:
        record |= {f"stats/{column}/{key}": value for key, value in _STATS.items()}
        record[f"stats/{column}/count"] = [length]
    return record | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _write_video(path: Path, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "10", "g": "2"})
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_parquet(root: Path, cuts: tuple[int, ...] = (10, 18), kind: str = "PNG", names: bool = False) -> Path:
    """A dataset of an image column `image` as `push_to_hub` leaves it: shards that are cut anywhere, a card."""
    from datasets import Features, Image, Value

    rows = [(e, t) for e, length in enumerate(LENGTHS) for t in range(length)]
    key = (lambda e: f"walk {e}") if names else (lambda e: e)
    features = Features(
        {"image": Image(), "episode_index": Value("string" if names else "int64"), "step": Value("int32")}
    )
    data = [
        {"image": {"bytes": blob(frames(TOP, e)[t], kind), "path": None}, "episode_index": key(e), "step": t}
        for e, t in rows
    ]
    (root / "data").mkdir(parents=True)
    edges = [0, *cuts, len(rows)]
    for shard, (start, stop) in enumerate(pairwise(edges)):
        part = pa.Table.from_pylist(data[start:stop], schema=features.arrow_schema)
        pq.write_table(part, root / f"data/train-{shard:05d}-of-{len(edges) - 1:05d}.parquet")
    kind = "string" if names else "int64"
    (root / "README.md").write_text(
        "---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: episode_index\n"
        f"    dtype: {kind}\n  - name: step\n    dtype: int32\n  splits:\n  - name: train\n    num_examples: 24\n"
        "    num_bytes: 1\n  download_size: 1\n  dataset_size: 1\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*\n---\n\n# Walks\n"
    )
    return root
