import json
from dataclasses import replace

import moving_square
import pytest
import torch

from distractor_data import schema, storage
from distractor_data.errors import DmaskError
from masklam import data, stages, train
from masklam.methods import METHODS
from masklam.models import Model
from masklam.run import Run
from masklam.settings import Settings

SMALL = {
    "batch": 16,
    "latent_dim": 8,
    "res_blocks": 0,
    "heads": 16,
    "policy_scale": 1,
    "labelled_trajectories": (1, 2),
    "label_fraction": 0.5,
    "warmup": 5,
    "decoder_lr": 3e-3,
    "steps": 80,
    "policy_steps": 60,
    "decoder_steps": 60,
    "probe_every": 40,
    "checkpoint_every": 20,
    "eval_episodes": 0,
}
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("decoded_frames")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    moving_square.write(folder)
    return str(moving_square.write(folder, split="test", episodes=2))


def settings(dataset: str, **options) -> Settings:
    return Settings(dataset, **{**SMALL, **options})


def losses(folder, stage: str = "lam") -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if "loss" in m and m["stage"] == stage]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_through_all_its_stages(dataset, tmp_path, method):
    results = train.train(settings(dataset, method=method), str(tmp_path))
    for stage in ("lam", "policy", "decoder-1", "decoder-2"):
        curve = losses(tmp_path, stage)
        expected = stage.split("-")[0] in METHODS[method].stages
        assert (min(curve) < curve[0]) if expected else not curve, stage
    if method != "bc":
        assert 0 < results["linear_probe"]["in"]["nmse"] < 2
        assert len(results["linear_probe"]["out"]["per_dimension"]) == 2
        assert f"{results['linear_probe']['out']['nmse']:.3f}" in (tmp_path / "README.md").read_text()
    published = Model.from_pretrained(str(tmp_path))
    assert published.parts == [stage for stage in METHODS[method].stages if stage != "evaluation"]
    assert published.act(torch.zeros(3, 3, 32, 32)).shape == (3, 2)


def test_the_published_model_gives_the_same_latents_to_the_bit(dataset, tmp_path, monkeypatch):
    saved, publish = [], Run.publish
    monkeypatch.setattr(Run, "publish", lambda run, model, *rest: (saved.append(model), publish(run, model, *rest)))
    train.train(settings(dataset, stages=("lam",)), str(tmp_path))
    frames = data.load(dataset, "walker-run")
    t = frames.transitions()[:8]
    ours, published = saved[-1], Model.from_pretrained(str(tmp_path))
    assert torch.equal(stages.latents(published, frames, t, CPU), stages.latents(ours, frames, t, CPU))
    files = {"model.safetensors", "config.json", "metrics.jsonl", "README.md", "reconstruction.png"}
    assert files <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("quantize", ["fsq", "vq"])
def test_quantised_forms_learn(dataset, tmp_path, quantize):
    train.train(settings(dataset, method="lapo", quantize=quantize, stages=("lam",)), str(tmp_path))
    curve = losses(tmp_path)
    assert curve[-1] < curve[0]


@pytest.mark.parametrize("method", ["masklam", "laom-labels"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(dataset, tmp_path, monkeypatch, method):
    chosen = settings(dataset, method=method, stages=("lam",), steps=60)
    train.train(chosen, str(tmp_path / "whole"))
    gather, calls = stages.gather, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) > 50:
            raise KeyboardInterrupt
        return gather(*arguments)

    monkeypatch.setattr(stages, "gather", stops)
    with pytest.raises(KeyboardInterrupt):
        train.train(chosen, str(tmp_path / "parts"))
    monkeypatch.undo()
    train.train(chosen, str(tmp_path / "parts"))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    parts, whole = (Model.from_pretrained(str(tmp_path / k)).state_dict() for k in ("parts", "whole"))
    assert all(torch.equal(parts[k], whole[k]) for k in whole)


def test_two_runs_do_not_write_to_one_folder(dataset, tmp_path):
    with storage.lock(tmp_path), pytest.raises(DmaskError, match=r"another run is writing to .*; .* another --out"):
        train.train(settings(dataset, stages=("lam",)), str(tmp_path))


def test_stages_one_at_a_time_give_what_all_at_once_give(dataset, tmp_path):
    whole = train.train(settings(dataset), str(tmp_path / "whole"))
    for stage in ("lam", "policy", "decoder", "evaluation"):
        parts = train.train(settings(dataset, stages=(stage,)), str(tmp_path / "parts"))
    assert {**parts, "settings": 0} == {**whole, "settings": 0}
    assert losses(tmp_path / "parts", "decoder-2") == losses(tmp_path / "whole", "decoder-2")


def test_the_oracle_learns_from_the_clean_column(tmp_path):
    images = (schema.IMAGE, schema.MASK, schema.IMAGE_CLEAN)
    clean = str(moving_square.write(tmp_path / "d", images=images, episodes=3))
    chosen = settings(clean, method="lapo", image_column=schema.IMAGE_CLEAN, stages=("lam",), steps=20)
    assert train.train(chosen, str(tmp_path / "run"))["linear_probe"]["in"]["nmse"] > 0


def test_corrupted_masks_train_the_model_and_measure_nothing(dataset, tmp_path):
    chosen = settings(dataset, mask_corruption="noise:0.2", stages=("lam",))
    job = stages.prepare(chosen, Run(tmp_path), CPU, None)
    whole = stages.prepare(settings(dataset, stages=("lam",)), Run(tmp_path), CPU, None)
    t = whole.frames.transitions()[:4]
    assert not torch.equal(stages.gather(job, t, t + 1).mask, stages.gather(whole, t, t + 1).mask)
    assert torch.equal(job.frames.mask, whole.frames.mask)


def refused(match: str):
    return pytest.raises(DmaskError, match=match)


def test_bad_input_is_named(dataset, tmp_path):
    with refused("did you mean 'masklam'"):
        settings(dataset, method="maskalm")
    with refused("labelled-trajectories asks for 64 and there are 5"):
        train.train(settings(dataset, labelled_trajectories=(2, 64)), str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()  # the mended command finds the folder free
    with refused("stage lam is not finished"):
        train.train(settings(dataset, stages=("policy",)), str(tmp_path / "b"))
    with refused("bc has the stages policy, evaluation"):
        settings(dataset, method="bc", stages=("lam",))
    plain = str(moving_square.write(tmp_path / "d", images=(schema.IMAGE,), episodes=2, steps=4))
    with refused("no column observation.mask"):
        train.train(settings(plain), str(tmp_path / "c"))
    with refused("give dilate:PIXELS"):
        train.train(settings(dataset, mask_corruption="melt:3"), str(tmp_path / "e"))


def test_a_run_folder_of_another_configuration_is_refused(dataset, tmp_path):
    train.train(settings(dataset, steps=1, stages=("lam",)), str(tmp_path))
    with refused("latent_dim = 8, not 4"):
        train.train(settings(dataset, steps=1, latent_dim=4), str(tmp_path))
    with refused("method = 'masklam', not 'lapo'"):
        train.train(settings(dataset, steps=1, method="lapo"), str(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(dataset, tmp_path, monkeypatch):
    gather, calls = stages.gather, []

    def poisoned(*arguments):
        calls.append(1)
        batch = gather(*arguments)
        if len(calls) == 51:
            return replace(batch, target=torch.full(batch.target.shape, torch.nan))
        return batch

    monkeypatch.setattr(stages, "gather", poisoned)
    with refused("not finite from step 51 on; the checkpoint of step 40 is kept"):
        train.train(settings(dataset, stages=("lam",)), str(tmp_path))
    assert (tmp_path / "checkpoints" / "lam.safetensors").exists()
