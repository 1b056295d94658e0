"""Run where LeRobot is installed: it writes datasets, and reads them with the masks that `dmask mask` added.

python in_lerobot.py write DIR        # DIR/image and DIR/video
python in_lerobot.py read DIR/image DIR/image-masked
python in_lerobot.py named ORG/NAME-CONFIG NPZ    # what `dmask push --lerobot` published, beside the npz of the same
python in_lerobot.py policy ORG/NAME-CONFIG
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
from torchvision_names import declare

KEPT = declare()
TOP = "observation.images.top"
IMAGE, MASK = "observation.image", "observation.mask"
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


def tensor(picture: Any) -> torch.Tensor:
    """A picture, (C, H, W) from 0 to 1. LeRobot leaves images that are streamed as `datasets` decodes them."""
    if isinstance(picture, torch.Tensor):
        return picture
    return torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1).permute(2, 0, 1) / 255


def named(name: str, npz: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.datasets.streaming_dataset import StreamingLeRobotDataset

    episodes = [np.load(file) for file in sorted(npz.glob("*.npz"))]
    lengths = [len(episode["action"]) for episode in episodes]
    image, mask, action = (np.concatenate([e[key] for e in episodes]) for key in ("image", "mask", "action"))

    def same(item: dict[str, Any], index: int) -> None:
        """Whether a frame of theirs, or the last of several, is our frame."""
        shown, covered, acted = tensor(item[IMAGE]), tensor(item[MASK]), item["action"]
        shown, covered = (x[-1] if x.ndim == 4 else x for x in (shown, covered))
        np.testing.assert_array_equal((shown.permute(1, 2, 0) * 255).round().numpy(), image[index])
        np.testing.assert_array_equal(covered[0].numpy(), mask[index])
        np.testing.assert_array_equal(acted.numpy() if acted.ndim == 1 else acted[0].numpy(), action[index])

    streamed = StreamingLeRobotDataset(name, buffer_size=50)  # before anything lies in its cache
    seen = []
    for item, _ in zip(streamed, range(200), strict=False):
        same(item, int(item["index"]))
        seen.append(int(item["index"]))
    assert len(set(seen)) == 200
    data = LeRobotDataset(name)
    assert len(data) == sum(lengths)
    assert data.num_episodes == len(lengths)
    for index in range(0, len(data), 37):
        same(data[index], index)
    starts = np.cumsum([0, *lengths[:-1]])  # pictures are measured on a hundred frames an episode
    shown = (start + np.linspace(0, n - 1, 100).astype(int) for start, n in zip(starts, lengths, strict=True))
    sample = np.concatenate([*shown])
    for key, values in (("action", action), (MASK, mask[sample]), (IMAGE, image[sample] / 255)):
        axes = (0, 1, 2) if values.ndim > 2 else 0
        np.testing.assert_allclose(data.meta.stats[key]["mean"].ravel(), values.mean(axes).ravel(), atol=1e-4)
    around = {IMAGE: [-1 / data.fps, 0], MASK: [-1 / data.fps, 0], "action": [0, 1 / data.fps]}
    some = LeRobotDataset(name, episodes=[1], delta_timestamps=around)
    assert len(some) == lengths[1]
    for frame in (0, 5, lengths[1] - 1):
        item, index = some[frame], lengths[0] + frame
        same(item, index)
        before = (item[IMAGE][0].permute(1, 2, 0) * 255).round().numpy()
        np.testing.assert_array_equal(before, image[index - (frame > 0)])
        assert item["action_is_pad"].tolist() == [False, frame == lengths[1] - 1]
    print(f"{len(data)} frames: arrays equal by index and streamed; statistics; delta_timestamps with episodes=[…]")


def policy(name: str) -> None:
    """What the card says makes a policy that sees no mask, which LeRobot's own choice has among its cameras."""
    from huggingface_hub import DatasetCard
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.factory import make_policy

    text = DatasetCard.load(name, repo_type="dataset").text
    said = json.loads(re.findall(r"--policy.input_features='(.*)'", text)[0])
    inputs = {key: PolicyFeature(FeatureType[one["type"]], tuple(one["shape"])) for key, one in said.items()}
    meta = LeRobotDatasetMetadata(name)
    made = {}
    for how, given in (("as the card says", inputs), ("LeRobot's own choice", {})):
        config = ACTConfig(input_features=given, pretrained_backbone_weights=None, device="cpu", dim_model=64)
        made[how] = list(make_policy(config, ds_meta=meta).config.image_features)
    assert made["as the card says"] == [IMAGE]
    assert MASK in made["LeRobot's own choice"]
    print("ACT by make_policy: one camera as the card says; without it the mask is taken for another")


ACTS: dict[str, Callable[..., None]] = {"write": write, "read": read, "named": named, "policy": policy}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*(word if word.startswith("org/") else Path(word) for word in sys.argv[2:]))
