import json
import os
import subprocess
import sys
from pathlib import Path

import moving_square
import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("one_gradient.py")


@pytest.mark.parametrize("method", ["masklam", pytest.param("laom-labels", marks=pytest.mark.slow)])
def test_two_processes_have_the_gradients_of_one_at_the_double_batch(tmp_path, method):
    dataset = str(moving_square.write(tmp_path / "data", episodes=4, steps=12))
    environment = {**os.environ, "DMASK_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(SCRIPT.parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", two)):
        command = [sys.executable, *launcher, str(SCRIPT), dataset, str(tmp_path / name), method]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, both = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.keys() == both.keys()
    assert sum(float(g.abs().sum()) for g in one.values()) > 0
    for name, gradient in one.items():
        assert torch.allclose(gradient, both[name], rtol=1e-4, atol=1e-6), name


def test_two_processes_stream_their_own_shards_and_stay_equal(tmp_path):
    dataset = str(moving_square.write(tmp_path / "data", episodes=8, steps=12))
    environment = {**os.environ, "DMASK_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    options = "--streaming --stages lam --steps 40 --batch 16 --latent-dim 8 --res-blocks 0 --labelled-trajectories 1"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "masklam.cli", "train", "--dataset", dataset, "--out", str(tmp_path / "run"), "--device", "cpu"]
    command += options.split(" ")
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=SCRIPT.parents[1]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [m["loss"] for m in map(json.loads, lines) if "loss" in m]
    assert losses[-1] < losses[0]
    assert len(list((tmp_path / "cache").glob("*/observation.image.npy"))) == 2
