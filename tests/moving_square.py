"""A tiny dataset of the real layout: a square that an action pushes, in front of drifting stripes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distractor_data import schema


def write(
    directory: Path,
    env: str = "walker-run",
    split: str = "train",
    episodes: int = 6,
    steps: int = 40,
    size: int = 32,
    seed: int = 0,
    empty_masks: bool = False,
    images: tuple[str, ...] = (schema.IMAGE, schema.MASK),
) -> Path:
    """One config and split, in shards of four episodes; returns `directory`."""
    root = schema.root(directory, env, split)
    rng = np.random.default_rng([seed, schema_split(split)])
    for shard in range(-(-episodes // 4)):
        numbers = range(4 * shard, min(4 * shard + 4, episodes))
        rows = [row for number in numbers for row in _episode(rng, number, steps, size, empty_masks, images)]
        path = root / schema.data_file(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows, schema.arrow_schema(2, 2, images))
        pq.write_table(table, path, row_group_size=50)
        records = [
            {
                "episode_index": n,
                "length": steps,
                "return": 1.0,
                "data/chunk_index": 0,
                "data/file_index": shard,
                "dataset_from_index": n * steps,
                "dataset_to_index": (n + 1) * steps,
            }
            for n in numbers
        ]
        episodes_path = root / schema.episodes_file(shard)
        episodes_path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(records), episodes_path)
    info = root / schema.INFO
    info.parent.mkdir(parents=True, exist_ok=True)
    features = schema.lerobot_features(schema.arrow_schema(2, 2, images), (size, size))
    described = {"fps": 40, "total_episodes": episodes, "total_frames": episodes * steps, "features": features}
    info.write_text(json.dumps({"codebase_version": "v3.0", **described}))
    return directory


def schema_split(split: str) -> int:
    return ("train", "test").index(split)


def _episode(rng, number, steps, size, empty_masks, images):
    place, drift, phase = rng.uniform(8, size - 8, 2), rng.uniform(-2, 2), rng.uniform(0, 9)
    for step in range(steps):
        aim = 0.4 + 0.5 * (size / 2 - place) / (size / 2)  # not only noise, so that a policy can be learnt
        action = np.clip(aim + rng.uniform(-0.6, 0.6, 2), -1, 1).astype(np.float32)
        image = np.empty((size, size, 3), np.uint8)
        stripes = 128 + 90 * np.sin((np.arange(size) + drift * step + phase) / 2.0)
        image[:] = stripes[None, :, None].astype(np.uint8)
        mask = np.zeros((size, size), np.uint8)
        y, x = place.astype(int)
        mask[y - 4 : y + 4, x - 4 : x + 4] = 255
        clean = np.full_like(image, 128)
        for picture in (image, clean):
            picture[mask > 0] = (220, 40, 40)
        pictures = {
            schema.IMAGE: image,
            schema.IMAGE_CLEAN: clean,
            schema.MASK: 0 * mask if empty_masks else mask,
        }
        pictures[schema.MASK_SIM] = pictures[schema.MASK_CLEAN] = mask
        yield {
            **{name: {"bytes": _encoded(pictures[name]), "path": None} for name in images},
            schema.STATE: place.astype(np.float32),
            schema.ACTION: action,
            schema.REWARD: float(action[0]),
            schema.DONE: step == steps - 1,
            schema.TIMESTAMP: step * 0.025,
            schema.FRAME: step,
            schema.EPISODE: number,
            schema.INDEX: number * steps + step,
            schema.TASK: 0,
        }
        place = np.clip(place + 4 * action, 4, size - 4)


def _encoded(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    if picture.ndim == 2:
        Image.fromarray(picture).save(buffer, "PNG")
    else:
        Image.fromarray(picture).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()
