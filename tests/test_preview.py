"""`dmask preview`: clips and sheets hold the frames that they say."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image
from small_dataset import SIZE, STEPS

import distractor_data
from distractor_data import media
from distractor_data.viewer.preview import preview

SCALE, CELL = 6, 96  # 16 pixels are shown as 96


def cell(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """One frame of a picture, at the size that it was made with."""
    top, left = (media.GAP + place * (CELL + media.GAP) for place in (row, column))
    return picture[top : top + CELL : SCALE, left : left + CELL : SCALE]


@pytest.mark.parametrize("count", [3, 5])  # two episodes beside each other, or one below the other
def test_a_sheet_has_frames_masks_and_overlays_of_each_config(made_once, tmp_path, count):
    picture = np.asarray(Image.open(preview(made_once, tmp_path / "sheet.png", frames=count)).convert("RGB"))
    for number, config in enumerate(("cheetah-run", "walker-run")):
        episode = distractor_data.load(made_once, config)[0]
        right, down = (3 * number, 0) if count == 3 else (0, 3 * number)
        for column, t in enumerate(np.linspace(0, STEPS - 1, count).round().astype(int)):
            np.testing.assert_array_equal(cell(picture, down, right + column), episode.image[t])
            np.testing.assert_array_equal(cell(picture, down + 1, right + column)[..., 0] > 0, episode.mask[t])


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".MP4"])
def test_a_clip_shows_each_chosen_episode_beside_its_overlay(made_once, tmp_path, suffix):
    out = preview(made_once, tmp_path / f"clip{suffix}", "walker", "train", [0, 3], frames=6)
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    every = 2 if suffix == ".gif" else 1  # a GIF has 20 frames a second at most
    assert len(frames) == 6
    for column, number in enumerate((0, 3)):
        episode = distractor_data.load(made_once, "walker-run")[number]
        for k, frame in enumerate(frames):
            seen = cell(frame, 1, column).astype(int)
            wanted = media.overlay(episode.image[[k * every]], episode.mask[[k * every]])[0]
            assert np.abs(seen - wanted).mean() < 25  # both formats lose colours
            assert seen.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "clip.avi"], ".mp4"),
        (["--out", "clip.mp4", "--frames", "0"], "--frames"),
        (["--out", "clip.mp4", "--env", "hopper"], "hopper-hop"),
        (["--out", "sheet.png", "--episode", "44"], "44"),
    ],
)
def test_what_cannot_be_shown_is_refused(refusal, made_once, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refusal("preview", str(made_once), *options)
    assert not list(tmp_path.iterdir())
