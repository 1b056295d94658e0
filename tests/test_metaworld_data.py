"""A dataset of Meta-World goes through the same doors as the suite's, and tells which episodes solved their task."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_generate import digests

from distractor_data import load, schema
from distractor_data.dataset import meta, storage
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.repair import Given, repair_all
from distractor_data.rollout import rollout
from distractor_data.spec import Spec

pytest.importorskip("metaworld")

SPEC = Spec(
    env="metaworld/reach", episodes=3, steps=60, image_size=16, clean=True, noise=0.3, seed=2, steps_after_success=2
)
BARE = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], "metaworld-reach", split="train")
print(json.dumps([rows.column_names, sum(rows["next.success"]), sorted({"mujoco", "metaworld"} & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("metaworld") / "data"
    summary = generate(SPEC, out, workers=1)
    assert summary.success == np.mean([episode.info[schema.SUCCEEDED] for episode in load(out, SPEC.env)])
    return out


def test_bytes_do_not_depend_on_workers_and_the_dataset_grows_to_the_same(made, tmp_path):
    generate(dataclasses.replace(SPEC, episodes=2), tmp_path, workers=2)
    generate(SPEC, tmp_path, workers=2)
    assert digests(tmp_path / SPEC.env / "train") == digests(made / SPEC.env / "train")


def test_what_is_read_is_what_was_rolled_out(made):
    (first, *_), direct = load(made, "metaworld/reach"), rollout(SPEC, 0)
    for name in ("image", "mask", "image_clean", "mask_clean", "state", "action", "reward", "done", "success"):
        np.testing.assert_array_equal(getattr(first, name), getattr(direct, name))
    assert first.info[schema.SUCCEEDED] == direct.success.any()
    assert (np.diff(np.flatnonzero(first.done)) > 0).all()
    assert first.done[-1]


def test_datasets_alone_reads_it(made):
    done = subprocess.run([sys.executable, "-c", BARE, str(made)], capture_output=True, text=True, check=True)
    columns, solved, simulators = json.loads(done.stdout)
    assert schema.SUCCESS in columns
    assert solved == sum(int(episode.success.sum()) for episode in load(made, SPEC.env))
    assert simulators == []


def test_what_is_masked_stands_in_record_and_card(made):
    record = meta.read_record(made / SPEC.env / "train")
    assert record["masked"] == "the robot's arm with its gripper"
    assert {"metaworld", "fast-simplification"} <= set(record["versions"])
    card = (made / "README.md").read_text()
    for said in (record["masked"], "upside down", "`next.success`", "--steps-after-success 2", "| success |"):
        assert said in card


def test_a_damaged_shard_is_made_anew(made, tmp_path):
    generate(dataclasses.replace(SPEC, episodes=1), tmp_path, workers=1)
    root = tmp_path / SPEC.env / "train"
    before = digests(root)
    path = root / schema.data_file(0)
    path.write_bytes(path.read_bytes()[:-100])
    assert list(repair_all(tmp_path, Given()).values()) == [[schema.data_file(0)]]
    assert digests(root) == before


def test_what_was_exported_to_laom_comes_back_at_its_frame_rate(tmp_path):
    pytest.importorskip("h5py")
    from distractor_data.exports import export
    from distractor_data.imports import describe

    generate(dataclasses.replace(SPEC, episodes=1, steps=5), tmp_path / "data", workers=1)
    export(tmp_path / "data", "laom", tmp_path)
    (file,) = tmp_path.glob("*.hdf5")
    spec, rate = describe(file)
    assert (spec.env, rate) == (SPEC.env, meta.read_record(tmp_path / "data" / SPEC.env / "train")["fps"])


def test_another_camera_is_another_dataset(made):
    with pytest.raises(DmaskError, match=r"another spec: camera \(.*corner2.*there.*topview.*now\)"):
        generate(dataclasses.replace(SPEC, camera="topview"), made)


def test_frames_that_lie_elsewhere_keep_their_columns(made, tmp_path):
    """`meta/info.json` is made anew from the records alone where the frames were sent to the Hub."""
    root = Path(shutil.copytree(made, tmp_path / "data")) / SPEC.env / "train"
    before = (root / schema.INFO).read_bytes()
    storage.release(root, [0])
    meta.refresh(root)
    assert (root / schema.INFO).read_bytes() == before


@pytest.mark.usefixtures("decoded_frames")
def test_success_rates_stand_beside_returns(made, tmp_path):
    from masklam import measures
    from masklam.settings import Settings
    from masklam.train import train

    options = {"method": "bc", "labelled_trajectories": (0,), "res_blocks": 0, "policy_scale": 1, "policy_steps": 3}
    results = train(Settings(str(made), "metaworld/reach", eval_episodes=1, **options), str(tmp_path / "run"))
    solved = [episode.info[schema.SUCCEEDED] for episode in load(made, SPEC.env)]
    assert results["expert_success"] == np.mean(solved)
    for split in ("train", "test"):
        (found,) = results["returns"][split].values()
        assert [type(one) for one in found["solved"]] == [bool]
        assert found["normalised_success"] == pytest.approx(np.mean(found["solved"]) / np.mean(solved))
    kinds = [measure.kind for measure in measures.measures(results)]
    assert kinds.count("success") == kinds.count("normalised_success") == 2
