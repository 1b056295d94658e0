"""The command line: bad input is one line that says what to do, exit code 2, and no traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

REPOSITORY = Path(__file__).resolve().parents[1]


def dmask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distractor_data.cli", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def refusal(*arguments: str, **environment: str) -> str:
    """The one line that a refused command prints."""
    result = dmask(*arguments, **environment)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "error:" in line]
    return line


def policy(path: Path, action_size: int = 6, state_size: int = 24, env: str = "walker-run") -> Path:
    tensors = {
        "layers.0.weight": np.zeros((action_size, state_size), np.float32),
        "layers.0.bias": np.zeros(action_size, np.float32),
        "obs_mean": np.zeros(state_size, np.float32),
        "obs_var": np.ones(state_size, np.float32),
    }
    save_file(tensors, path, metadata={"env": env, "activation": "tanh", "output": "tanh"})
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--env", "walkr"], "walker"),
        (["--env", "walker-rum"], "walker-run"),
        (["--episodes", "0"], "--episodes"),
        (["--steps", "-3"], "--steps"),
        (["--image-size", "0"], "--image-size"),
        (["--workers", "-1"], "--workers"),
        (["--noise", "-1"], "--noise"),
        (["--seed", "-1"], "--seed"),
        (["--backgrounds", "no/such/folder"], "no/such/folder"),
        (["--policy", "no-such.safetensors"], "no-such.safetensors"),
        (["--policy", "randm"], "random"),
    ],
)
def test_bad_options_are_named(tmp_path, options, words):
    assert words in refusal("generate", "--out", str(tmp_path), *options)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_policy_of_wrong_sizes_says_which(tmp_path):
    wrong = policy(tmp_path / "wrong.safetensors", state_size=17)
    line = refusal("generate", "--out", str(tmp_path / "out"), "--policy", str(wrong))
    assert "17" in line
    assert "24" in line


def test_a_policy_of_another_environment_says_which(tmp_path):
    other = policy(tmp_path / "other.safetensors", env="cheetah-run")
    assert "cheetah-run" in refusal("generate", "--out", str(tmp_path / "out"), "--policy", str(other))


def test_a_truncated_policy_is_named(tmp_path):
    path = policy(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    assert "cut.safetensors" in refusal("generate", "--out", str(tmp_path / "out"), "--policy", str(path))


def test_an_unreadable_frame_is_named_and_what_was_written_stays(tmp_path):
    from distractor_data import load
    from distractor_data.dataset import meta
    from tests.test_backgrounds import write_frames

    write_frames(tmp_path / "bg" / "train" / "video")
    arguments = ["--out", str(tmp_path / "out"), "--backgrounds", str(tmp_path / "bg"), "--steps", "9"]
    made = dmask("generate", *arguments, "--episodes", "1")
    assert made.returncode == 0, made.stderr
    before = load(tmp_path / "out")[0]
    frame = tmp_path / "bg" / "train" / "video" / "00002.png"
    frame.write_bytes(b"x" * frame.stat().st_size)
    assert "00002.png" in refusal("generate", *arguments, "--episodes", "2")
    (stays,) = load(tmp_path / "out")
    np.testing.assert_array_equal(stays.image, before.image)
    assert meta.verify_all(tmp_path / "out") == {"walker-run/train": 2}


def test_no_opengl_is_said_in_one_line(tmp_path):
    # An EGL that finds no driver: what a machine without Mesa and without a GPU looks like.
    line = refusal(
        "generate",
        "--out",
        str(tmp_path),
        "--episodes",
        "1",
        __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path),
        LIBGL_DRIVERS_PATH=str(tmp_path),
    )
    assert "apt-get install" in line


def test_an_output_that_is_a_file_or_not_empty_is_refused(tmp_path):
    (tmp_path / "cheetah-run" / "train").mkdir(parents=True)
    (tmp_path / "cheetah-run" / "train" / "thesis.txt").write_text("precious")
    assert "not empty" in refusal("generate", "--env", "cheetah", "--episodes", "1", "--out", str(tmp_path))
    assert (tmp_path / "cheetah-run" / "train" / "thesis.txt").read_text() == "precious"
    assert "holds no dataset" in refusal("verify", str(tmp_path))


def test_help_answers_without_heavy_imports():
    code = (
        "import sys, distractor_data.cli as c; "
        "heavy = {'numpy', 'torch', 'mujoco', 'dm_control', 'sam2', 'jax', 'datasets', 'pandas', 'cv2', 'pyarrow'}; "
        "heavy |= {'matplotlib'}; "
        "print(heavy & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stdout + result.stderr


def test_a_reader_that_goes_away_is_no_error():
    listing = f"{shlex.quote(sys.executable)} -m distractor_data.cli envs | head -n 1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", listing], cwd=REPOSITORY, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("suite: ")
    assert result.stdout.count("\n") == 1
