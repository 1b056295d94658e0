"""Training from the Hub and publishing what was learnt: the same latents, and only numbers that were measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_dataset
import torch
from hub_server import HubServer
from huggingface_hub import HfApi, ModelCard, constants

from distractor_data import publish as toolkit
from distractor_data.errors import DmaskError
from distractor_data.hub.repository import CARD
from masklam import card, measures, publish, train
from masklam.models import Model
from masklam.run import CONFIG, WEIGHTS, Run
from masklam.settings import Settings

SMALL = Settings(
    env="walker-run",
    method="masklam",
    steps=6,
    policy_steps=4,
    decoder_steps=4,
    batch=8,
    latent_dim=4,
    res_blocks=0,
    policy_scale=1,
    labelled_trajectories=(1,),
    probe_every=3,
    checkpoint_every=3,
    eval_episodes=0,
    warmup=0.3,
)


def small(dataset: str | Path, **options: object) -> Settings:
    return Settings(**{**vars(SMALL), "dataset": str(dataset), **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "data"
    small_dataset.write(directory, "walker-run", "train", shards=3)
    small_dataset.write(directory, "walker-run", "test", shards=1)
    return directory


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    train.train(small(data), str(folder), "cpu", str(folder.with_name("cache")))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_published_model_gives_the_same_latents(hub: HubServer, run: Path) -> None:
    pushed = publish.push(run, "org/masklam-walker-run", tag="v1")
    assert pushed.url == f"{hub.url}/org/masklam-walker-run"
    files = hub.files("org/masklam-walker-run", kind="models")
    assert set(files) == {WEIGHTS, CONFIG, CARD, card.CURVES, card.RECONSTRUCTION}
    assert files[WEIGHTS] == (run / WEIGHTS).read_bytes()
    observations = torch.rand(2, 5, 3, small_dataset.SIZE, small_dataset.SIZE) * 2 - 1
    here = Model.from_pretrained(str(run)).eval()
    there = Model.from_pretrained("org/masklam-walker-run", revision="v1").eval()
    with torch.no_grad():
        assert torch.equal(there.latent(*observations), here.latent(*observations))
        assert torch.equal(there.act(observations[0]), here.act(observations[0]))


def test_the_card_has_what_was_measured_and_no_more(hub: HubServer, run: Path) -> None:
    text = publish.push(run, "org/name").card
    found = ModelCard(text)
    found.validate()
    results = Run(run).results()
    values = {(r.metric_type, r.metric_name): r for r in found.data.eval_results}
    assert len(values) == len(list(measures.measures(results))) == 8
    linear = values["nmse", "linear probe NMSE, test episodes, unseen videos"]
    assert linear.metric_value == results["linear_probe"]["out"]["nmse"]
    assert (linear.dataset_config, linear.dataset_split) == ("walker-run", "test")
    assert not [r for r in found.data.eval_results if "return" in r.metric_type]
    assert "no return was measured" in found.text
    assert ModelCard(str(found)).data.to_dict() == found.data.to_dict()

    results["returns"] = {"test": {"2": {"returns": [1.0, 2.0], "normalised": 0.25}}}
    del results["mlp_probe"]
    Run(run).save_results(results, SMALL)
    again = ModelCard(publish.push(run, "org/name").card)
    values = {(r.metric_type, r.dataset_split): r.metric_value for r in again.data.eval_results}
    assert values["return", "test"] == 1.5
    assert values["normalised_return", "test"] == 0.25
    assert not [r for r in again.data.eval_results if "MLP" in r.metric_name]
    assert "no return was measured" not in again.text


def test_no_path_of_the_machine_is_published(hub: HubServer, run: Path, data: Path) -> None:
    publish.push(run, "org/name")
    files = hub.files("org/name", kind="models")
    assert json.loads(files[CONFIG])["training"]["dataset"] == "data"
    for content in files.values():
        assert str(data.parent).encode() not in content


def test_a_second_push_sends_nothing_and_hands_work_stays(hub: HubServer, run: Path) -> None:
    publish.push(run, "org/name")
    assert publish.push(run, "org/name").sent == {}
    mine = "<!-- keep limits -->\nFalls over.\n<!-- /keep -->"
    text = hub.files("org/name", kind="models")[CARD].decode()
    edited = text.replace("<!-- keep limits -->\n<!-- /keep -->", mine)
    HfApi().upload_file(path_or_fileobj=edited.encode(), path_in_repo=CARD, repo_id="org/name")
    assert mine in publish.push(run, "org/name", message="again").card


def test_trained_from_the_hub_the_card_names_the_revision(hub: HubServer, data: Path, tmp_path: Path) -> None:
    toolkit.push(data, "org/data", tag="v1")
    sha = HfApi().dataset_info("org/data", revision="v1").sha
    settings = small("org/data@v1", stages=("lam",))
    train.train(settings, str(tmp_path / "run"), "cpu", str(tmp_path / "cache"))
    found = ModelCard(publish.push(tmp_path / "run", "org/name").card)
    assert found.data.datasets == ["org/data"]
    assert {(r.dataset_type, r.dataset_revision) for r in found.data.eval_results} == {("org/data", sha)}


def test_a_run_on_a_folder_names_the_same_data_on_the_hub(
    hub: HubServer, data: Path, run: Path, tmp_path: Path
) -> None:
    toolkit.push(data, "org/data")
    found = ModelCard(publish.push(run, "org/name", data="org/data").card)
    assert found.data.datasets == ["org/data"]
    small_dataset.write(tmp_path / "other", "walker-run", seed=5)
    toolkit.push(tmp_path / "other", "org/other")
    with pytest.raises(DmaskError, match="was trained on other data than org/other"):
        publish.push(run, "org/name", data="org/other")


def test_what_is_no_model_is_not_pushed(hub: HubServer, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DmaskError, match="holds no trained model"):
        publish.push(tmp_path / "nothing", "org/name")
    (run / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(DmaskError, match="can't be loaded"):
        publish.push(run, "org/name")
    assert hub.requests == 0


def test_a_broken_push_goes_on(hub: HubServer, run: Path, impatient: list[float]) -> None:
    publish.push(run, "org/unbroken")
    requests = hub.requests
    for start in (requests // 2, requests - 1):
        hub.reset(hub.directory.with_name(f"hub-{start}"))
        hub.down_from(start)
        with pytest.raises(DmaskError, match="run the same command again"):
            publish.push(run, "org/name")
        hub.up()
        publish.push(run, "org/name")
        assert hub.files("org/name", kind="models")[WEIGHTS] == (run / WEIGHTS).read_bytes()


def test_the_command_line_publishes_a_model(hub: HubServer, run: Path) -> None:
    command = [sys.executable, "-m", "masklam.cli", "push", str(run), "org/name"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'Model.from_pretrained("org/name")' in done.stdout


def test_streaming_keeps_no_shard_and_trains_the_same(hub: HubServer, data: Path, tmp_path: Path) -> None:
    toolkit.push(data, "org/streamed")
    models = []
    for streaming in (True, False):
        run = tmp_path / f"run-{streaming}"
        settings = small("org/streamed", stages=("lam",), streaming=streaming)
        train.train(settings, str(run), "cpu", str(tmp_path / f"cache-{streaming}"))
        models.append((run / WEIGHTS).read_bytes())
        cached = Path(constants.HF_HUB_CACHE, "datasets--org--streamed").rglob("data/**/*.parquet")
        assert bool(list(cached)) is not streaming
    assert models[0] == models[1]
