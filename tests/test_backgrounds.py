"""Backgrounds: splits, video files, unreadable frames, and clutter that looks like clutter."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image

from distractor_data.envs.backgrounds import VideoPath, open_backgrounds
from distractor_data.envs.videos import UPSTREAM_SIZE, _resize
from distractor_data.errors import DmaskError


def write_frames(folder, count=6, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / f"{index:05d}.png")


def write_video(path, count=12, width=64, height=48):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            frame = np.full((height, width, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_subfolders_are_the_splits(tmp_path):
    write_frames(tmp_path / "train" / "a")
    write_frames(tmp_path / "val" / "b")
    backgrounds = open_backgrounds(str(tmp_path))
    assert backgrounds.videos("train") == ["a"]
    assert backgrounds.videos("test") == ["b"]


def test_davis_names_are_split_as_upstream_does(tmp_path):
    for name in ("bear", "boat", "camel", "a-video-of-mine"):
        write_frames(tmp_path / name, 1)
    backgrounds = open_backgrounds(str(tmp_path))
    assert backgrounds.videos("train") == ["bear", "boat", "a-video-of-mine"]
    assert backgrounds.videos("test") == ["camel"]


def test_a_plain_folder_is_divided_and_no_video_is_in_both(tmp_path):
    for index in range(10):
        write_frames(tmp_path / f"video{index}", 1)
    backgrounds = open_backgrounds(str(tmp_path))
    train, test = set(backgrounds.videos("train")), set(backgrounds.videos("test"))
    assert len(train) == 8
    assert len(test) == 2
    assert not train & test


def test_video_files_are_decoded_from_any_frame_to_any_other(tmp_path):
    write_video(tmp_path / "clip.mp4")
    backgrounds = open_backgrounds(str(tmp_path))
    assert backgrounds.length("train", "clip.mp4") == 12
    every = backgrounds.frames("train", "clip.mp4", 0, 11, 16)
    np.testing.assert_array_equal(backgrounds.frames("train", "clip.mp4", 4, 7, 16), every[4:8])
    assert np.all(np.diff(every.reshape(12, -1).mean(1)) > 10)  # they are the frames that were written, in order


def test_path_goes_back_and_forth_and_its_span_is_what_it_visits():
    for start in range(5):
        for direction in (-1, 1):
            path = VideoPath(5, start, direction)
            first, last = path.span(7)
            visited = [start, *(path.advance() for _ in range(7))]
            assert (first, last) == (min(visited), max(visited))
            assert max(abs(np.diff(visited))) <= 1


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no videos"),
        (lambda folder: (folder / "empty").mkdir(parents=True), "no videos"),
    ],
)
def test_missing_and_empty_folders_are_named(tmp_path, prepare, words):
    prepare(tmp_path / "backgrounds")
    with pytest.raises(DmaskError, match=words):
        open_backgrounds(str(tmp_path / "backgrounds"))


def test_unreadable_frames_and_videos_are_named(tmp_path):
    write_frames(tmp_path / "video", 3)
    (tmp_path / "video" / "00001.png").write_bytes(b"not a picture")
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    backgrounds = open_backgrounds(str(tmp_path))
    with pytest.raises(DmaskError, match=r"00001\.png"):
        backgrounds.frames("train", "video", 0, 2, 16)
    with pytest.raises(DmaskError, match=r"clip\.mp4"):
        backgrounds.length("train", "clip.mp4")


def test_digest_follows_content_not_place(tmp_path):
    write_frames(tmp_path / "one" / "a")
    write_frames(tmp_path / "two" / "a")
    one, two = (open_backgrounds(str(tmp_path / name)).digest() for name in ("one", "two"))
    assert one == two
    write_frames(tmp_path / "two" / "b")
    open_backgrounds(str(tmp_path / "two"))
    assert open_backgrounds(str(tmp_path / "two")).digest() != one


def test_synthetic_videos_are_clutter_that_moves():
    backgrounds = open_backgrounds("synthetic")
    assert len(backgrounds.videos("train")) == 60
    assert len(backgrounds.videos("test")) == 30
    frames = backgrounds.frames("train", "synthetic-train-003", 0, 9, 64).astype(float)
    other = backgrounds.frames("train", "synthetic-train-004", 0, 0, 64).astype(float)
    still = np.abs(np.diff(frames, axis=0)).mean()
    across = np.abs(np.diff(frames, axis=2)).mean()
    assert 1 < still < 40  # it moves, and the next frame is like the last
    assert across < 25  # neighbouring pixels are alike: no noise
    assert frames.std() > 10  # it is not one flat colour
    assert np.abs(frames[0] - other[0]).mean() > 10
    np.testing.assert_array_equal(frames[4:6], backgrounds.frames("train", "synthetic-train-003", 4, 5, 64))


def test_smaller_textures_are_the_graphics_cards_mipmaps():
    """Mesa's rule, number by number: pairs along x, then along y, each mean with its half rounded up."""
    frame = np.random.default_rng(0).integers(0, 256, (240, 427, 3), dtype=np.uint8)
    level = _resize(frame, UPSTREAM_SIZE, True).astype(int)
    np.testing.assert_array_equal(level, _resize(frame, UPSTREAM_SIZE, False))
    for size in (400, 200, 100):
        level = (level[:, ::2] + level[:, 1::2] + 1) // 2
        level = (level[::2] + level[1::2] + 1) // 2
        np.testing.assert_array_equal(_resize(frame, size, True), level)
