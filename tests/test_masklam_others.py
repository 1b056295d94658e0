"""Training on datasets of others: LeRobot's and Parquet, with and without actions, of frames that are not square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lerobot_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_files import LENGTHS, TOP, write_lerobot, write_parquet

from distractor_data import schema
from distractor_data.dataset.foreign import Group, appended
from distractor_data.dataset.rows import encode_mask
from distractor_data.errors import DmaskError
from masklam import others
from masklam.methods import METHODS, find
from masklam.settings import Settings
from masklam.train import train

pytestmark = pytest.mark.usefixtures("decoded_frames")
FEW = {"steps": 3, "policy_steps": 2, "decoder_steps": 2, "batch": 4, "res_blocks": 0, "image_size": 16}
MASK = schema.mask_of(TOP)


def masks(column: str, episode: int) -> np.ndarray:
    """(T, H, W) bool: where the square of `lerobot_files.frames` is."""
    return (lerobot_files.frames(column, episode) == 230).all(-1)


def masked(root: Path, column: str = TOP, key: str = TOP) -> Path:
    """The dataset with a column of masks, as `dmask mask --image-column` writes it."""
    every = [mask for episode in range(len(LENGTHS)) for mask in masks(column, episode)]
    for path in sorted(root.glob("data/**/*.parquet")):
        table = pq.read_table(path, partitioning=None)
        blobs, every = every[: len(table)], every[len(table) :]
        layout = appended(table.schema, {key: schema.mask_of(key)})
        added = pa.array([{"bytes": encode_mask(mask), "path": None} for mask in blobs], layout.field(-1).type)
        pq.write_table(pa.Table.from_arrays([*table.columns, added], schema=layout), path)
    if (root / schema.INFO).exists():
        info = json.loads((root / schema.INFO).read_text())
        info["features"][schema.mask_of(key)] = {"dtype": "image", "shape": [24, 40, 1], "names": None}
        (root / schema.INFO).write_text(json.dumps(info))
    return root


def settings(root: Path, **options: Any) -> Settings:
    """A few steps of a method, with those options that it takes."""
    method = find(options.get("method", "masklam"))
    few = {name: value for name, value in FEW.items() if method.takes(name)}
    return Settings(**{"dataset": str(root), "env": root.name, "image_column": TOP, **few, **options})


@pytest.mark.parametrize("video", [False, True])
def test_frames_are_squares_of_those_that_were_recorded(tmp_path, video):
    import cv2

    root = masked(write_lerobot(tmp_path / "robot", video))
    frames = others.load(settings(root, image_size=0), "train", True, str(tmp_path / "cache"))
    assert frames.image.shape == (24, 64, 64, 3)
    assert frames.action.shape == (24, 2)
    assert frames.episode.tolist() == [e for e, length in enumerate(LENGTHS) for _ in range(length)]
    wanted = cv2.resize(lerobot_files.frames(TOP, 1)[3], (64, 64), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(frames.image[LENGTHS[0] + 3].numpy() - wanted).mean() < (12 if video else 0.01)
    agent = frames.masks(torch.tensor([LENGTHS[0] + 3]))[0, 0] > 0
    assert frames.image[LENGTHS[0] + 3][agent].float().mean() > 200
    again = others.load(settings(root, image_size=0), "train", True, str(tmp_path / "cache"))
    assert torch.equal(again.image, frames.image)


@pytest.mark.parametrize("video", [False, True])
def test_a_run_on_a_lerobot_dataset_needs_no_environment(tmp_path, video):
    root = masked(write_lerobot(tmp_path / "robot", video))
    results = train(settings(root), str(tmp_path / "run"), "cpu")
    assert results["linear_probe"]["in"]["nmse"] > 0
    assert "background_probe" in results
    assert results["missing"] == [
        "probes on the test split: the dataset has none",
        "returns: which environment the dataset is from is not known",
    ]
    assert json.loads((tmp_path / "run" / "dataset.json").read_text())["name"] == "robot"
    card = (tmp_path / "run" / "README.md").read_text()
    assert "masklam on robot" in card
    again = train(settings(root), str(tmp_path / "run"), "cpu")
    assert again == results


def test_without_actions_it_trains_and_says_that_there_is_nothing_to_probe(tmp_path):
    root = masked(write_lerobot(tmp_path / "robot", action=False))
    results = train(settings(root), str(tmp_path / "run"), "cpu")
    assert "probes: the dataset has no actions, so there is nothing to probe" in results["missing"]
    from masklam.models import Model

    model = Model.from_pretrained(str(tmp_path / "run"))
    assert model.parts == ["lam", "policy"]
    seen = model.encode(torch.zeros(3, 16, 16, 3, dtype=torch.uint8))
    assert model.latent(seen[:-1], seen[1:]).shape == (2, 64)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.labels])
def test_methods_that_learn_from_actions_want_some(tmp_path, method):
    root = write_lerobot(tmp_path / "robot", action=False)
    with pytest.raises(DmaskError, match=f"{method} learns from actions"):
        train(settings(root, method=method), str(tmp_path / method), "cpu")
    assert not (tmp_path / method).exists()


@pytest.mark.parametrize("method", ["lapo", "laom", "bc"])
def test_other_methods_train_on_parquet_of_others(tmp_path, method):
    root = write_parquet(tmp_path / "walks")
    given = {"image_column": "image", "action_column": "step"}  # a column of numbers is a vector of one
    given |= {"offset": 1} if method == "laom" else {}
    results = train(settings(root, method=method, **given), str(tmp_path / "run"), "cpu")
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert ("linear_probe" in results) == (method != "bc")


def test_a_test_split_is_found_by_its_name(tmp_path):
    root = write_parquet(tmp_path / "walks")
    for path in sorted(write_parquet(tmp_path / "more", cuts=(20,)).glob("data/*")):
        path.rename(root / "data" / path.name.replace("train", "test"))
    given = settings(root, image_column="image", method="lapo", action_column="step")
    train_frames, test_frames = (others.load(given, split, False, str(tmp_path / "c")) for split in ("train", "test"))
    assert torch.equal(train_frames.image, test_frames.image)  # of the same rows, in other shards
    assert "out" in train(given, str(tmp_path / "run"), "cpu")["linear_probe"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_column": "observation.images.tpo"}, "did you mean 'observation.images.top'"),
        ({}, "no images or video in a column observation.masks.top"),
        ({"streaming": True, "method": "lapo"}, "--streaming is for datasets on the Hub"),
        ({"action_column": "timestamps", "method": "bc"}, "bc learns from actions"),
        ({"episode_column": "walk", "method": "lapo"}, "a LeRobotDataset's is episode_index"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path, options, words):
    root = write_lerobot(tmp_path / "robot")
    with pytest.raises(DmaskError, match=words):
        train(settings(root, **options), str(tmp_path / "run"), "cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pa.array([["a"]] * 24), "give one of numbers"),
        (pa.array([[float("nan")]] * 24, pa.list_(pa.float32())), "not finite"),
        (pa.array([[1.0], [1.0, 2.0, 3.0]] * 12, pa.list_(pa.float32())), "several lengths"),
        (pa.array([None] + [[1.0]] * 23, pa.list_(pa.float32())), "without a value"),
    ],
)
def test_actions_that_are_none(tmp_path, value, words):
    root = write_parquet(tmp_path / "walks", cuts=())
    (path,) = root.glob("data/*")
    pq.write_table(pq.read_table(path, partitioning=None).append_column("action", value), path)
    with pytest.raises(DmaskError, match=words):
        others.load(settings(root, image_column="image"), "train", False, str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("data/test-00000-of-00001.parquet", True),
        ("validation.parquet", True),
        ("data/Val_3.parquet", True),
        ("data/train-00000-of-00001.parquet", False),
        ("latest.parquet", False),
        ("contest/valves.parquet", False),
        ("interval-00001.parquet", False),
    ],
)
def test_a_split_is_told_by_whole_words_of_its_files_name(name, test):
    assert Group((name,), (0,), ()).test is test
