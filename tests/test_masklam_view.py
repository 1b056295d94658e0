"""The page of runs in a real browser: what it plots and plays is what the runs hold and their models make."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import moving_square
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from browser import faults, painted, pixels, wider
from PIL import Image

from distractor_data import envs
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.spec import Spec
from masklam import probe, results, scenes
from masklam.data import normalise
from masklam.evaluate import rollout_spec
from masklam.measures import measures
from masklam.models import Model
from masklam.probes import latents, thin
from masklam.run import Run
from masklam.settings import Settings
from masklam.train import train
from masklam.view import curves, view

pytestmark = pytest.mark.usefixtures("decoded_frames")
STUDY = Path(__file__).parent.parent / "scripts" / "studies" / "results" / "cpu.parquet"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"
SMALL: dict[str, Any] = {"batch": 8, "res_blocks": 0, "policy_scale": 1, "policy_steps": 2, "eval_episodes": 0}
LATENT: dict[str, Any] = {"latent_dim": 4, "steps": 4, "probe_every": 2, "decoder_steps": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, decoded_frames: None) -> list[Path]:
    """Two methods with latent actions, of which one makes pixels and is evaluated, and cloning."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(moving_square.write(folder / "data", episodes=3, steps=20))
    for method, extra in (
        ("masklam", {**LATENT, "steps": 24, "probe_every": 20}),  # probed twice
        ("laom", {**LATENT, "heads": 16, "stages": ("lam", "policy", "decoder")}),
        ("bc", {"stages": ("policy",)}),
    ):
        settings = Settings(data, method=method, labelled_trajectories=(1,), **SMALL, **extra)
        train(settings, str(folder / method), "cpu")
    return [folder / method for method in ("masklam", "laom", "bc")]


@pytest.fixture(scope="module")
def shown(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return view([*runs, STUDY], tmp_path_factory.mktemp("page") / "runs.html", device="cpu").as_uri()


def picture(page: Any, place: int, size: int = 32) -> np.ndarray:
    return np.array(pixels(page, place), np.uint8).reshape(size, size, 4)[..., :3]


def test_the_reconstruction_is_the_models_beside_the_frame_and_its_mask(page, shown, runs):
    page.goto(f"{shown}#masklam/held-out/7")
    painted(page, 7)
    page.locator("#masked").uncheck()
    page.wait_for_function("!player.drawing")
    labels = page.locator("#views figcaption").all_inner_texts()
    assert labels == ["Next frame", "Its mask", "Reconstruction"]
    job, _ = scenes.open_job(Run(runs[0]), {}, "cpu", None)
    t = job.frames.transitions(job.held[:1])[7:8]
    np.testing.assert_array_equal(picture(page, 0), job.frames.image[t + 1][0].numpy())
    assert ((picture(page, 1)[..., 0] > 0) == job.frames.masks(t + 1)[0, 0].bool().numpy()).all()
    model = Model.from_pretrained(runs[0])
    with torch.no_grad():
        now, later = job.frames.observations(t), job.frames.observations(t + 1)
        made = (model.lam.predict(now, model.latent(now, later)).clamp(-1, 1) + 1) * 127.5
    assert np.abs(picture(page, 2).astype(float) - made[0].permute(1, 2, 0).numpy()).max() < 1.5  # batches round


def test_reconstructions_over_training_are_those_of_each_probe(page, shown, runs):
    page.goto(f"{shown}#masklam/training/0")
    steps = [m["step"] for m in Run(runs[0]).metrics() if "probe_nmse" in m]
    assert len(steps) > 1
    for number, step in enumerate(steps):
        page.locator("#scrub").fill(str(number))
        painted(page, number)
        kept = np.asarray(Image.open(runs[0] / "reconstructions" / f"{step:07d}.png"))
        found = np.array(pixels(page), np.uint8).reshape(*kept.shape[:2], 4)
        np.testing.assert_array_equal(found[..., :3], kept)
        assert f"Training step {step}" in " ".join(page.locator("#signals .plot").first.inner_text().split())
    last = Image.open(runs[0] / "reconstruction.png")
    np.testing.assert_array_equal(kept, np.asarray(last))


def test_pictures_of_a_training_are_few_and_what_is_none_is_refused(runs, tmp_path):
    run = Run(shutil.copytree(runs[0], tmp_path / "run"))
    (first, *_) = sorted((run.folder / "reconstructions").iterdir())
    for step in range(100, 200):
        shutil.copy(first, first.parent / f"{step:07d}.png")
    found = run.pictures(10)
    assert len(found) == 10
    assert list(found) == sorted(found)
    assert max(found) > 180
    (first.parent / "0000150.png").write_text("no picture")
    with pytest.raises(DmaskError, match="reconstructions"):
        run.pictures(1000)


def test_the_plots_have_the_true_action_and_what_the_probe_reads(page, shown, runs):
    page.goto(f"{shown}#laom/held-out/5")
    painted(page, 5)
    job, device = scenes.open_job(Run(runs[1]), {}, "cpu", None)
    t, fit = job.frames.transitions(job.held[:1]), thin(job.frames.transitions(job.training))
    with torch.no_grad():
        ridge = probe.fit(
            latents(job.model, job.frames, fit, device), job.frames.action[fit], job.frames.episode[fit]
        )
        read = ridge(latents(job.model, job.frames, t, device))
    for number in range(2):
        text = page.locator("#signals .plot").nth(number).inner_text()
        assert f"true {job.frames.action[t[5], number]:.3f}" in text
        assert f"linear probe {read[5, number]:.3f}" in text
    assert page.locator("#views canvas").count() == 2  # LAOM makes no pixels
    assert "laom makes no pixels" in page.locator("#runs").inner_text()


def test_cloning_shows_its_own_actions_and_a_scene_can_be_chosen(page, shown):
    page.goto(f"{shown}#masklam/held-out/0")
    painted(page, 0)
    page.locator("#scene").select_option(label="bc: held-out episode 2")
    page.wait_for_url("**#bc/held-out/0")
    assert "policy" in page.locator("#signals .plot").first.inner_text()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    painted(page, 1)
    page.keyboard.press("End")
    painted(page, 18)  # 19 transitions of 20 frames
    page.wait_for_url("**#bc/held-out/18")


def test_the_curves_are_the_runs_together():
    one = [{"stage": "lam", "step": 20, "loss": 3.0}, {"stage": "lam", "step": 20, "probe_nmse": 0.5}]
    two = [{"stage": "lam", "step": 20, "loss": float("nan")}, {"stage": "decoder-2", "step": 8, "loss": 1.0}]
    found = {plot["title"]: plot["lines"] for plot in curves({"a": one, "b": two})}
    assert [(line["name"], line["x"], line["y"]) for line in found["Loss, lam"]] == [
        ("a", [20], [3.0]),
        ("b", [20], [None]),
    ]
    assert [line["name"] for line in found["Loss, decoder"]] == ["b, 2 labelled"]
    assert [line["y"] for line in found["Linear probe NMSE, held-out episodes"]] == [[0.5]]


def test_every_measure_is_in_the_table_and_sorts(page, shown, runs):
    values = [one.value for run in runs for one in measures(Run(run).results())]
    page.goto(shown)
    page.locator("#measures th button", has_text="Value").click()
    found = [float(text) for text in page.locator("#measures tbody td:nth-child(4)").all_inner_texts()]
    assert found == pytest.approx(sorted(values, reverse=True), abs=0.05)


def test_the_study_is_filtered_and_sorted(page, shown):
    rows = pq.read_table(STUDY).to_pylist()
    page.goto(shown)
    page.locator("#study-measure").select_option("linear probe NMSE")
    page.locator("#study-split").select_option("test")
    assert "cheetah-run" in page.locator("#study-title").inner_text()  # the only one; said once
    page.locator("#study th button", has_text="Mean").click()
    chosen = {"measure": "linear probe NMSE", "split": "test", "env": "cheetah-run"}
    wanted = results.groups([row for row in rows if chosen.items() <= row.items()], "difficulty", "label", "samples")
    means = [results.interval(results.seeds(found)[:, None])[0] for found in wanted.values()]
    heads = [text.strip() for text in page.locator("#study-table th button").all_inner_texts()]
    cells = page.locator(f"#study-table tbody td:nth-child({heads.index('Mean') + 1})").all_inner_texts()
    found = [float(text) for text in cells]
    assert found == pytest.approx(sorted(means, reverse=True), abs=1e-3)


def test_axe_finds_nothing_serious(page, shown):
    page.goto(shown)
    painted(page, 0)
    page.locator("#study-measure").select_option("linear probe NMSE")  # each row is looked at by itself
    page.locator("#study-split").select_option("test")
    assert not faults(page)


def test_nothing_is_wider_than_the_screen(page, shown):
    assert not wider(page, shown)


def test_what_is_missing_is_said_and_no_scene_invented(page, runs, tmp_path):
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["training"]["dataset"] = "no/such/folder/of/data"
    (run / "config.json").write_text(json.dumps(config))
    page.goto(view([run], tmp_path / "page.html", device="cpu").as_uri())
    assert "no/such/folder" in page.locator("#runs").inner_text()
    assert page.locator("canvas").count() == 0
    assert page.locator("#curves .plot").count() > 2
    again = view([run], tmp_path / "again.html", str(runs[0].parent / "data"), device="cpu")
    page.goto(again.as_uri())
    painted(page, 0)
    assert "no rollouts" in page.locator("#runs").inner_text()


def test_what_a_stranger_wrote_is_text(page, runs, tmp_path):
    run = Path(shutil.copytree(runs[0], tmp_path / HOSTILE.replace("/", "⁄")))
    measured = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**measured, "missing": [HOSTILE]}))
    rows = pq.read_table(STUDY).to_pylist()
    pq.write_table(
        pa.Table.from_pylist([{**row, "label": HOSTILE + row["label"]} for row in rows]), tmp_path / "s.parquet"
    )
    page.goto(view([run, tmp_path / "s.parquet"], tmp_path / "page.html", device="cpu").as_uri())
    painted(page, 0)
    assert page.locator("img").count() == 0
    assert page.title() == run.name
    assert HOSTILE in page.locator("#runs").inner_text()


def test_rollouts_are_played_by_the_policy(page, tmp_path):
    spec = Spec(env="walker-run", episodes=2, steps=6, image_size=32)
    generate(spec, tmp_path / "d", workers=1)
    settings = Settings(str(tmp_path / "d"), method="bc", labelled_trajectories=(0,), **SMALL, stages=("policy",))
    train(settings, str(tmp_path / "run"), "cpu")
    page.goto(view([tmp_path / "run"], tmp_path / "page.html", rollouts=True, device="cpu").as_uri())
    painted(page, 0)
    job, _ = scenes.open_job(Run(tmp_path / "run"), {}, "cpu", None)
    env = envs.make(replace(rollout_spec(job), split="test"), 0)
    images, total, done = [env.reset().image], 0.0, False
    while not done:
        with torch.no_grad():
            action = job.model.act(normalise(torch.from_numpy(images[-1]).permute(2, 0, 1)[None]))
        observation, reward, done = env.step(action[0].numpy())
        images, total = [*images, observation.image], total + reward
    env.close()
    page.locator("#scene").select_option(label=f"run: rollout, unseen videos, return {total:.1f}")
    page.wait_for_url("**#run/rollout-test/0")
    for t in (0, len(images) - 1):
        page.locator("#scrub").fill(str(t))
        painted(page, t)
        np.testing.assert_array_equal(picture(page, 0), images[t])


def test_what_is_neither_run_nor_study_is_refused(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for found, words in (
        ([tmp_path / "empty"], "empty holds no run"),
        ([tmp_path / "other.parquet"], "column env"),
        ([runs[0], runs[0]], "twice"),
        ([STUDY, STUDY], "one study"),
    ):
        with pytest.raises(DmaskError, match=words):
            view(found, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
