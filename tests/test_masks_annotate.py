"""`dmask mask` and `dmask corrupt-masks` with random weights: what is written, not how good it is."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from PIL import Image
from watch import watch

from distractor_data import engines, schema, sources
from distractor_data.dataset import meta, parts, rewrite, storage
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.masks import annotate, quality, store
from distractor_data.masks.annotate import Settings, mask_dataset
from distractor_data.masks.corrupt import Corruption, corrupt_dataset
from distractor_data.masks.follow import masking
from distractor_data.spec import Spec

ENV, FRAME, STEPS = "walker-run", 32, 7


def episode(index: int) -> Episode:
    """A square that moves over noise; in episode 2 it is seen from frame 2 on, in episode 3 never."""
    rng = np.random.default_rng(index)
    mask = np.zeros((STEPS, FRAME, FRAME), bool)
    for t in range(2 * (index == 2), STEPS if index != 3 else 0):
        mask[t, 5 + t : 15 + t, 8:20] = True
    image = rng.integers(0, 256, (STEPS, FRAME, FRAME, 3), dtype=np.uint8)
    image[mask] = 200
    return Episode(
        image=image,
        mask=mask,
        state=rng.normal(size=(STEPS, 4)).astype(np.float32),
        action=rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32),
        reward=np.ones(STEPS, np.float32),
        done=np.arange(STEPS) == STEPS - 1,
        info={
            "episode_index": index,
            "length": STEPS,
            "seed": index,
            "return": float(STEPS),
            "background": "noise",
            "coverage": float(mask.mean()),
        },
    )


def make(directory: Path, shards: int = 2, split: str = "train") -> Path:
    """A dataset of two episodes a shard, written as `dmask generate` writes it."""
    root = schema.root(directory, ENV, split)
    spec = Spec(env=ENV, split=split, episodes=2 * shards, steps=STEPS, image_size=FRAME)
    meta.write_record(root, spec, 40)
    index = 0
    for shard in range(shards):
        episodes = range(2 * shard, 2 * shard + 2)
        for number in episodes:
            parts.write_part(root, episode(number), 40)
        index = parts.assemble(root, shard, episodes, index, ENV)
    meta.refresh(root)
    return root


@pytest.fixture(scope="module")
def settings(checkpoint):
    # In float32 masks are the same whatever shares the batch.
    return Settings(str(checkpoint), image_size=64, batch=2, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def masked(tmp_path_factory, settings):
    """A dataset of two shards that was masked, and its report."""
    directory = tmp_path_factory.mktemp("data") / "dataset"
    make(directory)
    (report,) = mask_dataset(directory, settings)
    return directory, report


def test_both_masks_round_trip(masked):
    from datasets import load_dataset

    directory, report = masked
    rows = load_dataset(str(directory), ENV, split="train")
    assert len(rows) == 4 * STEPS
    truth = np.concatenate([episode(index).mask for index in range(4)])
    np.testing.assert_array_equal(np.stack([np.asarray(mask) for mask in rows[schema.MASK_SIM]]) > 127, truth)
    masks = np.stack([np.asarray(mask) for mask in rows[schema.MASK]])
    assert masks.shape == truth.shape
    assert set(np.unique(masks)) <= {0, 255}
    assert report.coverage == pytest.approx((masks > 0).mean())
    assert report.iou == pytest.approx(quality.iou(masks > 0, truth).mean())
    images = np.stack([np.asarray(image) for image in rows[schema.IMAGE]])
    np.testing.assert_array_equal(images, np.concatenate([episode(index).image for index in range(4)]))


def test_records_and_report(masked):
    directory, report = masked
    root = schema.root(directory, ENV, "train")
    for loaded, row in zip(sources.load(directory), storage.read_episodes(root).to_pylist(), strict=True):
        expected = quality.measure(loaded.mask, loaded.mask_sim).record()
        assert {key: row[key] for key in expected} == expected
        assert row["seed"] == row["episode_index"]
        assert row[f"stats/{schema.MASK}/mean"] == pytest.approx([loaded.mask.mean()])
        assert row[f"stats/{schema.MASK_SIM}/mean"] == pytest.approx([loaded.mask_sim.mean()])
    source = meta.read_record(root)["mask"]
    assert source["source"] == "sam2.1_hiera_tiny"
    assert len(source["weights_sha256"]) == 64
    assert "complete" not in source
    assert str(directory) not in (root / schema.DMASK).read_text()
    assert (report.episodes, report.frames) == (4, 4 * STEPS)
    assert Image.open(root / schema.HISTOGRAM).size[0] > 100
    assert meta.verify(root) == 4
    info = storage.read_json(root / schema.INFO)
    assert info["features"][schema.MASK_SIM]["shape"] == [FRAME, FRAME, 1]


def test_frames_before_the_object_is_seen_have_empty_masks(masked):
    episodes = sources.load(masked[0])
    assert not episodes[2].mask[:2].any()
    assert not episodes[3].mask.any()


def test_masks_are_those_of_the_tracker(masked, settings):
    from distractor_data.masks.prompts import Prompt
    from distractor_data.masks.schedule import Video

    frames, box = episode(0).image, (8.0, 5.0, 19.0, 14.0)
    (track,) = annotate.tracker_for(settings, "cpu").track([Video(0, frames, Prompt(box=box))])
    np.testing.assert_array_equal(sources.load(masked[0])[0].mask, track.masks)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def test_a_run_that_was_killed_goes_on(masked, settings, tmp_path, monkeypatch):
    root = make(tmp_path / "dataset")
    first = (root / schema.data_file(0)).stat().st_mtime_ns
    write = storage.write_episodes

    def killed(root, shard, episodes):
        if shard == 1:
            raise KeyboardInterrupt  # after the frames of shard 1 were written, before its records
        write(root, shard, episodes)

    monkeypatch.setattr(storage, "write_episodes", killed)
    with pytest.raises(KeyboardInterrupt):
        mask_dataset(tmp_path / "dataset", settings)
    monkeypatch.undo()
    assert meta.read_record(root)["mask"]["complete"] is False
    done = (root / schema.data_file(0)).stat().st_mtime_ns
    assert done > first
    mask_dataset(tmp_path / "dataset", settings)
    assert (root / schema.data_file(0)).stat().st_mtime_ns == done
    assert files(root) == files(schema.root(masked[0], ENV, "train"))


def test_other_settings_need_overwrite(masked, settings, tmp_path):
    directory = tmp_path / "dataset"
    shutil.copytree(masked[0], directory)
    before = files(directory)
    motion = replace(settings, prompt="box=4,4,20,20")
    with pytest.raises(DmaskError, match="another prompt; replace with --overwrite"):
        mask_dataset(directory, motion)
    assert files(directory) == before
    mask_dataset(directory, settings)
    assert files(directory) == before  # nothing to do
    mask_dataset(directory, motion, overwrite=True)
    assert meta.read_record(schema.root(directory, ENV, "train"))["mask"]["prompt"] == "box=4,4,20,20"
    np.testing.assert_array_equal(sources.load(directory)[1].mask_sim, episode(1).mask)


def test_report_only_measures_again(masked, tmp_path):
    directory, report = masked
    copy = tmp_path / "dataset"
    shutil.copytree(directory, copy)
    root = schema.root(copy, ENV, "train")
    table = storage.read_episodes(root, 0)
    wrong = table.set_column(table.column_names.index("iou"), "iou", pa.array([0.5, 0.5]))
    storage.write_episodes(root, 0, wrong)
    assert annotate.report(root).iou != report.iou
    assert annotate.report_only(copy) == [report]
    assert rewrite.shard_source(root, 0) == rewrite.shard_source(root, 1)
    meta.verify(root)


@pytest.mark.slow
def test_a_process_for_each_device(masked, settings, tmp_path):
    root = make(tmp_path / "dataset")
    done = []
    two = replace(settings, device="cpu,cpu")
    mask_dataset(tmp_path / "dataset", two, on_frames=lambda frames, total: done.append((frames, total)))
    assert files(root).keys() == files(schema.root(masked[0], ENV, "train")).keys()
    assert done[0] == (0, 4 * STEPS)
    assert meta.read_record(root)["mask"].get("complete") is None


@pytest.mark.slow
def test_actors_on_two_nodes_make_the_same_masks(masked, settings, cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    root, done = make(tmp_path / "dataset"), []
    (report,) = mask_dataset(
        tmp_path / "dataset",
        settings,
        on_frames=lambda frames, total: done.append((frames, total)),
        actors=engines.actors("ray", cluster.address),
    )
    assert report == masked[1]
    assert files(root) == files(schema.root(masked[0], ENV, "train"))
    assert len(done) == 3  # two batches of a shard each: its two episodes fill one
    assert {total for _, total in done} == {4 * STEPS}


def test_a_node_that_would_make_other_masks_is_refused(settings):
    source = annotate.source_of(settings)
    with pytest.raises(DmaskError, match=r"other masks \(its weights_sha256, image_size\)"):
        annotate._tracking(settings, source | {"image_size": 512, "weights_sha256": "0" * 64})


def test_masks_of_a_dataset_that_is_being_made(masked, settings, tmp_path):
    root = make(tmp_path / "dataset", shards=1)
    done: list[int] = []
    with masking(root, annotate.prepare(settings), done.append) as add:
        add()
        assert meta.read_record(root)["mask"]["complete"] is False
        for number in (2, 3):  # the second shard gets done while the first is tracked
            parts.write_part(root, episode(number), 40)
        parts.assemble(root, 1, range(2, 4), 2 * STEPS, ENV)
        add()
    meta.refresh(root)
    assert meta.read_record(root)["mask"] == meta.read_record(schema.root(masked[0], ENV, "train"))["mask"]
    assert files(root) == files(schema.root(masked[0], ENV, "train"))
    with masking(
        root, annotate.prepare(settings), done.append
    ) as add:  # a second run has nothing to track, and counts all
        add()
    assert [n for n in done if n] == [STEPS, STEPS, STEPS - 2] + [
        2 * STEPS
    ] * 2  # one begins at frame 2, one shows nothing


def test_what_fails_while_a_dataset_is_being_made_is_told(settings, tmp_path):
    root = make(tmp_path / "dataset", shards=1)
    outside = replace(settings, prompt="box=0,0,99,9")
    with pytest.raises(DmaskError, match="lies outside"), masking(root, annotate.prepare(outside)) as add:
        add()
    assert sources.load(tmp_path / "dataset")[0].mask_sim is None
    np.testing.assert_array_equal(sources.load(tmp_path / "dataset")[0].mask, episode(0).mask)


def test_reprompt_begins_anew(settings, tmp_path):
    make(tmp_path / "dataset", shards=1)
    mask_dataset(tmp_path / "dataset", replace(settings, batch=4, reprompt=3))
    from distractor_data.masks.prompts import Prompt
    from distractor_data.masks.schedule import Video

    frames, box = episode(0).image[3:6], (8.0, 8.0, 19.0, 17.0)
    (track,) = annotate.tracker_for(settings, "cpu").track([Video(0, frames, Prompt(box=box))])
    np.testing.assert_array_equal(sources.load(tmp_path / "dataset")[0].mask[3:6], track.masks)


def test_corrupt_copy(masked, tmp_path):
    source = tmp_path / "source"
    make(source)
    before = files(source)
    how = Corruption(dilate=1, flip=0.01, seed=3)
    (report,) = corrupt_dataset(source, tmp_path / "copy", how)
    assert files(source) == before
    for ours, truth in zip(sources.load(tmp_path / "copy"), sources.load(source), strict=True):
        np.testing.assert_array_equal(ours.mask_sim, truth.mask)
        np.testing.assert_array_equal(ours.image, truth.image)
        assert ours.info["iou"] == quality.iou(ours.mask, truth.mask).mean()
    assert 0 < report.iou < 1
    record = meta.read_record(schema.root(tmp_path / "copy", ENV, "train"))["mask"]
    assert (record["source"], record["dilate"], record["seed"]) == ("corrupted", 1, 3)
    corrupt_dataset(source, tmp_path / "again", how)
    assert files(tmp_path / "again") == files(tmp_path / "copy")
    with pytest.raises(DmaskError, match="other data"):
        corrupt_dataset(source, tmp_path / "copy", Corruption(erode=1))
    with pytest.raises(DmaskError, match="the dataset itself"):
        corrupt_dataset(source, source, how)


def test_settings_that_make_no_sense(masked, settings):
    with pytest.raises(DmaskError, match="--reprompt"):
        Settings(reprompt=1)
    with pytest.raises(DmaskError, match="leave it out"):
        Settings(reprompt=5, prompt="point=1,1")
    with pytest.raises(DmaskError, match="--precision is 'fp16'"):
        Settings(precision="fp16")
    with pytest.raises(DmaskError, match="no cheetah-run"):
        mask_dataset(masked[0], settings, env="cheetah")
    with pytest.raises(DmaskError, match="--device"):
        annotate._devices("cuda:99" if not os.environ.get("CUDA_VISIBLE_DEVICES") else "nonsense")


class _Slow:
    """A tracker that reads frame after frame of all its videos before it has masks, and tells of each."""

    def __init__(self, reading: threading.Event) -> None:
        self.reading = reading

    def track(self, videos):
        for video in videos:
            for t in range(10**6):
                self.reading.set()
                time.sleep(0.3)
                video.frames[t % len(video.frames)]
            yield None


@pytest.mark.parametrize("error", [KeyboardInterrupt, DmaskError, SystemExit])
def test_the_thread_has_ended_when_the_run_that_it_masks_for_breaks_off(settings, tmp_path, error):
    root = make(tmp_path / "dataset")
    before = files(root)
    reading = threading.Event()
    masker = replace(annotate.prepare(settings), tracker=_Slow(reading))
    threads = threading.active_count()
    with pytest.raises(error), masking(root, masker) as add:  # noqa: PT012
        add()
        assert reading.wait(30)
        raise error("while the thread is at work")
    assert threading.active_count() == threads
    assert files(root) == before
    assert meta.read_record(root)["mask"] == {"source": "simulator"}  # no shard was touched


def test_masks_on_a_part_of_the_shards_are_not_trained_on(settings, tmp_path, monkeypatch):
    data = pytest.importorskip("masklam.data")
    root = make(tmp_path / "dataset")
    write = store.write_masks

    def broken(root, shard, *rest):
        if shard == 1:
            raise OSError(28, "No space left on device")
        write(root, shard, *rest)

    monkeypatch.setattr(store, "write_masks", broken)
    with pytest.raises(OSError, match="No space"):
        mask_dataset(tmp_path / "dataset", settings)
    monkeypatch.setattr(store, "write_masks", write)
    assert meta.read_record(root)["mask"]["complete"] is False
    meta.verify(root)  # every file is as it was written
    line = (
        f"go on with `dmask mask {tmp_path / 'dataset'} --env walker-run --split train --model sam2.1_hiera_tiny.pt"
    )
    for reads in (
        lambda: sources.load(tmp_path / "dataset"),
        lambda: data.load(str(tmp_path / "dataset"), ENV, mask_column=schema.MASK, cache=tmp_path / "cache"),
        lambda: corrupt_dataset(tmp_path / "dataset", tmp_path / "copy", Corruption(dilate=1)),
    ):
        with pytest.raises(DmaskError, match=line):
            reads()
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "copy").exists()
    mask_dataset(tmp_path / "dataset", settings)
    assert len(sources.load(tmp_path / "dataset")) == 4


def test_a_split_whose_shards_are_to_have_a_models_masks_gets_no_others(settings, tmp_path, monkeypatch):
    from damage import SPEC, root_of, small

    from distractor_data.pipeline import generate

    small(monkeypatch)
    done: list[bool] = []

    def stop(frames: int, new: bool) -> None:
        done.append(new)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(SPEC, tmp_path, on_event=watch(stop))
    mask_dataset(tmp_path, settings)  # of the one shard that is there
    with pytest.raises(DmaskError, match="give --masks sam2 to go on"):
        generate(SPEC, tmp_path)
    generate(SPEC, tmp_path, masks=settings)
    root = root_of(tmp_path)
    assert [rewrite.shard_source(root, shard) for shard in range(3)] == [meta.read_record(root)["mask"]] * 3
