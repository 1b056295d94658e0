"""`dmask mask` over one video, a file or a folder of frames, with random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("sam2")

from distractor_data.errors import DmaskError
from distractor_data.masks.annotate import Settings
from distractor_data.masks.video import mask_video

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
