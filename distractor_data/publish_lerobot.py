"""Each config and split as a repository of its own: what `LeRobotDataset` takes by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distractor_data import schema
from distractor_data.dataset import layout, storage
from distractor_data.errors import DmaskError
from distractor_data.events import OnFiles, unheard
from distractor_data.hub.fetch import card_of
from distractor_data.hub.patience import hub_errors
from distractor_data.hub.repository import Plan, Push, Repository, connect, read_content
from distractor_data.publish import license_for, verified_parts
from distractor_data.spec import DEFAULT_DIR
from distractor_data.untrusted import checksums

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    from dmask_cards.dataset import Part

VERSION = "v3.0"  # the tag of the codebase version, which `LeRobotDataset` asks for


def push(
    directory: str | Path = DEFAULT_DIR,
    name: str | None = None,
    *,
    private: bool = False,
    message: str = "Upload dataset",
    token: str | None = None,
    license: str | None = None,
    dry_run: bool = False,
    on_files: OnFiles = unheard,
) -> list[Push]:
    """Make `<name>-<config>` hold each config's training split, and `<name>-<config>-test` its test split.

    The tag `v3.0` says which LeRobot reads it, and moves along. Raises `DmaskError` as `publish.push` does, and where
    frames lie on the Hub alone.
    """
    directory = Path(directory)
    found = verified_parts(directory, name)
    license = license_for(found, license)
    for part in found:
        if storage.released(part.root):
            raise DmaskError(
                f"{part.root} has frames on the Hub alone; get them with `dmask pull` into another folder"
            )
    endings = [f"-{part.config}" + ("" if part.split == "train" else f"-{part.split}") for part in found]
    if len(set(endings)) < len(endings):
        raise DmaskError(f"two splits of {directory} would be called {name or ''}{max(endings, key=endings.count)}")
    if dry_run:
        names = [f"{name or directory.resolve().name}{ending}" for ending in endings]
        plans = [_plan(part, full, license) for part, full in zip(found, names, strict=True)]
        return [Push(full, "", plan.sizes, plan.card) for full, plan in zip(names, plans, strict=True)]
    api, base = connect(name, directory.resolve().name, token)
    return [
        _push(api, f"{base}{ending}", part, private, message, license, on_files)
        for part, ending in zip(found, endings, strict=True)
    ]


def _push(api: HfApi, name: str, part: Part, private: bool, message: str, license: str, on_files: OnFiles) -> Push:
    repository = Repository(api, name)

    def plan(now: Repository, there: dict[str, RepoFile]) -> Plan:
        return _plan(part, name, license, card_of(now, there).decode("utf-8", "replace"), there)

    with hub_errors(name, "push to"):
        repository.create(private)
        sent = repository.send(plan, message, on_files)
        repository.tag(VERSION, sent.commit, move=True)
    return Push(name, repository.url, sent.sizes, sent.plan.card)


def _plan(part: Part, name: str, license: str, published: str = "", there: dict[str, RepoFile] | None = None) -> Plan:
    """What the repository is to hold: the split's folder, with the card of a repository for its own."""
    from dmask_cards.split import render

    sums = {path: known["sha256"] for path, known in checksums(part.root).items()}
    names = [path for path in layout.files(part.root) if path != schema.CARD]
    contents = {path: part.root / path if path in sums else read_content(part.root / path) for path in names}
    obsolete = [path for path in there or {} if layout.is_ours(path) and path not in contents and path != schema.CARD]
    return Plan(contents, render(part, name, license, published), obsolete, sums)
