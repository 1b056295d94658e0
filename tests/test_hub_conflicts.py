"""Others who write to a repository, and a Hub that asks to wait: their work stays, and the wait is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_dataset
from hub_server import HubServer
from huggingface_hub import DatasetCard

from distractor_data import publish as toolkit
from distractor_data.errors import DmaskError
from distractor_data.hub import repository
from tests.test_hub_push import start_cli, whole, without_card


def test_two_pushes_at_once_both_arrive_and_the_card_lists_both(hub: HubServer, tmp_path: Path) -> None:
    configs = ("walker-run", "cheetah-run")
    for number, config in enumerate(configs):
        small_dataset.write(tmp_path / config, config, seed=number, shards=1)
    hub.meet("/commit/", 2)  # both have read the repository before either writes to it
    both = [start_cli("push", config, "org/name", folder=tmp_path / config) for config in configs]
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert sum("/commit/" in line for line in hub.log) >= 3  # one came too late and was made again
    files = hub.files("org/name")
    for config in configs:
        made = whole(tmp_path / config)
        assert {path: files[path] for path in made} == made
    data = DatasetCard(files["README.md"].decode()).data
    assert {config["config_name"] for config in data["configs"]} == set(configs)


def test_what_others_wrote_into_the_card_between_two_commits_stays(
    hub: HubServer, folder: Path, impatient: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "FILES_PER_COMMIT", 8)
    toolkit.push(folder, "org/name")
    small_dataset.write(folder, "walker-run", shards=6)
    mine = "<!-- keep about -->\nOurs.\n<!-- /keep -->"
    text = hub.files("org/name")["README.md"].decode().replace("<!-- keep about -->\n<!-- /keep -->", mine)

    def edit() -> None:
        hub.lay("org/name", hub.files("org/name") | {"README.md": text.encode()}, {})

    hub.when("/commit/", edit)
    assert mine in toolkit.push(folder, "org/name").card
    assert mine in hub.files("org/name")["README.md"].decode()
    assert without_card(hub.files("org/name")) == whole(folder)


def test_others_who_keep_writing_are_told(hub: HubServer, folder: Path, impatient: list[float]) -> None:
    hub.refuse("/commit/", 412, message="A commit has happened since. Please refresh and try again.")
    with pytest.raises(DmaskError, match="others keep writing to it; run the same command again"):
        toolkit.push(folder, "org/name")
    assert len(impatient) < 20


@pytest.mark.parametrize(
    ("path", "status", "options", "said", "waited"),
    [
        ("/commit/", 429, {"message": "hourly quotas", "retry_after": 3600}, r"429 \(hourly quotas\); in 60 min", 0),
        ("/lfs/objects/batch", 429, {"message": "hourly quotas", "retry_after": 3600}, "hourly quotas", 0),
        ("/commit/", 429, {"message": "too fast", "retry_after": 100}, "too fast", 300),
        ("/commit/", 403, {"message": "Private repository storage limit reached"}, "storage limit reached", 0),
        ("/commit/", 503, {"message": "maintenance", "retry_after": 7200}, "maintenance", 0),
    ],
)
def test_a_quota_is_waited_for_within_reason_and_told_in_the_hubs_words(
    hub: HubServer,
    folder: Path,
    impatient: list[float],
    path: str,
    status: int,
    options: dict[str, Any],
    said: str,
    waited: float,
) -> None:
    hub.refuse(path, status, **options)
    with pytest.raises(DmaskError, match=said) as caught:
        toolkit.push(folder, "org/name")
    assert "\n" not in str(caught.value)
    assert sum(seconds for seconds in impatient if seconds >= 10) == waited
