"""Datasets of ours in the formats of LAOM, Minari and NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distractor_data import exports, schema, sources
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.masks.annotate import Settings, mask_dataset

h5py = pytest.importorskip("h5py")
import laom_files  # noqa: E402  it needs h5py
from laom_files import imported  # noqa: E402


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return laom_files.write(tmp_path / "walker.hdf5")


def test_laoms_reader_finds_what_it_asks_for(folder, tmp_path):
    paths = exports.export(folder, "laom", tmp_path / "out", env="walker")
    assert [path.name for path in paths] == ["walker-run-train.hdf5", "walker-run-test.hdf5"]
    mine = sources.load(folder, "walker")
    with h5py.File(paths[0]) as file:  # as `DCSLAOMInMemoryDataset` and `create_env_from_df` read it
        assert [*file] == [str(number) for number in range(4)]
        assert (file.attrs["domain_name"], file.attrs["task_name"]) == ("walker", "run")
        assert (file.attrs["difficulty"], file.attrs["img_hw"]) == ("scale_easy_video_hard", 16)
        for number, episode in enumerate(mine):
            for name, values in (("obs", episode.image), ("states", episode.state), ("actions", episode.action)):
                np.testing.assert_array_equal(file[str(number)][name][:], values)
            np.testing.assert_array_equal(file[str(number)]["masks"][:] > 0, episode.mask)
    root = imported(paths[1], tmp_path / "back")  # and what was written is a file of theirs
    assert root.parts[-2:] == ("walker-run", "test")
    frames = storage.read_frames(root, 0)
    np.testing.assert_array_equal(
        storage.decode_images(frames[schema.IMAGE][:12]), sources.load(folder, "walker", "test")[0].image
    )


def test_minaris_files_say_what_its_reader_asks_for(folder, tmp_path):
    (path,) = exports.export(folder, "minari", tmp_path / "out", "cheetah", "train")
    assert path == tmp_path / "out" / "dmask" / "cheetah-run" / "train-v0"
    metadata = json.loads((path / "data" / "metadata.json").read_text())
    assert (metadata["dataset_id"], metadata["total_episodes"]) == ("dmask/cheetah-run/train-v0", 4)
    assert metadata["total_steps"] == 4 * 11
    with h5py.File(path / "data" / "main_data.hdf5") as file:
        for number, episode in enumerate(sources.load(folder, "cheetah")):
            group = file[f"episode_{number}"]
            np.testing.assert_array_equal(group["observations/image"][:], episode.image)
            np.testing.assert_array_equal(group["observations/mask"][:] > 0, episode.mask)
            np.testing.assert_array_equal(group["actions"][:], episode.action[:-1])
            np.testing.assert_array_equal(group["rewards"][:], episode.reward[:-1])


def test_numpy_alone_reads_npz(folder, tmp_path):
    exports.export(folder, "npz", tmp_path / "out")
    episode = sources.load(folder, "cheetah", "test")[1]
    with np.load(tmp_path / "out" / "cheetah-run" / "test" / "episode-000001.npz") as file:
        assert {*file} == {"image", "mask", "state", "action", "reward", "done"}
        for name in file:
            np.testing.assert_array_equal(file[name], getattr(episode, name))


@pytest.mark.parametrize("format", exports.FORMATS)
def test_an_export_appears_whole_or_not_at_all(folder, tmp_path, monkeypatch, refusal, format):
    out = tmp_path / "out"
    options = ("export", str(folder), "--format", format, "--env", "walker", "--split", "train", "--out", str(out))
    shown: list[int] = []

    def full(done: int, total: int) -> None:
        shown.append(done)
        if len(shown) == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        exports.export(folder, format, out, "walker", "train", on_episode=full)
    assert not [
        path for path in out.rglob("*") if path.is_file() and ".new" not in path.parts and path.name != ".lock"
    ]
    (path,) = exports.export(folder, format, out, "walker", "train")
    assert {*out.iterdir()} == {out / ".lock", out / path.relative_to(out).parts[0]}
    assert "--overwrite" in refusal(*options)
    assert exports.export(folder, format, out, "walker", "train", overwrite=True) == [path]


def test_what_a_format_cannot_hold_is_said_before_anything_is_written(file, tmp_path, checkpoint):
    directory = tmp_path / "data"
    imported(file, directory)
    mask_dataset(directory, Settings(str(checkpoint), 64, 2, "box=2,2,9,9", device="cpu", precision="float32"))
    with pytest.raises(DmaskError, match="no rewards, which Minari asks for"):
        exports.export(directory, "minari", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert exports.export(directory, "laom", tmp_path / "out")
