"""Damage is found and named, and mended to the byte; what can't be is left as it is."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from damage import SPEC, contents, flip, pages, root_of, small
from hub_server import HubServer
from safetensors.numpy import save_file
from watch import watch

from distractor_data import (
    generate as generation,
)
from distractor_data import policies, repair, rollout, schema
from distractor_data.dataset import meta, parts, storage
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.hub import fetch
from distractor_data.pipeline import generate
from distractor_data.publish import Destination, push
from distractor_data.pull import pull
from distractor_data.remake import Given
from distractor_data.spec import Spec
from tests.test_backgrounds import write_frames
from tests.test_cli import policy as write_policy

FLIPS = 20


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that `generate` made."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        generate(SPEC, out)
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The episodes that were rolled out since the test began."""
    numbers: list[int] = []
    real = rollout.rollout

    def counted(spec: Spec, episode: int) -> Episode:
        numbers.append(episode)
        return real(spec, episode)

    monkeypatch.setattr(rollout, "rollout", counted)
    return numbers


@pytest.mark.parametrize("seed", range(FLIPS))
def test_a_flipped_bit_is_named_and_mended_to_the_byte(copy: Path, seed: int) -> None:
    root, draw = root_of(copy), random.Random(seed)
    before = contents(root)
    name = sorted(before)[seed % len(before)]
    flip(root / name, draw)
    with pytest.raises(DmaskError) as refused:
        meta.verify_all(copy)
    assert str(root / name) in str(refused.value)
    assert repair.repair_all(copy) == {"cheetah-run/train": [name]}
    assert contents(root) == before
    meta.verify_all(copy)


def test_every_file_that_is_missing_is_named_and_mended(copy: Path) -> None:
    root = root_of(copy)
    before = contents(root)
    for name in set(before) - {storage.SUMS}:  # without it a folder is as an older version made it
        (root / name).unlink()
        with pytest.raises(DmaskError, match="is missing"):
            meta.verify_all(copy)
        repair.repair_all(copy)
        assert contents(root) == before, name


@pytest.mark.parametrize("again", ["repair", "generate"])
@pytest.mark.parametrize("part", ["frames", "footer", "all"])
def test_exactly_the_damaged_episodes_are_made_anew(copy: Path, made: list[int], part: str, again: str) -> None:
    root = root_of(copy)
    before = contents(root)
    path = root / schema.data_file(1)
    if part == "all":
        path.unlink()
    elif part == "footer":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        flip(path, random.Random(0), pages(path, 1, f"{schema.IMAGE}.bytes"))
    if again == "repair":
        repair.repair_all(copy)
    else:
        generate(SPEC, copy)
    assert contents(root) == before
    assert made == ([3] if part == "frames" else [2, 3])


def test_what_is_not_the_first_bytes_replaces_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rollout.rollout
    monkeypatch.setattr(rollout, "rollout", lambda spec, episode: real(replace(spec, seed=1), episode))
    root = root_of(copy)
    for name in (schema.data_file(0), schema.episodes_file(1)):
        original = (root / name).read_bytes()
        flip(root / name, random.Random(3))
        before = contents(root)
        for again in (lambda: repair.repair_all(copy), lambda: generate(SPEC, copy)):
            with pytest.raises(DmaskError, match=r"can't be made again to the byte .* nothing was replaced"):
                again()
            assert contents(root) == before
            with pytest.raises(DmaskError, match="has changed since it was written"):
                meta.verify_all(copy)
        (root / name).write_bytes(original)


@pytest.mark.parametrize("blesses", ["refresh", "mask", "corrupt", "report"])
def test_damage_never_gets_a_checksum(whole: Path, copy: Path, tmp_path: Path, blesses: str) -> None:
    from distractor_data.masks import annotate, corrupt

    root, whole_root = root_of(copy), root_of(whole)
    flip(root / schema.data_file(0), random.Random(1))
    flip(root / schema.episodes_file(1), random.Random(1))
    weights = tmp_path / "sam2.pt"
    weights.touch()
    calls: dict[str, Callable[[], Any]] = {
        "mask": lambda: annotate.mask_dataset(copy, annotate.Settings(str(weights), device="cpu")),
        "corrupt": lambda: corrupt.corrupt_dataset(copy, tmp_path / "out", corrupt.Corruption(dilate=1)),
        "report": lambda: annotate.report_only(copy),
    }
    if blesses in calls:
        with pytest.raises(DmaskError, match="verify --repair"):
            calls[blesses]()
    else:
        pq.write_table(storage.read_episodes(whole_root, 1), root / schema.episodes_file(1), compression="NONE")
        meta.refresh(root)
    assert len(meta.damaged(root)) == 2
    assert not (tmp_path / "out").exists()


def test_other_versions_are_refused_in_a_line(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = meta.versions("suite")
    monkeypatch.setattr(meta, "versions", lambda family: now | {"mujoco": "9.9"})
    flip(root_of(copy) / schema.data_file(0), random.Random(2))
    before = contents(root_of(copy))
    with pytest.raises(DmaskError, match=r"made with other versions: mujoco \(.* there, 9.9 now\)"):
        repair.repair_all(copy)
    assert contents(root_of(copy)) == before


def test_a_folder_and_a_file_that_the_record_names_are_given_again(tmp_path: Path) -> None:
    for index in range(2):
        write_frames(tmp_path / "videos" / "train" / f"v{index}", seed=index)
        write_frames(tmp_path / "others" / "train" / f"w{index}", seed=index)
    own = write_policy(tmp_path / "own.safetensors", 6, 17, SPEC.env)
    other = write_policy(tmp_path / "other.safetensors", 6, 17, SPEC.env)
    tensors, metadata = policies.read(other)
    save_file({**tensors, "layers.0.bias": np.ones(6, np.float32)}, other, metadata)
    out, videos = tmp_path / "data", str(tmp_path / "videos")
    generate(replace(SPEC, episodes=2, backgrounds=videos, policy=str(own)), out)
    before = contents(root_of(out))
    flip(root_of(out) / schema.data_file(0), random.Random(4), (200, 2000))
    damaged = contents(root_of(out))
    for given, words in (
        (Given(), "made with 'videos', which lies elsewhere; give it with --backgrounds"),
        (Given(backgrounds=videos), "made with 'own.safetensors', which lies elsewhere; give it with --policy"),
        (Given(str(tmp_path / "others"), str(own)), "backgrounds_digest"),
        (Given(videos, str(other)), "policy_digest"),
        (Given(str(tmp_path / "nowhere"), str(own)), "no such folder"),
    ):
        with pytest.raises(DmaskError, match=words):
            repair.repair_all(out, given)
        assert contents(root_of(out)) == damaged
    repair.repair_all(out, Given(videos, str(own)))
    assert contents(root_of(out)) == before


def test_a_record_lost_with_its_copy_is_said(copy: Path) -> None:
    root = root_of(copy)
    for name in (schema.DMASK, meta.COPY):
        flip(root / name, random.Random(5))
    before = contents(root)
    with pytest.raises(DmaskError, match="both damaged"):
        repair.repair_all(copy)
    assert contents(root) == before


def test_a_damaged_part_is_made_anew(whole: Path, tmp_path: Path, made: list[int]) -> None:
    """An episode that waits for its shard is a file like the others."""
    calls = []

    def stop(frames: int, new: bool) -> None:
        calls.append(new)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(SPEC, tmp_path, on_event=watch(stop))
    part = parts.part_file(root_of(tmp_path), 2)
    flip(part, random.Random(6))
    with pytest.raises(DmaskError, match="episode-000002"):
        meta.verify_all(tmp_path)
    generate(SPEC, tmp_path)
    assert made == [0, 1, 2, 2, 3, 4]
    assert contents(root_of(tmp_path)) == contents(root_of(whole))


def test_a_pulled_dataset_is_fetched_again(copy: Path, tmp_path: Path, hub: HubServer, made: list[int]) -> None:
    push(copy, "org/name")
    pulled = tmp_path / "pulled"
    pull("org/name", pulled)
    root = root_of(pulled)
    before = contents(root)
    for seed, name in enumerate(sorted(set(before) - {fetch.ORIGIN})):
        flip(root / name, random.Random(seed))
        with pytest.raises(DmaskError) as refused:
            meta.verify_all(pulled)
        assert str(root / name) in str(refused.value)
        repair.repair_all(pulled)
        assert contents(root) == before, name
    assert made == []


def test_what_stays_of_a_dataset_whose_frames_lie_on_the_hub_is_mended(tmp_path: Path, hub: HubServer) -> None:
    generate(SPEC, tmp_path, push=Destination("org/name"))
    root = root_of(tmp_path)
    before = contents(root)
    assert storage.released(root) == [0, 1, 2]
    assert not [name for name in before if name.startswith("data/")]
    names = sorted(set(before) - {storage.SUMS, schema.SHEET})  # the sheet shows frames, which are not here
    for seed, name in enumerate([*names, storage.SUMS]):
        flip(root / name, random.Random(seed))
        with pytest.raises(DmaskError) as refused:
            meta.verify_all(tmp_path)
        assert str(root / name) in str(refused.value)
        repair.repair_all(tmp_path)
        assert {name: content for name, content in contents(root).items() if name in names} == {
            name: before[name] for name in names
        }
    meta.verify_all(tmp_path)


def test_the_command_line_repairs(copy: Path) -> None:
    path = root_of(copy) / schema.STATS
    original = path.read_bytes()
    flip(path, random.Random(7))
    command = [sys.executable, "-m", "distractor_data.cli", "verify", str(copy)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2
    assert f"{path} has changed since it was written" in told.stderr
    done = subprocess.run([*command, "--repair"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cheetah-run/train: meta/stats.json restored" in done.stdout
    assert path.read_bytes() == original


# --- kills -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no `except Exception` catches."""


def test_killed_at_any_rename_nothing_is_damaged_and_the_same_bytes_come(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before and just after files take their names, at every fifth rename of a run."""
    real, renames = os.replace, 0
    limit, after = 10**9, False

    def kill(source: Any, target: Any) -> None:
        nonlocal renames
        renames += 1
        if renames == limit and not after:
            raise Killed
        real(source, target)
        if renames == limit:
            raise Killed

    monkeypatch.setattr(rollout, "rollout", functools.cache(rollout.rollout))
    monkeypatch.setattr(generation, "complete", functools.cache(generation.complete))
    monkeypatch.setattr(os, "replace", kill)
    generate(SPEC, tmp_path / "whole")
    assert contents(root_of(tmp_path / "whole")) == contents(root_of(whole))
    total, unfinished = renames, 0
    for stop in range(1, total + 1, 5):
        out, renames, limit, after = tmp_path / str(stop), 0, stop, stop % 2 == 0
        with pytest.raises(Killed):
            generate(SPEC, out)
        assert not meta.damaged(root_of(out)), stop
        unfinished += storage.shards(root_of(out)) != [0, 1, 2]
        limit = 10**9
        generate(SPEC, out)
        assert contents(root_of(out)) == contents(root_of(whole)), stop
    assert unfinished > 8
