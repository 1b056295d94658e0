"""Repositories and folders of strangers and of the careless: one line, exit code 2, nothing lost, nothing leaves."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_dataset
from hub_server import TOKEN, HubServer

from distractor_data import cli, hub, schema, storage
from distractor_data.errors import run_cli

PART = "walker-run/train"
SHARD = f"{PART}/{schema.data_file(1)}"
SUMS, RECORD, INFO = (f"{PART}/{name}" for name in (schema.CHECKSUMS, schema.DMASK, schema.INFO))
Files = dict[str, bytes]
Stated = dict[str, dict[str, Any]]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a command is refused with."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["dmask", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_cli(cli.app, "dmask")
        stdout, stderr = capfd.readouterr()
        assert ended.value.code == 2, stderr
        assert stdout == ""
        assert stderr.startswith("dmask: error: ")
        assert stderr.count("\n") == 1
        assert stderr.rstrip("\n").isprintable()
        return stderr

    return run


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one config and split, of two shards, and its card."""
    from cards.dataset import write_card

    directory = tmp_path_factory.mktemp("one") / "data"
    small_dataset.write(directory, "walker-run")
    write_card(directory)
    return directory


@pytest.fixture
def mine(one: Path, tmp_path: Path) -> Path:
    """A copy of it in a folder of its own, beside which a private file lies."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "precious").write_text("mine alone")
    return copy(one, tmp_path / "mine")


def copy(source: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(source, target))


def state(directory: Path) -> dict[str, Any]:
    """All that lies in a folder, links as links; locks and what was fetched for another try don't count."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != ".pull"]
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file() and name != ".lock":
                found[str(path)] = path.read_bytes()
    return found


# --- a hostile repository ------------------------------------------------------------------------------------


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
    "checksums are of other data": (sums(lambda one: {schema.data_file(1): one | {"sha256": "0" * 64}}), "states ano"),
    "checksums are a list": (content(SUMS, b"[]"), "checksums.json"),
    "checksums are too deep": (content(SUMS, DEEP), "checksums.json"),
    "checksums are missing": (content(SUMS, None), "lacks"),
    "the record is no JSON": (content(RECORD, b"\xff\x00{"), "dmask.json"),
    "the record is of another config": (
        record(lambda found: found | {"spec": found["spec"] | {"env": "../x"}}, RECORD),
        "not of walker-run/train",
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


def lay(server: HubServer, one: Path, change: Callable[[Files, Stated], None]) -> None:
    files = {file.relative_to(one).as_posix(): file.read_bytes() for file in one.rglob("*") if file.is_file()}
    stated: Stated = {}
    change(files, stated)
    server.lay("org/name", files, stated)


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
    lay(hub, one, lambda files, stated: None)
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
    lay(hub, one, lambda files, stated: files.update(dict.fromkeys(strange, b"evil")))
    monkeypatch.chdir(tmp_path)
    from distractor_data import load, pull

    assert pull.pull("org/name", "back") == {PART: 4}
    assert len(load("org/name", "walker")) == 4
    fetched = [line for line in hub.log if "/resolve/" in line]
    assert fetched
    assert not [line for line in fetched if "evil" in line or line.endswith((".lock", ".gitattributes"))]
    assert not [file for file in tmp_path.rglob("*evil*") if "hub" not in file.parts]


# --- a hostile or a careless folder --------------------------------------------------------------------------


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


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard is a link": (link(SHARD), "link"),
    "statistics are a link to a private file": (link(f"{PART}/{schema.STATS}"), "link"),
    "the picture is a link to a private file": (link(f"{PART}/{schema.SHEET}"), "link"),
    "meta/ is a link": (link(f"{PART}/meta"), "link"),
    "a chunk is a link": (link(f"{PART}/data/chunk-000"), "link"),
    "the split is a link": (link(PART), "link"),
    "the config is a link": (link("walker-run"), "link"),
    "the card is a link": (link("README.md"), "link"),
    "a shard is a pipe": (pipe(SHARD), "no regular file"),
    "the record is a pipe": (pipe(RECORD), "no regular file"),
    "checksums are a pipe": (pipe(SUMS), "no regular file"),
    "the card is a pipe": (pipe("README.md"), "no regular file"),
    "statistics are a socket": (listener(f"{PART}/{schema.STATS}"), "no regular file"),
    "the picture is a folder": (a_folder(f"{PART}/{schema.SHEET}"), "no regular file"),
    "a shard is a folder": (a_folder(SHARD), "no regular file"),
}


@pytest.mark.parametrize(("change", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_with_something_else_in_a_files_place_is_not_published(
    hub: HubServer, mine: Path, refusal: Callable[..., str], change: Callable[[Path], None], said: str
) -> None:
    change(mine)
    before = state(mine.parent)
    assert said in refusal("push", str(mine), "org/name")
    assert state(mine.parent) == before
    assert not any("precious" in line or "/commit/" in line for line in hub.log)


@pytest.mark.parametrize(("change", "said"), FOLDERS.values(), ids=FOLDERS)
def test_nothing_is_pulled_through_it_either(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], change: Callable[[Path], None], said: str
) -> None:
    lay(hub, one, lambda files, stated: None)
    change(mine)
    before = state(mine)
    assert said in refusal("pull", "org/name", str(mine), "--overwrite")
    assert state(mine) == before
    assert (mine.parent / "private" / "precious").read_text() == "mine alone"


def test_other_files_beside_the_data_are_not_published(hub: HubServer, mine: Path) -> None:
    from distractor_data import hub as toolkit

    for name in ("notes.txt", "meta/notes.txt", "data/chunk-000/notes.txt", "meta/episodes/chunk-000/x.parquet"):
        (mine / PART / name).write_text("mine alone")
    (mine / PART / "meta" / "x").symlink_to(mine.parent / "private" / "precious")
    (mine / "data.py").write_text("mine alone")
    toolkit.push(mine, "org/name")
    assert not [path for path, held in hub.files("org/name").items() if b"mine alone" in held]
    assert len(hub.files("org/name")) == 4 + 6 + 1


def test_what_changes_between_the_check_and_the_sending_is_not_published(
    hub: HubServer, mine: Path, refusal: Callable[..., str]
) -> None:
    file = mine / SHARD
    hub.when("/preupload/", lambda: file.write_bytes(file.read_bytes()[:-1] + b"x"))
    assert f"{SHARD} has changed since it was written" in refusal("push", str(mine), "org/name")
    assert hub.files("org/name") == {}


# --- what would be lost --------------------------------------------------------------------------------------


def other_masks(folder: Path) -> None:
    """Masks of a model's own, as `dmask mask` writes them."""
    from distractor_data import meta

    root = folder / PART
    table = storage.read_frames(root, 0)
    masks = table[schema.MASK].take(list(reversed(range(len(table)))))
    table = table.set_column(table.schema.get_field_index(schema.MASK), table.schema.field(schema.MASK), masks)
    storage.write_shard(root, 0, table, storage.read_episodes(root, 0))
    storage.write_json(root / schema.DMASK, meta.read_record(root) | {"mask": {"source": "sam2"}})
    meta.refresh(root)


OWN: dict[str, tuple[Callable[[Path], object], str]] = {
    "more shards": (lambda folder: small_dataset.write(folder, "walker-run", shards=3), schema.data_file(2)),
    "other data": (lambda folder: small_dataset.write(folder, "walker-run", seed=7), "holds other data: seed"),
    "masks of a model": (other_masks, "the masks of sam2"),
    "a README.md of another kind": (lambda folder: (folder / "README.md").write_text("# My work"), "README.md"),
}


@pytest.mark.parametrize(("change", "said"), OWN.values(), ids=OWN)
def test_what_lies_only_here_is_named_and_kept_unless_overwriting_is_meant(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], change: Callable[[Path], object], said: str
) -> None:
    from distractor_data import hub as toolkit

    lay(hub, one, lambda files, stated: None)
    change(mine)
    before = state(mine)
    line = refusal("pull", "org/name", str(mine))
    assert said in line
    assert "--overwrite" in line
    assert state(mine) == before
    toolkit.pull("org/name", mine, overwrite=True)
    assert {path: held for path, held in state(mine).items() if ".origin.json" not in path} == {
        path.replace(str(one), str(mine)): held for path, held in state(one).items()
    }


def test_a_newer_commit_replaces_what_was_pulled_and_not_what_was_written(
    hub: HubServer, one: Path, tmp_path: Path
) -> None:
    from distractor_data import hub as toolkit

    source, back = copy(one, tmp_path / "source"), tmp_path / "back"
    toolkit.push(source, "org/name")
    toolkit.pull("org/name", back)
    origin = json.loads((back / PART / ".origin.json").read_text())
    assert origin["repository"] == "org/name"
    other_masks(source)
    small_dataset.write(source, "cheetah-run")
    toolkit.push(source, "org/name")
    toolkit.pull("org/name", back)
    assert storage.read_json(back / RECORD)["mask"] == {"source": "sam2"}
    assert (back / "README.md").read_bytes() == hub.files("org/name")["README.md"]
    assert json.loads((back / PART / ".origin.json").read_text())["revision"] != origin["revision"]

    mine = "<!-- keep about -->\nMine.\n<!-- /keep -->"
    card = (back / "README.md").read_text().replace("<!-- keep about -->\n<!-- /keep -->", mine)
    (back / "README.md").write_text(card)
    small_dataset.write(source, "hopper-hop")
    toolkit.push(source, "org/name")
    toolkit.pull("org/name", back)
    card = (back / "README.md").read_text()
    assert mine in card
    assert "hopper-hop" in card


def test_another_run_that_writes_to_the_folder_is_not_disturbed(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str]
) -> None:
    lay(hub, one, lambda files, stated: None)
    (mine / SHARD).unlink()
    before = state(mine)
    with storage.lock(mine / PART):
        assert "another run is writing" in refusal("pull", "org/name", str(mine))
    assert state(mine) == before


@pytest.mark.parametrize("planted", ["a link", "a link inside", "a pipe inside"])
def test_what_was_planted_for_the_fetched_files_is_not_written_through(
    hub: HubServer, one: Path, mine: Path, refusal: Callable[..., str], planted: str
) -> None:
    lay(hub, one, lambda files, stated: None)
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


# --- words -----------------------------------------------------------------------------------------------------


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
    lay(hub, one, lambda files, stated: None)
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
