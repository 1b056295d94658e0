"""`dmask push --lerobot`: each config and split under a name of its own, as `LeRobotDataset` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import small_dataset
from hub_server import HubServer
from huggingface_hub import DatasetCard, HfApi

from distractor_data import publish_lerobot, schema
from distractor_data.dataset import layout, meta
from dmask_cards.dataset import parts

NAMES = ("org/name-cheetah-run", "org/name-cheetah-run-test", "org/name-walker-run", "org/name-walker-run-test")


def test_each_split_is_a_repository_with_meta_at_its_root_and_its_tag(hub: HubServer, folder: Path) -> None:
    pushed = publish_lerobot.push(folder, "org/name")
    assert sorted(one.name for one in pushed) == list(NAMES)
    for one, part in zip(pushed, parts(folder), strict=True):
        files = hub.files(one.name, publish_lerobot.VERSION)
        assert files.keys() == set(layout.files(part.root)) | {schema.CARD}
        assert all(files[name] == (part.root / name).read_bytes() for name in files if name != schema.CARD)
        assert files[schema.CARD].decode() == one.card
        DatasetCard(one.card).validate()
        assert f'LeRobotDataset("{one.name}")' in one.card
        assert len(datasets.load_dataset(one.name, split=part.split)) == part.info["total_frames"]


def test_the_tag_moves_with_data_that_grows_and_what_is_gone_goes(hub: HubServer, folder: Path) -> None:
    publish_lerobot.push(folder, "org/name")
    root = schema.root(folder, "walker-run", "train")
    (folder / "walker-run" / "train").rename(folder.parent / "before")
    small_dataset.write(folder, "walker-run", shards=1)
    assert meta.verify(root)
    publish_lerobot.push(folder, "org/name")
    files = hub.files("org/name-walker-run", publish_lerobot.VERSION)
    assert files == hub.files("org/name-walker-run")
    assert schema.data_file(0) in files
    assert schema.data_file(1) not in files


def test_a_second_push_sends_nothing_and_keeps_what_hands_wrote(hub: HubServer, folder: Path) -> None:
    publish_lerobot.push(folder, "org/name")
    card = hub.files(NAMES[0])[schema.CARD].decode()
    written = card.replace("<!-- keep limits -->", "<!-- keep limits -->\nMine.")
    HfApi().upload_file(
        path_or_fileobj=written.encode(), path_in_repo=schema.CARD, repo_id=NAMES[0], repo_type="dataset"
    )
    assert [one.sent for one in publish_lerobot.push(folder, "org/name")] == [{}] * 4
    assert "Mine." in hub.files(NAMES[0], publish_lerobot.VERSION)[schema.CARD].decode()


def test_a_dry_run_names_them_all_and_asks_nobody(hub: HubServer, folder: Path) -> None:
    assert sorted(one.name for one in publish_lerobot.push(folder, "org/name", dry_run=True)) == list(NAMES)
    assert hub.log == []


@pytest.mark.parametrize("option", ["--tag", "--revision"])
def test_options_of_the_other_push_are_refused(folder: Path, refusal: Callable[..., str], option: str) -> None:
    assert "leave" in refusal("push", str(folder), "org/name", "--lerobot", option, "v1")
