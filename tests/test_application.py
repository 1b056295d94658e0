"""The command line as such: help with an example, one line for an error, what a log and a program get."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bare
import pytest
import typer
from hub_server import TOKEN, HubServer
from rich.console import Console

from distractor_data import cli, errors, progress, terminal
from masklam import cli as masklam_cli

APPS = {"dmask": cli.app, "masklam": masklam_cli.app}


def commands(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(f"{name} {word}", command)
        else:
            yield f"{name} {word}", command


COMMANDS = dict(pair for name, app in APPS.items() for pair in commands(name, typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_ends_with_an_example_that_is_understood(path: str) -> None:
    command = COMMANDS[path]
    assert command.epilog, f"{path} has no epilog='Example: {path} …'"
    _, example = command.epilog.split("Example: ")
    assert example.startswith(path)
    command.make_context(path, shlex.split(example.removeprefix(path)))  # raises where there is no such option


@pytest.mark.parametrize("path", COMMANDS)
def test_the_same_words_name_the_same_options(path: str) -> None:
    """What two commands both let one choose has one name; those of the help are whole sentences."""
    others = {"--name", "--dir", "--directory", "--output", "--force", "--num-workers", "--n-workers", "--size"}
    for parameter in COMMANDS[path].params:
        assert not others & set(parameter.opts), f"{path}: {parameter.opts} has another name elsewhere"
        if parameter.help:
            assert re.search(r"[.?]$", parameter.help), f"{path} {parameter.opts}: {parameter.help}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("generate --no-such", "No such option: --no-such.*dmask generate --help"),
        ("frobnicate", "No such command 'frobnicate'.*dmask --help"),
        ("pull", "Missing argument.*dmask pull --help"),
        ("pull org/name", "Missing argument.*dmask pull --help"),
        ("verify a b", "unexpected extra argument.*dmask verify --help"),
        ("generate --episodes many", "--episodes.*dmask generate --help"),
        ("generate --split x", "--split.*train.*dmask generate --help"),
        ("expert eval", "Missing argument.*dmask expert eval --help"),
    ],
)
def test_an_error_of_usage_is_one_line(arguments: str, words: str, refusal: Any) -> None:
    assert re.search(words, refusal(*arguments.split()), re.IGNORECASE)


@pytest.mark.parametrize("arguments", [["generate", "--out", ""], ["generate", "--out="], ["delete-episodes", ""]])
def test_an_empty_argument_is_not_the_folder_one_is_in(arguments: list[str], refusal: Any, tmp_path: Path) -> None:
    """It is what a shell makes of "$OUT" where there is no such variable."""
    with contextlib.chdir(tmp_path):
        assert "is empty" in refusal(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", COMMANDS)
def test_a_name_that_is_no_text_is_refused(path: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Records are JSON and tables of UTF-8, which can't hold it: no command begins with one."""
    program, *words = path.split()
    monkeypatch.setattr("sys.argv", [program, *words, os.fsdecode(b"d\xffta")])
    with pytest.raises(SystemExit) as ended:
        errors.run_cli(APPS[program], program)
    assert ended.value.code == 2
    assert re.fullmatch(rf"{program}: error: b'd\\xffta' is no UTF-8.*\n", capsys.readouterr().err)


def test_what_a_dataset_has_no_use_for_is_refused(folder: Path, refusal: Any) -> None:
    assert "--prompt-frame" in refusal("mask", str(folder), "--prompt-frame", "3")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_are_on_stdout_and_quick(option: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = bare.run("dmask", option)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dmask 0.1") if option == "--version" else "generate" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_without_arguments_there_is_the_help() -> None:
    done = bare.run("dmask")
    assert done.returncode == 2
    assert "Usage: dmask" in done.stdout
    assert done.stderr == ""


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = bare.run("dmask", "--install-completion", "bash", **home)
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.rglob("dmask.sh")
    assert script.name in (tmp_path / ".bashrc").read_text()
    variable = re.search(r"(\w+)=complete_bash", script.read_text())
    assert variable
    asked = {variable[1]: "complete_bash", "COMP_WORDS": "dmask gene", "COMP_CWORD": "1"}
    assert bare.run("dmask", **asked, **home).stdout.strip() == "generate"


def on_a_terminal(*command: str) -> str:
    """What a command writes where its standard output and error are a terminal."""
    reader, writer = pty.openpty()
    process = subprocess.Popen(command, stdout=writer, stderr=writer, env=os.environ | {"TERM": "xterm-256color"})
    os.close(writer)
    written = b""
    while True:
        try:
            some = os.read(reader, 1 << 16)
        except OSError:  # all who could write are gone
            break
        if not some:
            break
        written += some
    process.wait()
    os.close(reader)
    return written.decode()


def test_colour_is_for_terminals_alone() -> None:
    assert "\x1b[" not in bare.run("dmask", "generate", "--help").stdout
    assert "\x1b[" in on_a_terminal(sys.executable, "-m", "distractor_data.cli", "generate", "--help")


def test_bars_in_a_log_are_lines_some_seconds_apart(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with terminal.frame_progress("clip") as on_frames:
        for _ in range(100):
            now += 0.3
            on_frames(1, 100)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 30 / progress.EVERY + 1
    assert all(re.match(r"clip: \d+/100 frames .*frames/s", line) for line in lines)
    assert lines[-1].startswith("clip: 100/100")


def test_nothing_is_said_twice_and_of_nothing_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines(Console(stderr=True))
    with lines:
        task = lines.add_task("clip", total=2)
        lines.tell()
        lines.update(task, advance=1)
        lines.tell()
        lines.tell()
    assert capsys.readouterr().err.count("clip: 1/2") == 1


def test_quiet_and_json(folder: Path) -> None:
    done = bare.run("dmask", "verify", str(folder), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = bare.run("dmask", "verify", str(folder), "--json", "--quiet")
    assert set(json.loads(done.stdout)["verified"]) == {
        f"{env}-run/{split}" for env in ("walker", "cheetah") for split in ("train", "test")
    }
    done = bare.run("dmask", "mask", str(folder), "--report-only", "--json")
    assert [report["episodes"] for report in json.loads(done.stdout)] == [4, 2, 4, 2]
    (next(folder.rglob("file-000.parquet"))).write_bytes(b"x")
    done = bare.run("dmask", "verify", str(folder), "--quiet")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_program_that_generates_reads_json_alone(tmp_path: Path) -> None:
    small = "--env cartpole-swingup --policy random --episodes 1 --steps 3 --image-size 16 --workers 1"
    done = bare.run("dmask", "generate", *small.split(), "--out", str(tmp_path), "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["frames"] == 3


def test_transfers_leave_no_bars_in_a_log(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    there = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    for command in (
        ["push", str(folder), "org/name"],
        ["info", "org/name"],
        ["pull", "org/name", str(tmp_path / "back")],
    ):
        done = bare.run("dmask", *command, **there)
        assert done.returncode == 0
        assert re.fullmatch("" if command[0] == "info" else r"((push|pull): \d+/\d+ files.*\n)+", done.stderr)
        assert done.stdout


def test_a_program_that_pushes_and_pulls_reads_json_alone(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    there = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    done = bare.run("dmask", "push", str(folder), "org/name", "--json", **there)
    (sent,) = json.loads(done.stdout)
    assert sent["name"] == "org/name"
    assert sent["sent"]["README.md"] == len(sent["card"].encode())
    done = bare.run("dmask", "pull", "org/name", str(tmp_path / "back"), "--split", "test", "--json", **there)
    assert set(json.loads(done.stdout)["verified"]) == {"walker-run/test", "cheetah-run/test"}


@pytest.mark.parametrize(
    ("command", "one"),
    [
        ("envs", {"env": "walker-run", "state": 24, "action": 6, "expert": True}),
        ("expert list", {"env": "walker-run", "level": "expert", "episodes": 20}),
    ],
)
def test_lists_are_json_for_programs(command: str, one: dict[str, Any]) -> None:
    found = json.loads(bare.run("dmask", *command.split(), "--json").stdout)
    rows = [row for each in found for row in each.get("tasks", [each])]
    assert any(one.items() <= row.items() for row in rows)
