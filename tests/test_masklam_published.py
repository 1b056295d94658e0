"""A model in others' hands: images as they hold them, and names that lead nowhere."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import small_dataset
import torch
from datasets import load_dataset
from hub_server import HubServer
from PIL import Image

import distractor_data
from distractor_data.errors import DmaskError
from dmask_cards.dataset import write_card
from masklam.data import Frames
from masklam.models import Model

SIZE = small_dataset.SIZE


def model(stack: int = 1) -> Model:
    return Model("lapo", 3, latent_dim=4, image_size=SIZE, frame_stack=stack, res_blocks=0).eval()


@pytest.mark.parametrize("stack", [1, 3])
def test_images_of_datasets_and_of_load_become_the_observations_of_training(folder: Path, stack: int) -> None:
    episode = distractor_data.load(folder, "walker-run")[0]
    write_card(folder)
    rows = load_dataset(str(folder), "walker-run", split="train")
    count, seen = len(episode), model(stack)
    expected = Frames.of_episode(torch.from_numpy(episode.image)).observations(torch.arange(count), stack)
    pil = rows["observation.image"][:count]
    assert isinstance(pil[0], Image.Image)
    torched = rows.select(range(count)).with_format("torch")["observation.image"][:]
    for images in (episode.image, torch.from_numpy(episode.image), list(episode.image), pil, torched):
        assert torch.equal(seen.encode(images), expected)
    for one in (episode.image[0], pil[0], [pil[0]], torch.from_numpy(episode.image[0])):
        assert torch.equal(seen.encode(one), expected[:1])
    x = seen.encode(episode.image)
    assert seen.latent(x[:-1], x[1:]).shape == (count - 1, 4)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((2, 2 * SIZE, 2 * SIZE, 3), np.uint8),
        np.zeros((SIZE, SIZE), np.uint8),
        np.zeros((SIZE, SIZE, 4), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.float32),
        Image.new("RGB", (8, 8)),
        [Image.new("RGB", (SIZE, SIZE)), Image.new("RGB", (8, 8))],
        [],
    ],
)
def test_images_of_another_size_are_refused_in_a_line_that_names_the_models(images: object) -> None:
    with pytest.raises(DmaskError, match=f"uint8 images of {SIZE}×{SIZE} pixels"):
        model().encode(images)


@pytest.mark.parametrize("name", ["runs/nothing", "/nowhere/run", "./run", "runs/studies/a/b", "~/run", "nothing"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_model_that_is_nowhere_is_told_at_once(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, name: str, connected: bool
) -> None:
    if not connected:
        hub.down_from(0)
    began = time.perf_counter()
    with pytest.raises(DmaskError, match="no such folder") as refused:
        Model.from_pretrained(name)
    assert time.perf_counter() - began < 2
    assert "\n" not in str(refused.value)


def test_a_published_model_is_read_without_a_connection_once_it_was_fetched(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    model().save_pretrained(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["image_size"] == SIZE
    api = HfApi()
    api.create_repo("org/kept")
    api.upload_folder(repo_id="org/kept", folder_path=tmp_path / "run")
    first = Model.from_pretrained("org/kept").state_dict()
    hub.down_from(0)
    again = Model.from_pretrained("org/kept", local_files_only=True).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
