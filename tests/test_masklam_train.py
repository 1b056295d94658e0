import json

import moving_square
import pytest
import torch

from distractor_data.errors import DmaskError
from masklam import data, train
from masklam.models import Model
from masklam.run import Run

SMALL = {"batch": 16, "latent_dim": 8, "res_blocks": 0, "probe_every": 40, "checkpoint_every": 20}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(moving_square.write(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    torch.set_num_threads(1)  # small tensors; more threads only wait for each other
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMASK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def losses(folder) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if "loss" in m]


@pytest.mark.parametrize("method", ["lapo", "masklam"])
def test_loss_falls_and_the_published_model_gives_the_same_latents(dataset, tmp_path, method, monkeypatch):
    saved, save = [], Run.save_model
    monkeypatch.setattr(Run, "save_model", lambda run, model: (saved.append(model), save(run, model)))
    settings = train.Settings(dataset, method=method, steps=80, **SMALL)
    results = train.train(settings, str(tmp_path))
    curve = losses(tmp_path)
    assert curve[-1] < curve[0]
    assert 0 < results["probe_nmse"] < 1.5
    assert {"model.safetensors", "config.json", "metrics.jsonl"} <= {f.name for f in tmp_path.iterdir()}
    assert f"{results['probe_nmse']:.3f}" in (tmp_path / "README.md").read_text()

    frames = data.load(dataset, "walker-run")
    t = frames.transitions()[:8]
    published = Model.from_pretrained(str(tmp_path))
    assert torch.equal(train.latents(published, frames, t), train.latents(saved[-1], frames, t))


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    settings = train.Settings(dataset, steps=80, **SMALL)
    train.train(settings, str(tmp_path / "whole"))

    gather = train.gather

    def stops_at_50(frames, t, later, stack, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) > 50:
            raise KeyboardInterrupt
        return gather(frames, t, later, stack)

    monkeypatch.setattr(train, "gather", stops_at_50)
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, str(tmp_path / "parts"))
    monkeypatch.undo()
    train.train(settings, str(tmp_path / "parts"))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    parts, whole = (Model.from_pretrained(str(tmp_path / k)).state_dict() for k in ("parts", "whole"))
    assert all(torch.equal(parts[k], whole[k]) for k in whole)


def test_a_run_folder_of_another_configuration_is_refused(dataset, tmp_path):
    train.train(train.Settings(dataset, steps=1, **SMALL), str(tmp_path))
    with pytest.raises(DmaskError, match="latent_dim = 8, not 4"):
        train.train(train.Settings(dataset, steps=1, **{**SMALL, "latent_dim": 4}), str(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_and_says_when_it_began(dataset, tmp_path):
    with pytest.raises(DmaskError, match=r"not finite from step \d+ on"):
        train.train(train.Settings(dataset, steps=80, lr=1e30, **SMALL), str(tmp_path))
