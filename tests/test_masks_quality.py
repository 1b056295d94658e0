"""Quality measures, prompts and corruption of masks: plain arrays, no model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from distractor_data.errors import DmaskError
from distractor_data.masks import prompts, quality
from distractor_data.masks.corrupt import Corruption, corrupt
from distractor_data.masks.prompts import Prompt


def square(top: int, left: int, edge: int = 20, size: int = 64) -> np.ndarray:
    mask = np.zeros((1, size, size), bool)
    mask[0, top : top + edge, left : left + edge] = True
    return mask


def test_a_mask_matches_itself_and_nothing_else():
    mask, far = square(4, 4), square(40, 40)
    assert quality.measure(mask, mask) == quality.Quality(1.0, 1.0, 1.0, 400 / 64**2, 0)
    assert quality.measure(mask, far).j_and_f == 0


def test_iou_of_shifted_squares():
    # 20×20 squares 10 columns apart: 200 pixels in common of 600.
    assert quality.iou(square(4, 4), square(4, 14)) == pytest.approx([200 / 600])


def test_boundary_tolerance_is_that_of_davis():
    # At 64×64 it is ceil(0.008 · 90.5) = 1 pixel: a shift by one is no error of the boundary, by three it is.
    mask = square(4, 4)
    assert quality.boundary_f(mask, square(5, 4)) == pytest.approx([1.0])
    assert quality.boundary_f(mask, square(7, 7))[0] < 0.2


def test_boundary_f_against_a_plain_loop():
    rng = np.random.default_rng(0)
    blobs = [np.kron(rng.random((8, 8)) < 0.5, np.ones((8, 8), bool)) for _ in range(2)]
    found, wanted = ({tuple(p) for p in np.argwhere(quality.boundary(blob[None])[0])} for blob in blobs)

    def matched(ones, others):
        return sum(any((y - v) ** 2 + (x - w) ** 2 <= 1 for v, w in others) for y, x in ones) / len(ones)

    precision, recall = matched(found, wanted), matched(wanted, found)
    expected = 2 * precision * recall / (precision + recall)
    assert quality.boundary_f(blobs[0][None], blobs[1][None]) == pytest.approx([expected])


def test_empty_masks():
    empty, mask = np.zeros((1, 64, 64), bool), square(4, 4)
    assert quality.measure(empty, empty).j_and_f == 1
    assert quality.measure(empty, empty).lost_frames == 0  # nothing was there to be lost
    assert quality.measure(empty, mask) == quality.Quality(0.0, 0.0, 0.0, 0.0, 1)
    assert quality.measure(mask, empty).j_and_f == 0
    assert quality.measure(empty) == quality.Quality(None, None, None, 0.0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("box=1,2,3", "not understood"), ("circle=1", "give simulator"), ("mask=/no/such.png", "not an image")],
)
def test_prompts_that_make_no_sense(text, message):
    with pytest.raises(DmaskError, match=message):
        prompts.parse(text)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(box=(0, 0, 65, 10)), "lies outside"),
        (Prompt(box=(10, 10, 5, 20)), "is empty"),
        (Prompt(point=(-1, 3)), "lies outside"),
        (Prompt(mask=np.zeros((48, 64), bool)), "is empty on frame 0"),
        (Prompt(mask=np.ones((10, 10), bool)), "one of its size"),
    ],
)
def test_prompts_that_do_not_fit_the_video(prompt, message):
    with pytest.raises(DmaskError, match=message) as raised:
        prompt.check(48, 64, "episode 3")
    assert "episode 3" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parse(tmp_path):
    assert prompts.parse("motion") == "motion"
    assert prompts.parse("box=1,2,3.5,4") == Prompt(box=(1, 2, 3.5, 4))
    assert prompts.parse("point=5,6") == Prompt(point=(5, 6))
    Image.fromarray(square(4, 4)[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(prompts.parse(f"mask={tmp_path / 'mask.png'}").mask, square(4, 4)[0])


@pytest.mark.parametrize("pan", [0, 2])
def test_motion_finds_what_moves_before_a_camera_that_may_pan(pan):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(60, 200, (24, 40, 3), dtype=np.uint8), np.ones((6, 6, 1), np.uint8))
    thing = np.kron(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8), np.ones((2, 2, 1), np.uint8))
    frames = []
    for t in range(12):
        frame = scene[:96, t * pan : t * pan + 128].copy()
        frame[40:60, 30 + 3 * (t % 4) : 50 + 3 * (t % 4)] = thing
        frames.append(frame)
    x0, y0, x1, y1 = prompts.motion_box(frames, "a video")
    assert 30 <= (x0 + x1) / 2 <= 60
    assert 40 <= (y0 + y1) / 2 <= 60
    assert x1 - x0 < 45
    assert y1 - y0 < 35


def test_motion_of_nothing():
    with pytest.raises(DmaskError, match="nothing moves"):
        prompts.motion_box([np.zeros((32, 32, 3), np.uint8)] * 5, "a video")


def test_segments_begin_where_the_object_is_seen():
    images = np.zeros((10, 64, 64, 3), np.uint8)
    sim = np.concatenate([square(4, 4)] * 10)
    sim[[0, 6]] = False
    starts = prompts.segments(images, "simulator", 3, sim, "episode 0")
    assert [(start, stop) for start, stop, _ in starts] == [
        (1, 3),
        (3, 9),
        (9, 10),  # the prompt on frame 6 is left out
    ]
    assert starts[0][2].box == (4, 4, 23, 23)
    assert prompts.segments(images, "simulator", 3, sim & False, "episode 0") == []
    with pytest.raises(DmaskError, match="no mask of a simulator"):
        prompts.segments(images, "simulator", 0, None, "episode 0")


def test_corruption():
    masks = np.concatenate([square(20, 20)] * 200)

    def iou(**how):
        return quality.iou(corrupt(masks, Corruption(**how), np.random.default_rng(0)), masks)

    assert corrupt(masks, Corruption(dilate=2), np.random.default_rng(0))[0].sum() > 400
    assert iou(dilate=1) == pytest.approx(400 / 480)  # a row on each of the four sides
    assert iou(erode=1) == pytest.approx(18**2 / 400)
    assert iou(drop=0.25).mean() == pytest.approx(0.75, abs=0.1)
    flipped = corrupt(masks, Corruption(flip=0.1), np.random.default_rng(0))
    assert (flipped != masks).mean() == pytest.approx(0.1, abs=0.01)
    moved = corrupt(masks, Corruption(shift=3), np.random.default_rng(0))
    assert (moved.sum((1, 2)) == 400).all()
    columns = moved.any(1).argmax(1)
    assert set(columns) == set(range(17, 24))
    with pytest.raises(DmaskError, match="nothing to corrupt"):
        Corruption()
    with pytest.raises(DmaskError, match="--flip"):
        Corruption(flip=1.5)
