"""A small dataset written by the real storage: a square before noise, drawn from a seed; no simulator needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema
from distractor_data.dataset import meta, parts, storage
from distractor_data.episode import Episode, box
from distractor_data.spec import Spec

SIZE, STATE, ACTION, STEPS = 16, 5, 3, 12
PER_SHARD = 2  # episodes


def episode(number: int, split: str = "train", seed: int = 0) -> Episode:
    """Episode `number`: STEPS frames; the same arguments give the same arrays."""
    rng = np.random.default_rng([seed, number, split == "test"])
    mask = np.zeros((STEPS, SIZE, SIZE), bool)
    for t, (y, x) in enumerate(rng.integers(0, SIZE - 5, (STEPS, 2))):
        mask[t, y : y + 5, x : x + 5] = True
    reward = rng.uniform(0, 1, STEPS).astype(np.float32)
    return Episode(
        image=rng.integers(0, 256, (STEPS, SIZE, SIZE, 3), dtype=np.uint8),
        mask=mask,
        state=rng.normal(size=(STEPS, STATE)).astype(np.float32),
        action=rng.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
        reward=reward,
        done=np.arange(STEPS) == STEPS - 1,
        info={
            "episode_index": number,
            "length": STEPS,
            "seed": seed,
            "return": float(reward.sum()),
            "background": "synthetic",
            "box": box(mask[0]),
            "coverage": float(mask.mean()),
        },
    )


def write(directory: Path, config: str, split: str = "train", shards: int = 2, seed: int = 0, **spec: Any) -> Path:
    """Write `shards` shards of two episodes each; returns the LeRobot root."""
    root = schema.root(directory, config, split)
    made = {"episodes": PER_SHARD * shards, "steps": STEPS, "image_size": SIZE, "policy": "random"}
    whole = Spec(env=config, split=split, seed=seed, **{**made, **spec})
    meta.write_record(root, whole, fps=40)
    index = 0
    for shard in range(shards):
        episodes = range(shard * PER_SHARD, (shard + 1) * PER_SHARD)
        for number in episodes:
            parts.write_part(root, episode(number, split, seed), fps=40)
        index = parts.assemble(root, shard, episodes, index, config)
    storage.remove(root / storage.PARTS)
    meta.refresh(root)
    return root
