import os
import shutil
import subprocess
import sys
from pathlib import Path

import moving_square
import numpy as np
import pytest
import torch

from distractor_data import arrays, schema
from distractor_data.dataset import decoded, storage
from distractor_data.errors import DmaskError
from distractor_data.masks.corrupt import Corruption, corrupt
from masklam import data
from masklam.data import Sampler


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(moving_square.write(tmp_path_factory.mktemp("data"), episodes=6, steps=11))


@pytest.fixture
def frames(dataset, tmp_path):
    return data.load(dataset, "walker-run", mask_column=schema.MASK, cache=tmp_path)


def test_frames_are_those_of_the_parquet_files(frames):
    assert frames.image.shape == (66, 32, 32, 3)
    assert frames.episodes == 6
    agent = frames.image[5][frames.masks(torch.tensor([5]))[0, 0] > 0]
    assert (agent == torch.tensor([220, 40, 40], dtype=torch.uint8)).all()
    assert len(agent) == 64


def test_the_second_call_reads_the_cache(dataset, tmp_path, monkeypatch):
    first = data.load(dataset, "walker-run", cache=tmp_path)
    monkeypatch.setattr(arrays, "_decode", None)
    assert torch.equal(data.load(dataset, "walker-run", cache=tmp_path).image, first.image)


@pytest.mark.parametrize("offset", [1, 3, 10])
def test_batches_never_cross_episodes_and_epochs_cover_every_transition(frames, offset):
    sampler = Sampler(frames.transitions(ahead=offset), batch=6, seed=0, offset=offset)
    seen = []
    for step in range(11 - offset):
        t, later = sampler(step)
        assert torch.equal(frames.episode[t], frames.episode[later])
        assert ((later - t >= 1) & (later - t <= offset)).all()
        seen.append(t)
    assert torch.cat(seen).unique().numel() == 6 * (11 - offset)


def test_how_far_ahead_a_step_looks_is_uniform_up_to_the_end_of_an_episode(frames):
    """A transition near the end is left out rather than given less choice."""
    sampler = Sampler(frames.transitions(ahead=4), batch=500, seed=0, offset=4)
    t, later = (torch.cat(found) for found in zip(*(sampler(step) for step in range(20)), strict=True))
    assert (frames.last[t] - t >= 4).all()
    for left in range(4, 11):
        k = (later - t)[frames.last[t] - t == left]
        assert torch.allclose(torch.bincount(k, minlength=5)[1:] / len(k), torch.tensor(0.25), atol=0.06)


def test_draws_with_replacement_repeat_and_are_independent_of_the_epoch(frames):
    sampler = Sampler(frames.transitions(), 60, seed=0, replacement=True)
    t, _ = sampler(0)
    assert 25 < t.unique().numel() < 50  # 60 (1 - 1 / e) is 38
    assert not torch.equal(t, sampler(1)[0])
    parts = [Sampler(frames.transitions(), 60, 0, rank=r, world=2, replacement=True)(0)[0] for r in range(2)]
    assert torch.equal(torch.stack(parts, 1).flatten(), t)


def test_stacked_frames_repeat_the_first_frame_of_their_episode(frames):
    stacked = frames.observations(torch.tensor([11, 13]), stack=3)
    plain = [frames.observations(torch.tensor([i]))[0] for i in (11, 12, 13)]  # oldest first, as in LAOM's code
    assert torch.equal(stacked[0], torch.cat([plain[0]] * 3))
    assert torch.equal(stacked[1], torch.cat(plain))


def test_stacked_masks_are_those_of_the_stacked_frames(frames):
    t = torch.tensor([11, 13])
    single = [frames.masks(torch.tensor(index))[:, 0] for index in ([11, 11], [11, 12], [11, 13])]
    assert torch.equal(frames.masks(t, stack=3), torch.stack(single, dim=1))


def test_processes_share_out_each_batch(frames):
    whole, _ = Sampler(frames.transitions(), 12, seed=3)(4)
    parts = [Sampler(frames.transitions(), 12, 3, rank=r, world=2)(4)[0] for r in range(2)]
    assert torch.equal(torch.cat(parts).sort().values, whole.sort().values)


def test_bad_input_is_named(dataset, tmp_path):
    with pytest.raises(DmaskError, match="did you mean 'walker-run'"):
        data.load(dataset, "walker-rum", cache=tmp_path)
    with pytest.raises(DmaskError, match="no split 'test'"):
        data.load(dataset, "walker-run", "test", cache=tmp_path)
    with pytest.raises(DmaskError, match="no column"):
        data.load(dataset, "walker-run", mask_column=schema.MASK_SIM, cache=tmp_path)
    with pytest.raises(DmaskError, match="no such folder"):
        data.load(str(tmp_path / "nowhere"), "walker-run", cache=tmp_path)


def test_masks_empty_on_every_frame_are_refused(tmp_path):
    moving_square.write(tmp_path / "d", episodes=2, steps=4, empty_masks=True)
    with pytest.raises(DmaskError, match="empty on every frame"):
        data.load(str(tmp_path / "d"), "walker-run", mask_column=schema.MASK, cache=tmp_path / "c")


def test_corruptions_change_the_masks_as_they_say(frames):
    area = frames.masks(torch.arange(66)).mean()
    assert data.corrupt(frames, "dilate:1", 0).masks(torch.arange(66)).mean() > area
    assert data.corrupt(frames, "erode:1", 0).masks(torch.arange(66)).mean() < area
    noisy = data.corrupt(frames, "noise:0.1", 0).masks(torch.arange(66))
    flipped = (noisy != frames.masks(torch.arange(66))).float().mean()
    assert 0.08 < flipped < 0.12
    assert torch.equal(data.corrupt(frames, "noise:0.1", 0).mask, data.corrupt(frames, "noise:0.1", 0).mask)


@pytest.mark.parametrize(("how", "option"), [("dilate:3", {"dilate": 3}), ("erode:2", {"erode": 2})])
def test_a_corruption_is_the_one_of_the_whole_project(frames, how, option):
    """`--mask-corruption dilate:3` and `dmask corrupt-masks --dilate 3` give the same masks: 25 pixels of one."""
    every = torch.arange(len(frames.image))
    rng = np.random.default_rng(0)
    theirs = corrupt(frames.masks(every)[:, 0].numpy() > 0, Corruption(**option), rng)
    assert np.array_equal(data.corrupt(frames, how, 0).masks(every)[:, 0].numpy() > 0, theirs)
    point = torch.zeros_like(frames.mask)
    point[:, 66] = 1  # a single pixel in the middle
    grown = data.corrupt(data.replace(frames, mask=point), "dilate:3", 0).masks(every)
    assert (grown.sum(dim=(1, 2, 3)) == 25).all()


@pytest.mark.parametrize("how", ["melt:3", "dilate", "dilate:1.5", "erode:x", "noise:", "dilate:-1", "noise:2"])
def test_a_corruption_that_is_none_is_refused(frames, how):
    with pytest.raises(DmaskError, match=r"give dilate:PIXELS|of at least 0|probability|nothing to corrupt"):
        data.corrupt(frames, how, 0)


def test_processes_share_out_the_shards_of_a_stream(dataset, frames, tmp_path):
    parts = [data.load(dataset, "walker-run", cache=tmp_path, streaming=True, share=(rank, 2)) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.image for part in parts]), frames.image)
    assert [part.episodes for part in parts] == [4, 2]
    with pytest.raises(DmaskError, match="2 finished shards, too few for 3 processes"):
        data.load(dataset, "walker-run", cache=tmp_path, share=(0, 3))


def test_what_another_process_has_decoded_meanwhile_is_taken(tmp_path, monkeypatch):
    dataset, replace = str(moving_square.write(tmp_path / "d", episodes=2, steps=4)), os.replace

    def later(source, target):
        if Path(target).parent == tmp_path / "cache":
            shutil.copytree(source, target)  # the other one comes first
        replace(source, target)

    monkeypatch.setattr(os, "replace", later)
    frames = data.load(dataset, "walker-run", cache=tmp_path / "cache")
    assert len(frames.image) == 8
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


LIMIT = 256 << 10  # bytes; the dataset's frames take 0.7 MB
DECODE = """
import resource, sys
from distractor_data.errors import DmaskError
from distractor_data.dataset import decoded
from masklam import data
if sys.argv[3] == "file":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
try:
    data.load(sys.argv[1], "walker-run", cache=sys.argv[2])
except DmaskError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.parametrize("full", ["disk", "file"])
def test_without_room_decoding_ends_in_a_line_and_leaves_nothing(tmp_path, full):
    """In a process of its own: where the room is not there when memory is written, the system kills it."""
    source, cache = moving_square.write(tmp_path / "d", episodes=6, steps=40), tmp_path / "cache"
    cache.mkdir()
    if (
        full == "disk"
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "tmpfs", cache], capture_output=True
        ).returncode
    ):
        pytest.skip("only root may mount a small disk")
    try:
        command = [sys.executable, "-c", DECODE, str(source), str(cache), full, str(LIMIT)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1, done
        assert done.stderr.startswith(f"refused: {cache} has no room for 0.7 MB of decoded frames")
        assert not list(cache.rglob("*.npy"))
        assert not list(cache.glob(".*"))
    finally:
        if full == "disk":
            subprocess.run(["umount", cache], check=True)


def test_what_a_killed_process_was_decoding_goes_with_the_next(dataset, tmp_path):
    abandoned = tmp_path / f"{decoded.UNFINISHED}x"
    abandoned.mkdir()
    for name in (".lock", "observation.image.npy"):
        (abandoned / name).touch()
    busy = tmp_path / f"{decoded.UNFINISHED}y"
    busy.mkdir()
    with storage.lock(busy):
        data.load(dataset, "walker-run", cache=tmp_path)
        assert not abandoned.exists()
        assert busy.exists()
