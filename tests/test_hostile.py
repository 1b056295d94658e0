"""JSON that says what it should not, and links, pipes and folders where files belong: refused, by one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
from hostile import World, command

from distractor_data import schema
from distractor_data.dataset import storage

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path, made_once: Path) -> World:
    return World(tmp_path / "world", made_once)


def put(*names: object, value: Any = ...) -> Callable[[Any], Any]:
    """Change the field that `names` lead to; without a value it goes."""

    def change(content: Any) -> Any:
        place = content
        for name in names[:-1]:
            place = place[name]
        if value is ...:
            del place[names[-1]]
        else:
            place[names[-1]] = value
        return content

    return change


def features(name: str, shape: object) -> Callable[[Any], Any]:
    return put("features", name, "shape", value=shape)


INFO: dict[str, Callable[[Any], Any]] = {
    "a list": lambda _: [],
    "null": lambda _: None,
    "no rate": put("fps"),
    "a rate of zero": put("fps", value=0),
    "a rate in words": put("fps", value="40"),
    "a rate that is true": put("fps", value=True),
    "no features": put("features"),
    "features in a list": put("features", value=[]),
    "a feature without a shape": put("features", schema.IMAGE, value={"dtype": "image"}),
    "a feature of a foreign type": put("features", schema.ACTION, "dtype", value="object"),
    "a name that is long": put("features", "x" * 10**5, value={"dtype": "int64", "shape": [1]}),
    "no image": put("features", schema.IMAGE),
    "no action": put("features", schema.ACTION),
    "images of another size": features(schema.IMAGE, [32, 32, 3]),
    "images larger than any": features(schema.IMAGE, [10**6, 10**6, 3]),
    "images below zero": features(schema.IMAGE, [-16, -16, 3]),
    "images of half pixels": features(schema.IMAGE, [16.5, 16, 3]),
    "grey images": features(schema.IMAGE, [16, 16, 1]),
    "masks in colour": features(schema.MASK, [16, 16, 3]),
    "masks of another size": features(schema.MASK, [8, 8, 1]),
    "actions of another size": features(schema.ACTION, [4]),
    "actions without end": features(schema.ACTION, [10**12]),
    "frames in words": put("total_frames", value="many"),
    "episodes below zero": put("total_episodes", value=-1),
}


@pytest.mark.parametrize("case", INFO)
def test_info(case: str, world: World, capfd: Capture) -> None:
    world.json(schema.INFO, INFO[case])
    hostile.refused(capfd, world.folder, world.load)
    hostile.refused(capfd, world.folder, world.decode)


RECORD: dict[str, Callable[[Any], Any]] = {
    "a list": lambda _: [1],
    "no spec": put("spec"),
    "a spec in words": put("spec", value="walker"),
    "a spec without an environment": put("spec", "env"),
    "a rate without end": put("fps", value=10**30),
    "no masks": put("mask"),
    "masks of nothing": put("mask", value={}),
    "masks of a number": put("mask", "source", value=7),
    "masks that are degraded, of nothing": put("mask", "source", value="corrupted"),
    "masks of masks of masks": put("mask", value=json.loads('{"of":' * 900 + "0" + "}" * 900)),
    "versions in a list": put("versions", value=["1"]),
    "a return that is no number": put("expert_return", value=float("nan")),
}


@pytest.mark.parametrize("case", RECORD)
def test_record(case: str, world: World, capfd: Capture) -> None:
    world.json(schema.DMASK, RECORD[case])
    hostile.refused(capfd, world.folder, world.load)
    hostile.refused(capfd, world.folder, world.decode)
    hostile.refused(capfd, world.folder, command("dmask", "mask", world.data, "--report-only"))
    out = world.folder / "out"
    hostile.refused(capfd, world.folder, command("dmask", "corrupt-masks", world.data, "--out", out, "--dilate", 1))


SUM = {"sha256": "0" * 64, "size": 1}
NAMES = ["../../../../elsewhere/private.txt", "/etc/passwd", "data/../../train/meta/info.json", "meta/info.json", ""]
NAMES += ["data/chunk-000/file-000.parquet/x", "data/chunk-9999999999999/file-000.parquet", "data\0", "DATA/x"]
SUMS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda _: [],
    "words": lambda _: "sums",
    "a sum in words": put(schema.data_file(0), value="0" * 64),
    "a sum of nothing": put(schema.data_file(0), value={}),
    "a sum cut short": put(schema.data_file(0), "sha256", value="00"),
    "a sum that is a number": put(schema.data_file(0), "sha256", value=0),
    "another sum": put(schema.data_file(0), "sha256", value="0" * 64),
    "a size in words": put(schema.data_file(0), "size", value="1"),
    "a file that is not listed": put(schema.data_file(0)),
    "records that are not listed": put(schema.episodes_file(0)),
    **{f"the name {name!r}": put(name, value=SUM) for name in NAMES},
}


@pytest.mark.parametrize("case", SUMS)
def test_checksums(case: str, world: World, capfd: Capture) -> None:
    world.json(schema.CHECKSUMS, SUMS[case])
    for act in (world.load, world.decode, command("dmask", "verify", world.data)):
        hostile.refused(capfd, world.folder, act)


FILES: list[Any] = [{"x": [SUM]}, {"../x": [SUM]}, {schema.data_file(0): SUM}, {schema.data_file(0): [5]}, [], None]
FILES += [{schema.data_file(0): [{"sha256": 0, "size": 1}]}, {schema.data_file(0): [SUM | {"more": 1}]}]


@pytest.mark.parametrize("files", FILES, ids=repr)
def test_a_list_of_checksums_that_agrees_with_itself_alone(files: object, world: World, capfd: Capture) -> None:
    own = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    (world.root / storage.SUMS).write_text(json.dumps({"files": files, "sha256": own}, indent=2) + "\n")
    assert storage.SUMS in hostile.refused(capfd, world.folder, command("dmask", "verify", world.data))


TEXTS = [b"", b"{", b"\xff\xfe", b"[" * 10**5, b"9" * 10**5, b'{"a":' + b"1" * 10**5 + b"}", b" " * (5 << 20)]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:8]))
def test_json_that_is_none(text: bytes, world: World, capfd: Capture) -> None:
    for name, act in (
        (schema.INFO, world.load),
        (schema.CHECKSUMS, world.load),
        (schema.DMASK, command("dmask", "mask", world.data, "--report-only")),
        (storage.RELEASED, world.load),
        (storage.SUMS, command("dmask", "verify", world.data)),
    ):
        kept = (world.root / name).read_bytes() if (world.root / name).exists() else None
        (world.root / name).write_bytes(text)
        assert Path(name).name in hostile.refused(capfd, world.folder, act)
        (world.root / name).unlink() if kept is None else (world.root / name).write_bytes(kept)


@pytest.mark.parametrize("value", [{}, [-1], ["0"], [1.5], [10**30], [True]])
def test_released_shards(value: object, world: World, capfd: Capture) -> None:
    (world.root / storage.RELEASED).write_text(json.dumps(value))
    hostile.refused(capfd, world.folder, world.load)


# --- what lies where a file belongs --------------------------------------------------------------------------


def pipe(world: World, place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def empty_folder(world: World, place: Path) -> None:
    place.unlink()
    place.mkdir()


def link(world: World, place: Path) -> None:
    """To a copy beside the dataset: what is read would be right."""
    shutil.move(place, world.elsewhere / "moved")
    place.symlink_to(world.elsewhere / "moved")


def link_within(world: World, place: Path) -> None:
    place.rename(place.with_name("moved"))
    place.symlink_to("moved")


def link_to_device(world: World, place: Path) -> None:
    place.unlink()
    place.symlink_to("/dev/zero")


def link_to_itself(world: World, place: Path) -> None:
    place.unlink()
    place.symlink_to(place)


PLACES = (schema.INFO, schema.CHECKSUMS, schema.data_file(0), schema.episodes_file(1))


@pytest.mark.parametrize("kind", [pipe, empty_folder, link, link_within, link_to_device, link_to_itself])
@pytest.mark.parametrize("name", PLACES)
def test_no_file_in_a_files_place(
    name: str, kind: Callable[[World, Path], None], world: World, capfd: Capture
) -> None:
    kind(world, world.root / name)
    verify = [command("dmask", "verify", world.data)] if name.endswith("parquet") else []
    for act in (world.load, world.decode, *verify):
        hostile.refused(capfd, world.folder, act)


@pytest.mark.parametrize("name", ["meta", "meta/episodes", "data", "data/chunk-000", "../train", ".."])
def test_no_folder_is_reached_through_a_link(name: str, world: World, capfd: Capture) -> None:
    place = (world.root / name).resolve()
    shutil.move(place, world.elsewhere / "moved")
    place.symlink_to(world.elsewhere / "moved")
    for act in (
        world.load,
        world.decode,
        command("dmask", "mask", world.data, "--report-only"),
        command("dmask", "corrupt-masks", world.data, "--out", world.folder / "out", "--dilate", 1),
    ):
        hostile.refused(capfd, world.folder, act)


def test_the_datasets_own_folder_may_be_a_link(world: World) -> None:
    shutil.move(world.data, world.elsewhere / "data")
    world.data.symlink_to(world.elsewhere / "data")
    assert len(world.load()) == world.decode().episodes == 4


@pytest.mark.parametrize("name", [".lock", "meta/stats.json", "meta/mask_quality.png", "meta/notes", ".parts"])
def test_nothing_is_written_through_a_link(name: str, world: World, capfd: Capture) -> None:
    (world.root / name).unlink(missing_ok=True)
    (world.root / name).symlink_to(world.elsewhere / "private.txt")
    line = hostile.refused(capfd, world.folder, command("dmask", "mask", world.data, "--report-only"))
    assert f"{name} is a link" in line


def test_no_folder_is_written_to_as_a_file(world: World, capfd: Capture) -> None:
    (world.root / schema.STATS).unlink()
    (world.root / schema.STATS).mkdir()
    line = hostile.refused(capfd, world.folder, command("dmask", "mask", world.data, "--report-only"))
    assert "stats.json is a folder" in line


def test_a_lock_is_not_emptied(world: World) -> None:
    (world.root / ".lock").write_text("somebody's")
    with storage.lock(world.root):
        assert (world.root / ".lock").read_text() == "somebody's"


def test_a_temporary_file_that_was_laid_is_not_written_through(world: World) -> None:
    planted = world.root / f".x.json.{os.getpid()}.tmp"
    planted.symlink_to(world.elsewhere / "private.txt")
    storage.write_json(world.root / "x.json", 1)
    assert (world.elsewhere / "private.txt").read_text() == "precious"
    assert (world.root / "x.json").read_text() == "1\n"
    assert not planted.is_symlink()


def test_copies_hold_the_layouts_files_only(world: World) -> None:
    for name in ("private.txt", "README.txt"):
        (world.data / name).symlink_to(world.elsewhere / "private.txt")
    out = world.folder / "out"
    command("dmask", "corrupt-masks", world.data, "--out", out, "--dilate", 1)()
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "walker-run"]


def test_a_card_that_is_a_link_is_not_copied(world: World, capfd: Capture) -> None:
    (world.data / "README.md").symlink_to(world.elsewhere / "private.txt")
    out = world.folder / "out"
    act = command("dmask", "corrupt-masks", world.data, "--out", out, "--dilate", 1)
    assert "README.md is a link" in hostile.refused(capfd, world.folder, act)
