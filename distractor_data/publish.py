"""Datasets to the Hugging Face Hub, and read from there: resumable, verified, through `huggingface_hub` alone.

A push compares what lies in the folder with what lies on the Hub and sends the difference in commits of a bounded
number of shards, so that a broken one goes on where it stopped. What describes the data goes last.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distractor_data import schema, untrusted
from distractor_data.dataset import layout, meta, storage
from distractor_data.dataset.sums import Sum
from distractor_data.errors import DmaskError
from distractor_data.events import Event, OnEvent, OnFiles, Shard, unheard
from distractor_data.hub.fetch import (
    card_of,
    described,
    files_of,
    get,
    spec_of,
    stage,
    sums_of,
    unstage,
)
from distractor_data.hub.patience import Busy, hub_errors
from distractor_data.hub.repository import Plan, Push, Repository, connect, read_content
from distractor_data.schema import CARD
from distractor_data.spec import DEFAULT_DIR, SYNTHETIC, Spec

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

    from dmask_cards.dataset import Part

PACE = 120.0  # seconds between two pushes of a run: all runs of a user have 128 commits an hour


def push(
    directory: str | Path = DEFAULT_DIR,
    name: str | None = None,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    message: str = "Upload dataset",
    token: str | None = None,
    license: str | None = None,
    dry_run: bool = False,
    only: Path | None = None,
    on_files: OnFiles = unheard,
) -> Push:
    """Make the dataset repository `name` hold what the folder holds (default: `<user>/<the folder's name>`).

    Configs and splits that only the repository has stay; shards that the folder no longer has go. `only` is the
    root of one config and split, where the others are not to be looked at. Raises `DmaskError` for a dataset that
    fails verification or holds links, a token that may not write, and a broken connection.
    """
    from dmask_cards.dataset import render

    directory = Path(directory)
    found = verified_parts(directory, name, only)
    files = {path: file for part in found for path, file in part_files(part).items()}
    sums = {path: sha for part in found for path, sha in _sums(part).items()}
    contents = {path: file if path in sums else read_content(file) for path, file in files.items()}
    default = directory.resolve().name
    if dry_run:
        card = render(directory, found, name or default, license_for(found, license))
        return Push(name or default, "", Plan(contents, card).sizes, card)
    api, name = connect(name, default, token)
    repository = Repository(api, name, revision=revision)
    mine = tuple(f"{part.config}/{part.split}/" for part in found)
    staying = contents.keys() | {path for part in found for path in released_files(part)}

    def plan(now: Repository, there: dict[str, RepoFile]) -> Plan:
        """With the configs and splits that others have pushed meanwhile."""
        published = card_of(now, there).decode("utf-8", "replace")
        with tempfile.TemporaryDirectory() as folder:
            known = found + _other_parts(now, there, found, Path(folder))
            card = render(directory, known, name, license_for(known, license, published), published)
        obsolete = [path for path in there if path.startswith(mine) and path not in staying]
        return Plan(contents, card, obsolete, sums)

    with hub_errors(name, "push to"):
        if not repository.exists():
            license_for(found, license)  # raises before anything is made
        repository.create(private)
        sent = repository.send(plan, message, on_files)
        if tag is not None:
            repository.tag(tag, sent.commit)
    return Push(name, repository.url, sent.sizes, sent.plan.card)


def verified_parts(directory: Path, name: str | None, only: Path | None = None) -> list[Part]:
    """What the folder has to push: whole, verified, and in files of its own."""
    from dmask_cards.dataset import parts, write_sheet
    from dmask_cards.template import sections

    if directory.exists() and not directory.is_dir():
        raise DmaskError(f"{directory} is a file; give the folder that `dmask generate` wrote")
    found = [part for part in parts(directory) if only in (None, part.root)]
    if not found:
        hint = f"the folder comes first: `dmask push {DEFAULT_DIR} {directory}`, or "
        hint = hint if name is None and not directory.exists() else ""
        raise DmaskError(f"{directory} holds no dataset; {hint}make one with `dmask generate --out {directory}`")
    sections(untrusted.inside(directory, CARD))
    for part in found:
        layout.files(part.root)
        if part.record["mask"].get("complete") is False:
            raise DmaskError(f"{part.root} has masks on a part of its shards; run the same `dmask mask` again first")
        meta.verify(part.root)
        write_sheet(part)
    return found


def license_for(found: list[Part], license: str | None, published: str = "") -> str:
    """The licence given, that of synthetic backgrounds, or the one that the `published` card states already."""
    from dmask_cards.dataset import license_of
    from dmask_cards.template import stated_license

    chosen = license_of(found, license) or stated_license(published)
    if chosen is None:
        videos = ", ".join(sorted({part.spec.backgrounds for part in found} - {SYNTHETIC}))
        raise DmaskError(
            f"the licence follows that of the background videos ({videos}), which dmask can't know; "
            "give it with --license, such as --license cc-by-nc-4.0"
        )
    return chosen


def part_files(part: Part) -> dict[str, Path]:
    """Path in the repository → file, of what lies here of a config and split and the layout names; shards first."""
    released, whole = storage.released(part.root), storage.shards(part.root)
    here = layout.files(part.root)
    shards = [number for number in whole if number not in released]
    names = [name(k) for k in shards for name in (schema.data_file, schema.episodes_file)]
    names += [name for name in here if name in schema.DESCRIPTIONS]
    return {f"{part.config}/{part.split}/{name}": part.root / name for name in names}


def _sums(part: Part) -> dict[str, str]:
    """Path in the repository → SHA-256, of the shards; they were compared with the files just before."""
    found = untrusted.checksums(part.root)
    return {f"{part.config}/{part.split}/{name}": known["sha256"] for name, known in found.items()}


def released_files(part: Part) -> list[str]:
    """Paths in the repository of the shards whose frames lie only there."""
    names = [name(k) for k in storage.released(part.root) for name in (schema.data_file, schema.episodes_file)]
    return [f"{part.config}/{part.split}/{name}" for name in names]


def _other_parts(now: Repository, there: dict[str, RepoFile], found: list[Part], folder: Path) -> list[Part]:
    """The configs and splits that only the repository has, as their `meta/` describes them."""
    from dmask_cards.dataset import parts

    mine = {(part.config, part.split) for part in found}
    wanted = [
        path
        for path in there
        if (where := layout.place(path)) and where[:2] not in mine and where[2].startswith("meta/")
    ]
    get(now, there, wanted, folder)
    return parts(folder)


@dataclass(frozen=True)
class Destination:
    """The dataset repository to which a run pushes its shards as they get done."""

    name: str
    license: str | None = None
    replaces = True  # what lies there, with --overwrite
    through = None  # nothing: workers write episodes here

    @contextmanager
    def consume(self, home: Path, spec: Spec, fresh: bool, on_event: OnEvent) -> Iterator[Callable[[Event], None]]:
        """Make `home` go on from what lies on the Hub; yields what to feed with the run's events.

        When shards are done it pushes them and deletes their frames here, at most every `PACE` seconds, and at the
        end. With `fresh` what lies on the Hub is replaced. Raises `DmaskError` before anything is made, where the
        push could not succeed or the repository holds data of another spec.
        """
        if self.license is None and spec.backgrounds != SYNTHETIC:
            raise DmaskError(
                f"the licence follows that of the background videos ({spec.backgrounds}); give it with --license"
            )
        api, name = connect(self.name, self.name)
        repository, root = Repository(api, name), schema.root(home, spec.env, spec.split)
        with hub_errors(name, "push to"):
            repository.create()
            if not fresh:
                _go_on(repository.at(repository.head()), root, spec)
        next_push = time.monotonic()

        def feed(event: Event | None) -> None:
            nonlocal next_push
            if event is not None and (not isinstance(event, Shard) or time.monotonic() < next_push):
                return
            shards = [number for number in storage.shards(root) if number not in storage.released(root)]
            if not shards:
                return
            try:
                push(home, name, license=self.license, only=root)
            except Busy as busy:  # the run goes on meanwhile; what it makes is kept here
                if event is None:
                    raise
                next_push = time.monotonic() + busy.seconds
                return
            storage.release(root, shards)
            next_push = time.monotonic() + PACE

        yield feed
        feed(None)


def _go_on(repository: Repository, root: Path, spec: Spec) -> None:
    """Take over from the Hub the records of the shards that lie there and not here."""
    there, prefix = repository.files(), f"{spec.env}/{spec.split}"
    if gone := [number for number in storage.released(root) if f"{prefix}/{schema.data_file(number)}" not in there]:
        raise DmaskError(
            f"the frames of {len(gone)} shards of {root} were sent to another repository, or are gone from "
            f"{repository.name}; name the one that has them, or begin anew with --overwrite"
        )
    theirs = files_of(there, prefix)
    if schema.CHECKSUMS not in theirs:
        return
    with described(repository, there, prefix, schema.DMASK, schema.CHECKSUMS) as known:
        sums, made = sums_of(known, theirs), 0
        if (root / schema.DMASK).exists() and (
            differences := spec_of(known, prefix).differences(meta.read_spec(root))
        ):
            raise DmaskError(f"{root} holds other data: {'; '.join(differences)}; choose another --out")
    while all(file(made) in sums for file in (schema.data_file, schema.episodes_file)):
        made += 1
    missing = [number for number in range(made) if not (root / schema.episodes_file(number)).exists()]
    names = [path for path in (schema.DMASK, schema.INFO) if not (root / path).exists()]
    names += [schema.episodes_file(number) for number in missing]
    stage(repository, there, root, names, sums)
    unstage(root, names, sums)
    mine = {name: known for name, (known, *_) in storage.read_sums(root).items() if known}
    storage.learn(root, {name: Sum(**known) for name, known in sums.items()} | mine)
    storage.release(root, missing)
    last = made - 1
    if spec.episodes > meta.read_spec(root).episodes and last in storage.released(root):
        room = storage.episodes_per_shard(spec) - len(storage.read_episodes(root, last))
        if room > 0:  # it will be filled up
            stage(repository, there, root, [schema.data_file(last)], sums)
            unstage(root, [schema.data_file(last)], sums)
