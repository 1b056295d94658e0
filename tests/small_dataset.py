"""A small dataset of the layout in `schema`, drawn from a seed: a moving square before moving noise."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distractor_data import schema
from distractor_data.spec import Spec

SIZE, STATE, ACTION = 16, 5, 3


def _encode(array: np.ndarray, **options: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def arrays(rng: np.random.Generator, steps: int) -> dict[str, np.ndarray]:
    """Frames (T, H, W, 3), masks (T, H, W), states (T, S) and actions (T, A) of one episode."""
    image = rng.integers(0, 256, (steps, SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((steps, SIZE, SIZE), np.uint8)
    for t, (y, x) in enumerate(rng.integers(0, SIZE - 5, (steps, 2))):
        mask[t, y : y + 5, x : x + 5] = 255
    return {
        "image": image,
        "mask": mask,
        "state": rng.normal(size=(steps, STATE)).astype(np.float32),
        "action": rng.uniform(-1, 1, (steps, ACTION)).astype(np.float32),
        "reward": rng.uniform(0, 1, steps).astype(np.float32),
    }


def write(directory: Path, config: str, split: str, shards: int = 2, seed: int = 0, **spec: Any) -> Path:
    """Write `shards` shards of two episodes of twelve steps; returns the LeRobot root."""
    root = schema.root(directory, config, split)
    steps, per_shard = 12, 2
    table_schema = schema.arrow_schema(STATE, ACTION)
    checksums = {}
    for shard in range(shards):
        rows: list[dict[str, Any]] = []
        records = []
        for episode in range(shard * per_shard, (shard + 1) * per_shard):
            episode_arrays = arrays(np.random.default_rng([seed, episode, split == "test"]), steps)
            rows += _rows(episode, episode_arrays)
            records.append(_record(episode, episode_arrays, shard, steps))
        for name, table in (
            (schema.data_file(shard), pa.Table.from_pylist(rows, table_schema)),
            (schema.episodes_file(shard), pa.Table.from_pylist(records)),
        ):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, file)
            checksums[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    episodes = shards * per_shard
    info = {
        "codebase_version": "v3.0",
        "fps": 40,
        "splits": {split: f"0:{episodes}"},
        "total_episodes": episodes,
        "total_frames": episodes * steps,
        "features": schema.lerobot_features(table_schema, (SIZE, SIZE)),
    }
    record = {
        "spec": Spec(env=config, split=split, episodes=episodes, steps=steps, image_size=SIZE, **spec).to_json(),
        "versions": {"mujoco": "3.3.0", "dm_control": "1.0.28"},
        "mask": {"source": "simulator"},
    }
    for name, content in ((schema.INFO, info), (schema.DMASK, record), (schema.CHECKSUMS, checksums)):
        (root / name).write_text(json.dumps(content, indent=2))
    pd.DataFrame({"task_index": [0]}, index=pd.Index([config], name="task")).to_parquet(root / schema.TASKS)
    return root


def _rows(episode: int, values: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    steps = len(values["image"])
    return [
        {
            schema.IMAGE: _encode(values["image"][t], format="WEBP", lossless=True, method=0),
            schema.MASK: _encode(values["mask"][t], format="PNG"),
            schema.STATE: values["state"][t].tolist(),
            schema.ACTION: values["action"][t].tolist(),
            schema.REWARD: float(values["reward"][t]),
            schema.DONE: t == steps - 1,
            schema.EPISODE: episode,
            schema.FRAME: t,
            schema.INDEX: episode * steps + t,
            schema.TASK: 0,
            schema.TIMESTAMP: t / 40,
        }
        for t in range(steps)
    ]


def _record(episode: int, values: dict[str, np.ndarray], shard: int, steps: int) -> dict[str, Any]:
    return {
        "episode_index": episode,
        "tasks": ["run"],
        "length": steps,
        "data/chunk_index": 0,
        "data/file_index": shard,
        "dataset_from_index": episode * steps,
        "dataset_to_index": (episode + 1) * steps,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": shard,
        "return": float(values["reward"].sum()),
        "coverage": float((values["mask"] > 0).mean()),
    }
