"""Datasets of the first layout, written before specs had versions and checksums a journal, still load."""

from __future__ import annotations

import shutil
from pathlib import Path

import mujoco
import numpy as np
import pytest

import distractor_data
from distractor_data import schema
from distractor_data.dataset import meta
from distractor_data.rollout import rollout
from masklam import data

SPLITS = ("train", "test")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "first_layout" / "dataset", tmp_path / "old"))


def test_its_episodes_and_spec_are_read(old):
    for split in SPLITS:
        episodes = distractor_data.load(old, "hopper", split)
        assert [episode.image.shape for episode in episodes] == [(4, 16, 16, 3)] * 2
        assert all(episode.image_clean is not None and episode.mask_clean is None for episode in episodes)
    spec = meta.read_spec(old / "hopper-hop" / "train")
    assert (spec.version, spec.renderer) == (1, "opengl")
    assert set(meta.verify_all(old)) == {f"hopper-hop/{split}" for split in SPLITS}


def test_it_is_trained_on(old, tmp_path):
    frames = data.load(str(old), "hopper-hop", mask_column=schema.MASK, cache=tmp_path / "cache")
    episodes = distractor_data.load(old, "hopper")
    assert np.array_equal(frames.image.numpy(), np.concatenate([episode.image for episode in episodes]))


def test_its_pictures_are_still_drawn(old):
    """Those of `--fidelity medium`, which is what specs mean that name none."""
    there = meta.read_record(old / "hopper-hop" / "train")["versions"]
    if there["mujoco"] != mujoco.__version__:
        pytest.skip("another MuJoCo moves the agent elsewhere")
    for split in SPLITS:
        spec = meta.read_spec(old / "hopper-hop" / split)
        assert (spec.renderer, spec.fidelity) == ("opengl", "medium")
        for number, episode in enumerate(distractor_data.load(old, "hopper", split)):
            again = rollout(spec, number)
            np.testing.assert_array_equal(again.state, episode.state)
            np.testing.assert_array_equal(again.mask, episode.mask)
            for one, other in ((again.image, episode.image), (again.image_clean, episode.image_clean)):
                assert abs(one.astype(int) - other).max() <= 1  # another processor may round another way
