"""`dmask doctor`: what it says is so, and what is broken is crossed, with what mends it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import bare
import pytest
from hub_server import READ_TOKEN, TOKEN, HubServer

from distractor_data import cli, doctor
from distractor_data.doctor import Finding


def test_what_it_says_of_this_machine_is_so(hub: HubServer) -> None:
    """The whole of it, as a person runs it."""
    from distractor_data import envs

    done = bare.run("dmask", "doctor", "--json", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
    assert done.stderr == ""
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 0, [one for one in found.values() if one["needed"] and not one["ok"]]
    assert found["Python"]["found"].startswith(platform.python_version())
    assert f"numpy {importlib.metadata.version('numpy')}" in found["packages"]["found"]
    assert envs.renderer() in found["OpenGL"]["found"]
    assert "alice" in found["login"]["found"]
    assert hub.url in found["Hub"]["found"]
    assert found["disk"]["ok"]
    assert all(one["ok"] or one["cure"] for one in found.values())


def metadata(*requirements: str, python: str = ">=3.11", extras: tuple[str, ...] = ()) -> Message:
    told = Message()
    told["Requires-Python"] = python
    for line in requirements:
        told["Requires-Dist"] = line
    for extra in extras:
        told["Provides-Extra"] = extra
    return told


@pytest.mark.parametrize(
    ("told", "what", "words", "needed"),
    [
        (metadata(python="<3.0"), "Python", "tried: <3.0", True),
        (metadata("numpy<1"), "packages", r"numpy .* \(tried: <1\)", True),
        (metadata("no-such-package>=2"), "packages", "no-such-package is missing", True),
        (metadata("no-such-package"), "packages", r"no-such-package is missing \(tried: any\)", True),
        (metadata('torch<1; extra == "sam2"', extras=("sam2",)), "dmask[sam2]", "torch", False),
        (metadata('no-such-package; extra == "ray"', extras=("ray",)), "dmask[ray]", "is missing", False),
    ],
)
def test_packages_are_compared_with_the_ranges_of_the_metadata(
    told: Message, what: str, words: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: told)
    monkeypatch.setattr(doctor, "LOCK", Path("no such file"))
    (wrong,) = [one for one in doctor.packages() if not one.ok]
    assert (wrong.what, wrong.needed) == (what, needed)
    assert wrong.cure
    assert re.search(words, wrong.found)


def test_ranges_that_hold_are_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    other = 'no-such-package; python_version < "3"'
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata("numpy", "pillow>=1", other))
    assert all(one.ok for one in doctor.packages() if one.what in ("Python", "packages"))


def test_a_lock_that_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version("pillow")
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "requirements.lock")
    for locked, ok in (("0.1", False), (version, True)):
        doctor.LOCK.write_text(f"# a comment\npillow=={locked}\nnot-installed==3 ; python_version > '3'\n")
        lock = next(one for one in doctor.packages() if one.what == "lock")
        assert lock.ok == ok
        assert ok or f"pillow {version} (locked: 0.1)" in lock.found


def test_without_a_driver_opengl_is_crossed_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", str(tmp_path))
    monkeypatch.setenv("LIBGL_DRIVERS_PATH", str(tmp_path))
    ((found, _),) = doctor.drawing()
    assert not found.ok
    assert found.needed
    assert "apt-get install" in found.found


def test_a_driver_that_ends_the_process_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "executable", shutil.which("false"))
    ((found, _),) = doctor.drawing()
    assert not found.ok
    assert "ended with code 1" in found.found


@pytest.mark.parametrize(
    ("token", "up", "ticks"),
    [
        (TOKEN, True, {"Hub": True, "login": True}),
        (READ_TOKEN, True, {"Hub": True, "login": False}),
        (None, True, {"Hub": True, "login": False}),
        (None, False, {"Hub": False, "login": False}),
    ],
)
def test_the_hub_and_the_login(
    token: str | None, up: bool, ticks: dict[str, bool], hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if not up:
        hub.down_from(1)
    assert {one.what: one.ok for one in doctor.hub()} == ticks


class Usage(NamedTuple):
    free: int


def test_disks_and_memory_that_are_short_are_crossed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available", lambda: 10**9)
    assert doctor.memory(10**6).ok
    short = doctor.memory(10**9 // 2 + 1) if doctor_cores() > 1 else doctor.memory(2 * 10**9)
    assert not short.ok
    assert short.cure == "dmask generate --workers 1"
    assert all(one.ok for one in doctor.disks())
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(10**6))
    assert not any(one.ok for one in doctor.disks())


def doctor_cores() -> int:
    from distractor_data.engines import cores

    return cores()


def test_memory_is_what_the_system_says() -> None:
    assert 10**7 < doctor.available() < 10**14


@pytest.mark.parametrize(("needed", "code"), [(True, 1), (False, 0)])
def test_it_fails_where_the_main_job_cannot_run(
    needed: bool, code: int, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Finding("thing\x1b[2J", False, "is broken", "mend it", needed)
    monkeypatch.setattr(doctor, "examine", lambda: iter([Finding("other", True, "works", needed=True), broken]))
    assert cli.app(["doctor"]) == code
    assert capsys.readouterr().out.splitlines() == ["✓ other: works", "✗ thing[2J: is broken; to mend it: mend it"]


def test_weights_in_the_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sam2")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not doctor.weights().ok
    repository = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    (repository / "snapshots" / "0").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    (repository / "snapshots" / "0" / "sam2.1_hiera_tiny.pt").write_bytes(b"")
    assert doctor.weights().ok
