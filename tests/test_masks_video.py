"""`dmask mask` over one video, a file or a folder of frames, with random weights."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("sam2")

from test_clips import write_video

from distractor_data import clips
from distractor_data.errors import DmaskError
from distractor_data.masks import flags, quality
from distractor_data.masks.annotate import Settings, tracker_for
from distractor_data.masks.prompts import Prompt
from distractor_data.masks.schedule import Video
from distractor_data.masks.video import BACK_STRIDE, mask_video

STEPS, FRAME = 7, 32


@pytest.fixture
def settings(checkpoint):
    return Settings(str(checkpoint), image_size=64, batch=2, device="cpu", precision="float32")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_video(kind, settings, tmp_path):
    import av

    frames = np.random.default_rng(0).integers(0, 256, (STEPS, FRAME, FRAME, 3), dtype=np.uint8)
    video = tmp_path / "clip.mp4"
    if kind == "folder":
        video = tmp_path / "clip"
        video.mkdir()
        for t, frame in enumerate(frames):
            Image.fromarray(frame).save(video / f"{t}.png")
    else:
        with av.open(str(video), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = FRAME, FRAME, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    out = tmp_path / "out"
    boxed = replace(settings, prompt="box=8,5,19,14")
    result = mask_video(video, out, boxed)
    masks = np.stack([np.asarray(Image.open(path)) for path in sorted((out / "masks").iterdir())])
    assert masks.shape == (STEPS, FRAME, FRAME)
    assert result.coverage == pytest.approx((masks > 0).mean())
    assert result.lost_frames == (~(masks > 0).any((1, 2))).sum()
    with av.open(str(out / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == STEPS
    with pytest.raises(DmaskError, match="--overwrite"):
        mask_video(video, out, boxed)
    with pytest.raises(DmaskError, match="no simulator"):
        mask_video(video, tmp_path / "other", settings)
    with pytest.raises(DmaskError, match=r"--prompt-frame is 7.* 0 to 6"):
        mask_video(video, tmp_path / "other", boxed, prompt_frame=STEPS)
    with pytest.raises(DmaskError, match="lies outside"):
        mask_video(video, tmp_path / "other", replace(settings, prompt="box=0,0,99,9"))
    assert not (tmp_path / "other").exists()


def test_what_is_no_video(settings, tmp_path):
    boxed = replace(settings, prompt="box=8,5,19,14")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for path, message in (("text.mp4", "no video"), ("empty", "neither a dataset nor frames"), ("gone", "not there")):
        with pytest.raises(DmaskError, match=message):
            mask_video(tmp_path / path, tmp_path / "out", boxed)
    with pytest.raises(DmaskError, match="--out"):
        mask_video(tmp_path / "text.mp4", None, boxed)


def moving(count: int, size: int = FRAME) -> np.ndarray:
    """A bright square that moves before noise: (count, size, size, 3) uint8."""
    frames = np.random.default_rng(0).integers(0, 90, (count, size, size, 3), dtype=np.uint8)
    for t in range(count):
        frames[t, 8:16, 2 + t : 10 + t] = 250
    return frames


def lay(folder: Path, frames: Iterable[np.ndarray]) -> Path:
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t}.png")
    return folder


def masks_in(out: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) > 0 for path in sorted((out / "masks").iterdir())]


def test_a_prompt_in_the_middle_is_tracked_both_ways(settings, tmp_path):
    """What lies behind the prompt is as if the video ended there, what lies before it as if time went back."""
    frames, at = moving(11), 4
    boxed = replace(settings, prompt="box=6,8,13,15")
    parts = {"all": frames, "on": frames[at:], "back": frames[at::-1]}
    masks = {}
    for name, part in parts.items():
        mask_video(
            lay(tmp_path / name, part), tmp_path / f"{name}-out", boxed, prompt_frame=at if name == "all" else 0
        )
        masks[name] = masks_in(tmp_path / f"{name}-out")
    assert len(masks["all"]) == 11
    for t in range(11):
        alone = masks["on"][t - at] if t >= at else masks["back"][at - t]
        assert (masks["all"][t] != alone).mean() < 0.01  # batched with another, sums differ in their last digits
    assert any(mask.any() for mask in masks["all"])


def test_motion_finds_the_prompt_at_any_frame(settings, tmp_path):
    out = tmp_path / "out"
    clip = lay(tmp_path / "clip", moving(20))
    mask_video(clip, out, replace(settings, prompt="motion", reprompt=6), prompt_frame=7)
    assert len(masks_in(out)) == 20


def test_clips_of_several_sizes_get_masks_of_their_own_size(settings, tmp_path):
    frames = [*moving(4), *moving(2, 48), *moving(1, 24)]
    mask_video(lay(tmp_path / "clip", frames), tmp_path / "out", replace(settings, prompt="box=2,8,9,15"))
    assert [mask.shape for mask in masks_in(tmp_path / "out")] == [frame.shape[:2] for frame in frames]


def test_memory_does_not_grow_with_the_video(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_KEPT_BYTES", 0)
    monkeypatch.setattr(clips, "_KEPT_LEAST", 8)
    peaks = []
    for count in (10, 26):
        path = write_video(tmp_path / f"{count}.mp4", count, size=(512, 512))
        tracemalloc.start()
        mask_video(
            path, tmp_path / f"out-{count}", replace(settings, prompt="box=0,0,120,120"), prompt_frame=count // 2
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 16 * 512 * 512 / 4  # of 16 masks more, and frames of thrice their size


def test_the_way_back_is_compared(settings, tmp_path):
    """Where both ways disagree is what the tracker itself gives, started from the last mask."""
    frames = moving(13)
    result = mask_video(lay(tmp_path / "clip", frames), tmp_path / "out", replace(settings, prompt="box=2,8,9,15"))
    masks = masks_in(tmp_path / "out")
    last = max(t for t in range(13) if masks[t].any())
    order = range(last, 0, -BACK_STRIDE)
    back = Video(0, [frames[t] for t in order], Prompt(mask=masks[last]))
    (track,) = tracker_for(settings, "cpu").track([back])
    agreement = quality.iou(track.masks[1:], np.stack([masks[t] for t in order[1:]]))
    low = sorted(t for t, value in zip(order[1:], agreement, strict=True) if value < flags.AGREES)
    assert result.flags["disagrees"] == [(t, t) for t in low]
    assert json.loads((tmp_path / "out" / "flags.json").read_text())["disagrees"] == [[t, t] for t in low]


def test_what_looks_wrong_is_flagged():
    masks = np.zeros((10, 40, 40), bool)
    masks[:, 10:20, 10:20] = True
    masks[2] = False  # lost
    masks[4, 5:30, 5:30] = True  # six times as large
    masks[6], masks[6, 25:35, 25:35] = False, True  # as large, elsewhere
    masks[8] = True
    masks[9], masks[9, 0, 10:20], masks[9, 1:10, 10:20] = False, True, True
    seen = flags.Seen(10)
    for t, mask in enumerate(masks):
        seen.add(t, mask, masks[t - 1] if t else None)
    seen.agreement[3] = 0.2
    assert seen.flags() == {
        "lost": [(2, 2)],
        "jump": [(4, 9)],
        "fills_frame": [(8, 8)],
        "border": [(8, 9)],
        "disagrees": [(3, 3)],
    }


def test_a_folder_of_videos_says_which_to_give(settings, tmp_path):
    lay(tmp_path / "clip", moving(1))
    with pytest.raises(DmaskError, match=r"give one video, such as .*clip"):
        mask_video(tmp_path, tmp_path / "out", replace(settings, prompt="box=2,8,9,15"))
