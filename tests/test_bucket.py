"""`--out URL`: shards leave as they get done, what is listed there is whole, and any machine can go on."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from damage import SPEC, small
from watch import watch

import distractor_data
from distractor_data import schema
from distractor_data.dataset import sums
from distractor_data.errors import DmaskError
from distractor_data.hub.bucket import Bucket
from distractor_data.masks.annotate import Settings
from distractor_data.pipeline import generate
from distractor_data.publish_bucket import Delivery, folder_of
from distractor_data.pull import pull
from distractor_data.spec import Spec

ROOT = f"{SPEC.env}/{SPEC.split}"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)  # `memory://` is in no other process


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What makes this process one on a machine of that name, which has a cache of its own."""
    machine = lambda name: monkeypatch.setenv("DMASK_CACHE", str(tmp_path / name))  # noqa: E731
    machine("first")
    return machine


@pytest.fixture
def bucket(request: Any, tmp_path: Path, machine: Callable[[str], None]) -> Iterator[Bucket]:
    """An empty one."""
    yield Bucket(f"{getattr(request, 'param', 'memory')}://{tmp_path}/bucket/data")
    fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, bytes]]:
    """What so many episodes are in a folder."""
    place = tmp_path_factory.mktemp("whole")

    @functools.cache
    def make(episodes: int) -> dict[str, bytes]:
        with pytest.MonkeyPatch.context() as patch:
            small(patch)
            generate(dataclasses.replace(SPEC, episodes=episodes), place / str(episodes), workers=1)
        return published(place / str(episodes) / ROOT)

    return make


def published(root: Path) -> dict[str, bytes]:
    """What readers see of a split, but for the pictures."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name[0] != "." and path.suffix != ".png"}


def content(bucket: Bucket) -> dict[str, bytes]:
    """The same of the bucket."""
    system, place = bucket._place
    mine = {path.removeprefix(f"{ROOT}/"): path for path in bucket.files() if path.startswith(f"{ROOT}/")}
    return {name: system.cat_file(f"{place}/{path}") for name, path in mine.items() if not path.endswith(".png")}


def run(bucket: Bucket, spec: Spec = SPEC, apart: bool = False, act: Any = None, **others: Any) -> list[bool]:
    """Generate there; of each episode whether it was made now."""
    made: list[bool] = []

    def look(frames: int, anew: bool) -> None:
        made.append(anew)
        if act:
            act(len(made))

    generate(spec, folder_of(bucket), 1, on_event=watch(look), push=Delivery(bucket, apart), **others)
    return made


def frames_here(bucket: Bucket) -> list[Path]:
    return sorted(bucket.folder.rglob("data/**/*.parquet"))


@pytest.mark.parametrize(("bucket", "apart"), [("memory", False), ("file", True)], indirect=["bucket"])
def test_what_lies_there_is_what_a_folder_would_hold(
    bucket: Bucket, tmp_path: Path, whole: Callable[[int], dict[str, bytes]], apart: bool
) -> None:
    assert run(bucket, apart=apart) == [True] * 5
    assert content(bucket) == whole(5)
    assert not frames_here(bucket)
    assert run(bucket, apart=apart) == [False] * 5
    pull(bucket.url, tmp_path / "here")
    assert published(tmp_path / "here" / ROOT) == whole(5)
    episodes = distractor_data.load(tmp_path / "here", "cheetah")
    assert len(episodes) == 5
    assert np.any(episodes[0].mask)
    assert "load_dataset" in (tmp_path / "here" / "README.md").read_text()


def stop_at(number: int) -> Callable[[int], None]:
    def act(made: int) -> None:
        if made == number:
            raise KeyboardInterrupt

    return act


@pytest.mark.parametrize("apart", [False, True])
def test_another_machine_goes_on_where_one_stopped(
    bucket: Bucket, whole: Callable[[int], dict[str, bytes]], machine: Callable[[str], None], apart: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bucket, apart=apart, act=stop_at(4))
    assert list(json.loads(content(bucket)[schema.CHECKSUMS])) == [schema.data_file(0), schema.episodes_file(0)]
    machine("second")
    made = run(bucket, apart=apart)
    assert sorted(made) == ([False] * 4 + [True] if apart else [False] * 2 + [True] * 3)
    assert content(bucket) == whole(5)
    machine("first")
    assert run(bucket) == [False] * 5
    assert content(bucket) == whole(5)


def test_at_every_moment_what_is_listed_there_is_whole(
    bucket: Bucket, whole: Callable[[int], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the last shard is replaced by a longer one."""
    run(bucket)
    send, listed = Bucket.send, []

    def look(self: Bucket, *arguments: Any) -> None:
        send(self, *arguments)
        there = content(bucket)
        stated = json.loads(there[schema.CHECKSUMS])
        assert {name: vars(sums.of(there[name])) for name in stated} == stated
        listed.append(len(stated))

    monkeypatch.setattr(Bucket, "send", look)
    assert run(bucket, dataclasses.replace(SPEC, episodes=7)) == [False] * 5 + [True] * 2
    assert content(bucket) == whole(7)
    assert (min(listed), listed[-1]) == (4, 8)


@pytest.mark.parametrize("where", ["first", "second"])
def test_what_is_damaged_there_is_made_anew(
    machine: Callable[[str], None], whole: Callable[[int], dict[str, bytes]], tmp_path: Path, where: str
) -> None:
    """On the machine that sent it as on another: a file that was cut, one that was changed, one that is gone."""
    bucket, there = Bucket(f"file://{tmp_path}/bucket"), tmp_path / "bucket" / ROOT
    run(bucket)
    cut, changed, gone = (
        there / name for name in (schema.data_file(0), schema.episodes_file(1), schema.data_file(2))
    )
    cut.write_bytes(cut.read_bytes()[:-9])
    changed.write_bytes(changed.read_bytes()[:-9] + b"!" + changed.read_bytes()[-8:])
    gone.unlink()
    with pytest.raises(DmaskError, match=r"is missing there|states another"):
        pull(bucket.url, tmp_path / "here")
    machine(where)
    run(bucket)
    assert content(bucket) == whole(5)


def test_a_card_tells_of_all_that_lies_there(bucket: Bucket, machine: Callable[[str], None], tmp_path: Path) -> None:
    run(bucket, dataclasses.replace(SPEC, episodes=1))
    machine("second")
    run(bucket, dataclasses.replace(SPEC, env="walker-run", episodes=1))
    system, place = bucket._place
    card = system.cat_file(f"{place}/README.md").decode()
    assert "config_name: walker-run" in card
    assert "config_name: cheetah-run" in card
    with pytest.raises(DmaskError, match="need the same columns"):
        run(bucket, dataclasses.replace(SPEC, split="test", clean=True))
    assert pull(bucket.url, tmp_path / "here", env="walker") == {"walker-run/train": 2}


def test_what_cannot_be_is_said_before_anything_is_made(bucket: Bucket) -> None:
    one = dataclasses.replace(SPEC, episodes=1)
    run(bucket, one)
    before = content(bucket)
    with pytest.raises(DmaskError, match="another spec: seed"):
        run(bucket, dataclasses.replace(one, seed=1))
    with pytest.raises(DmaskError, match="can't be done behind a URL"):
        run(bucket, one, overwrite=True)
    with pytest.raises(DmaskError, match="before a model has masked it"):
        run(bucket, one, masks=Settings())
    assert content(bucket) == before
    system, place = bucket._place
    system.pipe_file(f"{place}/README.md", b"my own")
    with pytest.raises(DmaskError, match=r"/README.md is no card of ours"):
        run(bucket, one)
    system.rm(f"{place}/{ROOT}", recursive=True)
    system.rm(f"{place}/README.md")
    assert run(bucket, dataclasses.replace(one, seed=1)) == [True]  # nothing lies there that it could differ from


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nowhere://a/b", "Protocol not known: nowhere"),
        ("ftp://me:secret@127.0.0.1/data", "no place for a password"),
        ("hf://datasets/org/name", "on the Hub"),
        ("http://127.0.0.1:1/data", "127.0.0.1"),
        ("ftp://127.0.0.1:1/data", "can't be reached"),
        ("file:///proc/none/data", "can't be written"),
    ],
)
def test_a_url_that_will_not_do_is_one_line(
    refusal: Callable[..., str], machine: Callable[[str], None], url: str, words: str
) -> None:
    small = ["generate", "--env", "cheetah", "--policy", "random", "--episodes", "1", "--steps", "4", "--out", url]
    line = refusal(*small, "--workers", "1")
    assert words in line
    assert "secret" not in line
    assert "give one of them" in refusal(*small, "--push", "org/name")
