"""What a person may mistype, forget or not have: one line, exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from strangers import SHARD, lay, state

from distractor_data import cli
from distractor_data.commands.hub import pull, push
from distractor_data.errors import run_cli


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pull", "./mine", "back"), "is a folder here and can't name a repository"),
        (("pull", "mine", "back"), "is a folder here and names no user or organisation"),
        (("pull", "../mine", "back"), "can't name a repository"),
        (("pull", "/tmp", "back"), "is a folder here and can't name a repository"),
        (("pull", "org/na me", "back"), "can't name a repository"),
        (("pull", "org/../x", "back"), "can't name a repository"),
        (("pull", "", "back"), "is empty"),
        (("pull", "org/\x1b[2Jname\nx", "back"), "can't name a repository"),
        (("pull", "org/nmae", "back"), "did you mean 'org/name'"),
        (("pull", "org/name@v9", "back"), "no such revision"),
        (("pull", "org/name", "mine/README.md"), "is a file; give a folder"),
        (("pull", "org/name", "back", "--token-file", "mine"), "no regular file"),
        (("pull", "org/name", "back", "--token-file", "mine/README.md"), "is none; copy it again"),
        (("push", "mine/README.md", "org/name"), "is a file; give the folder"),
        (("push", "private", "org/name"), "holds no dataset"),
        (("push", "mine", "org/na me"), "can't name a repository"),
        (("push", "mine", "../name"), "can't name a repository"),
        (("push", "mine", "org/name", "--token-file", "/dev/null"), "no regular file"),
        (("push", "mine", "org/name", "--token-file", "nowhere"), "no such file"),
    ],
)
def test_careless_words_are_refused(
    hub: HubServer,
    one: Path,
    mine: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    lay(hub, one)
    monkeypatch.chdir(mine.parent)
    before = state(mine.parent)
    assert said in refusal(*arguments)
    assert state(mine.parent) == before


@pytest.mark.parametrize("token", ["hf_é", "hf a", "hf_\x01", "hf_a\nX: b"])
@pytest.mark.parametrize("arguments", [("pull", "org/name", "back"), ("push", "mine", "org/name")])
def test_what_is_no_token_is_refused_and_not_shown(
    hub: HubServer,
    one: Path,
    mine: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
    arguments: tuple[str, ...],
    token: str,
) -> None:
    lay(hub, one)
    monkeypatch.chdir(mine.parent)
    monkeypatch.setenv("HF_TOKEN", token)
    line = refusal(*arguments)
    assert "token" in line
    assert token not in line


def test_a_config_of_a_name_that_is_none_is_not_published(
    hub: HubServer, mine: Path, refusal: Callable[..., str]
) -> None:
    (mine / "walker-run").rename(mine / "walker`run\x1b[2J")
    assert "can't be the name of a config" in refusal("push", str(mine), "org/name")
    assert not [line for line in hub.log if "/commit/" in line]


def test_the_token_comes_from_a_file_or_standard_input_and_is_on_no_command_line(
    hub: HubServer, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for given in (str(tmp_path / "token"), "-"):
        monkeypatch.setattr("sys.argv", ["dmask", "push", str(mine), "org/name", "--token-file", given])
        with open(tmp_path / "token") as file:
            monkeypatch.setattr("sys.stdin", file)
            with pytest.raises(SystemExit) as ended:
                run_cli(cli.app, "dmask")
        assert ended.value.code == 0, capfd.readouterr()
    assert f"Bearer {TOKEN}" in hub.authorizations
    assert TOKEN not in "".join(capfd.readouterr())
    for command in (push, pull):
        assert "token" not in command.__annotations__


def dmask(*arguments: str, beside: Path, before: tuple[str, ...] = (), **environment: str) -> str:
    """What `dmask` says when it is run as a person runs it and refuses, in one line."""
    command = [*before, sys.executable, "-m", "distractor_data.cli", *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "HF_HOME")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    run = subprocess.run(command, cwd=beside, env=environment, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    return run.stderr


@pytest.mark.parametrize("arguments", [("pull", "org/name", "back"), ("push", "mine", "org/name")])
def test_a_user_without_a_home_is_told_what_to_set(
    hub: HubServer, one: Path, mine: Path, arguments: tuple[str, ...]
) -> None:
    nobody = ("unshare", "--user", "--map-user=54321")  # of whom no passwd tells
    if shutil.which("unshare") is None or subprocess.run([*nobody, "true"], capture_output=True).returncode:
        pytest.skip("no right to be another user here (unshare --user)")
    lay(hub, one)
    before = state(mine.parent)
    assert "no home folder; set HF_HOME" in dmask(*arguments, beside=mine.parent, before=nobody)
    assert state(mine.parent) == before


@pytest.mark.parametrize("arguments", [("pull", "org/name", "back"), ("push", "mine", "org/name")])
def test_an_offline_hub_is_named(hub: HubServer, mine: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    home = str(tmp_path / "home")
    assert "HF_HUB_OFFLINE is set" in dmask(*arguments, beside=mine.parent, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert hub.requests == 0


def test_a_folder_that_may_only_be_read_is_named(hub: HubServer, one: Path, mine: Path, tmp_path: Path) -> None:
    mounting = ("unshare", "-rm", "sh", "-ec", 'mount --bind mine mine; mount -o remount,bind,ro mine; "$@"', "sh")
    if shutil.which("unshare") is None or subprocess.run([*mounting, "true"], cwd=mine.parent).returncode:
        pytest.skip("no right to mount here (unshare -rm)")
    lay(hub, one)
    (mine / SHARD).unlink()
    options = {"beside": mine.parent, "before": mounting, "HF_HOME": str(tmp_path / "home")}
    assert "Read-only file system (mine/" in dmask("pull", "org/name", "mine", **options)


def test_standard_output_that_is_closed_or_full_is_no_traceback(mine: Path) -> None:
    command = [sys.executable, "-m", "distractor_data.cli", "verify", str(mine)]
    reading, writing = os.pipe()
    os.close(reading)
    for stdout, stderr, code in (
        (writing, subprocess.PIPE, (1, 2)),
        (writing, writing, (1, 2)),
        (os.open("/dev/full", os.O_WRONLY), subprocess.PIPE, (2,)),
    ):
        run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=stdout, stderr=stderr, text=True)
        assert run.returncode in code
        assert "Traceback" not in (run.stderr or "")
        assert (run.stderr or "").count("\n") <= 1
