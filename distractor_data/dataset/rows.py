"""An episode as rows of a table: images encoded, columns typed, statistics taken."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema
from distractor_data.episode import Episode
from distractor_data.spec import VERSION


def encode_image(image: np.ndarray) -> bytes:
    """Lossless WebP of (H, W, 3) uint8."""
    return _encode(image, format="WEBP", lossless=True, method=0, quality=0)


def encode_mask(mask: np.ndarray) -> bytes:
    """One-channel PNG, 0 or 255, of (H, W) bool."""
    return _encode(mask.astype(np.uint8) * 255, format="PNG", compress_level=6)


def _encode(array: np.ndarray, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


def frames_table(episode: Episode, fps: int, version: int = VERSION) -> pa.Table:
    """An episode's rows, as a spec of that version has them; `assemble` fills in `index`, which counts all frames."""
    images: dict[str, list[bytes]] = {
        schema.IMAGE: [encode_image(image) for image in episode.image],
    }
    if episode.mask is not None:
        images[schema.MASK] = [encode_mask(mask) for mask in episode.mask]
    if episode.mask_sim is not None:
        images[schema.MASK_SIM] = [encode_mask(mask) for mask in episode.mask_sim]
    if episode.image_clean is not None:
        images[schema.IMAGE_CLEAN] = [encode_image(image) for image in episode.image_clean]
    if episode.mask_clean is not None:
        images[schema.MASK_CLEAN] = [encode_mask(mask) for mask in episode.mask_clean]
    (length, state_size), action_size = episode.state.shape, episode.action.shape[1]
    columns: dict[str, Any] = {
        name: [{"bytes": blob, "path": None} for blob in blobs] for name, blobs in images.items()
    }
    for name, vectors in ((schema.STATE, episode.state), (schema.ACTION, episode.action)):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    frame = np.arange(length)
    if episode.reward is not None:
        columns[schema.REWARD] = episode.reward
    columns |= {
        schema.DONE: episode.done,
        schema.TIMESTAMP: (frame / fps).astype(np.float32),
        schema.FRAME: frame,
        schema.EPISODE: np.full(length, episode.info["episode_index"], np.int64),
        schema.INDEX: frame,
        schema.TASK: np.zeros(length, np.int64),
    }
    if episode.success is not None:
        columns[schema.SUCCESS] = episode.success
    lists = "Sequence" if version > 2 else "List"
    layout = schema.arrow_schema(state_size, action_size, tuple(columns), episode.reward is not None, lists)
    return pa.table(columns, schema=layout)


def frame_stats(episode: Episode) -> dict[str, dict[str, Any]]:
    """Minimum, maximum, mean, standard deviation and count of every column, as LeRobot keeps them.

    Images are taken in [0, 1] with one value a channel, from at most 100 frames spread over the episode.
    """
    picked = spread(len(episode))
    values: dict[str, np.ndarray] = {schema.IMAGE: episode.image[picked]}
    if episode.mask is not None:
        values[schema.MASK] = episode.mask[picked][..., None].astype(float)
    values |= {schema.STATE: episode.state, schema.ACTION: episode.action}
    if episode.reward is not None:
        values[schema.REWARD] = episode.reward[:, None]
    if episode.success is not None:
        values[schema.SUCCESS] = episode.success[:, None]
    if episode.mask_sim is not None:
        values[schema.MASK_SIM] = episode.mask_sim[picked][..., None].astype(float)
    if episode.image_clean is not None:
        values[schema.IMAGE_CLEAN] = episode.image_clean[picked]
    if episode.mask_clean is not None:
        values[schema.MASK_CLEAN] = episode.mask_clean[picked][..., None].astype(float)
    images = (schema.IMAGE, schema.IMAGE_CLEAN)
    return {name: (image_stats if name in images else column_stats)(value) for name, value in values.items()}


def spread(length: int) -> np.ndarray:
    """Indices of at most 100 frames spread over an episode, from which its images' statistics are taken."""
    return np.unique(np.linspace(0, length - 1, 100).astype(int))


def column_stats(value: np.ndarray) -> dict[str, Any]:
    """Statistics of one column, (N, …, C), for each channel."""
    flat = value.reshape(-1, value.shape[-1]).astype(np.float64)
    return {
        "min": flat.min(0).tolist(),
        "max": flat.max(0).tolist(),
        "mean": flat.mean(0).tolist(),
        "std": flat.std(0).tolist(),
        "count": [len(value)],
    }


def image_stats(images: np.ndarray) -> dict[str, Any]:
    """`column_stats` of images (N, H, W, C) uint8 in [0, 1], to the last bit: it adds up in the same order."""
    stats: dict[str, Any] = {name: [] for name in ("min", "max", "mean", "std")}
    levels = np.arange(256) / 255.0
    for channel in range(images.shape[-1]):
        values = images[..., channel].ravel()
        mean = np.add.accumulate(levels[values])[-1] / values.size
        deviation = levels - mean
        variance = np.add.accumulate((deviation * deviation)[values])[-1] / values.size
        stats["min"].append(float(levels[values.min()]))
        stats["max"].append(float(levels[values.max()]))
        stats["mean"].append(float(mean))
        stats["std"].append(float(np.sqrt(variance)))
    return stats | {"count": [len(images)]}
