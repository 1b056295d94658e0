"""Folders of strangers and of the careless: nothing leaves through them, and nothing of one's own is lost in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import small_dataset
from hub_server import HubServer
from strangers import PART, RECORD, SHARD, SUMS, lay, state

from distractor_data import publish as toolkit
from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.dataset.meta import verify_all
from distractor_data.pull import pull


def link(path: str) -> Callable[[Path], None]:
    """A link in the place of a file, to a private one, or of a folder, to its like elsewhere."""

    def lay(folder: Path) -> None:
        elsewhere = folder.parent / "private"
        if (folder / path).is_dir():
            elsewhere = (folder / path).rename(elsewhere / "moved")
        else:
            (folder / path).unlink()
            elsewhere = elsewhere / "precious"
        (folder / path).symlink_to(elsewhere)

    return lay


def pipe(path: str) -> Callable[[Path], None]:
    """A pipe, at which a reader would wait for ever."""

    def lay(folder: Path) -> None:
        storage.remove(folder / path)
        os.mkfifo(folder / path)

    return lay


def listener(path: str) -> Callable[[Path], None]:
    """A socket; its name may only be short."""

    def lay(folder: Path) -> None:
        storage.remove(folder / path)
        here = os.getcwd()
        os.chdir((folder / path).parent)
        try:
            socket.socket(socket.AF_UNIX).bind(Path(path).name)
        finally:
            os.chdir(here)

    return lay


def a_folder(path: str) -> Callable[[Path], None]:
    """A folder where a file belongs."""

    def lay(folder: Path) -> None:
        storage.remove(folder / path)
        (folder / path / "inner").mkdir(parents=True)

    return lay


NO_FILE = "no regular file|neither a file nor a folder|where a file belongs"
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard is a link": (link(SHARD), "link"),
    "statistics are a link to a private file": (link(f"{PART}/{schema.STATS}"), "link"),
    "the picture is a link to a private file": (link(f"{PART}/{schema.SHEET}"), "link"),
    "meta/ is a link": (link(f"{PART}/meta"), "link"),
    "a chunk is a link": (link(f"{PART}/data/chunk-000"), "link"),
    "the split is a link": (link(PART), "link"),
    "the config is a link": (link("walker-run"), "link"),
    "the card is a link": (link("README.md"), "link"),
    "a shard is a pipe": (pipe(SHARD), NO_FILE),
    "the record is a pipe": (pipe(RECORD), NO_FILE),
    "checksums are a pipe": (pipe(SUMS), NO_FILE),
    "the card is a pipe": (pipe("README.md"), NO_FILE),
    "statistics are a socket": (listener(f"{PART}/{schema.STATS}"), NO_FILE),
    "the picture is a folder": (a_folder(f"{PART}/{schema.SHEET}"), NO_FILE),
    "a shard is a folder": (a_folder(SHARD), NO_FILE),
}


@pytest.mark.parametrize(("change", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_with_something_else_in_a_files_place_is_not_published(
    hub: HubServer, mine: Path, refusal: Callable[..., str], change: Callable[[Path], None], said: str
) -> None:
    change(mine)
    before = state(mine.parent)
    assert re.search(said, refusal("push", str(mine), "org/name"))
    assert state(mine.parent) == before
    assert not any("precious" in line or "/commit/" in line for line in hub.log)


@pytest.mark.parametrize(("change", "said"), FOLDERS.values(), ids=FOLDERS)
def test_nothing_is_pulled_through_it_either(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], change: Callable[[Path], None], said: str
) -> None:
    lay(hub, one)
    change(mine)
    before = state(mine)
    assert re.search(said, refusal("pull", "org/name", str(mine), "--overwrite"))
    assert state(mine) == before
    assert (mine.parent / "private" / "precious").read_text() == "mine alone"


def test_other_files_beside_the_data_are_not_published(hub: HubServer, mine: Path) -> None:
    for name in ("notes.txt", "meta/notes.txt", "data/chunk-000/notes.txt", "meta/episodes/chunk-000/x.parquet"):
        (mine / PART / name).write_text("mine alone")
    (mine / PART / "meta" / "x").symlink_to(mine.parent / "private" / "precious")
    (mine / "data.py").write_text("mine alone")
    toolkit.push(mine, "org/name")
    assert not [path for path, held in hub.files("org/name").items() if b"mine alone" in held]
    assert len(hub.files("org/name")) == 4 + 7 + 1


def test_what_changes_between_the_check_and_the_sending_is_not_published(
    hub: HubServer, mine: Path, refusal: Callable[..., str]
) -> None:
    file = mine / SHARD
    hub.when("/preupload/", lambda: file.write_bytes(file.read_bytes()[:-1] + b"x"))
    assert f"{SHARD} has changed since it was written" in refusal("push", str(mine), "org/name")
    assert hub.files("org/name") == {}


def other_masks(folder: Path) -> None:
    """Masks of a model's own, as `dmask mask` writes them."""
    from distractor_data.dataset import meta

    root = folder / PART
    table = storage.read_frames(root, 0)
    masks = table[schema.MASK].take(list(reversed(range(len(table)))))
    table = table.set_column(table.schema.get_field_index(schema.MASK), table.schema.field(schema.MASK), masks)
    storage.write_shard(root, 0, table, storage.read_episodes(root, 0))
    meta.save_record(root, meta.read_record(root) | {"mask": {"source": "sam2"}})
    meta.refresh(root)


OWN: dict[str, tuple[Callable[[Path], object], str]] = {
    "more shards": (lambda folder: small_dataset.write(folder, "walker-run", shards=3), schema.data_file(2)),
    "other data": (lambda folder: small_dataset.write(folder, "walker-run", seed=7), "holds other data: seed"),
    "masks of a model": (other_masks, "the masks of sam2"),
    "a README.md of another kind": (lambda folder: (folder / "README.md").write_text("# My work"), "README.md"),
}


def shown(folder: Path) -> dict[str, bytes]:
    """All but hidden files."""
    files = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
    return {
        str(name): file.read_bytes()
        for name, file in files.items()
        if not any(part.startswith(".") for part in name.parts)
    }


@pytest.mark.parametrize(("change", "said"), OWN.values(), ids=OWN)
def test_what_lies_only_here_is_named_and_kept_unless_overwriting_is_meant(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], change: Callable[[Path], object], said: str
) -> None:
    lay(hub, one)
    change(mine)
    before = state(mine)
    line = refusal("pull", "org/name", str(mine))
    assert said in line
    assert "--overwrite" in line
    assert state(mine) == before
    pull("org/name", mine, overwrite=True)
    assert shown(mine) == shown(one)
    assert verify_all(mine) == {PART: 4}


def test_a_newer_commit_replaces_what_was_pulled_and_not_what_was_written(
    hub: HubServer, one: Path, tmp_path: Path
) -> None:
    source, back = shutil.copytree(one, tmp_path / "source"), tmp_path / "back"
    toolkit.push(source, "org/name")
    pull("org/name", back)
    origin = json.loads((back / PART / ".origin.json").read_text())
    assert origin["repository"] == "org/name"
    other_masks(source)
    small_dataset.write(source, "cheetah-run")
    toolkit.push(source, "org/name")
    pull("org/name", back)
    assert storage.read_json(back / RECORD)["mask"] == {"source": "sam2"}
    assert (back / "README.md").read_bytes() == hub.files("org/name")["README.md"]
    assert json.loads((back / PART / ".origin.json").read_text())["revision"] != origin["revision"]

    mine = "<!-- keep about -->\nMine.\n<!-- /keep -->"
    card = (back / "README.md").read_text().replace("<!-- keep about -->\n<!-- /keep -->", mine)
    (back / "README.md").write_text(card)
    small_dataset.write(source, "hopper-hop")
    toolkit.push(source, "org/name")
    pull("org/name", back)
    card = (back / "README.md").read_text()
    assert mine in card
    assert "hopper-hop" in card


def test_a_commit_that_is_gone_from_the_repository_is_no_hindrance(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str]
) -> None:
    lay(hub, one)
    storage.write_json(mine / PART / ".origin.json", {"repository": "org/name", "revision": "0" * 40})
    good = (mine / SHARD).read_bytes()
    (mine / SHARD).unlink()
    pull("org/name", mine)
    assert (mine / SHARD).read_bytes() == good
    storage.write_json(mine / PART / ".origin.json", {"repository": "org/name", "revision": "../x"})
    assert ".origin.json" in refusal("pull", "org/name", str(mine))


def test_another_run_that_writes_to_the_folder_is_not_disturbed(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str]
) -> None:
    lay(hub, one)
    (mine / SHARD).unlink()
    before = state(mine)
    with storage.lock(mine / PART):
        assert "another run is writing" in refusal("pull", "org/name", str(mine))
    assert state(mine) == before


@pytest.mark.parametrize("planted", ["a link", "a link inside", "a pipe inside"])
def test_what_was_planted_for_the_fetched_files_is_not_written_through(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], planted: str
) -> None:
    lay(hub, one)
    (mine / SHARD).unlink()
    staging, private = mine / PART / ".pull", mine.parent / "private"
    if planted == "a link":
        staging.symlink_to(private)
    else:
        (staging / PART).mkdir(parents=True)
        if planted == "a link inside":
            (staging / PART / "data").symlink_to(private)
        else:
            os.mkfifo(staging / PART / "data")
    assert ".pull" in refusal("pull", "org/name", str(mine))
    assert [file.name for file in private.iterdir()] == ["precious"]
