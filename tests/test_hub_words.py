"""What a person may mistype, forget or not have: one line, exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from strangers import lay, state

from distractor_data import cli
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
        (("pull", "", "back"), "can't name a repository"),
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
        (("push", "mine", "org/name", "--token-file", "nowhere"), "No such file"),
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
    for command in (cli.push, cli.pull):
        assert "token" not in command.__annotations__
