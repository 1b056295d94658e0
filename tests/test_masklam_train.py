import json
from dataclasses import fields, replace

import moving_square
import pytest
import small_dataset
import torch

from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from masklam import data, loop, objectives, probes, publish, stages, train
from masklam import job as jobs
from masklam.methods import METHODS
from masklam.models import Model
from masklam.run import Run
from masklam.settings import Settings
from masklam.standard import Standard

SMALL = {
    "batch": 16,
    "latent_dim": 8,
    "res_blocks": 0,
    "heads": 16,
    "policy_scale": 1,
    "labelled_trajectories": (1, 2),
    "warmup": 0.1,
    "labelled_batch": 8,
    "decoder_lr": 3e-3,
    "steps": 80,
    "policy_steps": 160,
    "decoder_steps": 120,
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


def settings(dataset: str, method: str = "masklam", **options) -> Settings:
    """Small ones, of which a method gets what it takes."""
    row = METHODS[method]
    small = {**SMALL, "labelled_trajectories": (2,)} if row.labels else SMALL
    return Settings(dataset, method=method, **{**{k: v for k, v in small.items() if row.takes(k)}, **options})


def losses(folder, stage: str = "lam") -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if "loss" in m and m["stage"] == stage]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_through_all_its_stages(dataset, tmp_path, method):
    results = train.train(settings(dataset, method=method), str(tmp_path))
    for stage in ("lam", "policy", "decoder-1", "decoder-2"):
        curve = losses(tmp_path, stage)
        expected = stage.split("-")[0] in METHODS[method].stages
        if METHODS[method].labels and stage == "decoder-1":
            expected = False  # it has one budget, which its first stage saw, too
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
    assert torch.equal(probes.latents(published, frames, t, CPU), probes.latents(ours, frames, t, CPU))
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
    job = jobs.prepare(chosen, Run(tmp_path), CPU, None)
    whole = jobs.prepare(settings(dataset, stages=("lam",)), Run(tmp_path), CPU, None)
    t = whole.frames.transitions()[:4]
    assert not torch.equal(stages.gather(job, t, t + 1).mask, stages.gather(whole, t, t + 1).mask)
    assert torch.equal(job.frames.mask, whole.frames.mask)


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.labels])
def test_the_labelled_trajectories_of_a_method_with_labels_are_those_of_its_decoder(dataset, tmp_path, method):
    job = jobs.prepare(settings(dataset, method, labelled_trajectories=(3,)), Run(tmp_path), CPU, None)
    assert (job.budgets, len(job.labelled())) == ([3], 3)
    assert job.labelled() == jobs.prepare(settings(dataset, "lapo"), Run(tmp_path), CPU, None).order[:3]
    with refused(f"{method} learns from one number of them"):
        settings(dataset, method, labelled_trajectories=(2, 3))


def test_all_labels_are_those_of_all_training_episodes(dataset, tmp_path):
    job = jobs.prepare(settings(dataset, "bc", labelled_trajectories=(0,)), Run(tmp_path), CPU, None)
    assert sorted(job.labelled()) == job.training
    job = jobs.prepare(settings(dataset, labelled_trajectories=(2, 0)), Run(tmp_path), CPU, None)
    assert job.budgets == [2, 5]


def test_actions_are_standardised_by_what_is_labelled_and_no_more(dataset, tmp_path):
    job = jobs.prepare(settings(dataset, labelled_trajectories=(2, 4)), Run(tmp_path), CPU, None)
    for budget in (2, 4):
        seen = torch.isin(job.frames.episode, torch.tensor(job.order[:budget]))
        standard = job.model.units(budget)(job.frames.action[seen])
        assert torch.allclose(standard.mean(0), torch.zeros(2), atol=1e-5)
        assert torch.allclose(standard.var(0, unbiased=False).mean(), torch.tensor(1.0), atol=1e-4)
        assert torch.allclose(job.model.units(budget).undo(standard), job.frames.action[seen], atol=1e-5)
    assert not torch.equal(job.model.units(2).mean, job.model.units(4).mean)


def test_an_error_on_standardised_actions_weighs_as_laoms_on_raw_ones():
    """0.001 × the raw error, of a variance of 35, is 0.035 × the standardised one."""
    draw = torch.Generator().manual_seed(0)
    actions = torch.randn(20_000, 6, generator=draw) * torch.tensor([4.0, 5.0, 6.0, 6.0, 6.5, 7.5]) + 2
    actions = (actions - actions.mean(0)) * (35 / actions.var(0, unbiased=False).mean()).sqrt() + 1
    standard = Standard(6)
    standard.measure(actions)
    guess = actions + torch.randn(actions.shape, generator=draw)
    raw = torch.nn.functional.mse_loss(guess, actions)
    scaled = torch.nn.functional.mse_loss(standard(guess), standard(actions))
    assert torch.allclose(Settings.label_weight * scaled, 0.001 * raw, rtol=1e-3)


@pytest.mark.parametrize("method", ["laom-labels", "idm", "bc"])
def test_a_published_model_acts_in_the_units_of_the_data(tmp_path, method):
    """Whatever their scale: actions a tenth as large give a model whose actions are."""
    data_, found = moving_square.write(tmp_path / "d", episodes=3), []
    frames = data.load(str(data_), "walker-run")
    for scale in (1.0, 0.1):
        with pytest.MonkeyPatch.context() as patch:
            smaller = replace(frames, action=frames.action * scale)
            patch.setattr(jobs, "load", lambda *_, found=smaller: found)
            chosen = settings(str(data_), method, stages=METHODS[method].stages[:-1])
            few = {k: 30 for k in ("steps", "policy_steps", "decoder_steps") if METHODS[method].takes(k)}
            train.train(replace(chosen, **few), str(tmp_path / str(scale)))
        model = Model.from_pretrained(str(tmp_path / str(scale)))
        with torch.no_grad():
            found.append(model.act(frames.observations(frames.transitions()[:40])))
    assert found[0].std() > 0
    assert torch.allclose(found[1], 0.1 * found[0], atol=0.02)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("lapo", "mask_blur", 1.0),
        ("laom", "background_weight", 0.5),
        ("laom", "mask_normalise", "image"),
        ("masklaom", "mask_blur", 1.0),
        ("idm", "mask_corruption", "dilate:1"),
        ("masklam", "ema", 0.1),
        ("masklam", "heads", 64),
        ("laom", "label_weight", 0.1),
        ("masklam", "labelled_batch", 8),
        ("laom", "quantize", "fsq"),
        ("idm", "latent_dim", 8),
        ("idm", "decoder_steps", 8),
        ("bc", "steps", 8),
        ("bc", "offset", 2),
        ("bc", "encoder_scale", 2),
        ("bc", "mask_column", schema.MASK_SIM),
    ],
)
def test_an_option_that_a_method_ignores_is_refused_for_it(method, option, value):
    name = option.replace("_", "-")
    with refused(f"^--{name} does nothing for {method}, only for [a-z, -]+; leave it out$"):
        Settings(method=method, **{option: value})


def test_every_option_that_not_all_methods_take_is_an_option(dataset):
    known = {field.name for field in fields(Settings)}
    for row in METHODS.values():
        assert set(row.options) <= known


def test_a_learning_rate_warms_up_from_zero_and_falls_to_zero_as_in_laoms_code():
    """LAOM's: step / warm-up, then one minus the share of the rest that is done."""
    lam = [loop.schedule("linear", step, 29_004, 96_680) for step in (0, 14_502, 29_004, 62_842, 96_680)]
    assert lam == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert loop.schedule("linear", 0, 0, 10) == 1.0


def test_the_latent_action_model_alone_warms_up(dataset, tmp_path, monkeypatch):
    seen, schedule = {}, loop.schedule

    def keep(kind, step, warmup, steps):
        seen[steps] = warmup
        return schedule(kind, step, warmup, steps)

    monkeypatch.setattr(loop, "schedule", keep)
    train.train(settings(dataset, warmup=0.3, steps=30, policy_steps=20, decoder_steps=10), str(tmp_path))
    assert seen == {30: 9, 20: 0, 10: 0}


def test_pictures_are_augmented_in_float32_outside_of_autocast(dataset, tmp_path, monkeypatch):
    seen, augment = [], objectives.augment

    def watch(images, drawn):
        seen.append((images.dtype, torch.is_autocast_enabled("cpu"), len(images)))
        return augment(images, drawn)

    monkeypatch.setattr(objectives, "augment", watch)
    chosen = settings(dataset, "laom-labels", stages=("lam",), steps=2, precision="bf16")
    train.train(chosen, str(tmp_path))
    assert set(seen) == {(torch.float32, False, 16), (torch.float32, False, 8)}  # the labelled batch, too
    assert len(seen) == 2 * (3 + 2)


def test_a_run_of_an_older_version_is_refused_in_a_line(dataset, tmp_path):
    """Its networks were others, and its settings had other names."""
    train.train(settings(dataset, steps=1, stages=("lam",)), str(tmp_path))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["version"]
    config["training"] |= {"label_fraction": 0.025, "warmup": 200}
    path.write_text(json.dumps(config))
    for use in (
        lambda: train.train(settings(dataset, steps=1, stages=("lam",)), str(tmp_path)),
        lambda: Model.from_pretrained(str(tmp_path)),
        lambda: publish.push(tmp_path, "org/model"),
    ):
        with refused(r"holds a model of version 1, .*reads version 2, .*; train it again into another folder"):
            use()


def refused(match: str):
    return pytest.raises(DmaskError, match=match)


def test_bad_input_is_named(dataset, tmp_path):
    with refused("did you mean 'masklam'"):
        Settings(dataset, method="maskalm")
    with refused("--offset is 40, and the episodes aren't longer"):
        train.train(settings(dataset, offset=40), str(tmp_path / "a"))
    with refused("--warmup is 200.0; give the share"):
        settings(dataset, warmup=200.0)
    with refused("labelled-trajectories asks for 64 and there are 5 .*; give smaller numbers, all"):
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


def test_a_run_goes_on_with_its_own_data_alone(tmp_path):
    for name, seed in (("own", 0), ("other", 1)):
        small_dataset.write(tmp_path / name, "walker-run", seed=seed)
    chosen = settings(str(tmp_path / "own"), stages=("lam",), steps=2, labelled_trajectories=(1,))
    run = tmp_path / "run"
    train.train(chosen, str(run))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with refused("was trained on other data"):
        train.train(replace(chosen, dataset=str(tmp_path / "other")), str(run))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (tmp_path / "own").rename(tmp_path / "moved")  # the same data, wherever it lies
    train.train(replace(chosen, dataset=str(tmp_path / "moved")), str(run))
