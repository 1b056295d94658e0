"""Columns, types and file layout of a dataset: the only place that knows a column's name.

Each `<config>/<split>/` folder is a LeRobotDataset v3.0 root and, at the same time, plain Parquet that
`datasets` reads by itself. Nothing of ours and nothing heavy is imported here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

IMAGE = "observation.image"
MASK = "observation.mask"
MASK_SIM = "observation.mask_sim"
IMAGE_CLEAN = "observation.image_clean"
MASK_CLEAN = "observation.mask_clean"
STATE = "observation.state"
ACTION = "action"
REWARD = "next.reward"
DONE = "next.done"
SUCCESS = "next.success"
EPISODE = "episode_index"
FRAME = "frame_index"
INDEX = "index"
TASK = "task_index"
TIMESTAMP = "timestamp"

IMAGE_COLUMNS = (IMAGE, MASK, MASK_SIM, IMAGE_CLEAN, MASK_CLEAN)
MASK_COLUMNS = (MASK, MASK_SIM, MASK_CLEAN)
CLEAN_COLUMNS = (IMAGE_CLEAN, MASK_CLEAN)
VECTOR_COLUMNS = (STATE, ACTION)
OPTIONAL_COLUMNS = (*IMAGE_COLUMNS, SUCCESS)  # what not every dataset has
_SCALARS = {
    REWARD: "float32",
    DONE: "bool",
    SUCCESS: "bool",
    TIMESTAMP: "float32",
    FRAME: "int64",
    EPISODE: "int64",
    INDEX: "int64",
    TASK: "int64",
}

# Columns of the episode records: LeRobot's, then ours.
LENGTH = "length"
TASK_NAMES = "tasks"
CHUNK, FILE = "data/chunk_index", "data/file_index"
FROM_INDEX, TO_INDEX = "dataset_from_index", "dataset_to_index"
SEED = "seed"
RETURN = "return"
SUCCEEDED = "success"  # at any step, where the task has such a measure
LEVEL = "policy_level"
BACKGROUND, BACKGROUND_FRAME = "background", "background_frame"
BOX = "box"
COVERAGE = "coverage"
IOU, BOUNDARY_F, J_AND_F, LOST_FRAMES = "iou", "boundary_f", "j_and_f", "lost_frames"  # of a model's masks

CARD = "README.md"  # of the whole dataset, at its root; that of a split tells `datasets` which files hold frames
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
DMASK = "meta/dmask.json"
CHECKSUMS = "meta/checksums.json"
SHEET = "meta/contact_sheet.png"
HISTOGRAM = "meta/mask_quality.png"
DESCRIPTIONS = (INFO, STATS, TASKS, DMASK, SHEET, HISTOGRAM, CARD, CHECKSUMS)  # what there is beside the shards
CHUNK_SIZE = 1000  # files a chunk folder holds at most, as LeRobot counts
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


def mask_of(image: str) -> str:
    """The column of the masks for one of images: `observation.images.top` → `observation.masks.top`."""
    return image.replace("image", "mask", 1) if "image" in image else f"{image}_mask"


def root(directory: str | Path, config: str, split: str) -> Path:
    """The folder of one config and split: a LeRobotDataset root."""
    return Path(directory) / config / split


def data_file(shard: int) -> str:
    """Path of a shard's frames, relative to the root."""
    return DATA_PATH.format(chunk_index=shard // CHUNK_SIZE, file_index=shard % CHUNK_SIZE)


def episodes_file(shard: int) -> str:
    """Path of the episode records of a shard, relative to the root; shard k has one file of each kind."""
    return EPISODES_PATH.format(chunk_index=shard // CHUNK_SIZE, file_index=shard % CHUNK_SIZE)


def arrow_schema(
    state_size: int,
    action_size: int,
    held: tuple[str, ...] = (IMAGE, MASK),
    reward: bool = True,
    lists: str = "Sequence",
) -> pa.Schema:
    """Arrow schema of the frames, with the metadata from which `datasets` knows its features.

    `held` names those of `OPTIONAL_COLUMNS` that are there. Data that others made may have no rewards. `lists` is
    what lists are called: every `datasets` knows `Sequence`, from 4 on also `List`.
    """
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field(name, image) for name in IMAGE_COLUMNS if name in held]
    features: dict[str, Any] = {field.name: {"_type": "Image"} for field in fields}
    for name, size in ((STATE, state_size), (ACTION, action_size)):
        fields.append(pa.field(name, pa.list_(pa.float32(), size)))
        value = {"dtype": "float32", "_type": "Value"}
        features[name] = {"feature": value, "length": size, "_type": lists}
    for name, dtype in _SCALARS.items():
        if (name == REWARD and not reward) or (name in OPTIONAL_COLUMNS and name not in held):
            continue
        fields.append(pa.field(name, pa.bool_() if dtype == "bool" else pa.type_for_alias(dtype)))
        features[name] = {"dtype": dtype, "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def like(given: pa.Schema) -> pa.Schema:
    """`arrow_schema` with the columns of another that was read: what is written by it has the same bytes, always."""
    sizes = [given.field(name).type.list_size for name in VECTOR_COLUMNS]
    held = tuple(name for name in OPTIONAL_COLUMNS if name in given.names)
    lists = "List" if b'"_type": "List"' in (given.metadata or {}).get(b"huggingface", b"") else "Sequence"
    return arrow_schema(sizes[0], sizes[1], held, REWARD in given.names, lists)


def lerobot_features(schema: pa.Schema, image_size: tuple[int, int]) -> dict[str, Any]:
    """The `features` of LeRobot's `info.json` for an `arrow_schema`. `image_size` is (height, width)."""
    features: dict[str, Any] = {}
    for field in schema:
        if field.name in IMAGE_COLUMNS:
            channels = 1 if field.name in MASK_COLUMNS else 3
            names = ["height", "width", "channels"]
            features[field.name] = {"dtype": "image", "shape": [*image_size, channels], "names": names}
        elif field.name in VECTOR_COLUMNS:
            features[field.name] = {"dtype": "float32", "shape": [field.type.list_size], "names": None}
        else:
            features[field.name] = {"dtype": _SCALARS[field.name], "shape": [1], "names": None}
    return features
