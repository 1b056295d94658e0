"""`dmask generate --push`: shards leave as they get done, and any machine can go on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hub_server import HubServer
from watch import watch

from distractor_data import publish as toolkit
from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.masks.annotate import Settings
from distractor_data.pipeline import generate
from distractor_data.publish import Destination
from distractor_data.spec import Spec

ORG = Destination("org/name")
SPEC = Spec(
    env="walker-run", policy="random", episodes=5, steps=4, image_size=16
)  # shards of two, two and one episodes
ROOT = "walker-run/train"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SHARD_FRAMES", 0.5)  # of 64×64; at 16×16 that is eight
    monkeypatch.setattr(toolkit, "PACE", 0.0)
    assert storage.episodes_per_shard(SPEC) == 2


def frames_here(directory: Path) -> list[Path]:
    return sorted((directory / ROOT / "data").rglob("*.parquet"))


def run(folder: Path, made: list[bool]) -> None:
    """Generate there, pushing; `made` gets of each episode whether it was made now."""
    generate(SPEC, folder, workers=1, on_event=watch(lambda _, new: made.append(new)), push=ORG)


def data(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.startswith(ROOT) and path.endswith(".parquet")}


def test_shards_leave_as_they_get_done_and_another_machine_goes_on(
    hub: HubServer, tmp_path: Path, impatient: list[float]
) -> None:
    generate(SPEC, tmp_path / "whole", workers=1)
    toolkit.push(tmp_path / "whole", "org/whole")
    expected = hub.files("org/whole")

    commits = []
    done = 0

    def on_episode(frames: int, made: bool) -> None:
        nonlocal done
        done += made
        commits.append(sum("/datasets/org/name/commit/" in line for line in hub.log))
        if done == 4:
            hub.down_from(1)

    with pytest.raises(DmaskError, match="run the same command again"):
        generate(SPEC, tmp_path / "first", workers=1, on_event=watch(on_episode), push=ORG)
    assert commits[2] > 0  # the first shard was sent before the third episode was made
    assert [path.name for path in frames_here(tmp_path / "first")] == ["file-001.parquet"]  # not sent, so kept
    assert list(data(hub.files("org/name"))) == [
        path for path in data(expected) if "file-000" in path or "tasks" in path
    ]

    hub.up()
    made: list[bool] = []
    run(tmp_path / "second", made)
    assert made == [False, False, True, True, True]
    assert frames_here(tmp_path / "second") == []
    assert data(hub.files("org/name")) == data(expected)
    for name in (schema.INFO, schema.STATS, schema.CHECKSUMS):
        assert hub.files("org/name")[f"{ROOT}/{name}"] == expected[f"{ROOT}/{name}"]

    made.clear()
    run(tmp_path / "first", made)
    assert made == [False] * 5
    assert data(hub.files("org/name")) == data(expected)

    more = dataclasses.replace(SPEC, episodes=6)  # the last shard is fetched and filled up
    generate(more, tmp_path / "whole", workers=1)
    generate(more, tmp_path / "third", workers=1, push=ORG)
    toolkit.push(tmp_path / "whole", "org/whole")
    assert data(hub.files("org/name")) == data(hub.files("org/whole"))


def commits(hub: HubServer) -> int:
    return sum("/datasets/org/name/commit/" in line for line in hub.log)


def test_pushes_are_paced_and_the_rest_goes_at_the_end(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolkit, "PACE", 3600.0)
    seen = []
    generate(
        SPEC,
        tmp_path / "data",
        workers=1,
        on_event=watch(lambda *_: seen.append(commits(hub))),
        push=ORG,
    )
    assert seen[2:] == [1, 1, 1]  # the first shard at once; the second waits for its hour
    assert commits(hub) == 2
    assert len(data(hub.files("org/name"))) == 3 + 3 + 1  # frames, records, tasks
    assert frames_here(tmp_path / "data") == []


def test_a_quota_does_not_stop_the_run_and_is_told_in_the_hubs_words_at_its_end(
    hub: HubServer, tmp_path: Path, impatient: list[float]
) -> None:
    words = "You have exceeded our hourly quotas for action: commit. We invite you to retry later."
    hub.refuse("/commit/", 429, message=words, retry_after=3600)
    made: list[bool] = []
    with pytest.raises(DmaskError, match=f"{re.escape(words)}.*in 60 minutes.*run the same command again"):
        run(tmp_path / "data", made)
    assert made == [True] * 5
    assert len(frames_here(tmp_path / "data")) == 3
    assert sum(impatient) < 300
    hub.up()
    made.clear()
    run(tmp_path / "data", made)
    assert made == [False] * 5
    assert len(data(hub.files("org/name"))) == 3 + 3 + 1


def test_what_cannot_be_pushed_is_said_before_anything_is_made(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_backgrounds: Path
) -> None:
    videos = dataclasses.replace(SPEC, backgrounds=str(real_backgrounds))
    with pytest.raises(DmaskError, match="--license"):
        generate(videos, tmp_path / "data", push=ORG)
    with pytest.raises(DmaskError, match="may not write there"):
        generate(SPEC, tmp_path / "data", push=Destination("elsewhere/name"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DmaskError, match="no Hugging Face token"):
        generate(SPEC, tmp_path / "data", push=ORG)
    assert not frames_here(tmp_path / "data")


def test_another_spec_on_the_hub_is_refused(hub: HubServer, tmp_path: Path) -> None:
    one = dataclasses.replace(SPEC, episodes=1)
    generate(one, tmp_path / "first", workers=1, push=ORG)
    before = hub.files("org/name")
    with pytest.raises(DmaskError, match="seed"):
        generate(dataclasses.replace(one, seed=1), tmp_path / "second", workers=1, push=ORG)
    assert hub.files("org/name") == before


def test_another_repository_than_before_is_refused(hub: HubServer, tmp_path: Path) -> None:
    one = dataclasses.replace(SPEC, episodes=1)
    generate(one, tmp_path / "data", workers=1, push=ORG)
    with pytest.raises(DmaskError, match="were sent to another repository"):
        generate(one, tmp_path / "data", workers=1, push=Destination("org/other"))


def test_shards_are_not_sent_before_a_model_has_masked_them(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DmaskError, match="without --push, then `dmask push`"):
        generate(SPEC, tmp_path / "data", push=ORG, masks=Settings())
    assert hub.requests == 0
