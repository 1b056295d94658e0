"""Files of LAOM's authors become datasets of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from damage import contents, in_process

from distractor_data import engines, exports, imports, schema, sources
from distractor_data.dataset import meta, storage
from distractor_data.errors import DmaskError
from distractor_data.masks.annotate import Settings, mask_dataset

h5py = pytest.importorskip("h5py")
import laom_files  # noqa: E402  it needs h5py
from laom_files import imported  # noqa: E402


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes are read in this process, and two of them fill a shard."""
    monkeypatch.setattr(engines, "run_local", in_process)
    monkeypatch.setattr(storage, "SHARD_FRAMES", 2 * laom_files.STEPS / 16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return laom_files.write(tmp_path / "walker.hdf5")


def test_what_is_imported_is_what_the_file_holds(here, file, tmp_path):
    root = imported(file, tmp_path / "data")
    assert root == tmp_path / "data" / "walker-run" / "train"
    assert storage.shards(root) == [0, 1, 2]
    rows = [row for shard in storage.shards(root) for row in storage.read_episodes(root, shard).to_pylist()]
    assert [row["return"] for row in rows] == [0, 1, 2, 3, 4]
    frames = [storage.read_frames(root, shard) for shard in storage.shards(root)]
    for number in range(5):
        theirs, table = laom_files.arrays(number), frames[number // 2]
        mine = table.filter(np.asarray(table[schema.EPISODE]) == number)
        np.testing.assert_array_equal(storage.decode_images(mine[schema.IMAGE]), theirs["obs"])
        for column, name in ((schema.STATE, "states"), (schema.ACTION, "actions")):  # raw, beyond [-1, 1]
            np.testing.assert_array_equal(np.stack(mine[column].to_pylist()), theirs[name])
        assert mine[schema.DONE].to_pylist() == [False] * 11 + [True]
    record = meta.read_record(root)
    assert record["mask"] == {"source": "none"}
    assert "seed" not in record["spec"]
    assert record["spec"]["sha256"] == storage.sha256(file)
    assert schema.REWARD not in frames[0].column_names  # the file has none


def test_an_import_is_read_by_datasets_and_described_by_its_card(here, file, tmp_path):
    from datasets import load_dataset

    imported(file, tmp_path / "data")
    rows = load_dataset(str(tmp_path / "data"), "walker-run", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 60
    np.testing.assert_array_equal(np.asarray(rows[13][schema.IMAGE]), laom_files.arrays(1)["obs"][1])
    card = (tmp_path / "data" / "README.md").read_text()
    assert f"dmask import walker.hdf5 DIR # SHA-256 {storage.sha256(file)}" in card
    assert "dmask generate" not in card


def test_until_there_are_masks_readers_say_what_to_do(here, file, tmp_path, checkpoint):
    directory = tmp_path / "data"
    root = imported(file, directory)
    line = f"make them with `dmask mask {directory} --env walker-run --split train --prompt motion`"
    settings = Settings(model=str(checkpoint), image_size=64, batch=2, device="cpu", precision="float32")
    before = contents(root)
    for act in (
        lambda: sources.load(directory),
        lambda: mask_dataset(directory, settings),  # there is no simulator's box
        lambda: exports.export(directory, "npz", tmp_path / "out"),
    ):
        with pytest.raises(DmaskError, match=line):
            act()
    assert contents(root) == before
    (report,) = mask_dataset(directory, Settings(str(checkpoint), 64, 2, "motion", device="cpu", precision="float32"))
    assert (report.episodes, report.iou) == (5, None)
    assert sources.load(directory)[4].mask.shape == (12, 16, 16)
    meta.verify(root)
    assert imported(file, directory) == root  # nothing to do; the masks stay
    assert sources.load(directory)[0].mask_sim is None


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_an_import_that_was_broken_off_goes_on(here, file, tmp_path, monkeypatch, stop):
    whole = contents(imported(file, tmp_path / "whole"))
    done: list[int] = []
    read = imports._import_episode

    def broken(*arguments):
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(arguments[-1])
        return read(*arguments)

    monkeypatch.setattr(imports, "_import_episode", broken)
    if stop < 5:
        with pytest.raises(KeyboardInterrupt):
            imported(file, tmp_path / "data")
    monkeypatch.setattr(
        imports, "_import_episode", lambda *arguments: (done.append(arguments[-1]), read(*arguments))[1]
    )
    assert contents(imported(file, tmp_path / "data")) == whole
    assert sorted(done) == [0, 1, 2, 3, 4]  # none twice


def test_a_killed_import_goes_on(tmp_path):
    file = laom_files.write(tmp_path / "walker.hdf5", episodes=60)
    command = [
        sys.executable,
        "-m",
        "distractor_data.cli",
        "import",
        str(file),
        str(tmp_path / "data"),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiting = tmp_path / "data" / "walker-run" / "train" / storage.PARTS
    deadline = time.monotonic() + 60
    while len(list(waiting.glob("*"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    root = waiting.parent
    meta.verify(root)
    assert storage.read_episodes(root)["return"].to_pylist() == list(map(float, range(60)))
    assert not waiting.exists()


def test_another_file_is_not_mixed_in(here, file, tmp_path):
    root = imported(file, tmp_path / "data")
    before = contents(root)
    other = laom_files.write(tmp_path / "other.hdf5", episodes=6)
    with pytest.raises(DmaskError, match=r"holds other data: episodes \(5 there, 6 now\), sha256"):
        imported(other, tmp_path / "data")
    from distractor_data.pipeline import generate
    from distractor_data.spec import Spec

    with pytest.raises(DmaskError, match=r"imported from 'walker.hdf5', which `dmask generate` can't go on with"):
        generate(Spec(episodes=5, steps=12, image_size=16, policy="random"), tmp_path / "data", workers=1)
    assert contents(root) == before
    renamed = shutil.copyfile(file, tmp_path / "renamed.hdf5")
    assert imported(Path(renamed), tmp_path / "data") == root  # the same content


def test_repair_restores_what_follows_and_refuses_what_does_not(here, file, tmp_path):
    from distractor_data.repair import repair_all

    root = imported(file, tmp_path / "data")
    (root / schema.INFO).write_text("{}")
    assert repair_all(tmp_path / "data") == {"walker-run/train": [schema.INFO]}
    (root / schema.data_file(1)).write_bytes(b"gone")
    before = contents(root)
    with pytest.raises(DmaskError, match=r"imported from 'walker.hdf5', and what is damaged can't be made again"):
        repair_all(tmp_path / "data")
    assert contents(root) == before


def test_an_import_goes_to_the_hub_and_back(here, file, tmp_path, checkpoint, hub):
    from distractor_data.publish import push
    from distractor_data.pull import pull

    import_settings = Settings(str(checkpoint), 64, 2, "box=2,2,9,9", device="cpu", precision="float32")
    root = imported(file, tmp_path / "data")
    mask_dataset(tmp_path / "data", import_settings)
    with pytest.raises(DmaskError, match=r"background videos \(those of walker.hdf5\), which dmask can't know"):
        push(tmp_path / "data", "org/laom")
    push(tmp_path / "data", "org/laom", license="mit")
    pull("org/laom", tmp_path / "back")
    assert meta.read_spec(tmp_path / "back" / "walker-run" / "train") == meta.read_spec(root)
    for mine, theirs in zip(sources.load(tmp_path / "back"), sources.load(tmp_path / "data"), strict=True):
        np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """An import of many times the memory that it may take."""
    file = tmp_path / "large.hdf5"
    with h5py.File(file, "w", track_order=True) as made:
        made.attrs.update(laom_files.ATTRIBUTES | {"img_hw": 64})
        frames = np.zeros((2000, 64, 64, 3), np.uint8)  # 25 MB
        for number in range(40):
            group = made.create_group(str(number))
            group.create_dataset("obs", data=frames)
            group.create_dataset("states", data=np.zeros((2000, 2), np.float32))
            group.create_dataset("actions", data=np.zeros((2000, 2), np.float32))
            group.attrs["traj_return"] = 0.0
    code = (
        "import resource, sys; from pathlib import Path; from distractor_data.dataset.formats import laom; "
        "file = Path(sys.argv[1]); laom.contents(file); start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "[len(laom.read(file, number)) for number in range(40)]; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 120 << 10  # KiB; the file has 1 GB
