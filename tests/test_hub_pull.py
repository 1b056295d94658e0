"""Reading from the Hub: what is asked for and no more, verified, and resumed where it broke."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_dataset
from hub_server import HubServer
from huggingface_hub import DatasetCard, HfApi

import distractor_data
from distractor_data import publish as toolkit
from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.pull import pull


@pytest.fixture
def published(hub: HubServer, folder: Path) -> str:
    toolkit.push(folder, "org/name", tag="v1")
    hub.log.clear()
    return "org/name"


def files_of(directory: Path) -> dict[str, bytes]:
    """All but hidden files: locks, and where it came from."""
    found = {file.relative_to(directory): file for file in directory.rglob("*") if file.is_file()}
    return {
        path.as_posix(): file.read_bytes()
        for path, file in found.items()
        if not any(part.startswith(".") for part in path.parts)
    }


def test_what_was_pushed_comes_back_byte_for_byte(hub: HubServer, published: str, tmp_path: Path) -> None:
    counts = pull(published, tmp_path / "back")
    assert files_of(tmp_path / "back") == hub.files(published)
    assert counts == {
        "cheetah-run/test": 2,
        "cheetah-run/train": 4,
        "walker-run/test": 2,
        "walker-run/train": 4,
    }


def test_only_what_is_asked_for_is_fetched(hub: HubServer, published: str, tmp_path: Path) -> None:
    assert pull(published, tmp_path / "back", env="walker", split="test") == {"walker-run/test": 2}
    fetched = {line.split("/resolve/")[1].split("/", 1)[1] for line in hub.log if line.startswith("GET /datasets/")}
    assert fetched
    assert all(path == "README.md" or path.startswith("walker-run/test/") for path in fetched)
    data = DatasetCard.load(tmp_path / "back" / "README.md").data
    assert [config["config_name"] for config in data["configs"]] == ["walker-run"]
    assert data["license"] == "cc-by-4.0"


def test_what_is_there_is_not_fetched_again(hub: HubServer, published: str, tmp_path: Path) -> None:
    pull(published, tmp_path / "back")
    hub.log.clear()
    pull(published, tmp_path / "back")
    assert not [line for line in hub.log if line.startswith("GET") and line.endswith(".parquet")]


def test_a_tag_gives_what_it_named(hub: HubServer, published: str, folder: Path, tmp_path: Path) -> None:
    small_dataset.write(folder, "walker-run", shards=3)
    toolkit.push(folder, published)
    pull(published, tmp_path / "old", env="walker", split="train", revision="v1")
    pull(published, tmp_path / "new", env="walker", split="train")
    assert len(distractor_data.load(tmp_path / "old", "walker")) == 4
    assert len(distractor_data.load(tmp_path / "new", "walker")) == 6


def test_a_broken_pull_goes_on(hub: HubServer, published: str, tmp_path: Path, impatient: list[float]) -> None:
    pull(published, tmp_path / "unbroken")
    requests = hub.requests
    hub.log.clear()
    for start in range(10, 10 * requests, 10):
        hub.down_from(start)
        try:
            pull(published, tmp_path / "back")
            break
        except DmaskError as error:
            assert "run the same command again" in str(error)  # noqa: PT017
    hub.up()
    assert start > 10
    assert files_of(tmp_path / "back") == hub.files(published)


def test_a_damaged_pull_is_found_and_mended(hub: HubServer, published: str, tmp_path: Path) -> None:
    shard = f"walker-run/train/{schema.data_file(1)}"
    good = hub.files(published)[shard]
    oid = HfApi().get_paths_info(published, shard, repo_type="dataset")[0].lfs.sha256
    hub.store(oid, bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(DmaskError, match=r"file-001\.parquet has changed"):
        pull(published, tmp_path / "back")
    hub.store(oid, good)
    pull(published, tmp_path / "back")
    assert files_of(tmp_path / "back") == hub.files(published)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("org/nothing", {}, "no such repository"),
        ("org/model", {}, "org/model is a model repository, not a dataset"),
        ("org/name", {"env": "wolker-run"}, "no env 'wolker-run'; did you mean 'walker-run'"),
        ("org/name", {"split": "validation"}, "no split 'validation'.*it has test, train"),
        ("org/name", {"revision": "v9"}, "no such revision"),
    ],
)
def test_bad_input_is_one_line(
    hub: HubServer, published: str, tmp_path: Path, name: str, options: dict[str, str], said: str
) -> None:
    HfApi().create_repo("org/model")
    with pytest.raises(DmaskError, match=said) as caught:
        pull(name, tmp_path / "back", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_other_data_is_not_overwritten(hub: HubServer, published: str, tmp_path: Path) -> None:
    small_dataset.write(tmp_path / "mine", "walker-run", seed=7)
    before = files_of(tmp_path / "mine")
    with pytest.raises(DmaskError, match="holds other data: seed"):
        pull(published, tmp_path / "mine")
    assert files_of(tmp_path / "mine") == before


def test_a_full_disk_is_one_line_and_the_pull_goes_on(hub: HubServer, published: str, tmp_path: Path) -> None:
    """In a mount namespace of its own, because a small file system is what can be full."""
    place = tmp_path / "small"
    place.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here (unshare -rm)")
    command = f'"{sys.executable}" -m distractor_data.cli pull {published} "{place}"'
    script = f"""
        mount -t tmpfs -o size=128k none "{place}"
        {command} || echo "first $?" >&2
        mount -o remount,size=8m "{place}"
        {command}
    """
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [unshare, "-rm", "sh", "-ec", script],
        env=environment,
        capture_output=True,
        text=True,
    )
    lines = run.stderr.strip().splitlines()
    assert "first 2" in lines
    assert "No space left on device" in lines[lines.index("first 2") - 1]
    assert "Traceback" not in run.stderr
    assert run.returncode == 0, run.stderr
    assert "walker-run/train: 4 files" in run.stdout


@pytest.mark.parametrize("streaming", [False, True])
def test_load_reads_from_the_hub(hub: HubServer, published: str, streaming: bool) -> None:
    episodes = distractor_data.load("org/name@v1", "walker", streaming=streaming)
    fetched = [line for line in hub.log if line.startswith("GET /datasets/") and "/data/" in line]
    assert len(fetched) == (0 if streaming else 2)
    assert len(episodes) == 4
    expected = small_dataset.episode(3)
    read = episodes[3]
    for name in ("image", "mask", "state", "action", "reward", "done"):
        assert np.array_equal(getattr(read, name), getattr(expected, name))
    assert not [line for line in hub.log if "/cheetah-run/train/data/" in line]


def test_load_takes_the_default_config_and_names_what_there_is(hub: HubServer, published: str) -> None:
    assert distractor_data.load(published, split="test").root.parent.name == "walker-run"
    with pytest.raises(DmaskError, match=r"org/name has no hopper-hop \(it has cheetah-run, walker-run\)"):
        distractor_data.load(published, "hopper")
    with pytest.raises(DmaskError, match="no such repository"):
        distractor_data.load("org/nothing")
    HfApi().create_repo("org/model")
    with pytest.raises(DmaskError, match="is a model repository"):
        distractor_data.load("org/model")


def test_load_works_without_a_connection_once_fetched(hub: HubServer, published: str) -> None:
    distractor_data.load(published, "walker")
    requests = hub.requests
    code = f"import distractor_data; print(len(distractor_data.load({published!r}, 'walker')))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout == "4\n", run.stderr
    assert hub.requests == requests
