"""What `--clean` keeps: the undistracted image and the agent's mask in it, through every reader and writer."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distractor_data import load, schema
from distractor_data.dataset import meta, storage
from distractor_data.episode import Episode
from distractor_data.masks.corrupt import Corruption, corrupt_dataset
from distractor_data.pipeline import generate
from distractor_data.rollout import rollout
from distractor_data.spec import Spec

SPEC = Spec(env="humanoid-walk", episodes=2, steps=4, image_size=32, policy="random", clean=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of SPEC."""
    out = tmp_path_factory.mktemp("clean") / "data"
    generate(SPEC, out, workers=1)
    return out


@pytest.fixture(scope="module")
def undistracted() -> Episode:
    """Episode 0 of the same task and actions, without distractors."""
    return rollout(dataclasses.replace(SPEC, difficulty="clean"), 0)


def columns(out: Path, split: str = "train") -> list[str]:
    return pq.read_schema(schema.root(out, SPEC.env, split) / schema.data_file(0)).names


def test_the_mask_of_the_clean_image_is_the_undistracted_environments(made, undistracted):
    stored = load(made, SPEC.env)[0]
    np.testing.assert_array_equal(stored.image_clean, undistracted.image)
    np.testing.assert_array_equal(stored.mask_clean, undistracted.mask)
    overlap = (stored.mask & undistracted.mask).sum() / (stored.mask | undistracted.mask).sum()
    assert overlap < 0.9  # the other mask doesn't fit


def test_without_distractors_it_is_the_mask(undistracted):
    np.testing.assert_array_equal(undistracted.mask_clean, undistracted.mask)
    np.testing.assert_array_equal(undistracted.image_clean, undistracted.image)


def test_every_reader_knows_the_column(made):
    from datasets import load_dataset

    rows = load_dataset(str(made), SPEC.env, split="train")
    masks = np.stack([np.asarray(mask) for mask in rows[schema.MASK_CLEAN]])
    np.testing.assert_array_equal(masks[:4] == 255, load(made, SPEC.env)[0].mask_clean)
    root = schema.root(made, SPEC.env, "train")
    info, stats = storage.read_json(root / schema.INFO), storage.read_json(root / schema.STATS)
    assert info["features"][schema.MASK_CLEAN]["shape"] == [32, 32, 1]
    assert stats[schema.MASK_CLEAN]["mean"] == pytest.approx(np.full((1, 1, 1), (masks == 255).mean()))
    assert f"| `{schema.MASK_CLEAN}` | image 32×32, uint8, lossless |" in (made / "README.md").read_text()


def test_other_masks_leave_it_as_it_is(made, tmp_path):
    corrupt_dataset(made, tmp_path / "corrupt", Corruption(dilate=2))
    before, after = (
        storage.read_frames(schema.root(out, SPEC.env, "train"), 0) for out in (made, tmp_path / "corrupt")
    )
    assert after.column_names[:5] == list(schema.IMAGE_COLUMNS)
    assert after[schema.MASK] != before[schema.MASK]
    for name in schema.CLEAN_COLUMNS:
        assert after[name] == before[name]
    stats = [
        storage.read_json(schema.root(out, SPEC.env, "train") / schema.STATS)[schema.MASK_CLEAN]
        for out in (made, tmp_path / "corrupt")
    ]
    assert stats[0] == stats[1]


def test_a_dataset_from_before_the_column_loads_and_goes_on_without_it(made, tmp_path):
    out = tmp_path / "old"
    root = schema.root(out, SPEC.env, "train")
    generate(dataclasses.replace(SPEC, version=1), out, workers=1)
    record = meta.read_record(root)
    del record["spec"]["version"]  # as the first version wrote it
    storage.write_json(root / schema.DMASK, record)
    assert schema.MASK_CLEAN not in columns(out)
    assert load(out, SPEC.env)[0].mask_clean is None
    np.testing.assert_array_equal(load(out, SPEC.env)[1].image_clean, load(made, SPEC.env)[1].image_clean)
    generate(dataclasses.replace(SPEC, episodes=3), out, workers=1)
    generate(dataclasses.replace(SPEC, episodes=1, split="test"), out, workers=1)
    assert len(load(out, SPEC.env)) == 3
    for split in ("train", "test"):
        assert schema.IMAGE_CLEAN in columns(out, split)
        assert schema.MASK_CLEAN not in columns(out, split)
    shutil.rmtree(schema.root(out, SPEC.env, "test"))
    generate(SPEC, out, workers=1, overwrite=True)
    assert schema.MASK_CLEAN in columns(out)
