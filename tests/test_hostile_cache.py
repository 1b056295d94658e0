"""What was decoded and verified once: nobody's copy takes the place of the true data, and no change goes unseen."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from pathlib import Path

import hostile
import numpy as np
import pytest
from hostile import World, command
from test_hostile_tables import column

import distractor_data
from distractor_data import schema, sources
from distractor_data.dataset import cache, rows
from distractor_data.errors import DmaskError
from masklam import data

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path, made_once: Path) -> World:
    return World(tmp_path / "world", made_once)


@pytest.fixture
def strangers(tmp_path: Path, made_once: Path) -> World:
    """The same dataset but for its frames, with which one may do what one likes; the two share a cache."""
    other = World(tmp_path / "other", made_once)
    other.cache = tmp_path / "world-cache"
    return other


def black(world: World) -> None:
    """Other frames of the right shape, under checksums that fit."""
    encoded = {"bytes": rows.encode_image(np.zeros((16, 16, 3), np.uint8)), "path": None}
    for shard in range(2):
        world.table(world.root / schema.data_file(shard), column(schema.IMAGE, lambda old: [encoded] * len(old)))


def test_a_strangers_copy_does_not_poison_the_cache(world: World, strangers: World, capfd: Capture) -> None:
    sums = (strangers.root / schema.CHECKSUMS).read_bytes()
    black(strangers)
    (strangers.root / schema.CHECKSUMS).write_bytes(sums)  # those of the true data
    assert "SHA-256" in hostile.refused(capfd, strangers.folder, strangers.decode)
    assert world.decode().image.any()
    # Nor does it get what was decoded of the true data.
    assert "SHA-256" in hostile.refused(capfd, strangers.folder, strangers.decode)


def test_other_data_has_another_place_in_the_cache(world: World, strangers: World) -> None:
    black(strangers)
    assert not strangers.decode().image.any()
    assert world.decode().image.any()


def test_records_of_others_do_not_divide_the_frames(world: World, strangers: World, capfd: Capture) -> None:
    world.decode()
    strangers.table(strangers.records, lambda t: t.slice(0, 1))
    hostile.refused(capfd, strangers.folder, strangers.decode)


@pytest.mark.parametrize("how", ["cut", "shape", "type", "objects", "link", "gone"])
def test_damaged_decoded_frames_are_not_trained_on(how: str, world: World, capfd: Capture) -> None:
    world.decode()
    (place,) = world.cache.glob(f"*/{schema.IMAGE}.npy")
    array = np.load(place)
    if how == "cut":
        place.write_bytes(place.read_bytes()[:-100])
    elif how == "shape":
        np.save(place, array[:-1])
    elif how == "type":
        np.save(place, array.astype(np.int16))
    elif how == "objects":
        np.save(place, np.array([{}], dtype=object))
    elif how == "link":
        shutil.move(place, world.elsewhere / "moved.npy")
        place.symlink_to(world.elsewhere / "moved.npy")
    else:
        place.unlink()
    assert f"delete {place.parent}" in hostile.refused(capfd, world.folder, world.decode)


def test_a_file_is_read_once_for_its_checksum(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)  # as if the files had been there for long
    world.decode()
    monkeypatch.setattr(cache, "_known", {})  # as in another process
    monkeypatch.setattr(hashlib, "file_digest", None)
    world.decode()


def test_a_change_that_hides_its_time_is_seen(world: World, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    world.load()
    found = world.frames.stat()
    content = bytearray(world.frames.read_bytes())
    content[len(content) // 2] ^= 1
    with open(world.frames, "r+b") as file:  # in place: the same file of the same size
        file.write(content)
    os.utime(world.frames, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert "SHA-256" in hostile.refused(capfd, world.folder, world.load)


@pytest.mark.parametrize("planted", [b"", b"0" * 64, b"\xff" * 64])
def test_a_remembered_checksum_that_is_none_is_taken_again(
    planted: bytes, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    first = cache.sha256(world.frames, world.cache)
    monkeypatch.setattr(cache, "_known", {})
    (place,) = world.cache.glob("verified/*")
    if planted != b"0" * 64:  # a folder of one's own is believed: who writes there needs no trick
        place.write_bytes(planted)
    assert cache.sha256(world.frames, world.cache) == first


# --- where there is no place ---------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the list of users."""

    def unknown(user: object) -> None:
        raise KeyError(user)

    for name in ("HOME", "XDG_CACHE_HOME", "DMASK_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_reading_needs_no_home(world: World, nobody: None) -> None:
    assert len(world.load()) == world.decode().episodes == 4


def test_decoding_needs_a_place(world: World, nobody: None, capfd: Capture) -> None:
    line = hostile.refused(capfd, world.folder, lambda: data.load(str(world.data), "walker-run"))
    assert "DMASK_CACHE" in line
    hostile.refused(capfd, world.folder, lambda: data.load(str(world.data), "walker-run", cache="~stranger/x"))


@pytest.mark.parametrize("option", ["--model", "--prompt"])
def test_a_home_that_is_not_there(option: str, world: World, nobody: None, capfd: Capture) -> None:
    from distractor_data.masks import prompts

    def act() -> None:
        if option == "--prompt":
            prompts.parse("mask=~/mask.png")
        pytest.importorskip("sam2")
        command("dmask", "mask", world.data, "--model", "~/sam2.pt")()

    assert "~" in hostile.refused(capfd, world.folder, act)


PLACES = ["/sys/dmask", "/dev/null/x", "x" * 300, "elsewhere/private.txt/x", "elsewhere/private.txt"]


@pytest.mark.parametrize("place", PLACES)
def test_places_that_can_not_be_written(place: str, world: World, capfd: Capture) -> None:
    out = world.folder / place
    hostile.refused(capfd, world.folder, command("dmask", "corrupt-masks", world.data, "--out", out, "--dilate", 1))
    hostile.refused(capfd, world.folder, lambda: data.load(str(world.data), "walker-run", cache=out))


def test_reading_needs_no_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMASK_CACHE", str(world.elsewhere / "private.txt"))
    assert len(world.load()) == 4


@pytest.mark.parametrize(
    "name", ["org/name", "org/name@v1", "name", "./data", "a b/c", "/nowhere", "", "org/../name", "o/x--y"]
)
def test_names_of_nothing(name: str, world: World, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder / "elsewhere")
    for streaming in (False, True):
        hostile.refused(capfd, world.folder, lambda: distractor_data.load(name, streaming=streaming))  # noqa: B023
    with pytest.raises(DmaskError):
        sources.locate(name)


def test_the_hub_offline(world: World, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for streaming in (False, True):
        line = hostile.refused(capfd, world.folder, lambda: distractor_data.load("org/name", streaming=streaming))  # noqa: B023
        assert "org/name" in line
