"""Training an expert: what it keeps, that it survives a kill, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from distractor_data import cli, policies
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.policies import evaluate
from distractor_data.policies.training import checkpoint, learner, train
from distractor_data.policies.training.settings import Settings

TINY = Settings(
    env="cartpole-balance",
    steps=12_000,
    warmup=1_000,
    hidden=64,
    learning_rate=2e-3,
    updates=8,
    batch_size=64,
    eval_every=3_000,
    eval_episodes=2,
    final_episodes=3,
    buffer=20_000,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny training on cartpole-balance, to the end; the folder holds its files."""
    pytest.importorskip("sbx")
    folder = tmp_path_factory.mktemp("trained")
    train.train(TINY, folder / "cartpole-balance-expert.safetensors", folder / "state")
    return folder


def test_training_learns_and_its_metadata_is_what_evaluation_measures(trained: Path) -> None:
    out = trained / "cartpole-balance-expert.safetensors"
    metadata = policies.read(out)[1]
    measured = evaluate.evaluate(str(out), TINY.env, TINY.final_episodes)
    random = evaluate.evaluate("random", TINY.env, TINY.final_episodes)
    assert measured.mean() > random.mean() + 100
    assert metadata["env"] == TINY.env
    assert metadata["level"] == "expert"
    assert float(metadata["return_mean"]) == pytest.approx(measured.mean(), abs=0.01)
    assert float(metadata["return_std"]) == pytest.approx(measured.std(), abs=0.01)
    assert metadata["command"].startswith("dmask expert train --env cartpole-balance")


def test_training_leaves_nothing_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sbx")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    learner.Learner(TINY).learn(20)
    assert not list(tmp_path.iterdir())


def test_the_medium_level_is_an_earlier_actor_of_about_half_of_the_return(trained: Path) -> None:
    expert = policies.read(trained / "cartpole-balance-expert.safetensors")[1]
    medium = policies.read(trained / "cartpole-balance-medium.safetensors")[1]
    assert medium["level"] == "medium"
    assert int(medium["steps"]) < int(expert["steps"])
    for measure in ("selection_return", "return_mean"):
        assert 0.25 < float(medium[measure]) / float(expert[measure]) < 0.75


def test_the_measured_return_decides_what_is_medium(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "cartpole-balance-expert.safetensors"
    shutil.copy(trained / out.name, out)
    selection = float(policies.read(out)[1]["selection_return"])
    # By the selection's few episodes the expert itself looks like half of it, and better than the true half.
    for name, source, share in (("1", "expert", 0.5), ("2", "medium", 0.6)):
        tensors, record = policies.read(trained / f"cartpole-balance-{source}.safetensors")
        looks = {"steps": name, "selection_return": str(share * selection)}
        train.save_policy(tmp_path / f"actor-{name}.safetensors", tensors, {**record, **looks})
    medium = train.export_medium(tmp_path, out, TINY.final_episodes)
    assert medium is not None
    assert policies.read(medium)[1]["steps"] == "2"


def test_a_training_that_has_reached_nothing_has_no_medium_level(trained: Path, tmp_path: Path) -> None:
    tensors, metadata = policies.read(trained / "cartpole-balance-expert.safetensors")
    out = tmp_path / "cartpole-balance-expert.safetensors"
    for path in (out, tmp_path / "actor-0000000001.safetensors"):
        train.save_policy(path, tensors, {**metadata, "selection_return": "0.00"})
    assert train.export_medium(tmp_path, out, 1) is None


def test_the_exported_network_acts_as_the_learner_does(trained: Path) -> None:
    training = learner.Learner(TINY)
    checkpoint.restore(trained / "state" / "state.npz", training)
    path = trained / "exported.safetensors"
    metadata = policies.read(trained / "cartpole-balance-expert.safetensors")[1]
    train.save_policy(path, training.actor_tensors(), metadata)
    ours = evaluate.open_policy(str(path), TINY.env)
    states = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    theirs = training.model.predict(training.envs.normalize_obs(states), deterministic=True)[0]
    mine = np.stack([ours.act(state, np.random.default_rng(0)) for state in states])
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_a_training_from_a_policy_keeps_its_actor_while_the_critics_learn(trained: Path, tmp_path: Path) -> None:
    source = tmp_path / "begun.safetensors"
    shutil.copy(trained / "cartpole-balance-expert.safetensors", source)
    first, longer = (
        Settings(**{**vars(TINY), "start": str(source), "warmup": 800, "critic_first": 800, "steps": steps})
        for steps in (1_600, 2_400)
    )
    out = tmp_path / "cartpole-balance-expert.safetensors"
    train.train(first, out, tmp_path)
    earlier, metadata = policies.read(source)
    kept, record = policies.read(out)
    assert int(record["steps"]) == int(metadata["steps"]) + 1_600
    assert evaluate.steps_by(record) == {"SAC": int(record["steps"])}
    assert f"--from {source.name}" in record["command"]
    assert json.loads(record["before"]) == [metadata["command"]]
    assert str(tmp_path) not in "".join(record.values())  # a file names no folder of the machine it was made on
    layers = [name for name in kept if name.startswith("layers.")]
    for name in layers:
        np.testing.assert_array_equal(kept[name], earlier[name], err_msg=name)
    training = learner.Learner(first)
    checkpoint.restore(tmp_path / "state.npz", training)
    assert training.model.policy.qf_state.step == 800 / (TINY.action_repeat * TINY.num_envs) * TINY.updates
    source.unlink()  # an earlier state does not need it
    train.train(longer, out, tmp_path, resume=True)
    last_file = max(tmp_path.glob("actor-*.safetensors"))
    assert int(policies.read(last_file)[1]["steps"]) == int(metadata["steps"]) + 2_400
    last = load_file(last_file)
    assert all(np.abs(last[name] - earlier[name]).max() > 0 for name in layers)


def test_two_trainings_do_not_write_to_one_state(tmp_path: Path) -> None:
    out = tmp_path / "cartpole-balance-expert.safetensors"
    with storage.lock(tmp_path), pytest.raises(DmaskError, match=r"another run is writing to .*; .* another --state"):
        train.train(TINY, out, tmp_path)


def test_the_averaged_actor_follows_what_is_learnt_and_smooths_it() -> None:
    rng, mean = np.random.default_rng(0), {"w": np.zeros(100, np.float32)}
    for steps in range(2_000, 400_000, 2_000):
        mean = learner.averaged(mean, {"w": rng.normal(1, 1, 100).astype(np.float32)}, steps, steps - 2_000)
    assert mean["w"].mean() == pytest.approx(1, abs=0.1)
    assert mean["w"].std() < 0.3
    np.testing.assert_array_equal(learner.averaged(mean, mean, 402_000, 400_000)["w"], mean["w"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("seed", -1),
        ("eval_every", 0),
        ("target_entropy", np.nan),
        ("target_entropy", 1),
        ("algorithm", "a2c"),
        ("action_repeat", 0),
        ("batch_size", 0),
        ("n_steps", 0),
        ("discount", 1.0),
    ],
)
def test_settings_that_cannot_be_are_named(field: str, value: float | str) -> None:
    with pytest.raises(DmaskError, match=f"--{field.replace('_', '-')} is {value}; give"):
        Settings(**{**vars(TINY), field: value})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"start": "expert", "target_entropy": -1.0, "action_repeat": 1, "batch_size": 256},
        {"algorithm": "tqc", "curriculum": True, "n_steps": 5, "discount": 0.995},
        {"algorithm": "ppo", "start": "expert", "action_repeat": 1, "eval_every": 500_000},
    ],
)
def test_a_recorded_command_gives_its_settings_again(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, given = Settings("walker-run", **changes), []
    monkeypatch.setattr(train, "train", lambda *arguments: given.append(arguments))
    words = shlex.split(train.command(settings, Path("folder/x.safetensors")))[1:]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert given[0][:2] == (settings, Path("x.safetensors"))


def test_a_training_from_a_policy_of_another_layout_is_refused(trained: Path, tmp_path: Path) -> None:
    source = trained / "cartpole-balance-expert.safetensors"
    for wrong in ({"env": "walker-run"}, {"hidden": 32}):
        settings = Settings(**{**vars(TINY), "start": str(source), **wrong})
        with pytest.raises(DmaskError, match="not of this training's layout"):
            train.train(settings, tmp_path / "x.safetensors", tmp_path)
    settings = Settings(**{**vars(TINY), "start": "expert"})
    with pytest.raises(DmaskError, match="comes with dmask"):
        train.train(settings, tmp_path / "x.safetensors", tmp_path)


def same_states(first: Path, second: Path) -> None:
    import jax
    from flax.serialization import msgpack_restore

    with np.load(first) as ours, np.load(second) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            if name.startswith("learned."):
                states = (msgpack_restore(file[name].tobytes()) for file in (ours, theirs))
                jax.tree.map(np.testing.assert_array_equal, *states)
            elif name != "buffer.timeouts":  # resuming marks where the episodes were cut
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_the_training_state_comes_back_whole(trained: Path, tmp_path: Path) -> None:
    training = learner.Learner(TINY)
    checkpoint.restore(trained / "state" / "state.npz", training)
    assert training.steps >= TINY.steps
    assert training.model.replay_buffer.pos == training.model.num_timesteps // TINY.num_envs
    checkpoint.save(tmp_path / "again.npz", training)
    same_states(trained / "state" / "state.npz", tmp_path / "again.npz")


def test_a_training_with_quantiles_and_a_curriculum_comes_back_whole(tmp_path: Path) -> None:
    pytest.importorskip("sbx")
    changes = {"env": "hopper-hop", "algorithm": "tqc", "curriculum": True, "steps": 2_400, "eval_every": 2_400}
    settings = Settings(**{**vars(TINY), **changes})
    out = tmp_path / "hopper-hop-expert.safetensors"
    train.train(settings, out, tmp_path / "state")
    record = policies.read(out)[1]
    assert record["algorithm"] == "TQC"
    assert "--curriculum --algorithm tqc" in record["command"]
    first, second = learner.Learner(settings), learner.Learner(settings)
    checkpoint.restore(tmp_path / "state" / "state.npz", first)
    assert first.curriculum
    assert second.curriculum
    first.curriculum.support = 0.37
    checkpoint.save(tmp_path / "first.npz", first)
    checkpoint.restore(tmp_path / "first.npz", second)
    assert second.curriculum.support == 0.37
    checkpoint.save(tmp_path / "second.npz", second)
    same_states(tmp_path / "first.npz", tmp_path / "second.npz")


def test_a_killed_training_resumes_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("sbx")
    out, state = tmp_path / "cartpole-balance-expert.safetensors", tmp_path / "state"
    arguments = ["--env", "cartpole-balance", "--out", str(out), "--state", str(state), "--eval-every", "100000"]
    command = [sys.executable, "-m", "distractor_data.cli", "expert", "train", *arguments]
    with subprocess.Popen(
        [*command, "--steps", "100000"], stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 240
        while not (state / "state.npz").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    with np.load(state / "state.npz") as file:
        steps = int(file["counters"][0]) * Settings("").action_repeat
    assert 0 < steps < 100_000

    command += ["--steps", str(steps + 1_000)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed at {steps:,} steps" in resumed.stdout + resumed.stderr
    assert steps < int(policies.read(out)[1]["steps"]) < steps + 1_000 + 16


def test_a_training_keeps_a_better_actor_that_is_there(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "cartpole-balance-expert.safetensors"
    tensors, metadata = policies.read(trained / "cartpole-balance-expert.safetensors")
    train.save_policy(out, tensors, {**metadata, "selection_return": "1001"})  # more than any episode can give
    before = out.read_bytes()
    state = tmp_path / "state"
    shutil.copytree(trained / "state", state)
    longer = Settings(**{**vars(TINY), "steps": TINY.steps + 100})
    train.train(longer, out, state, resume=True)
    assert out.read_bytes() == before
    train.train(Settings(**{**vars(TINY), "steps": 100}), out, tmp_path / "fresh")
    assert out.read_bytes() == before
    with pytest.raises(DmaskError, match="holds a policy for cartpole-balance"):
        train.train(Settings(**{**vars(TINY), "env": "cartpole-swingup"}), out, tmp_path / "other")
    out.unlink()
    longest = Settings(**{**vars(TINY), "steps": TINY.steps + 200})
    train.train(longest, out, state, resume=True)
    assert int(policies.read(out)[1]["steps"]) >= longest.steps


def test_resuming_with_other_settings_or_nothing_is_refused(trained: Path, tmp_path: Path) -> None:
    other = Settings(**{**vars(TINY), "seed": 1})
    with pytest.raises(DmaskError, match="seed"):
        train.train(other, tmp_path / "x.safetensors", trained / "state", resume=True)
    with pytest.raises(DmaskError, match="leave out --resume"):
        train.train(TINY, tmp_path / "x.safetensors", tmp_path / "none", resume=True)
    whole = (trained / "state" / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DmaskError, match="no whole training state"):
        train.train(TINY, tmp_path / "x.safetensors", tmp_path, resume=True)


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DmaskError, match=re.escape("pip install 'dmask[experts]'")):
        train.train(TINY, tmp_path / "x.safetensors", tmp_path / "state")
