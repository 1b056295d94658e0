"""Run where LeRobot is installed: it writes datasets, and reads them with the masks that `dmask mask` added.

python in_lerobot.py write DIR        # DIR/image and DIR/video
python in_lerobot.py read DIR/image DIR/image-masked
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch
from torchvision_names import declare

KEPT = declare()
TOP = "observation.images.top"
FPS, LENGTHS, SIZE = 10, (12, 15, 9), (48, 64)


def write(folder: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    for kind in ("image", "video"):
        camera = {"dtype": kind, "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
        features = {TOP: camera, "action": {"dtype": "float32", "shape": (2,), "names": None}}
        made = LeRobotDataset.create(
            "ours/walk", FPS, features, root=folder / kind, use_videos=kind == "video", image_writer_threads=0
        )
        for episode, length in enumerate(LENGTHS):
            rng = np.random.default_rng(episode)
            still = rng.integers(0, 80, (*SIZE, 3), dtype=np.uint8)
            for t in range(length):
                image = still.copy()
                image[10:30, 3 * t : 3 * t + 16] = 230
                made.add_frame({TOP: image, "action": rng.normal(size=2).astype(np.float32), "task": "walk"})
            made.save_episode()
        made.finalize()


def by_pyav(path: Path, timestamps: list[float], *rest: object) -> torch.Tensor:
    """What `decode_video_frames` gives: torchvision has no reader any more, and torchcodec wants FFmpeg installed."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    times = np.array([time for time, _ in frames])
    picked = [frames[int(np.abs(times - wanted).argmin())][1] for wanted in timestamps]
    return torch.from_numpy(np.stack(picked)).permute(0, 3, 1, 2) / 255


def read(before: Path, after: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    mask = "observation.masks.top"
    with patch("lerobot.datasets.lerobot_dataset.decode_video_frames", by_pyav):
        old, new = (LeRobotDataset("ours/walk", root=root) for root in (before, after))
        assert len(old) == len(new) == sum(LENGTHS)
        for index in range(len(old)):
            theirs, ours = old[index], new[index]
            assert all(np.array_equal(ours[key], value) for key, value in theirs.items())
            assert ours[mask].shape == (1, *SIZE)
            assert set(ours[mask].unique().tolist()) <= {0.0, 1.0}
        shown = np.mean([new[index][mask].mean() for index in range(len(new))])
        assert abs(new.meta.stats[mask]["mean"].item() - shown) < 1e-6
        around = {key: [-1 / FPS, 0, 1 / FPS] for key in (mask, TOP)}
        some = LeRobotDataset("ours/walk", root=after, episodes=[1, 2], delta_timestamps=around)
        assert len(some) == sum(LENGTHS[1:])
        assert some[3][mask].shape == (3, 1, *SIZE)
        batch = next(iter(torch.utils.data.DataLoader(new, 4)))
        assert batch[mask].shape == (4, 1, *SIZE)
    print(f"{len(new)} frames: every other column equal; statistics, delta_timestamps, episodes=[…], DataLoader")


if __name__ == "__main__":
    write(Path(sys.argv[2])) if sys.argv[1] == "write" else read(Path(sys.argv[2]), Path(sys.argv[3]))
