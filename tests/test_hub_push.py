"""Pushing to a Hub that stumbles, breaks and refuses: nothing is lost and the same command goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import small_dataset
from hub_server import READ_TOKEN, TOKEN, HubServer
from huggingface_hub import DatasetCard, HfApi

from distractor_data import publish as toolkit
from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.hub import repository
from dmask_cards.dataset import parts

# Loads a dataset with `datasets` and nothing of ours (-S: no path of an editable install is read), and prints
# a digest of every frame, mask and action.
READER = """
import hashlib, importlib.util, json, sys
sys.path.append({site!r})
assert importlib.util.find_spec("distractor_data") is None
import numpy as np
from datasets import load_dataset

def digest(row):
    parts = [np.asarray(row["observation.image"]), np.asarray(row["observation.mask"]) > 0]
    parts.append(np.asarray(row["action"], np.float32))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

whole = load_dataset({name!r})
streamed = load_dataset({name!r}, "walker-run", streaming=True)
read = [{{split: [digest(row) for row in rows] for split, rows in data.items()}} for data in (whole, streamed)]
print(json.dumps(read))
"""


def digests(split: str, episodes: int) -> list[str]:
    """What READER prints, from the arrays that the dataset was made of."""
    import hashlib

    rows = []
    for number in range(episodes):
        made = small_dataset.episode(number, split)
        for image, mask, action in zip(made.image, made.mask, made.action, strict=True):
            rows.append(hashlib.sha256(image.tobytes() + mask.tobytes() + action.tobytes()).hexdigest())
    return rows


def whole(folder: Path) -> dict[str, bytes]:
    """Every file that a repository must hold, but for the card."""
    return {path: file.read_bytes() for part in parts(folder) for path, file in toolkit.part_files(part).items()}


def without_card(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path != repository.CARD}


def test_a_fresh_process_with_only_datasets_reads_it_bit_for_bit(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/fresh")
    site = str(Path(datasets.__file__).parent.parent)
    code = READER.format(site=site, name="org/fresh")
    command = [sys.executable, "-I", "-S", "-c", code]
    run = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=True)
    whole, streamed = json.loads(run.stdout)
    assert whole == streamed == {"train": digests("train", 4), "test": digests("test", 2)}


def test_the_repository_holds_the_folder_and_a_valid_card(hub: HubServer, folder: Path) -> None:
    pushed = toolkit.push(folder, "org/name", tag="v1", private=True)
    files = hub.files("org/name")
    assert without_card(files) == whole(folder)
    assert any(re.fullmatch(r"PUT /lfs/\w+", line) for line in hub.log)
    assert any(re.fullmatch(r"PUT /lfs/\w+/2", line) for line in hub.log)  # in several parts
    assert pushed.url == f"{hub.url}/datasets/org/name"
    assert files["README.md"].decode() == pushed.card
    card = DatasetCard(pushed.card)
    card.validate()
    assert 'load_dataset("org/name"' in card.text
    assert hub.files("org/name", "v1") == files
    assert HfApi().dataset_info("org/name").private


def test_the_first_push_names_the_repository_after_the_user(hub: HubServer, folder: Path) -> None:
    assert toolkit.push(folder).name == "alice/data"


def test_a_second_push_sends_only_what_changed(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/name")
    before = HfApi().dataset_info("org/name").sha
    assert toolkit.push(folder, "org/name").sent == {}
    assert HfApi().dataset_info("org/name").sha == before
    hub.stored.clear()
    small_dataset.write(folder, "walker-run", "train", shards=3)
    sent = toolkit.push(folder, "org/name").sent
    assert {Path(path).name for path in sent} == {
        *("file-002.parquet", "README.md", "info.json", "stats.json", "checksums.json", "dmask.json")
    }
    assert len(hub.stored) == 2  # the third shard's frames and episodes
    assert without_card(hub.files("org/name")) == whole(folder)


def test_shards_that_are_gone_go_and_other_configs_stay(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    toolkit.push(folder, "org/name")
    small_dataset.write(tmp_path / "other", "walker-run", "train", shards=1)
    small_dataset.write(tmp_path / "other", "hopper-hop", "train", shards=1)
    toolkit.push(tmp_path / "other", "org/name")
    files = hub.files("org/name")
    assert "walker-run/train/data/chunk-000/file-000.parquet" in files
    assert "walker-run/train/data/chunk-000/file-001.parquet" not in files
    data = DatasetCard(files["README.md"].decode()).data
    assert [config["config_name"] for config in data["configs"]] == ["cheetah-run", "hopper-hop", "walker-run"]
    size = sum(len(files[path]) for path in files if "/data/" in path)
    assert data.to_dict()["dmask"]["bytes"] == size
    read = datasets.load_dataset("org/name", "cheetah-run", split="train", streaming=True)
    assert np.array_equal(np.asarray(next(iter(read))[schema.IMAGE]), small_dataset.episode(0, seed=1).image[0])


def test_what_was_written_into_the_card_on_the_hub_stays(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/name")
    mine = "<!-- keep about -->\nOurs.\n<!-- /keep -->"
    card = hub.files("org/name")["README.md"].decode().replace("<!-- keep about -->\n<!-- /keep -->", mine)
    HfApi().upload_file(
        path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="org/name", repo_type="dataset"
    )
    small_dataset.write(folder, "hopper-hop")
    pushed = toolkit.push(folder, "org/name").card
    assert mine in pushed
    assert "hopper-hop" in pushed


def test_broken_at_every_tenth_request_it_goes_on(
    hub: HubServer, folder: Path, impatient: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "FILES_PER_COMMIT", 4)
    toolkit.push(folder, "org/unbroken")
    requests = hub.requests
    assert requests > 60
    for start in range(10, requests, 10):
        hub.reset(hub.directory.with_name(f"hub-{start}"))
        for breaks in range(start, 10 * requests, 10):  # each rerun gets ten requests further, until it is through
            hub.down_from(breaks, "drop" if breaks % 20 else 500)
            try:
                toolkit.push(folder, "org/name")
                break
            except DmaskError as error:
                assert "run the same command again" in str(error)  # noqa: PT017
        assert breaks > start
        hub.up()
        assert without_card(hub.files("org/name")) == whole(folder)
    assert toolkit.push(folder, "org/name").sent == {}


def test_what_arrived_is_not_sent_again(
    hub: HubServer, folder: Path, impatient: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "FILES_PER_COMMIT", 4)
    toolkit.push(folder, "org/unbroken")
    in_all, requests = sum(hub.stored), hub.requests
    hub.reset(hub.directory.with_name("hub-again"))
    hub.down_from(2 * requests // 3)
    with pytest.raises(DmaskError):
        toolkit.push(folder, "org/name")
    hub.up()
    assert hub.stored
    toolkit.push(folder, "org/name")
    assert sum(hub.stored) == in_all


def test_one_stumble_anywhere_is_survived(hub: HubServer, folder: Path, impatient: list[float]) -> None:
    toolkit.push(folder, "org/unbroken")
    uploads = [number for number, line in enumerate(hub.log, 1) if line.startswith("PUT /lfs/")]
    hub.reset(hub.directory.with_name("hub-stumble"))
    hub.fail(uploads[0], "drop")
    hub.fail(uploads[2], 500)
    hub.fail(uploads[4], 429, retry_after=7)
    toolkit.push(folder, "org/name")
    assert without_card(hub.files("org/name")) == whole(folder)
    assert any(7 <= seconds <= 8 for seconds in impatient)


def test_a_commit_that_must_wait_waits(hub: HubServer, folder: Path, impatient: list[float]) -> None:
    toolkit.push(folder, "org/unbroken")
    commit = next(number for number, line in enumerate(hub.log, 1) if "/commit/" in line)
    hub.reset(hub.directory.with_name("hub-wait"))
    hub.fail(commit, 429, retry_after=9)
    toolkit.push(folder, "org/name")
    assert 9.0 in impatient


def test_a_corrupted_upload_is_found(hub: HubServer, folder: Path, impatient: list[float]) -> None:
    toolkit.push(folder, "org/unbroken")
    upload = next(number for number, line in enumerate(hub.log, 1) if line.startswith("PUT /lfs/"))
    hub.reset(hub.directory.with_name("hub-corrupt"))
    hub.fail(upload, "corrupt")
    with pytest.raises(DmaskError, match=r"checksum.*run the same command again"):
        toolkit.push(folder, "org/name")
    toolkit.push(folder, "org/name")
    assert without_card(hub.files("org/name")) == whole(folder)


def test_a_damaged_dataset_is_not_pushed(hub: HubServer, folder: Path) -> None:
    file = folder / "walker-run/train" / schema.data_file(1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DmaskError, match=r"file-001\.parquet has changed"):
        toolkit.push(folder, "org/name")
    assert hub.requests == 0


@pytest.mark.parametrize(
    ("token", "name", "said"),
    [
        (None, "org/name", "no Hugging Face token"),
        ("hf_unknown", "org/name", "the token was refused"),
        (READ_TOKEN, "org/name", "may only read"),
        (TOKEN, "elsewhere/name", "may not write there"),
        (TOKEN, "name", "did you mean 'alice/name'"),
        (TOKEN, "org/na me", "can't name a repository"),
    ],
)
def test_refusals_are_one_line(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, name: str, said: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DmaskError, match=said) as caught:
        toolkit.push(folder, name)
    assert "\n" not in str(caught.value)
    assert "hf_" not in str(caught.value)
    assert not (hub.directory / "datasets").exists()


def test_a_model_repository_is_not_overwritten(hub: HubServer, folder: Path) -> None:
    HfApi().create_repo("org/name")
    with pytest.raises(DmaskError, match="org/name is a model repository"):
        toolkit.push(folder, "org/name")


def test_a_tag_is_never_moved(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/name", tag="v1")
    toolkit.push(folder, "org/name", tag="v1")
    small_dataset.write(folder, "hopper-hop")
    with pytest.raises(DmaskError, match="has a tag 'v1' on another commit"):
        toolkit.push(folder, "org/name", tag="v1")
    toolkit.push(folder, "org/name", tag="v2")
    assert "hopper-hop/train/meta/info.json" not in hub.files("org/name", "v1")
    assert "hopper-hop/train/meta/info.json" in hub.files("org/name", "v2")


def test_a_revision_is_a_branch(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/name", revision="next")
    assert hub.files("org/name") == {}
    assert without_card(hub.files("org/name", "next")) == whole(folder)


def test_real_videos_need_a_licence(hub: HubServer, tmp_path: Path) -> None:
    small_dataset.write(tmp_path / "data", "walker-run", backgrounds="/videos/DAVIS")
    with pytest.raises(DmaskError, match=r"background videos \(DAVIS\).*--license"):
        toolkit.push(tmp_path / "data", "org/name")
    pushed = toolkit.push(tmp_path / "data", "org/name", license="cc-by-nc-4.0")
    assert DatasetCard(pushed.card).data.license == "cc-by-nc-4.0"


def test_a_dry_run_asks_nobody(hub: HubServer, folder: Path) -> None:
    planned = toolkit.push(folder, "org/name", dry_run=True)
    assert hub.requests == 0
    assert without_card(planned.sent) == {path: len(content) for path, content in whole(folder).items()}
    assert planned.card == toolkit.push(folder, "org/name").card


def test_the_token_is_sent_to_the_hub_and_nowhere_else(
    hub: HubServer, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    toolkit.push(folder, "org/name", token=TOKEN)
    assert f"Bearer {TOKEN}" in hub.authorizations
    assert TOKEN not in "".join(capfd.readouterr())
    from huggingface_hub import constants

    for place in (tmp_path, Path(constants.HF_HOME)):
        for file in place.rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes()


def start_cli(*arguments: str, folder: Path, token: str | None = TOKEN) -> subprocess.Popen[str]:
    """`dmask` as a person runs it, beside `data/`."""
    environment = {**os.environ, "HF_HOME": str(folder.parent / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("HF_TOKEN", None)
    if token is not None:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-m", "distractor_data.cli", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder.parent, env=environment, text=True, **pipes)


def run_cli(*arguments: str, folder: Path, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    process = start_cli(*arguments, folder=folder, token=token)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def test_the_command_line_publishes_the_default_folder(hub: HubServer, folder: Path) -> None:
    folder.rename(folder.with_name("made"))
    folder.mkdir()
    folder.with_name("made").rename(folder / "distracting-dcs-masked")
    run = run_cli("push", folder=folder)
    assert run.returncode == 0, run.stderr
    assert f"{hub.url}/datasets/alice/distracting-dcs-masked" in run.stdout
    assert 'load_dataset("alice/distracting-dcs-masked")' in run.stdout
    assert TOKEN not in run.stdout + run.stderr
    again = run_cli("push", folder=folder)
    assert "nothing changed" in again.stdout
    shown = run_cli("push", "--dry-run", folder=folder)
    assert "walker-run/train/data/chunk-000/file-000.parquet" in shown.stdout
    assert "configs:" in shown.stdout


def test_the_command_line_refuses_in_one_line(hub: HubServer, folder: Path) -> None:
    for arguments, token, said in (
        (("push", "data", "org/name"), None, "no Hugging Face token"),
        (("push", "data", "name"), TOKEN, "names no user or organisation"),
        (("push", "org/name"), TOKEN, "the folder comes first"),
        (("pull", "org/nothing", "back"), TOKEN, "no such repository"),
    ):
        run = run_cli(*arguments, folder=folder, token=token)
        assert run.returncode == 2
        assert run.stderr.startswith("dmask: error: ")
        assert said in run.stderr
        assert run.stderr.count("\n") == 1


def test_masks_on_a_part_of_the_shards_are_not_published(hub: HubServer, folder: Path) -> None:
    file = folder / "walker-run/train" / schema.DMASK
    record = json.loads(file.read_text())
    record["mask"] = {"source": "sam2.1_hiera_tiny", "complete": False}
    file.write_text(json.dumps(record))
    with pytest.raises(DmaskError, match="masks on a part of its shards"):
        toolkit.push(folder, "org/name")
    assert hub.requests == 0


def test_killed_in_the_middle_it_goes_on(hub: HubServer, folder: Path) -> None:
    process = start_cli("push", "data", "org/name", folder=folder)
    while not any(line.startswith("PUT") for line in hub.log):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not hub.files("org/name")
    toolkit.push(folder, "org/name")
    assert without_card(hub.files("org/name")) == whole(folder)


def test_a_model_is_not_pushed_over_a_dataset_nor_a_dataset_read_as_a_model(hub: HubServer, folder: Path) -> None:
    toolkit.push(folder, "org/name")
    model = repository.Repository(HfApi(), "org/name", "model")
    with pytest.raises(DmaskError, match="org/name is a dataset repository; give the model another name"):
        model.create()
    with pytest.raises(DmaskError, match="org/name is a dataset repository, not a model"):
        model.head()
