"""Pictures for people: a contact sheet of frames, masks and overlays; video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from distractor_data.dataset import storage

GAP = 2  # pixels between two cells
CELL = 96  # a cell is at least that many pixels high
TINT = np.array([255, 40, 40], dtype=np.float32)


def overlay(images: np.ndarray, masks: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Frames (N, H, W, 3) uint8 with the masked pixels of (N, H, W) bool tinted red."""
    tinted = (1 - opacity) * images + opacity * TINT
    return np.where(masks[..., None], tinted, images).astype(np.uint8)


def contact_sheet(images: np.ndarray, masks: np.ndarray, path: str | Path, columns: int = 8) -> Path:
    """Write one PNG: rows of frames, masks and overlays, `columns` frames wide, enlarged to be seen.

    `images` is (N, H, W, 3) uint8 and `masks` (N, H, W), bool or 0 and 255. Returns the file's path.
    """
    from PIL import Image

    masks = np.asarray(masks) > 0
    scale = max(1, -(-CELL // images.shape[1]))
    rows = (images, np.repeat(masks[..., None], 3, axis=-1) * np.uint8(255), overlay(images, masks))
    bands = [row[start : start + columns] for start in range(0, len(images), columns) for row in rows]
    cells = [[np.kron(cell, np.ones((scale, scale, 1), np.uint8)) for cell in band] for band in bands]
    height, width = (scale * size for size in images.shape[1:3])
    wide = min(columns, len(images))
    sheet = np.full((len(cells) * (height + GAP) + GAP, wide * (width + GAP) + GAP, 3), 255, np.uint8)
    for y, band in enumerate(cells):
        for x, cell in enumerate(band):
            top, left = GAP + y * (height + GAP), GAP + x * (width + GAP)
            sheet[top : top + height, left : left + width] = cell
    path = Path(path)
    with storage.atomic_write(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
    return path


def write_video(frames: Iterable[np.ndarray], size: tuple[int, int], fps: int, path: Path) -> None:
    """Write an MP4 (H.264) of frames (H, W, 3) uint8, all of one size (H, W). An odd side loses its last pixels."""
    import av

    height, width = (side - side % 2 or 2 for side in size)  # the codec wants even sides
    with storage.atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_gif(frames: Iterable[np.ndarray], fps: float, path: Path) -> None:
    """Write an endless GIF of frames (H, W, 3) uint8, each in the 256 colours that fit it best."""
    from PIL import Image

    pictures = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames]
    with storage.atomic_write(path) as temporary:
        pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0
        )
