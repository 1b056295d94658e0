"""Generation: same spec, same bytes; nothing lost after a kill; nothing mixed; read by everyone."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from distractor_data import load, schema
from distractor_data.dataset import meta, rows, storage
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.rollout import rollout
from distractor_data.spec import Spec

REPOSITORY = Path(__file__).resolve().parents[1]
SPEC = Spec(env="cheetah-run", episodes=4, steps=24, image_size=32, seed=5, noise=0.1)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of everything but the lock: the data, the metadata and the card."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The dataset of SPEC, made by one worker, with its test split."""
    out = tmp_path_factory.mktemp("made") / "a folder" / "data"
    generate(SPEC, out, workers=1)
    generate(dataclasses.replace(SPEC, split="test", episodes=2), out, workers=1)
    return out


def command(out: Path, *options: str, spec: Spec = SPEC) -> list[str]:
    arguments = f"--env {spec.env} --episodes {spec.episodes} --steps {spec.steps} --seed {spec.seed}".split()
    size = ["--image-size", str(spec.image_size), "--noise", str(spec.noise)]
    return [sys.executable, "-m", "distractor_data.cli", "generate", *arguments, *size, "--out", str(out), *options]


def test_bytes_do_not_depend_on_the_number_of_workers(made, tmp_path):
    generate(SPEC, tmp_path, workers=2)
    assert digests(tmp_path / SPEC.env / "train") == digests(made / SPEC.env / "train")


LONG = dataclasses.replace(SPEC, episodes=10)  # in shards of two: it is being written nearly all the time
SMALL_SHARDS = """
from distractor_data import cli
from distractor_data.dataset import storage
storage.episodes_per_shard = lambda spec: 2
cli.main()
"""


@pytest.fixture(scope="module")
def made_long(tmp_path_factory):
    """The split of LONG in small shards, which nobody killed."""
    out = tmp_path_factory.mktemp("long")
    subprocess.run(in_small_shards(out), cwd=REPOSITORY, check=True, capture_output=True)
    return digests(out / LONG.env / "train")


def in_small_shards(out: Path) -> list[str]:
    python, _, _, *arguments = command(out, "--workers", "2", spec=LONG)
    return [python, "-c", SMALL_SHARDS, *arguments]


@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_a_random_moment_and_run_again_gives_the_same_bytes(made_long, tmp_path, attempt):
    root = tmp_path / LONG.env / "train"
    process = subprocess.Popen(
        in_small_shards(tmp_path), cwd=REPOSITORY, start_new_session=True, stdout=-3, stderr=subprocess.DEVNULL
    )
    # From when the first shard is complete, while there are shards to come: how fast the machine is doesn't matter.
    shards = random.Random(time.time_ns()).randrange(1, 4)
    while process.poll() is None and len(storage.shards(root)) < shards:
        time.sleep(0.001)
    time.sleep(random.Random(time.time_ns()).uniform(0, 0.2))
    assert process.poll() is None, "the run was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = storage.shards(root)
    assert shards <= len(left) < 5, "nothing was left unfinished"
    assert not meta.damaged(root)
    done = subprocess.run(in_small_shards(tmp_path), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, f"killed after {left}: {done.stderr}"
    assert digests(root) == made_long, f"killed after {left}"


def test_workers_end_when_the_parent_is_killed(tmp_path):
    spec = dataclasses.replace(SPEC, episodes=50)
    process = subprocess.Popen(
        command(tmp_path, "--workers", "2", spec=spec), cwd=REPOSITORY, start_new_session=True, stderr=-3
    )
    for _ in range(600):
        if any(tmp_path.rglob("episode-*.parquet")):
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    group = ["ps", "-o", "stat=", "--no-headers", "-g", str(process.pid)]
    for _ in range(100):
        alive = [s for s in subprocess.run(group, capture_output=True, text=True).stdout.split() if s[0] != "Z"]
        if not alive:
            return
        time.sleep(0.1)
    pytest.fail("workers outlived their parent by 10 seconds")


def test_growing_a_dataset_equals_making_it_at_once(made, tmp_path):
    generate(dataclasses.replace(SPEC, episodes=3), tmp_path, workers=1)
    generate(SPEC, tmp_path, workers=1)
    assert digests(tmp_path / SPEC.env / "train") == digests(made / SPEC.env / "train")


def test_shards_divide_the_episodes_and_count_through(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "episodes_per_shard", lambda spec: 2)
    generate(dataclasses.replace(SPEC, episodes=3), tmp_path, workers=1)
    root = schema.root(tmp_path, SPEC.env, "train")
    assert storage.shards(root) == [0, 1]
    frames = [storage.read_frames(root, shard) for shard in (0, 1)]
    assert [len(table) for table in frames] == [48, 24]
    index = np.concatenate([table[schema.INDEX].to_numpy() for table in frames])
    np.testing.assert_array_equal(index, np.arange(72))
    episodes = load(tmp_path, SPEC.env)
    np.testing.assert_array_equal(episodes[2].action, rollout(SPEC, 2).action)


def test_loading_gives_back_what_was_rolled_out(made):
    episodes = load(made, "cheetah", "train")
    assert len(episodes) == 4
    for index in (0, 3):
        stored, fresh = episodes[index], rollout(SPEC, index)
        for name in ("image", "mask", "state", "action", "reward", "done"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(fresh, name), err_msg=name)
        for key, value in fresh.info.items():
            assert stored.info[key] == value, key


def test_statistics_of_images_are_numpys_to_the_last_bit():
    rng = np.random.default_rng(0)
    for shape in ((100, 32, 32, 3), (3, 8, 7, 3), (1, 1, 1, 3)):
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        assert rows.image_stats(images) == rows.column_stats(images / 255.0)


def test_splits_hold_other_episodes_before_other_videos(made):
    train, test = load(made, SPEC.env, "train"), load(made, SPEC.env, "test")
    assert not {e.info["background"] for e in train} & {e.info["background"] for e in test}
    assert not {e.info["seed"] for e in train} & {e.info["seed"] for e in test}


def test_a_process_with_only_datasets_reads_it(made):
    """Isolated from our packages: another folder, no site of ours; whole and streaming."""
    code = f"""
import sys
from datasets import load_dataset
import numpy as np
rows = load_dataset({str(made)!r}, "cheetah-run", split="test")
assert len(rows) == 48, rows
streamed = list(load_dataset({str(made)!r}, "cheetah-run", split="test", streaming=True))
assert len(streamed) == 48
for row, other in zip(rows, streamed):
    assert np.asarray(row["observation.image"]).shape == (32, 32, 3)
    mask = np.asarray(row["observation.mask"])
    assert mask.shape == (32, 32) and set(np.unique(mask)) <= {{0, 255}}
    assert np.array_equal(row["observation.image"], other["observation.image"])
    assert len(row["action"]) == 6 and len(row["observation.state"]) == 17
assert len(load_dataset({str(made)!r}, split="train")) == 96  # the default config
assert "distractor_data" not in sys.modules and "dm_control" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=made.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_lerobot_metadata_agrees_with_the_data(made):
    root = schema.root(made, SPEC.env, "train")
    info, stats = storage.read_json(root / schema.INFO), storage.read_json(root / schema.STATS)
    frames, episodes = storage.read_frames(root, 0), storage.read_episodes(root)
    assert info["total_frames"] == len(frames) == 96
    assert info["total_episodes"] == len(episodes) == 4
    assert info["splits"] == {"train": "0:4"}
    assert info["fps"] == 100
    assert set(info["features"]) == set(frames.column_names)
    np.testing.assert_allclose(np.diff(frames[schema.TIMESTAMP].to_numpy()[:24]), 0.01, rtol=1e-4)
    actions = np.array(frames[schema.ACTION].to_pylist())
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), atol=1e-6)
    assert np.shape(stats[schema.IMAGE]["mean"]) == (3, 1, 1)
    ends = episodes["dataset_to_index"].to_pylist()
    assert episodes["dataset_from_index"].to_pylist() == [0, *ends[:-1]]


def test_verify_finds_a_changed_byte(made, tmp_path):
    generate(dataclasses.replace(SPEC, episodes=1), tmp_path, workers=1)
    assert sum(meta.verify_all(tmp_path).values()) == 2
    path = schema.root(tmp_path, SPEC.env, "train") / schema.data_file(0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DmaskError, match=r"file-000\.parquet"):
        meta.verify_all(tmp_path)


def test_another_spec_is_refused_by_field_and_leaves_all_as_it_was(made):
    before = digests(made)
    for change, words in (({"seed": 6}, "seed"), ({"steps": 25}, "steps"), ({"episodes": 3}, "4 episodes")):
        with pytest.raises(DmaskError, match=words):
            generate(dataclasses.replace(SPEC, **change), made, workers=1)
    assert digests(made) == before


def test_splits_of_one_config_keep_the_same_columns(tmp_path):
    generate(dataclasses.replace(SPEC, episodes=1), tmp_path, workers=1)
    with pytest.raises(DmaskError, match="leave out --clean"):
        generate(dataclasses.replace(SPEC, episodes=1, split="test", clean=True), tmp_path, workers=1)


def test_a_config_loads_while_only_some_of_its_shards_have_another_column(tmp_path):
    from datasets import load_dataset

    from dmask_cards.dataset import write_card

    for split in ("train", "test"):
        generate(dataclasses.replace(SPEC, episodes=1, split=split), tmp_path, workers=1)
    root = schema.root(tmp_path, SPEC.env, "train")
    frames, episodes = storage.read_frames(root, 0), storage.read_episodes(root, 0)
    widened = frames.append_column(schema.MASK_SIM, frames[schema.MASK])
    images = (schema.IMAGE, schema.MASK, schema.MASK_SIM)
    layout = schema.arrow_schema(17, 6, images)
    storage.write_shard(root, 0, widened.select(layout.names).cast(layout), episodes)
    for _ in range(2):  # before the card is written again, and after
        for split in ("train", "test"):
            rows = load_dataset(str(tmp_path), SPEC.env, split=split, cache_dir=str(tmp_path / "cache"))
            assert rows[0]["observation.mask"].size == (32, 32)
        meta.refresh(root)
        write_card(tmp_path)


def test_overwrite_replaces(tmp_path):
    generate(dataclasses.replace(SPEC, episodes=1), tmp_path, workers=1)
    generate(dataclasses.replace(SPEC, episodes=1, seed=6), tmp_path, workers=1, overwrite=True)
    assert meta.read_spec(schema.root(tmp_path, SPEC.env, "train")).seed == 6


def test_moved_backgrounds_are_still_the_same_backgrounds(tmp_path):
    from tests.test_backgrounds import write_frames

    for index in range(2):
        write_frames(tmp_path / "here" / "train" / f"v{index}", seed=index)
    spec = dataclasses.replace(SPEC, episodes=1, backgrounds=str(tmp_path / "here"))
    generate(spec, tmp_path / "out", workers=1)
    (tmp_path / "here").rename(tmp_path / "there")
    generate(dataclasses.replace(spec, backgrounds=str(tmp_path / "there")), tmp_path / "out", workers=1)
    record = (schema.root(tmp_path / "out", SPEC.env, "train") / schema.DMASK).read_text()
    assert str(tmp_path) not in record


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    import fcntl

    root = schema.root(tmp_path, SPEC.env, "train")
    root.mkdir(parents=True)
    with open(root / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DmaskError, match="another run"):
            generate(SPEC, tmp_path, workers=1)


def test_several_workers_share_what_is_streamed_and_shuffled(tmp_path, monkeypatch):
    """As a DataLoader's workers do: each has files of its own, and together they have every row once."""
    from datasets import load_dataset

    monkeypatch.setattr(storage, "episodes_per_shard", lambda spec: 1)
    generate(SPEC, tmp_path, workers=1)
    rows = load_dataset(str(tmp_path), SPEC.env, split="train", streaming=True).shuffle(seed=0, buffer_size=10)
    parts = [[row["index"] for row in rows.shard(num_shards=3, index=k)] for k in range(3)]
    assert all(parts)
    assert sorted(index for part in parts for index in part) == list(range(SPEC.episodes * SPEC.steps))


@pytest.mark.parametrize("size", [64, 128, 720])
def test_a_thousand_episodes_are_files_for_many_workers(size):
    spec = Spec(env="cheetah-run", episodes=1000, steps=1000, image_size=size)
    assert 20 <= len(storage.wanted_shards(spec)) <= spec.episodes
