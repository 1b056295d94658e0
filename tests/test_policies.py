"""The policies that come with the package: levels, returns, and what is said where there is none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from distractor_data import policies
from distractor_data.policies import evaluate
from distractor_data.rollout import rollout
from distractor_data.spec import Spec


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distractor_data.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("env", policies.shipped())
def test_shipped_policies_reach_what_their_metadata_says(env: str) -> None:
    means = {}
    for level in ("expert", "medium"):
        if env not in policies.shipped(level):
            continue
        path = policies.weights_file(level, env)
        record = policies.read(path)[1]
        assert (record["env"], record["level"]) == (env, level)
        assert int(record["return_episodes"]) >= 20
        assert path.stat().st_size < 1_000_000
        means[level], deviation = float(record["return_mean"]), float(record["return_std"])
        # two of the recorded episodes; the floor is for versions of MuJoCo that differ in the last digits
        measured = evaluate.evaluate(level, env, episodes=2)
        assert abs(measured.mean() - means[level]) < 4 * max(deviation, 0.02 * means[level])
    if "medium" in means:
        assert 0.25 * means["expert"] < means["medium"] < 0.75 * means["expert"]


def test_the_table_says_which_algorithm_took_which_steps() -> None:
    """As the files' commands name them, and adding up to all of a file's steps; the README shows this table."""
    for env in policies.shipped():
        for level in ("expert", "medium"):
            record = policies.read(policies.weights_file(level, env))[1]
            commands = [*json.loads(record.get("before", "[]")), record["command"]]
            named = [re.search(r"--algorithm (\w+)", command) for command in commands]
            taken = evaluate.steps_by(record)
            assert list(taken) == list(dict.fromkeys(found[1].upper() if found else "SAC" for found in named))
            assert sum(taken.values()) == int(record["steps"])
            assert min(taken.values()) > 0
    assert "| cheetah-run | expert | 879.3 ± 30.6 | 20 | 1.95 M SAC, 17.01 M PPO |" in evaluate.table()
    assert evaluate.table() in (Path(__file__).parents[1] / "README.md").read_text()


def test_mixed_draws_a_level_for_each_episode_and_records_it() -> None:
    spec = Spec(env=policies.shipped("medium")[0], policy="mixed", steps=3, difficulty="clean", image_size=16)
    levels = [rollout(spec, episode).info["policy_level"] for episode in range(12)]
    assert set(levels) == set(policies.MIXTURE)
    assert levels[:3] == [rollout(spec, episode).info["policy_level"] for episode in range(3)]
    for level in policies.MIXTURE:
        alone = Spec(env=spec.env, policy=level, steps=3, difficulty="clean", image_size=16)
        assert rollout(alone, 0).info["policy_level"] == level


def test_a_mixed_evaluation_is_made_of_the_levels_episodes() -> None:
    env, episodes = policies.shipped("medium")[0], 4
    alone = np.stack([evaluate.evaluate(level, env, episodes, workers=1) for level in ("expert", "medium")])
    mixed = evaluate.evaluate("mixed", env, episodes)
    drawn = [policies.draw_level("mixed", np.random.default_rng(evaluate.HELD_OUT + k)) for k in range(episodes)]
    for k, level in enumerate(drawn):
        if level != "random":
            assert mixed[k] == alone[("expert", "medium").index(level), k]
        else:
            assert mixed[k] < alone[1, k]


def test_the_digest_follows_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = policies.shipped("medium")[0]
    digests = {level: policies.digest(level, env) for level in policies.NAMES}
    assert digests["random"] == ""
    assert len(set(digests.values())) == len(policies.NAMES)
    for level in ("expert", "medium"):
        tensors, metadata = policies.read(policies.weights_file(level, env))
        name = policies.weights_file(level, env).name
        save_file({**tensors, "obs_mean": tensors["obs_mean"] + 1}, tmp_path / name, metadata)
    monkeypatch.setattr(policies, "WEIGHTS", tmp_path)
    for level in ("expert", "medium", "mixed"):
        assert policies.digest(level, env) != digests[level]


def test_generate_takes_the_expert_by_default(tmp_path: Path) -> None:
    done = run("generate", "--episodes", "1", "--steps", "3", "--image-size", "16", "--out", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    from distractor_data.dataset import meta

    record = meta.read_record(tmp_path / "d" / "walker-run" / "train")
    shipped = policies.read(policies.weights_file("expert", "walker-run"))[1]
    assert record["spec"]["policy"] == "expert"
    assert record["expert_return"] == float(shipped["return_mean"])
    [file] = (tmp_path / "d").glob("walker-run/train/meta/episodes/*/*.parquet")
    assert pq.read_table(file)["policy_level"].to_pylist() == ["expert"]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.safetensors"
    corrupt.write_bytes(b"not a policy")
    foreign = policies.weights_file("expert", "walker-run")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(foreign.read_bytes()[:5000])
    nan = tmp_path / "nan.safetensors"
    tensors = load_file(foreign)
    tensors["layers.0.weight"][0, 0] = np.nan
    save_file(tensors, nan, policies.read(foreign)[1])
    damaged = tmp_path / "damaged.safetensors"
    save_file(load_file(foreign), damaged, {**policies.read(foreign)[1], "obs_clip": "ten"})
    for arguments, words in (
        (("expert", "eval", str(corrupt)), "safetensors"),
        (("expert", "eval", str(truncated)), "safetensors"),
        (("expert", "eval", str(nan)), "not finite"),
        (("expert", "eval", str(tmp_path / "none.safetensors")), "none.safetensors"),
        (("expert", "eval", str(foreign), "--env", "cheetah"), "trained on walker-run"),
        (("expert", "eval", "fish-swim"), "walker-run.*dmask expert train --env fish-swim"),
        (("expert", "eval", "walker-rum"), "did you mean 'walker-run'"),
        (("expert", "eval", str(damaged)), "metadata is damaged"),
        (("expert", "eval", "walker", "--level", "exprt"), "did you mean 'expert'"),
        (("expert", "eval", "walker", "--episodes", "0"), "--episodes is 0"),
        (("expert", "train", "--env", "walker-rum", "--out", str(tmp_path / "x.safetensors")), "walker-run"),
        (("expert", "train", "--env", "walker", "--out", str(tmp_path / "x")), "ends in .safetensors"),
        (("generate", "--env", "fish-swim", "--out", str(tmp_path / "d")), "dmask expert train --env fish-swim"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert re.search(words, done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
