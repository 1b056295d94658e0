"""`masklam probe`: others' latent actions in the tables that a run has."""

from __future__ import annotations

import json
from pathlib import Path

import moving_square
import pytest
from typer.testing import CliRunner

from distractor_data.errors import DmaskError
from masklam import external, measures, probe
from masklam.cli import app

THEIRS = """
from helper import square
import numpy as np
import torch

def movement(now, later):
    assert now.dtype == torch.uint8 and now.shape[1:] == (32, 32, 3), (now.dtype, now.shape)
    return (square(later) - square(now)).numpy()

def features(now, later):
    assert now.dtype == torch.float32 and now.shape[1:] == (3, 32, 32)
    assert -1 <= now.min() and now.max() <= 1
    return torch.nn.functional.avg_pool2d(now, 8)

def nothing(now, later):
    return torch.zeros(len(now))

def broken(now, later):
    return torch.full((len(now), 2), torch.nan)
"""
HELPER = """
import torch

def square(images):  # where the red square is
    red = (images[..., 0].int() - images[..., 1].int() > 100).float()
    return torch.stack([red.mean(k).argmax(1).float() for k in (1, 2)], dim=1)
"""
pytestmark = pytest.mark.usefixtures("decoded_frames")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    moving_square.write(folder / "d", episodes=8)
    moving_square.write(folder / "d", split="test", episodes=2)
    (folder / "theirs.py").write_text(THEIRS)
    (folder / "helper.py").write_text(HELPER)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = probe.fit_mlp
    monkeypatch.setattr(probe, "fit_mlp", lambda x, y, seed: fit(x, y, seed, steps=20))


def test_others_latents_stand_in_the_same_tables(dataset: Path) -> None:
    target, source = str(dataset / "theirs.py"), str(dataset / "d")
    moved = external.probe(f"{target}:movement", source, "walker-run")
    pooled = external.probe(f"{target}:features", source, "walker", images="float")
    for results in (moved, pooled):
        assert set(measures.PROBES) < set(results)
        assert set(results["linear_probe"]) == set(results["constant"]) == {"in", "out"}
        assert len(list(measures.measures(results))) == 8
        assert results["missing"] == []
    assert moved["linear_probe"]["out"]["nmse"] < 0.3 < 0.7 < moved["linear_probe"]["out"]["shuffled"]
    # features of o_t alone know of the action what its policy shows, no more, with the pair or without
    for place in ("in", "out"):
        found = pooled["linear_probe"][place]
        assert found["nmse"] == pytest.approx(found["shuffled"], abs=1e-6)


def test_the_command_prints_the_tables_and_writes_them(dataset: Path, tmp_path: Path) -> None:
    words = ["probe", f"{dataset / 'theirs.py'}:movement", str(dataset / "d"), "--env", "walker-run"]
    words += ["--split", "test", "--transitions", "30", "--out", str(tmp_path / "out.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "linear probe NMSE" in done.stdout
    assert "(shuffled pairs: " in done.stdout
    assert set(json.loads((tmp_path / "out.json").read_text())["linear_probe"]) == {"in"}


@pytest.mark.parametrize(
    ("function", "match"),
    [
        ("theirs.py:moovement", "has no function 'moovement'; did you mean 'movement'"),
        ("missing.py:movement", "no such file; give FILE.py:function"),
        ("theirs.py", "no such file; give FILE.py:function"),
        ("theirs.py:nothing", r"gave \(64,\) for 64 pairs; it must give latents \(B, …\)"),
        ("theirs.py:broken", "not finite"),
    ],
)
def test_what_is_no_such_function_is_named(dataset: Path, function: str, match: str) -> None:
    with pytest.raises(DmaskError, match=match):
        external.probe(str(dataset / function), str(dataset / "d"), "walker-run")


def test_our_own_model_gets_the_numbers_of_its_run(dataset: Path, tmp_path: Path) -> None:
    """A run's latents through the front door: the tables are those of its evaluation."""
    from masklam.settings import Settings
    from masklam.train import train

    chosen = Settings(
        str(dataset / "d"), method="lapo", latent_dim=4, res_blocks=0, steps=2, batch=8, stages=("lam", "evaluation")
    )
    run = tmp_path / "run"
    results = train(chosen, str(run))
    (tmp_path / "ours.py").write_text(
        f"from masklam.models import Model\nmodel = Model.from_pretrained({str(run)!r})\nlatents = model.latent\n"
    )
    again = external.probe(f"{tmp_path / 'ours.py'}:latents", str(dataset / "d"), "walker-run", images="float")
    for place in ("in", "out"):
        ours, theirs = results["linear_probe"][place], again["linear_probe"][place]
        assert theirs["nmse"] == pytest.approx(ours["nmse"], rel=1e-3)
        assert theirs["shuffled"] == pytest.approx(ours["shuffled"], rel=1e-3)
