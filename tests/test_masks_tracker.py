"""`MaskTracker` against the official predictor: real architecture, real frames, seeded random weights."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from PIL import Image  # noqa: E402
from sam2.build_sam import build_sam2_video_predictor  # noqa: E402

from distractor_data.errors import DmaskError  # noqa: E402
from distractor_data.masks.model import build  # noqa: E402
from distractor_data.masks.prompts import Prompt  # noqa: E402
from distractor_data.masks.tracker import MaskTracker, Video  # noqa: E402

SIZE = 64  # pixels of the model's input
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
BACKGROUNDS = Path(__file__).parents[1] / ".." / "shared" / "backgrounds" / "train"


def official(checkpoint=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_sam2_video_predictor(
            CONFIG, checkpoint, device="cpu", hydra_overrides_extra=[f"++model.image_size={SIZE}"]
        )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Seeded random weights in the official format, larger than at initialisation so that memories matter."""
    torch.manual_seed(0)
    model = official()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or parameter.dim() < 2:
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        elif "maskmem_tpos" in name or "no_" in name:
            parameter.data.normal_(std=0.2)
    path = tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": model.state_dict()}, path)
    return path


def folder_frames(index: int, count: int, size: tuple[int, int], path: Path) -> list[np.ndarray]:
    """Frames of a real video as JPEGs (the official loader's format) in `path`, read back; else synthetic ones."""
    path.mkdir(parents=True)
    videos = sorted(BACKGROUNDS.iterdir()) if BACKGROUNDS.is_dir() else []
    rng = np.random.default_rng(index)
    noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for t in range(count):
        if videos:
            files = sorted(videos[index].glob("*.jpg"))
            image = Image.open(files[t % len(files)]).resize(size)
        else:
            image = Image.fromarray(np.roll(noise, t, axis=1)).resize(size)
        image.save(path / f"{t:05d}.jpg", quality=95)
    return [np.asarray(Image.open(file).convert("RGB")) for file in sorted(path.iterdir())]


def official_logits(model, path: Path, prompt: Prompt) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = model.init_state(str(path))
        if prompt.mask is not None:
            model.add_new_mask(state, 0, 0, prompt.mask)
        elif prompt.box:
            model.add_new_points_or_box(state, 0, 0, box=prompt.box)
        else:
            model.add_new_points_or_box(state, 0, 0, points=[prompt.point], labels=[1])
        return np.stack([logits[0, 0].numpy() for _, _, logits in model.propagate_in_video(state)])


def masks_of(height, width):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 3 : width // 2] = True
    return mask


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos: lengths on both sides of the windows of 7 memories and 16 pointers, two sizes, every prompt."""
    root = tmp_path_factory.mktemp("videos")
    kinds = [
        (24, (96, 64), Prompt(box=(20, 10, 60, 50))),
        (5, (96, 64), Prompt(box=(5, 5, 40, 60))),
        (11, (80, 80), Prompt(box=(30, 20, 70, 70))),
        (19, (96, 64), Prompt(box=(50, 8, 90, 40))),
        (9, (80, 80), Prompt(point=(40, 41))),
        (8, (96, 64), Prompt(mask=masks_of(64, 96))),
    ]
    made = []
    for index, (count, size, prompt) in enumerate(kinds):
        path = root / str(index)
        made.append((path, Video(index, folder_frames(index, count, size, path), prompt)))
    return made


@pytest.fixture(scope="module")
def expected(videos, checkpoint):
    model = official(checkpoint)
    return {video.key: official_logits(model, path, video.prompt) for path, video in videos}


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return build(str(checkpoint), SIZE)


@pytest.mark.parametrize("batch", [1, 4])
def test_same_as_the_official_predictor(videos, expected, predictor, batch):
    tracker = MaskTracker(predictor, batch=batch)  # with 4 slots two videos take the slots of others
    tracks = {track.key: track for track in tracker.track((video for _, video in videos), keep_logits=True)}
    assert sorted(tracks) == sorted(expected)
    for key, logits in expected.items():
        scale = np.abs(logits).max()
        assert np.abs(tracks[key].logits - logits).max() < 1e-4, f"video {key}, logits up to {scale}"
        np.testing.assert_array_equal(tracks[key].masks, logits > 0)
    foreground = [(logits > 0).mean() for logits in expected.values()]
    assert any(0.01 < share < 0.99 for share in foreground), f"the weights give trivial masks: {foreground}"
