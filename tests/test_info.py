"""What is told of datasets: by a folder, by the Hub, the same, and nothing of it is obeyed by a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_dataset
from hub_server import HubServer

import distractor_data
from distractor_data import cli, info, publish, schema, terminal
from distractor_data.errors import DmaskError

EVIL = "x\x1b[2J\x07\r\n[red]y[/red]"


def test_a_folder_is_described_by_what_lies_in_it(folder: Path) -> None:
    found = info.describe(folder)
    assert [(one.config, one.split) for one in found] == [
        (config, split) for config in ("cheetah-run", "walker-run") for split in ("train", "test")
    ]
    for one in found:
        episodes = distractor_data.load(folder, one.config, one.split)
        assert one.episodes == len(episodes)
        assert one.frames == sum(len(episode.image) for episode in episodes)
        assert (one.height, one.width) == episodes[0].image.shape[1:3]
        assert one.mean_return == pytest.approx(sum(e.reward.sum() for e in episodes) / len(episodes), rel=1e-5)
        assert one.coverage == pytest.approx(sum(e.mask.mean() for e in episodes) / len(episodes))
        assert one.bytes == sum(
            f.stat().st_size for f in (folder / one.config / one.split / "data").rglob("*.parquet")
        )
        assert one.mask == "simulator"
        assert one.iou is None
        assert f"--env {one.config} --split {one.split}" in one.commands[0]


def test_the_hub_says_the_same_and_no_frame_is_fetched(hub: HubServer, folder: Path) -> None:
    publish.push(folder, "org/name")
    asked = hub.requests
    assert info.describe("org/name") == info.describe(folder)
    fetched = [line for line in hub.log[asked:] if "/resolve/" in line]
    assert fetched
    assert not [line for line in fetched if "/data/" in line]


def test_the_datasets_of_an_owner_are_those_of_dmask(hub: HubServer, folder: Path) -> None:
    publish.push(folder, "org/name")
    hub.lay("org/other", {"README.md": b"---\ntags:\n- cats\n---\n"}, {})
    (one,) = info.listing("org")
    assert one.name == "org/name"
    assert one.configs == ["cheetah-run", "walker-run"]
    assert one.frames == sum(part.frames for part in info.describe(folder))
    assert one.bytes == sum(part.bytes for part in info.describe(folder))
    publish.push(folder, "alice/mine")
    assert [one.name for one in info.listing()] == ["alice/mine"]
    assert info.listing("nobody") == []


@pytest.mark.parametrize("owner", ["org/name", "a b", "../x", ""])
def test_what_names_nobody_is_said_before_the_hub_is_asked(owner: str) -> None:
    with pytest.raises(DmaskError, match="can't be the name"):
        info.listing(owner)


def test_without_a_login_an_owner_is_asked_for(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DmaskError, match="dmask list ORG"):
        info.listing()


@pytest.mark.parametrize(
    "card", ["dmask: 3", "dmask: [3, {frames: 4.5}]", "dmask: {frames: [{}], bytes: many}", "dataset_info: 3"]
)
def test_a_card_that_tells_nonsense_tells_nothing(card: str, hub: HubServer) -> None:
    hub.lay("org/odd", {"README.md": f"---\ntags: [latent-action-models]\n{card}\n---\n".encode()}, {})
    (one,) = info.listing("org")
    assert (one.frames, one.bytes) == (None, None)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_obeys_nothing(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_listing([info.Listed(EVIL, [EVIL], 3, None, EVIL, True)], as_json)
    one = info.Described(EVIL, EVIL, 1, 2, 3, 4, 5, None, 1.5, EVIL, 0.5, None, None, [EVIL])
    terminal.print_info([one], as_json)
    shown = capsys.readouterr().out
    assert "[red]y[/red]" in shown
    assert all(line.isprintable() for line in shown.split("\n"))


def test_the_command(folder: Path, refusal: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.app(["info", str(folder), "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)) == 4
    assert cli.app(["info", str(folder)]) == 0
    told = capfd.readouterr().out
    assert "dmask generate --env walker-run --split train" in told
    assert f"{4 + 2 + 4 + 2} episodes, {12 * small_dataset.STEPS} frames" in told
    (tmp_path / "empty").mkdir()
    assert "holds no dataset" in refusal("info", str(tmp_path / "empty"))
    (folder / "walker-run" / "train" / schema.DMASK).write_text("{")
    assert "dmask.json" in refusal("info", str(folder))
