"""`MaskTracker` against the official predictor: real architecture, real frames, seeded random weights."""

from __future__ import annotations

import functools
import gc
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

import sam2_weights  # noqa: E402
from PIL import Image  # noqa: E402

from distractor_data.errors import DmaskError  # noqa: E402
from distractor_data.masks.encoder import encode_image  # noqa: E402
from distractor_data.masks.model import build  # noqa: E402
from distractor_data.masks.prompts import Prompt  # noqa: E402
from distractor_data.masks.schedule import Video  # noqa: E402
from distractor_data.masks.tracker import MaskTracker  # noqa: E402

SIZE = 64  # pixels of the model's input
BACKGROUNDS = Path(__file__).parents[1] / ".." / "shared" / "backgrounds" / "train"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return sam2_weights.save(tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt")


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
    """Lengths on both sides of the windows of 7 memories and 16 pointers, a single frame, two sizes, every prompt."""
    root = tmp_path_factory.mktemp("videos")
    kinds = [
        (24, (96, 64), Prompt(box=(20, 10, 60, 50))),
        (5, (96, 64), Prompt(box=(5, 5, 40, 60))),
        (11, (80, 80), Prompt(box=(30, 20, 70, 70))),
        (19, (96, 64), Prompt(box=(50, 8, 90, 40))),
        (9, (80, 80), Prompt(point=(40, 41))),
        (8, (96, 64), Prompt(mask=masks_of(64, 96))),
        (1, (96, 64), Prompt(box=(10, 10, 80, 50))),
    ]
    made = []
    for index, (count, size, prompt) in enumerate(kinds):
        path = root / str(index)
        made.append((path, Video(index, folder_frames(index, count, size, path), prompt)))
    return made


@pytest.fixture(scope="module")
def expected(videos, checkpoint):
    model = sam2_weights.official(SIZE, checkpoint)
    return {video.key: official_logits(model, path, video.prompt) for path, video in videos}


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return build(str(checkpoint), SIZE)


exact = functools.partial(MaskTracker, bf16=False)  # whatever the processor is made for


def assert_same(tracks, expected):
    """Logits within 1e-5 (rounding), masks the same but where the official logit is as near to zero as that."""
    assert sorted(tracks) == sorted(expected)
    for key, logits in expected.items():
        assert np.abs(tracks[key].logits - logits).max() < 1e-5, f"video {key}"
        differs = tracks[key].masks != (logits > 0)
        assert np.abs(logits[differs]).max(initial=0) < 1e-5, f"video {key}"
        assert differs.sum() <= 1, f"video {key}"


def track(tracker, videos, keep_logits=True):
    return {done.key: done for done in tracker.track((video for _, video in videos), keep_logits)}


@pytest.mark.parametrize("batch", [1, 4])  # with 4 slots three videos take the slots of others
def test_same_as_the_official_predictor(videos, expected, predictor, batch):
    assert_same(track(exact(predictor, batch), videos), expected)
    foreground = [(logits > 0).mean() for logits in expected.values()]
    assert sum(0.01 < share < 0.99 for share in foreground) > 3, f"the weights give trivial masks: {foreground}"


def test_a_thread_for_each_part_of_a_batch_gives_the_same(videos, expected, predictor):
    torch.set_num_threads(2)
    try:
        assert_same(track(exact(predictor, batch=4), videos), expected)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_batches_padded_to_few_shapes_give_the_same(videos, expected, predictor):
    tracker = exact(predictor, batch=3)
    tracker.compiled = True  # pads as for compilation; `encode` stays as it is
    assert_same(track(tracker, videos), expected)


@pytest.mark.slow
def test_compiled_gives_the_same(videos, expected, checkpoint, monkeypatch):
    """All graphs are traced and run; generating code for them, tuned, would take a CPU half an hour."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, **how: compile_(f, backend="aot_eager", **how))
    tracker = exact(build(str(checkpoint), SIZE, compile=True), batch=2, compiled=True)
    assert_same(track(tracker, videos[1:3]), {key: expected[key] for key in (1, 2)})


@pytest.mark.parametrize("size", [64, 96, 224, 256])
def test_encoder_without_filling(predictor, size):
    torch.manual_seed(size)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = predictor.forward_image(images)["backbone_fpn"]
        for ours, official in zip(encode_image(predictor, images), expected, strict=True):
            torch.testing.assert_close(ours, official, atol=2e-5, rtol=1e-4)


def held() -> tuple[int, int]:
    """How many tensors live, and how many bytes they hold."""
    gc.collect()
    every = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    tensors = [tensor for tensor in every if tensor.layout == torch.strided]  # other tests may leave others
    return len(tensors), sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_memory_does_not_grow_with_the_video(predictor, videos):
    frames = videos[0][1].frames
    clip = [frames[t % len(frames)] for t in range(62)]
    tracker, seen = exact(predictor, batch=4), {}  # with 4 slots a step is a chunk
    track_chunk = tracker._track

    def watched(chunk, keep_logits):
        done = track_chunk(chunk, keep_logits)
        if (t := chunk.steps[0][0].t) in (2, 20, 40, 60):
            seen[t] = held()
        return done

    tracker._track = watched
    list(tracker.track([Video(0, clip, Prompt(box=(20, 10, 60, 50)))]))
    assert seen[20] == seen[40] == seen[60]  # the window of 7 memories and 16 pointers is full at 20
    assert seen[2][1] == seen[60][1]  # and had its room from the beginning


def out_of_memory_above(tracker, limit):
    step = tracker._step

    def wrapped(levels, items):
        if len(items) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(levels, items)

    tracker._step = wrapped
    return tracker


def test_out_of_memory_halves_the_batch_and_goes_on(videos, expected, predictor, caplog):
    tracker = out_of_memory_above(exact(predictor, batch=4), 2)
    assert_same(track(tracker, videos), expected)
    assert tracker.batch == 2
    assert "--batch 2" in caplog.text
    with pytest.raises(DmaskError, match="--image-size"):
        track(out_of_memory_above(exact(predictor, batch=4), 0), videos)


def test_bf16_stays_close(videos, expected, predictor):
    (done,) = MaskTracker(predictor, batch=1, bf16=True).track([videos[0][1]], keep_logits=True)
    logits = expected[0]
    assert 1e-5 < np.abs(done.logits - logits).mean() < 0.1 * logits.std()


def test_videos_that_can_not_be_tracked(predictor):
    tracker, prompt = exact(predictor, batch=2), Prompt(box=(1, 1, 9, 9))
    frame = np.zeros((32, 32, 3), np.uint8)
    for frames, message in (
        ([], "no frames"),
        ([frame, frame[:16]], "frame 1 of clip has another size"),
        ([frame[:8]], "lies outside of clip"),
    ):
        with pytest.raises(DmaskError, match=message):
            list(tracker.track([Video(0, frames, prompt, "clip")]))
    with pytest.raises(DmaskError, match="--batch"):
        exact(predictor, batch=0)


def test_checkpoints_that_are_not_sam2(checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    cut = tmp_path / "sam2.1_hiera_tiny.pt"
    cut.write_bytes(whole[: len(whole) // 2])
    weights = torch.load(checkpoint, weights_only=True)["model"]
    files = {"other.pt": {"model": {"w": torch.zeros(1)}}, "bare.pt": weights, "small.pt": {"model": dict(weights)}}
    files["small.pt"]["model"]["no_mem_embed"] = torch.zeros(3)
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    messages = {
        cut.name: "is damaged or no checkpoint",
        "other.pt": "another model's weights",
        "bare.pt": "no 'model' weights",
        "small.pt": "the first is no_mem_embed",
    }
    for name, message in messages.items():
        with pytest.raises(DmaskError, match=message) as raised:
            build(str(tmp_path / name), SIZE)
        assert "\n" not in str(raised.value)


def test_models_that_can_not_be_had(monkeypatch, tmp_path, checkpoint):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DmaskError, match=r"--model /path/to/sam2.1_hiera_tiny.pt"):
        build("facebook/sam2.1-hiera-tiny", SIZE)
    with pytest.raises(DmaskError, match=r"did you mean 'facebook/sam2.1-hiera-tiny'"):
        build("facebook/sam2.1-hiera-tyni", SIZE)
    with pytest.raises(DmaskError, match="multiple of 32"):
        build(str(checkpoint), 100)
