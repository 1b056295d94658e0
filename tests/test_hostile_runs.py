"""Runs, models and checkpoints that a stranger wrote: refused by one line, before memory is taken for them."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from hostile import command
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from masklam import limits
from masklam.models import Model
from masklam.run import DATASET, METRICS, RESULTS, Run
from masklam.settings import Settings

Capture = pytest.CaptureFixture[str]
NAMES = {"method": "lapo", "latent_dim": 4, "res_blocks": 0, "policy_scale": 1}
RETURNS = {"train": {"1": {"returns": [3.0], "normalised": 0.1}}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained and measured."""
    torch.set_num_threads(1)
    run, settings = Run(tmp_path_factory.mktemp("runs") / "run"), Settings(**NAMES)
    run.folder.mkdir()
    model = Model(**NAMES, action_dim=3, image_size=16, parts=["lam", "policy", "decoder"], budgets=[1])
    run.publish(model, settings, ["lam", "policy", "decoder"])
    run.save_results({"linear_probe": {"in": {"nmse": 0.5}}, "returns": RETURNS, "expert_return": 30.0}, settings)
    run.save_dataset({"name": "data", "revision": None, "digest": None})
    (run.folder / METRICS).write_text('{"stage": "lam", "step": 20, "loss": 0.5, "probe_nmse": 0.5}\n')
    return run.folder


@pytest.fixture
def world(tmp_path: Path, whole: Path) -> Path:
    """A folder with a copy of the run, and somebody's file beside it."""
    shutil.copytree(whole, tmp_path / "world" / "run")
    (tmp_path / "world" / "private.txt").write_text("precious")
    return tmp_path / "world"


def publish(world: Path) -> Callable[[], object]:
    return command("masklam", "push", world / "run", "org/name", "--dry-run")


def test_a_run_as_it_was_written_is_accepted(world: Path, capfd: Capture) -> None:
    publish(world)()
    assert "lapo" in capfd.readouterr().out


def change(path: Path, name: str, value: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


CONFIG: dict[str, Any] = {
    "latent_dim": [10**12, -1, 0, 4.5, "4", True, None, [4]],
    "action_dim": [10**9],
    "image_size": [10**6],
    "frame_stack": [10**6],
    "encoder_scale": [10**5, -2],
    "policy_scale": [10**5],
    "res_blocks": [10**7, -1],
    "heads": [10**8],
    "encoder_deep": ["yes"],
    "method": ["lapoo", 3, None, "__import__('os')"],
    "quantize": ["int4", 8],
    "parts": [["evil"], "lam", ["lam", "lam", "lam", "lam"], [["lam"]]],
    "budgets": [[-1], ["1"], [10**30], list(range(1, 10**4))],
    "training": [None, [], {}, {"method": "lapo"}, {"method": "lapo", "env": 3}, {"method": "x" * 10**4, "env": ""}],
}


@pytest.mark.parametrize("name", CONFIG)
def test_configurations(name: str, world: Path, capfd: Capture) -> None:
    for value in CONFIG[name]:
        change(world / "run" / limits.CONFIG, name, value)
        hostile.refused(capfd, world, publish(world))


@pytest.mark.parametrize("name", limits.LIMITS)
def test_options_have_the_same_limits(name: str, world: Path, capfd: Capture) -> None:
    if name in Settings.__dataclass_fields__:
        option = f"--{name.replace('_', '-')}"
        line = hostile.refused(capfd, world, command("masklam", "train", option, 10**12, "--out", world / "new"))
        assert option in line


def larger(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"lam.to_latent.bias": torch.zeros(5)}


WEIGHTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "none": lambda _: {},
    "one is missing": lambda w: {name: w[name] for name in list(w)[1:]},
    "one too many": lambda w: w | {"evil": torch.zeros(1)},
    "one of another shape": larger,
    "all by another name": lambda w: {f"x.{name}": tensor for name, tensor in w.items()},
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str, world: Path, capfd: Capture) -> None:
    path = world / "run" / limits.WEIGHTS
    save_file(WEIGHTS[case](load_file(path)), path)
    assert "can't be loaded" in hostile.refused(capfd, world, publish(world))


HEADER = b'{"lam.to_latent.bias":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
BLOBS = [b"", b"\xff" * 8, (10**9).to_bytes(8, "little") + b"{}", len(HEADER).to_bytes(8, "little") + HEADER]


@pytest.mark.parametrize("content", BLOBS, ids=len)
def test_files_that_are_no_weights(content: bytes, world: Path, capfd: Capture) -> None:
    (world / "run" / limits.WEIGHTS).write_bytes(content)
    hostile.refused(capfd, world, publish(world))
    (world / "run" / limits.WEIGHTS).unlink()
    (world / "run" / "pytorch_model.bin").write_bytes(content)  # no pickle takes its place
    assert "no trained model" in hostile.refused(capfd, world, publish(world))


MEASURES: dict[str, list[Any]] = {
    RESULTS: [
        [],
        {"linear_probe": 3},
        {"linear_probe": {"in": 3}},
        {"linear_probe": {"in": {}}},
        {"linear_probe": {"in": {"nmse": "low"}}},
        {"linear_probe": {"elsewhere": {"nmse": 0.1}}},
        {"returns": {"train": {"one": {"returns": [1.0]}}}},
        {"returns": {"train": {"1": {"returns": ["much"]}}}},
        {"returns": {"validation": {}}},
        {"codes": {"used": 1}},
        {"missing": "everything"},
    ],
    METRICS: [[], {"step": 1}, {"stage": "lam", "step": "1"}, {"stage": "lam", "step": 1, "loss": "low"}],
    DATASET: [[], {"name": 3, "revision": None, "digest": None}, {"name": "x"}],
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name: str, world: Path, capfd: Capture) -> None:
    for value in MEASURES[name]:
        (world / "run" / name).write_text(json.dumps(value) + "\n")
        assert name in hostile.refused(capfd, world, publish(world))


@pytest.mark.parametrize("name", [limits.CONFIG, limits.WEIGHTS, RESULTS, METRICS, DATASET, "README.md"])
def test_nothing_is_published_through_a_link_or_read_from_a_pipe(name: str, world: Path, capfd: Capture) -> None:
    place = world / "run" / name
    place.touch()
    shutil.move(place, world / "moved")
    place.symlink_to(world / "moved")
    assert "is a link" in hostile.refused(capfd, world, publish(world))
    place.unlink()
    os.mkfifo(place)
    assert "no regular file" in hostile.refused(capfd, world, publish(world))


# --- checkpoints of a training -------------------------------------------------------------------------------


def resume(world: Path) -> Callable[[], object]:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    return lambda: Run(world / "run").load_checkpoint("lam", module, optimizer)


STATE = {f"optimizer.{k}.{name}": torch.zeros(2, 2) for k in (0,) for name in ("exp_avg", "exp_avg_sq")}
MODULE = {"module.weight": torch.zeros(2, 2), "module.bias": torch.zeros(2)}
CHECKPOINTS: dict[str, tuple[dict[str, Tensor], dict[str, str] | None]] = {
    "no step": (MODULE, {}),
    "no metadata": (MODULE, None),
    "a step in words": (MODULE, {"step": "one"}),
    "no weights": ({}, {"step": "1"}),
    "a weight of another shape": (MODULE | {"module.bias": torch.zeros(3)}, {"step": "1"}),
    "a foreign tensor": (MODULE | {"evil": torch.zeros(1)}, {"step": "1"}),
    "a state without a number": (MODULE | {"optimizer.x.step": torch.zeros(())}, {"step": "1"}),
    "a state of no parameter": (MODULE | {"optimizer.7.step": torch.zeros(())}, {"step": "1"}),
    "half a state": (MODULE | STATE, {"step": "1"}),
    "a state of another shape": (MODULE | STATE | {"optimizer.0.step": torch.zeros(3)}, {"step": "1"}),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(case: str, world: Path, capfd: Capture) -> None:
    tensors, metadata = CHECKPOINTS[case]
    (world / "run" / "checkpoints").mkdir()
    save_file(tensors, world / "run" / "checkpoints" / "lam.safetensors", metadata)
    assert "lam.safetensors" in hostile.refused(capfd, world, resume(world))


# --- SAM 2's ---------------------------------------------------------------------------------------------------

OWN = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
SAM2: dict[str, Any] = {
    "not finite": {"model": OWN | {"bias": torch.tensor([0.0, float("nan")])}},
    "no tensor": {"model": OWN | {"bias": [0.0, 0.0]}},
    "a number": {"model": OWN | {"bias": 1.0}},
    "whole numbers": {"model": OWN | {"bias": torch.zeros(2, dtype=torch.int64)}},
    "complex numbers": {"model": OWN | {"bias": torch.zeros(2, dtype=torch.complex64)}},
    "a sparse tensor": {"model": OWN | {"weight": torch.zeros(2, 2).to_sparse()}},
    "one value, repeated": {"model": OWN | {"bias": torch.zeros(1).expand(10**12)}},
    "names that are numbers": {"model": {1: torch.zeros(1), "bias": torch.zeros(2)}},
    "a list": [1, 2],
    "a model that is a list": {"model": []},
}


@pytest.mark.parametrize("case", [*SAM2, "code", "packed", "the older format"])
def test_checkpoints_of_sam2(case: str, tmp_path: Path, capfd: Capture) -> None:
    pytest.importorskip("sam2")
    from distractor_data.masks.model import _check_weights

    path = tmp_path / "world" / "evil.pt"
    path.parent.mkdir()
    if case == "code":
        torch.save(os.system, path)
    elif case == "packed":
        torch.save({"model": OWN}, tmp_path / "plain.pt")
        with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in plain.namelist():
                new.writestr(name, plain.read(name))
    elif case == "the older format":
        torch.save({"model": OWN}, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(SAM2[case], path)
    assert "evil.pt" in hostile.refused(capfd, path.parent, lambda: _check_weights(nn.Linear(2, 2), path))
