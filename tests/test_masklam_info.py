"""What is told of a model: by its folder, by the Hub, and of a training that goes on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from test_hub_model import data, run, small, trained  # noqa: F401

from distractor_data.errors import DmaskError
from masklam import bar, cli, info, measures, publish
from masklam.run import CONFIG, WEIGHTS, Run


def test_a_folder_is_described_by_what_lies_in_it(run: Path) -> None:  # noqa: F811
    found = info.describe(str(run))
    assert (found.method, found.env) == ("masklam", "walker-run")
    assert found.parts == ["lam", "policy", "decoder"]
    assert found.stages["lam"] == 6
    assert found.bytes == (run / WEIGHTS).stat().st_size
    assert dict(found.measures)["linear probe NMSE, held-out episodes, training videos"] == pytest.approx(
        Run(run).results()["linear_probe"]["in"]["nmse"]
    )
    assert len(found.measures) == len(list(measures.measures(Run(run).results())))


def test_the_command_trains_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Its options are those that were recorded, but for the folder of this machine."""
    from masklam import train as trainer

    asked: list[Any] = []
    monkeypatch.setattr(trainer, "train", lambda settings, *_: asked.append(settings) or {})
    cli.app(shlex.split(info.describe(str(run)).command)[1:])
    now, then = vars(asked[0]), Run(run).settings()
    assert {k for k in now if json.loads(json.dumps(now[k])) != then[k]} <= {"dataset"}


def test_the_hub_tells_the_same(hub: HubServer, run: Path) -> None:  # noqa: F811
    publish.push(run, "org/name", tag="v1")
    here, there = info.describe(str(run)), info.describe("org/name@v1")
    assert (there.method, there.env, there.parts, there.bytes) == (here.method, here.env, here.parts, here.bytes)
    assert there.command == here.command
    assert sorted(there.measures) == sorted((name, pytest.approx(value)) for name, value in here.measures)
    assert there.stages == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": b"# cats"}, "no model that masklam trained"),
        ({CONFIG: b"{}"}, "no settings of a training"),
        ({CONFIG: b'{"training": 3}'}, "training"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(files: dict[str, bytes], words: str, hub: HubServer) -> None:
    hub.lay("org/odd", files, {}, "models")
    with pytest.raises(DmaskError, match=words) as refused:
        info.describe("org/odd")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("card", [b"---\n{[\n---\n", b"---\n- 3\n---\n", b"---\nmodel-index: 3\n---\n", b"\xff", b""])
def test_a_card_that_tells_nonsense_tells_nothing(card: bytes, hub: HubServer) -> None:
    config = json.dumps({"training": {"method": "lapo", "env": "walker-run"}}).encode()
    hub.lay("org/odd", {CONFIG: config, "README.md": card}, {}, "models")
    assert info.describe("org/odd").measures == []


@pytest.mark.parametrize("source", ["org/gone", "no-folder", "a/b/c", ""])
def test_what_is_not_there_is_named(source: str, hub: HubServer) -> None:
    with pytest.raises(DmaskError):
        info.describe(source)


def test_a_stranger_s_words_are_shown_and_not_obeyed(
    hub: HubServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = {"method": "m\x1b[2J", "env": "e\n\u202e"}
    hub.lay("org/odd", {CONFIG: json.dumps({"training": training}).encode()}, {}, "models")
    assert cli.app(["info", "org/odd"]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize(("every", "least", "most"), [(1000.0, 1, 2), (0.0, 20, 60)])
def test_a_bar_in_a_log_is_lines(
    every: float, least: int, most: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "EVERY", every)
    for _ in bar.bar(range(50), "lam", unit="step", miniters=1):
        pass
    shown = capsys.readouterr().err
    assert "\r" not in shown
    assert least <= len(shown.splitlines()) <= most
    assert shown.splitlines()[-1].startswith("lam: 50/50 steps") or every
