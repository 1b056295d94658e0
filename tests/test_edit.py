"""Merged, split, shortened and resized: what was not asked to change stays to the byte, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import small_dataset
from damage import SPEC, contents, root_of, small

from distractor_data import edit, schema, sources
from distractor_data.dataset import folders, meta, parts, storage
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.repair import repair_all

CONFIG = "walker-run"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real dataset of five episodes in three shards, and the three parts of which it can be put together."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        generate(SPEC, folder / "whole")
        for number in range(3):
            generate(SPEC.share(number, 3), folder / f"part {number}")
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight episodes, drawn and not simulated."""
    for split in ("train", "test"):
        small_dataset.write(tmp_path / "data", CONFIG, split, shards=4)
    return tmp_path / "data"


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same config and split, to the byte, but for the list of one folder alone."""
    first, second = contents(root_of(one)), contents(root_of(other))
    first.pop(storage.SUMS), second.pop(storage.SUMS)
    return first == second


def test_the_parts_of_independent_runs_become_the_whole(made: Path, tmp_path: Path) -> None:
    edit.merge([made / f"part {number}" for number in (2, 0, 1)], tmp_path / "merged")
    assert same(tmp_path / "merged", made / "whole")
    assert (tmp_path / "merged" / "README.md").read_text().count("dmask generate") > 0
    again = contents(root_of(tmp_path / "merged"))
    edit.merge([made / f"part {number}" for number in range(3)], tmp_path / "merged")
    assert contents(root_of(tmp_path / "merged")) == again


def test_what_was_split_can_be_merged_and_repaired(made: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    edit.split(made / "whole", [(one, 0.6), (two, 0.4)])
    edit.merge([one, two], tmp_path / "merged")
    assert same(tmp_path / "merged", made / "whole")
    assert meta.read_spec(root_of(two)).first == 3
    file = root_of(two) / schema.data_file(0)
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert repair_all(two)
    assert file.read_bytes() == before
    generate(dataclasses.replace(SPEC, first=3, episodes=2), two)  # it is the dataset of that command
    meta.verify_all(two)


def test_deleting_renumbers_and_changes_nothing_else(data: Path) -> None:
    kept = [0, 2, 3, 6]
    before = [sources.load(data, CONFIG)[number] for number in kept]
    test = contents(schema.root(data, CONFIG, "test") / "data")
    root = edit.delete_episodes(data, edit.numbers("1,4-5,7"), CONFIG, "train")
    meta.verify_all(data)
    after = sources.load(data, CONFIG)
    assert [episode.info["episode_index"] for episode in after] == [0, 1, 2, 3]
    for old, new in zip(before, after, strict=True):
        for name in ("image", "mask", "state", "action", "reward", "done"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
        assert {**old.info, "episode_index": 0} == {**new.info, "episode_index": 0}
    frames = [storage.read_frames(root, number)["index"].to_numpy() for number in storage.shards(root)]
    np.testing.assert_array_equal(np.concatenate(frames), np.arange(4 * small_dataset.STEPS))
    assert contents(schema.root(data, CONFIG, "test") / "data") == test
    assert "dmask delete-episodes data --episodes 1,4-5,7" in (data / "README.md").read_text()
    assert not (data / folders.STAGING).exists()


def test_what_was_edited_is_not_said_to_be_what_a_command_made(made: Path, tmp_path: Path) -> None:
    edit.delete_episodes(made / "whole", [1], out=tmp_path / "less")
    with pytest.raises(DmaskError, match="was edited"):
        generate(dataclasses.replace(SPEC, episodes=9), tmp_path / "less")
    file = root_of(tmp_path / "less") / schema.data_file(0)
    file.write_bytes(b"damaged")
    with pytest.raises(DmaskError, match="was edited"):
        repair_all(tmp_path / "less")
    assert file.read_bytes() == b"damaged"


@pytest.mark.parametrize("size", [8, 24])
def test_resized(data: Path, tmp_path: Path, size: int) -> None:
    edit.resize(data, size, tmp_path / "other", CONFIG, "train")
    meta.verify_all(tmp_path / "other")
    for old, new in zip(sources.load(data, CONFIG), sources.load(tmp_path / "other", CONFIG), strict=True):
        assert new.image.shape == (len(old), size, size, 3)
        assert abs(new.mask.mean() - old.mask.mean()) < 0.05
        np.testing.assert_array_equal(new.action, old.action)
    info = json.loads((schema.root(tmp_path / "other", CONFIG, "train") / schema.INFO).read_text())
    assert info["features"][schema.IMAGE]["shape"] == [size, size, 3]


def test_merging_different_data_is_recorded(data: Path, tmp_path: Path) -> None:
    small_dataset.write(tmp_path / "more", CONFIG, "train", seed=7)
    edit.merge([data, tmp_path / "more"], tmp_path / "all")
    assert len(sources.load(tmp_path / "all", CONFIG)) == 8 + 4
    assert len(sources.load(tmp_path / "all", CONFIG, "test")) == 8
    record = meta.read_record(schema.root(tmp_path / "all", CONFIG, "train"))
    assert [of["spec"]["seed"] for of in record["edit"]["of"]] == [0, 7]
    card = (tmp_path / "all" / "README.md").read_text()
    assert "--seed 7" in card
    assert "dmask merge data more --out all" in card


def test_killed_in_the_middle_the_old_is_whole_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = schema.root(data, CONFIG, "train")
    whole = tmp_path / "whole"
    edit.delete_episodes(data, [1], CONFIG, "train", out=whole)
    before, real = contents(root), parts.assemble

    def killed(target: Path, shard: int, *rest: object) -> int:
        if shard == 2:
            raise KeyboardInterrupt
        return real(target, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(parts, "assemble", killed)
    with pytest.raises(KeyboardInterrupt):
        edit.delete_episodes(data, [1], CONFIG, "train")
    assert contents(root) == before
    monkeypatch.setattr(parts, "assemble", real)
    edit.delete_episodes(data, [1], CONFIG, "train")
    assert contents(root) == contents(schema.root(whole, CONFIG, "train"))


def smaller(tmp_path: Path) -> Path:
    small_dataset.write(tmp_path / "smaller", CONFIG, "train")
    edit.resize(tmp_path / "smaller", 8, tmp_path / "small")
    return tmp_path / "small"


def foreign(folder: Path) -> Path:
    (folder / CONFIG / "train").mkdir(parents=True)
    (folder / CONFIG / "train" / "thesis.txt").write_text("precious")
    return folder


REFUSED = {
    "of another size": (lambda d, t: edit.merge([d, smaller(t)], t / "out"), "image size"),
    "with itself": (lambda d, t: edit.merge([d, d], t / "out"), "at least two"),
    "into itself": (lambda d, t: edit.merge([d, smaller(t)], d), "is read|differ"),
    "into other files": (lambda d, t: edit.resize(d, 8, foreign(t / "out")), "not empty"),
    "an episode that isn't there": (lambda d, t: edit.delete_episodes(d, [99], CONFIG, "train"), "no episode 99"),
    "all episodes": (lambda d, t: edit.delete_episodes(d, range(8), CONFIG, "train"), "names all"),
    "of which split": (lambda d, t: edit.delete_episodes(d, [1]), "--split"),
    "more than all": (lambda d, t: edit.split(d, [(t / "a", 0.7), (t / "b", 0.7)]), "of 1 in all"),
    "no share": (lambda d, t: edit.split(d, [(t / "a", float("nan"))]), "of 1 in all"),
    "no episode for a folder": (lambda d, t: edit.split(d, [(t / "a", 0.01)]), "larger share"),
    "one folder for two shares": (lambda d, t: edit.split(d, [(t / "a", 0.5), (t / "x/../a", 0.5)]), "one folder"),
    "other files in the second": (lambda d, t: edit.split(d, [(t / "a", 0.5), (foreign(t / "b"), 0.5)]), "not empty"),
    "into itself, the second": (lambda d, t: edit.split(d, [(t / "a", 0.5), (d, 0.5)]), "is read"),
    "no numbers": (lambda d, t: edit.numbers("3-1"), "3,7-9"),
    "no dataset": (lambda d, t: edit.resize(t, 8, t / "out"), "holds no dataset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_and_nothing_is_changed(case: str, data: Path, tmp_path: Path) -> None:
    act, words = REFUSED[case]
    before = contents(data)
    with pytest.raises(DmaskError, match=words) as refused:
        act(data, tmp_path)  # type: ignore[no-untyped-call]
    assert "\n" not in str(refused.value)
    assert contents(data) == before
    assert not (tmp_path / "a").exists()  # all is checked before the first of several folders is written


def test_a_damaged_dataset_and_other_files_of_its_folder(data: Path, tmp_path: Path) -> None:
    root = schema.root(data, CONFIG, "train")
    (root / "thesis.txt").write_text("precious")
    with pytest.raises(DmaskError, match="thesis"):
        edit.delete_episodes(data, [1], CONFIG, "train")
    (root / "thesis.txt").unlink()
    os.truncate(root / schema.data_file(1), 100)
    for act in (
        lambda: edit.delete_episodes(data, [1], CONFIG, "train"),
        lambda: edit.resize(data, 8, tmp_path / "out"),
        lambda: edit.merge([data, smaller(tmp_path)], tmp_path / "out"),
    ):
        with pytest.raises(DmaskError, match="--repair"):
            act()
    assert not (tmp_path / "out").exists()
