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
