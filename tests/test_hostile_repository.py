"""Repositories of strangers: one line, exit code 2, nothing written outside the folder, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from strangers import INFO, PART, RECORD, SHARD, SUMS, Files, Stated, lay, state

from distractor_data import schema
from distractor_data.dataset import storage


def record(change: Callable[[Any], Any], path: str) -> Callable[[Files, Stated], None]:
    """Another content for a JSON file."""

    def lay(files: Files, stated: Stated) -> None:
        files[path] = json.dumps(change(json.loads(files[path]))).encode()

    return lay


def sums(change: Callable[[dict[str, Any]], Any]) -> Callable[[Files, Stated], None]:
    """Another record of checksums."""
    return record(lambda found: found | change(next(iter(found.values()))), SUMS)


def says(path: str, **entry: Any) -> Callable[[Files, Stated], None]:
    """Another statement about a file in the listing."""
    return lambda files, stated: stated.update({path: entry})


def lies(size: int) -> Callable[[Files, Stated], None]:
    """Another size of a shard in the listing, and the same in the record."""

    def lay(files: Files, stated: Stated) -> None:
        name = SHARD.removeprefix(f"{PART}/")
        record(lambda found: found | {name: found[name] | {"size": size}}, SUMS)(files, stated)
        says(SHARD, size=size)(files, stated)

    return lay


def moved(path: str) -> Callable[[Files, Stated], None]:
    """The whole dataset under another name."""

    def lay(files: Files, stated: Stated) -> None:
        for name in list(files):
            files[name.replace(PART, path)] = files.pop(name)

    return lay


def content(path: str, text: bytes | None) -> Callable[[Files, Stated], None]:
    """Another content, or none."""
    return lambda files, stated: files.pop(path) and None if text is None else files.update({path: text})


DEEP = b"[" * 50_000 + b"]" * 50_000
REPOSITORIES: dict[str, tuple[Callable[[Files, Stated], None], str]] = {
    "checksums name a file above": (sums(lambda one: {"../../../private/precious": one}), "private/precious"),
    "checksums name a file by its path": (sums(lambda one: {"/etc/passwd": one}), "/etc/passwd"),
    "checksums name a way out": (sums(lambda one: {"data/../../../../private/precious": one}), "precious"),
    "checksums name another file": (sums(lambda one: {"notes.txt": one}), "notes.txt"),
    "checksums name control characters": (sums(lambda one: {"\x1b[2J\nx": one}), "no file of a"),
    "checksums name a missing shard": (sums(lambda one: {schema.data_file(7): one}), "missing"),
    "checksums are no checksums": (sums(lambda one: {schema.data_file(1): {"sha256": "x", "size": 1}}), "sha256"),
    "checksums have a size below nothing": (sums(lambda one: {schema.data_file(1): one | {"size": -1}}), "size"),
    "checksums are of other data": (
        sums(lambda one: {schema.data_file(1): one | {"sha256": "0" * 64}}),
        "states ano",
    ),
    "checksums are a list": (content(SUMS, b"[]"), "checksums.json"),
    "checksums are too deep": (content(SUMS, DEEP), "checksums.json"),
    "checksums are missing": (content(SUMS, None), "lacks"),
    "the record is no JSON": (content(RECORD, b"\xff\x00{"), "dmask.json"),
    "the record is of another config": (
        record(lambda found: found | {"spec": found["spec"] | {"env": "hopper-hop"}}, RECORD),
        "not of walker-run/train",
    ),
    "the record is of a config that is a way out": (
        record(lambda found: found | {"spec": found["spec"] | {"env": "../x"}}, RECORD),
        "env is '../x'",
    ),
    "the record has no spec": (record(lambda found: {"mask": found["mask"]}, RECORD), "spec"),
    "the record's masks are no record": (record(lambda found: found | {"mask": []}, RECORD), "mask"),
    "the record is missing": (content(RECORD, None), "lacks"),
    "the sizes of images are impossible": (
        record(lambda found: found | {"features": {schema.IMAGE: {"dtype": "image", "shape": [10**9] * 3}}}, INFO),
        "shape",
    ),
    "a shard is listed with another size": (says(SHARD, size=17), "states another"),
    "a shard is larger than it is stated to be": (lies(17), "has changed"),
    "a shard has more bytes than any disk": (lies(10**15), "No space left"),
    "a shard has fewer bytes than none": (says(SHARD, size=-5), "states no size"),
    "a shard has a text for a size": (says(SHARD, size="12"), "states no size"),
    "a record has more bytes than a record has": (says(RECORD, size=10**10), "too many for what it is"),
    "the card has more bytes than a card has": (says("README.md", size=10**10), "too many for what it is"),
    "the config is a way out": (moved("../train"), "holds no dataset"),
    "the config is a path": (moved("/train"), "holds no dataset"),
    "the config has control characters": (moved("walker\x1b[2J\nrun/train"), "holds no dataset"),
    "the split is a way out": (moved("walker-run/.."), "holds no dataset"),
}


@pytest.mark.parametrize("into", ["an empty folder", "what was pulled before"])
@pytest.mark.parametrize(("change", "said"), REPOSITORIES.values(), ids=REPOSITORIES)
def test_a_hostile_repository_is_refused(
    hub: HubServer,
    one: Path,
    mine: Path,
    refusal: Callable[..., str],
    change: Callable[[Files, Stated], None],
    said: str,
    into: str,
) -> None:
    if into == "what was pulled before":
        (mine / SHARD).unlink()  # so that something is to be fetched
    else:
        mine = mine.with_name("new")
    lay(hub, one, change)
    before = state(mine.parent)
    assert said in refusal("pull", "org/name", str(mine))
    assert {path: held for path, held in state(mine.parent).items() if "/hub/" not in path} == {
        path: held for path, held in before.items() if "/hub/" not in path
    }


def test_a_shard_of_other_content_never_takes_the_place_of_a_good_one(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str]
) -> None:
    lay(hub, one)
    good = (mine / SHARD).read_bytes()
    hub.store(storage.sha256(mine / SHARD), good[:-1] + b"x")
    (mine / SHARD).write_bytes(good[:100])  # damaged here, damaged there
    before = state(mine)
    assert f"{SHARD} has changed" in refusal("pull", "org/name", str(mine))
    assert state(mine) == before


def test_what_the_layout_does_not_name_is_not_fetched(
    hub: HubServer, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = (
        "../evil",
        "/evil",
        f"{PART}/../../../evil",
        f"{PART}/meta/evil",
        f"{PART}/data/chunk-000/evil.parquet",
        f"{PART}/data/chunk-000/file-٠٠٠.parquet",
        f"{PART}/meta/\x1b[31m.json",
        f"{PART}/.lock",
        "evil.py",
        ".gitattributes",
    )
    lay(hub, one, lambda files, stated: files.update(dict.fromkeys(strange, b"evil")), "org/strange")
    monkeypatch.chdir(tmp_path)
    from distractor_data import load, pull

    assert pull.pull("org/strange", "back") == {PART: 4}
    assert len(load("org/strange", "walker")) == 4
    fetched = [line for line in hub.log if "/resolve/" in line]
    assert fetched
    assert not [line for line in fetched if "evil" in line or line.endswith((".lock", ".gitattributes"))]
    assert not [file for file in tmp_path.rglob("*evil*") if "hub" not in file.parts]
