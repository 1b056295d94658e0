"""Masks for anybody's dataset: a copy with columns of masks, again valid as what it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lerobot_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import snapshot
from lerobot_files import LENGTHS, TOP, WRIST, write_lerobot, write_parquet

from distractor_data import schema
from distractor_data.dataset import foreign, storage
from distractor_data.errors import DmaskError
from distractor_data.masks import columns
from distractor_data.masks.annotate import Settings, tracker_for
from distractor_data.masks.columns import mask_columns
from distractor_data.masks.prompts import Prompt
from distractor_data.masks.schedule import Video

BOX = (1.0, 4.0, 9.0, 13.0)


@pytest.fixture
def settings(checkpoint: Path) -> Settings:
    return Settings(str(checkpoint), 64, 2, "box=1,4,9,13", device="cpu", precision="float32")


def expected(settings: Settings, frames: np.ndarray) -> np.ndarray:
    """The model's masks of one video that is tracked alone, (T, H, W) bool."""
    (track,) = tracker_for(settings, "cpu").track([Video(0, frames, Prompt(box=BOX))])
    return track.masks


def rows(root: Path, pattern: str = "data/**/*.parquet") -> pa.Table:
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in sorted(root.glob(pattern))])


def masks(root: Path, column: str) -> np.ndarray:
    return storage.decode_images(rows(root)[column])


@pytest.mark.parametrize("video", [False, True])
def test_a_lerobot_dataset_gets_the_masks_that_its_frames_have(tmp_path, settings, video):
    source, out = write_lerobot(tmp_path / "source", video), tmp_path / "out"
    before = snapshot(source)
    reports = mask_columns(source, [TOP, WRIST], settings, out)
    assert snapshot(source) == before
    assert [report.frames for report in reports] == [24, 24]
    shown = foreign.opened(source, [TOP, WRIST])
    (group,) = shown.groups
    for column, name in ((TOP, "observation.masks.top"), (WRIST, "observation.masks.wrist")):
        found = masks(out, name)
        assert found.shape == (24, *lerobot_files.SIZES[column])
        for clip in group.clips:
            frames = np.stack(list(shown.frames(group, clip, column)))
            if not video:
                np.testing.assert_array_equal(frames, lerobot_files.frames(column, clip.name))
            else:
                assert np.abs(frames.astype(float) - lerobot_files.frames(column, clip.name)).mean() < 12
            np.testing.assert_array_equal(found[clip.start :][: clip.length] > 127, expected(settings, frames))
    old, new = rows(source), rows(out)
    assert new.select(old.column_names).equals(old)
    info, was = (json.loads((root / schema.INFO).read_text()) for root in (out, source))
    assert info["features"].pop("observation.masks.top")["shape"] == [24, 40, 1]
    assert info["features"].pop("observation.masks.wrist")["dtype"] == "image"
    assert info == was
    records = rows(out, schema.episodes_file(0))
    assert records.select(rows(source, schema.episodes_file(0)).column_names).equals(
        rows(source, schema.episodes_file(0))
    )
    stats = json.loads((out / schema.STATS).read_text())["observation.masks.top"]
    assert set(stats) == {"min", "max", "mean", "std", "q01", "q50", "count"}
    assert stats["mean"][0][0][0] == pytest.approx((masks(out, "observation.masks.top") > 127).mean())
    assert stats["count"] == [24]
    assert [row[0] for row in records["stats/observation.masks.wrist/count"].to_pylist()] == list(LENGTHS)
    for name in ("meta/tasks.parquet", *([f"videos/{TOP}/chunk-000/file-000.mp4"] if video else [])):
        assert (out / name).read_bytes() == (source / name).read_bytes()
    record = json.loads((out / columns.RECORD).read_text())
    assert record["masks"]["observation.masks.top"]["prompt"] == "box=1,4,9,13"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("names", [False, True])
def test_a_dataset_of_datasets_stays_one(tmp_path, settings, kind, names):
    from datasets import Image, load_dataset

    source, out = write_parquet(tmp_path / "source", kind=kind, names=names), tmp_path / "out"
    before = snapshot(source)
    (report,) = mask_columns(source, ["image"], settings, out)
    assert snapshot(source) == before
    assert (report.episodes, report.frames) == (3, 24)  # some go on from one shard to the next
    data = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.features["mask"] == Image()
    shown = foreign.opened(source, ["image"])
    (group,) = shown.groups
    assert group.edges == (0, 10, 18, 24)
    for clip in group.clips:
        frames = np.stack(list(shown.frames(group, clip, "image")))
        found = np.stack(
            [np.asarray(row["mask"]) for row in data.select(range(clip.start, clip.start + clip.length))]
        )
        np.testing.assert_array_equal(found > 127, expected(settings, frames))
    card = (out / "README.md").read_text()
    assert "# Walks" in card
    assert "num_bytes" not in card


def test_motion_finds_what_moves(tmp_path, settings):
    source = write_parquet(tmp_path / "source")
    from dataclasses import replace

    (report,) = mask_columns(source, ["image"], replace(settings, prompt="motion", reprompt=4), tmp_path / "out")
    assert report.frames == 24


@pytest.mark.parametrize("video", [False, True])
def test_a_run_that_was_broken_off_goes_on(tmp_path, settings, monkeypatch, video):
    source = write_lerobot(tmp_path / "source", video)
    mask_columns(source, [TOP], settings, tmp_path / "whole")
    write = columns._write

    def broken(root, target, name, *rest):
        if "file-001" in name:
            raise OSError(28, "No space left on device")
        write(root, target, name, *rest)

    monkeypatch.setattr(columns, "_write", broken)
    with pytest.raises(OSError, match="No space"):
        mask_columns(source, [TOP], settings, tmp_path / "out")
    monkeypatch.setattr(columns, "_write", write)
    assert not (tmp_path / "out").exists()
    done: list[int] = []
    mask_columns(source, [TOP], settings, tmp_path / "out", on_frames=lambda frames, total: done.append(frames))
    assert sum(done) == LENGTHS[2]  # the rest was there
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source", "whole"]


def test_a_killed_run_goes_on(tmp_path, settings):
    source = write_lerobot(tmp_path / "source")
    options = ["--image-column", TOP, "--prompt", settings.prompt, "--model", settings.model, "--image-size", "64"]
    command = [
        sys.executable,
        "-m",
        "distractor_data.cli",
        "mask",
        str(source),
        *options,
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        not (tmp_path / ".out.new" / columns.RECORD).exists()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert masks(tmp_path / "out", "observation.masks.top").shape == (24, 24, 40)


def test_other_settings_begin_anew_and_overwrite_replaces(tmp_path, settings, monkeypatch):
    from dataclasses import replace

    source, out = write_parquet(tmp_path / "source"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(columns, "_finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mask_columns(source, ["image"], settings, out)
    other = replace(settings, prompt="box=10,4,20,13")
    mask_columns(source, ["image"], other, out)
    assert json.loads((out / columns.RECORD).read_text())["masks"]["mask"]["prompt"] == other.prompt
    with pytest.raises(DmaskError, match="--overwrite"):
        mask_columns(source, ["image"], settings, out)
    mask_columns(source, ["image"], settings, out, overwrite=True)
    assert json.loads((out / columns.RECORD).read_text())["masks"]["mask"]["prompt"] == settings.prompt


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    frames = foreign.opened(write_lerobot(tmp_path / "source", video=True), [TOP])
    (group,) = frames.groups
    stream = frames.frames(group, group.clips[1], TOP)
    assert len(stream) == 9
    last = stream[8]
    assert len(stream._kept) == 1  # what lies before is not decoded into memory
    np.testing.assert_array_equal(last, list(stream)[8])


# --- what is no such dataset ---------------------------------------------------------------------------------


def _info(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        info = json.loads((root / schema.INFO).read_text())
        change(info)
        (root / schema.INFO).write_text(json.dumps(info))

    return act


def _table(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        pq.write_table(change(pq.read_table(root / name, partitioning=None)), root / name)

    return act


def _set(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.array([value] * len(table), table[column].type))

    return change


def _link(name: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        secret = root.parent / "elsewhere"
        secret.write_bytes((root / name).read_bytes())
        (root / name).unlink()
        (root / name).symlink_to(secret)

    return act


def _cut(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[: (root / name).stat().st_size // 2])


def _bomb(root: Path) -> None:
    import zlib

    raw = zlib.compress(bytes(100), 9)
    header = (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")
    _table("data/chunk-000/file-000.parquet", _set(TOP, {"bytes": png, "path": None}))(root)


DATA, RECORDS, MP4 = schema.data_file(0), schema.episodes_file(0), f"videos/{TOP}/chunk-000/file-000.mp4"
HOSTILE: dict[str, tuple[bool, Callable[[Path], object], str]] = {
    "an older version": (False, _info(lambda info: info.update(codebase_version="v2.1")), "convert it"),
    "a path of its own": (False, _info(lambda info: info.update(data_path="/etc/{chunk_index}")), "data_path"),
    "attributes in a path": (True, _info(lambda info: info.update(video_path="{video_key.__class__}")), "video_path"),
    "no frame rate": (False, _info(lambda info: info.update(fps=0)), "frames a second"),
    "endless frame rate": (
        False,
        lambda root: (root / schema.INFO).write_text(
            (root / schema.INFO).read_text().replace('"fps": 10', '"fps": NaN')
        ),
        "finite",
    ),
    "a camera it has not": (False, _info(lambda info: info["features"].pop(TOP)), f"column {TOP}"),
    "a camera without video": (True, lambda root: shutil.rmtree(root / "videos"), "is missing"),
    "half a video": (True, _cut(MP4), "can't be read"),
    "no video": (True, lambda root: (root / MP4).write_text("#EXTM3U\nfile:///etc/passwd"), "can't be read"),
    "a shorter video": (
        True,
        lambda root: (
            (root / MP4).unlink(),
            shutil.rmtree((root / MP4).parent),
            lerobot_files._write_video(root / MP4, lerobot_files.frames(TOP, 0)),
        )[0],
        "ends after",
    ),
    "a linked video": (True, _link(MP4), "is a link"),
    "linked rows": (False, _link(DATA), "is a link"),
    "linked records": (False, _link(RECORDS), "is a link"),
    "a linked file beside": (False, _link("meta/tasks.parquet"), "is a link"),
    "half of the rows": (False, _cut(DATA), "can't be read"),
    "records that lie": (False, _table(RECORDS, _set("length", 5)), "other episodes"),
    "no records": (False, lambda root: shutil.rmtree(root / "meta/episodes"), "no episodes"),
    "records of another file": (False, _table(RECORDS, _set("data/file_index", 7)), "is missing"),
    "negative seconds": (True, _table(RECORDS, _set(f"videos/{TOP}/from_timestamp", -1.0)), "from_timestamp"),
    "seconds beyond the end": (True, _table(RECORDS, _set(f"videos/{TOP}/from_timestamp", 1e9)), "ends after"),
    "no image": (False, _table(DATA, _set(TOP, {"bytes": None, "path": "/etc/passwd"})), "names images elsewhere"),
    "a picture of ten thousand million pixels": (False, _bomb, "can't be read"),
    "no picture": (False, _table(DATA, _set(TOP, {"bytes": b"%!PS", "path": None})), "can't be read"),
    "numbers for images": (
        False,
        _table(DATA, lambda table: table.set_column(0, TOP, pa.array(range(len(table))))),
        "no images in a column",
    ),
    "masks already": (
        False,
        _table(DATA, lambda table: table.append_column("observation.masks.top", table[TOP])),
        "already",
    ),
    "rows of another episode": (False, _table(DATA, _set("episode_index", 2)), "other episodes"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_such_dataset_is_one_line(tmp_path, checkpoint, refusal, kind):
    video, damage, words = HOSTILE[kind]
    source = write_lerobot(tmp_path / "source", video)
    damage(source)
    before = snapshot(source)
    options = ["--image-column", TOP, "--prompt", "box=1,4,9,13", "--model", str(checkpoint), "--image-size", "64"]
    assert words in refusal("mask", str(source), *options, "--device", "cpu", "--out", str(tmp_path / "out"))
    assert snapshot(source) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-column", "imag"], "did you mean 'image'"),
        ([], "is a dataset of others; give --image-column, of image"),
        (["--image-column", "image", "--episode-column", "walk"], "give --episode-column"),
        (["--image-column", "image", "--prompt", "simulator"], "has no simulator"),
        (["--image-column", "image", "--prompt", "box=0,0,99,99"], "lies outside"),
        (["--image-column", "image", "--out", "source"], "lie in one another"),
        (["--image-column", "image", "--out", "source/masked"], "lie in one another"),
        (["--image-column", "image", "--out", "thesis"], "would be lost"),
        (["--image-column", "image", "--out", ""], "--out is empty"),
    ],
)
def test_what_was_asked_for_is_checked_first(tmp_path, checkpoint, refusal, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "source")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("precious")
    before = snapshot(tmp_path)
    given = [
        "--prompt",
        "box=1,4,9,13",
        "--model",
        str(checkpoint),
        "--image-size",
        "64",
        "--device",
        "cpu",
        "--out",
        "out",
    ]
    assert words in refusal("mask", "source", *given, *options)
    there = {name: what for name, what in snapshot(tmp_path).items() if not name.startswith(".out.new")}
    assert there == before


def test_rows_that_were_shuffled(tmp_path):
    source = write_parquet(tmp_path / "source")
    first, last = sorted(source.glob("data/*"))[0], sorted(source.glob("data/*"))[-1]
    first.rename(source / "x")
    last.rename(first)
    (source / "x").rename(last)
    write_parquet(tmp_path / "whole", cuts=())
    with pytest.raises(
        DmaskError, match=r"episode 2 of .* is not in consecutive rows; sort the rows by episode_index"
    ):
        foreign.opened(source, ["image"])
    assert len(foreign.opened(tmp_path / "whole", ["image"]).groups[0].clips) == 3


def test_rows_without_any_episode(tmp_path, checkpoint, refusal):
    source = write_parquet(tmp_path / "source")
    for path in source.glob("data/*"):
        pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    line = refusal(
        "mask",
        str(source),
        "--image-column",
        "image",
        "--prompt",
        "motion",
        "--model",
        str(checkpoint),
        "--out",
        str(tmp_path / "out"),
    )
    assert "0 rows" in line
