import functools

import moving_square
import numpy as np
import pytest
import torch

import distractor_data
from distractor_data import envs, schema
from distractor_data.dataset import meta, storage
from distractor_data.engines import cores
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.spec import Spec
from masklam import data, evaluate, measures, probe, probes
from masklam import job as jobs
from masklam.models import Model
from masklam.reconstruction import FSQ, VQ
from masklam.rollouts import Played
from masklam.run import Run
from masklam.settings import Settings
from masklam.train import train

CPU = torch.device("cpu")
SMALL = {
    "batch": 8,
    "latent_dim": 4,
    "res_blocks": 0,
    "policy_scale": 1,
    "labelled_trajectories": (1,),
    "warmup": 0.0,
    "steps": 4,
    "policy_steps": 4,
    "decoder_steps": 4,
    "probe_every": 4,
    "eval_episodes": 0,
}
BC = {"method": "bc", "labelled_trajectories": (0,), "res_blocks": 0, "policy_scale": 1, "policy_steps": 5}
pytestmark = pytest.mark.usefixtures("decoded_frames")


def test_returns_are_those_of_the_environment_and_fixed_by_their_seeds(tmp_path):
    spec = Spec(env="walker-run", episodes=3, steps=6, image_size=32)
    generate(spec, tmp_path / "d", workers=1)
    results = train(Settings(str(tmp_path / "d"), eval_episodes=1, **BC), str(tmp_path / "run"))
    assert results["expert_return"] > 0
    for split in ("train", "test"):
        (found,) = results["returns"][split].values()
        assert len(found["returns"]) == 1
        assert found["normalised"] == pytest.approx(found["returns"][0] / results["expert_return"])
    seen = []

    def act(images):
        seen.append(images)
        return torch.zeros(len(images), 6)

    first, second = (evaluate.rollouts(act, spec, 2, stack=2, device=CPU) for _ in range(2))
    assert first == second
    assert all(total > 0 for total in first.returns)
    assert first.solved is None  # of tasks of the suite
    assert seen[0].shape == (min(2, cores()), 6, 32, 32)
    assert torch.equal(seen[0][:, :3], seen[0][:, 3:])  # before the start, the first frame repeats
    assert not torch.equal(seen[1][:, :3], seen[1][:, 3:])


def test_rollouts_without_their_videos_are_refused(tmp_path):
    spec = Spec(env="walker-run", episodes=2, steps=2, image_size=32, backgrounds="videos", backgrounds_digest="abc")

    class Job:
        settings = Settings(eval_episodes=1)

    with pytest.raises(DmaskError, match=r"give --backgrounds videos, or --eval-episodes 0"):
        evaluate.backgrounds(Job(), spec)


def test_background_motion_sees_the_background_and_not_the_agent(tmp_path):
    moving_square.write(tmp_path / "d", episodes=2, steps=6)
    frames = data.load(str(tmp_path / "d"), "walker-run", mask_column=schema.MASK)
    t = frames.transitions()
    before = probes.background_motion(frames, t)
    agent = frames.masks(torch.arange(12))[:, 0] > 0
    image = frames.image.clone()
    image[agent] = 0
    assert torch.equal(probes.background_motion(data.replace(frames, image=image), t), before)
    image[~agent] = 0
    assert not probes.background_motion(data.replace(frames, image=image), t).any()


@pytest.fixture(scope="module")
def distracted(tmp_path_factory):
    """Real episodes in front of distractors, with what the undistracted camera sees beside them."""
    folder = tmp_path_factory.mktemp("distracted")
    for split in ("train", "test"):
        generate(Spec(env="walker", split=split, episodes=3, steps=4, image_size=32, clean=True), folder, workers=1)
    return folder


@pytest.mark.parametrize("column", [schema.IMAGE, schema.IMAGE_CLEAN])
def test_a_run_acts_on_the_column_that_it_was_trained_on(distracted, tmp_path, monkeypatch, column):
    seen, act = [], Model.act
    monkeypatch.setattr(Model, "act", lambda model, images, budget=0: (seen.append(images), act(model, images))[1])
    results = train(Settings(str(distracted), image_column=column, eval_episodes=1, **BC), str(tmp_path / "run"))
    assert results["sees"] == column
    record = meta.read_spec(schema.root(distracted, "walker-run", "train"))
    for split, first in zip(("train", "test"), (seen[0], seen[len(seen) // 2]), strict=True):
        env = envs.make(data.replace(record, split=split, seed=record.seed + 1), 0)
        observation = env.reset()
        env.close()
        expected = observation.image if column == schema.IMAGE else observation.image_clean
        assert torch.equal(first[0], data.normalise(torch.from_numpy(expected).permute(2, 0, 1)))
    where = {m.where for m in measures.measures(results) if m.kind == "return"}
    assert all("no distractors" in place for place in where) is (column == schema.IMAGE_CLEAN)


def test_masks_are_those_of_the_camera_that_made_the_images():
    assert Settings().mask_column == schema.MASK
    assert Settings(image_column=schema.IMAGE_CLEAN).mask_column == schema.MASK_CLEAN
    assert Settings(mask_column=schema.MASK_SIM).mask_column == schema.MASK_SIM
    for mask in (schema.MASK, schema.MASK_SIM):
        with pytest.raises(DmaskError, match=f"{mask} is of another camera .* --mask-column observation.mask_clean"):
            Settings(image_column=schema.IMAGE_CLEAN, mask_column=mask)
    with pytest.raises(DmaskError, match=r"give --mask-column observation\.mask$"):
        Settings(mask_column=schema.MASK_CLEAN)


def test_what_pairs_a_mask_with_the_clean_image_takes_that_cameras(distracted, tmp_path):
    """In its background probe and in MaskLAM's loss; for the distracted images as before."""
    episodes = distractor_data.load(distracted, "walker-run")
    for column, masks in (
        (schema.IMAGE, [episode.mask for episode in episodes]),
        (schema.IMAGE_CLEAN, [episode.mask_clean for episode in episodes]),
    ):
        chosen = Settings(str(distracted), image_column=column, method="masklam", **SMALL)
        job = jobs.prepare(chosen, Run(tmp_path), CPU, None)
        expected = torch.from_numpy(np.concatenate(masks)).float()
        assert torch.equal(job.frames.masks(torch.arange(len(expected)))[:, 0], expected)
        assert torch.equal(job.masks.mask, job.frames.mask)
    assert not np.array_equal(episodes[0].mask, episodes[0].mask_clean)


def test_what_was_not_measured_is_named(tmp_path):
    plain = (schema.IMAGE,)
    moving_square.write(tmp_path / "d", episodes=3, steps=8, images=plain)
    results = train(Settings(str(tmp_path / "d"), method="lapo", **SMALL), str(tmp_path / "run"))
    assert set(results["linear_probe"]) == {"in"}
    missing = "\n".join(results["missing"])
    assert "background probe: the dataset has no masks" in missing
    assert "the test split: the dataset has none" in missing
    for text in (measures.lines(results), (tmp_path / "run" / "README.md").read_text()):
        assert all(f"not measured: {what}" in text for what in results["missing"])


def test_a_test_split_that_cannot_be_read_is_an_error(tmp_path):
    for split in ("train", "test"):
        moving_square.write(tmp_path / "d", split=split, episodes=3, steps=8)
    test = tmp_path / "d" / "walker-run" / "test"
    (test / schema.data_file(0)).unlink()
    with pytest.raises(DmaskError, match="test holds no finished shard"):
        train(Settings(str(tmp_path / "d"), method="lapo", **SMALL), str(tmp_path / "run"))


@pytest.fixture
def quick(monkeypatch):
    """Rollouts that take no time."""

    def rollouts(act, spec, *rest):
        return Played([3.0, 5.0] if spec.split == "train" else [1.0], None)

    monkeypatch.setattr(evaluate, "rollouts", rollouts)


def test_returns_of_a_dataset_without_any_are_not_divided_by(distracted, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(evaluate, "recorded", lambda job, column: None)
    results = train(Settings(str(distracted), eval_episodes=1, **BC), str(tmp_path / "run"))
    assert [found["normalised"] for split in results["returns"].values() for found in split.values()] == [None, None]
    assert "normalised return: the expert's return is 0" in results["missing"]
    assert not [m for m in measures.measures(results) if m.kind == "normalised_return"]


def test_a_short_name_is_recorded_in_full(tmp_path):
    moving_square.write(tmp_path / "d", episodes=3, steps=8)
    train(Settings(str(tmp_path / "d"), env="walker", stages=("lam",), **SMALL), str(tmp_path / "run"))
    assert Run(tmp_path / "run").settings()["env"] == "walker-run"
    assert "environment `walker-run`" in (tmp_path / "run" / "README.md").read_text()
    assert Spec(env="walker").to_json()["env"] == "walker-run"


def test_returns_are_also_divided_by_those_of_behaviour_cloning_on_all_actions(distracted, tmp_path, quick):
    chosen = {**BC, "dataset": str(distracted), "eval_episodes": 1}
    train(Settings(**chosen), str(tmp_path / "bc"))
    cloned = Run(tmp_path / "bc").results()
    cloned["returns"]["train"]["2"]["returns"] = [8.0]
    storage.write_json(tmp_path / "bc" / "results.json", cloned)
    results = train(Settings(**chosen, seed=1, reference=str(tmp_path / "bc")), str(tmp_path / "run"))
    assert results["reference"] == {"run": "bc", "returns": {"train": 8.0, "test": 1.0}}
    assert {split: found["2"]["normalised_bc"] for split, found in results["returns"].items()} == {
        "train": 0.5,
        "test": 1.0,
    }
    assert "over behaviour cloning" in (tmp_path / "run" / "README.md").read_text()


def test_a_reference_that_is_none_is_refused_before_anything_is_written(distracted, tmp_path, quick):
    chosen = {**BC, "dataset": str(distracted), "eval_episodes": 1}
    train(Settings(**chosen), str(tmp_path / "bc"))
    train(Settings(**{**chosen, "labelled_trajectories": (1,)}), str(tmp_path / "some"))
    column = {"image_column": schema.IMAGE_CLEAN}
    for folder, options, match in [
        ("some", {}, r"labelled episodes is \{1\}, not \{2\}"),
        ("bc", column, r"image_column is observation\.image, not observation\.image_clean"),
        ("none", {}, "none holds no returns"),
    ]:
        with pytest.raises(DmaskError, match=match):
            train(Settings(**chosen, **options, reference=str(tmp_path / folder)), str(tmp_path / "refused"))
        assert not (tmp_path / "refused").exists()


def test_controls_tell_a_latent_action_from_what_one_observation_shows(tmp_path, monkeypatch):
    """The action can be read from what changes, and from what o_t alone shows: only the control tells the two."""
    monkeypatch.setattr(probe, "fit_mlp", functools.partial(probe.fit_mlp, steps=10))
    moving_square.write(tmp_path / "d", episodes=8, steps=40)
    frames = data.load(str(tmp_path / "d"), "walker-run", mask_column=schema.MASK)
    fit = probes.Place(frames, frames.transitions(range(6)))
    places = {"in": probes.Place(frames, frames.transitions([6, 7]))}

    def change(frames, t, later):  # of the square's place
        return centre(frames, later) - centre(frames, t)

    def first(frames, t, later):  # what o_t shows, and a dimension that never varies
        return torch.cat([centre(frames, t), torch.full((len(t), 2), 3.0)], dim=1)

    def centre(frames, t):
        mask = frames.masks(t)[:, 0]
        return torch.stack([mask.mean(k).argmax(1).float() for k in (1, 2)], dim=1)

    actions, appearance = (probes.tables(latents, fit, places, seed=0) for latents in (change, first))
    found, control = (actions["linear_probe"]["in"][name] for name in ("nmse", "shuffled"))
    assert found < 0.3 < 0.7 < control
    found, control = (appearance["linear_probe"]["in"][name] for name in ("nmse", "shuffled"))
    assert found == pytest.approx(control, abs=1e-6)
    assert found < 0.9  # the policy can be read from its observation
    assert (actions["constant"]["in"], appearance["constant"]["in"]) == (0, 0.5)
    assert {name for name in appearance if name.endswith("probe")} == set(measures.PROBES)


@pytest.mark.parametrize("quantise", [FSQ(), VQ(8, codes=16, group=4)])
def test_the_use_of_a_codebook_is_counted(quantise):
    z = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    if isinstance(quantise, VQ):
        quantise.codebook.weight.data.copy_(torch.randn(16, 4, generator=torch.Generator().manual_seed(1)))
    codes = quantise.codes(quantise(z)[0])
    used = probe.usage(codes, quantise.size)
    assert (used["used"], used["collapsed"]) == (len(codes.unique()), False)
    assert used["used"] > 0.9 * quantise.size
    assert 2 < used["perplexity"] <= quantise.size
    assert used["latents"] == len(quantise(z)[0].mul(1e4).round().unique(dim=0))
    same = probe.usage(quantise.codes(quantise(0 * z)[0]), quantise.size)
    assert (same["latents"], same["collapsed"]) == (1, True)
    assert same["perplexity"] == pytest.approx(1)
    even = torch.arange(quantise.size).repeat(3)[:, None]
    assert probe.usage(even, quantise.size)["perplexity"] == pytest.approx(quantise.size)


@pytest.mark.parametrize("quantize", ["fsq", "vq"])
def test_a_quantised_run_reports_its_codes(tmp_path, monkeypatch, capsys, quantize):
    moving_square.write(tmp_path / "d", episodes=3, steps=8)
    for module in (probes, evaluate):
        monkeypatch.setattr(module, "latents", lambda model, frames, t, *rest: torch.zeros(len(t), 4))
    chosen = Settings(str(tmp_path / "d"), method="lapo", quantize=quantize, **SMALL)
    results = train(chosen, str(tmp_path / "run"))
    assert results["codes"]["collapsed"]
    last = [m for m in Run(tmp_path / "run").metrics() if "codebook_used" in m][-1]
    assert last["codebook_perplexity"] == pytest.approx(1)
    assert "it has collapsed" in capsys.readouterr().err
    for text in (measures.lines(results), (tmp_path / "run" / "README.md").read_text()):
        assert "it has collapsed" in text
        assert "perplexity of the codes" in text
