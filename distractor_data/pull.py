"""A dataset from the Hub, or from behind a URL, into a folder, in which nothing is lost that lies only there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distractor_data import schema, untrusted
from distractor_data.dataset import layout, meta, read, storage
from distractor_data.dataset.sums import Sum
from distractor_data.errors import DmaskError
from distractor_data.events import OnFiles, unheard
from distractor_data.hub.bucket import Bucket, is_url
from distractor_data.hub.fetch import (
    ORIGIN,
    Sums,
    Tree,
    at_commit,
    card_of,
    choose,
    described,
    files_of,
    origin,
    prefix_of,
    spec_of,
    stage,
    sums_of,
    unstage,
    whole,
)
from distractor_data.hub.patience import hub_errors
from distractor_data.hub.repository import Store, named, sha256
from distractor_data.schema import CARD

_TOGETHER = 16  # files that are fetched before progress is told
_ADVICE = "choose another folder, or replace it with --overwrite"


@dataclass(frozen=True)
class _Wanted:
    """A config and split that is to be in the folder."""

    root: Path
    sums: Sums  # what its record states of its shards
    missing: list[str]  # names that are not here, or not as they are there
    gone: list[str]  # names that are here alone


def pull(
    name: str,
    directory: str | Path,
    *,
    env: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    overwrite: bool = False,
    on_files: OnFiles = unheard,
) -> dict[str, int]:
    """Get a dataset, or only one config or split of it, into a folder; returns `config/split` → files verified.

    `name` may carry the revision: `org/name@v1`, or be a URL, which has none. What is there already is not fetched
    again. Raises `DmaskError`,
    and leaves the folder as it is, where a file is not what the repository states, and where something would be
    lost that lies only here: other data, more shards, other masks, a README.md of other hands. `overwrite`
    replaces those.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise DmaskError(f"{directory} is a file; give a folder")
    with ExitStack() as stack:
        repository = stack.enter_context(_opened(name, revision, token))
        name, there = repository.name, repository.files()
        chosen = choose(there, name, env, split)
        roots = [untrusted.folder(directory, *pair) for pair in chosen]
        for root in roots:
            stack.enter_context(_locked(directory, root))
        wanted = [_wanted(repository, there, root, overwrite) for root in roots]
        card = _card(repository, there, directory, roots, overwrite)
        _refuse_full_disk(directory, there, wanted)
        total = sum(len(part.missing) for part in wanted)
        for part in wanted:
            for first in range(0, len(part.missing), _TOGETHER):
                some = part.missing[first : first + _TOGETHER]
                stage(repository, there, part.root, some, part.sums)
                on_files(len(some), total)
        for part in wanted:
            unstage(part.root, part.missing, part.sums)
            storage.learn(part.root, {name: Sum(**known) for name, known in part.sums.items()})
            storage.forget(part.root, part.gone)
            if repository.revision is None:
                (part.root / ORIGIN).unlink(missing_ok=True)
            else:
                storage.write_json(part.root / ORIGIN, {"repository": name, "revision": repository.revision})
        _write_card(directory, card)
    return {prefix_of(part.root): len(part.sums) for part in wanted}


@contextmanager
def _opened(name: str, revision: str | None, token: str | None) -> Iterator[Store]:
    """The repository at a commit, or what is behind a URL; meanwhile errors of the Hub are lines of ours."""
    if is_url(name):
        if revision or token:
            raise DmaskError(f"{name} is not on the Hub; leave --revision and --token-file out")
        yield Bucket(name)
        return
    name, _, after = name.partition("@")
    named(name)
    with hub_errors(name, "pull from"):
        yield at_commit(name, revision or after or None, token)


@contextmanager
def _locked(directory: Path, root: Path) -> Iterator[None]:
    """The lock of a root, which is made where it isn't there; where nothing comes to lie in it, it goes again."""
    made = [place for place in (directory, root.parent, root) if not place.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        with storage.lock(root, "folder"):
            yield
    finally:
        with suppress(OSError):  # of a folder that isn't empty
            if made and os.listdir(root) == [".lock"]:
                (root / ".lock").unlink()
                for place in reversed(made):
                    place.rmdir()


def _wanted(repository: Store, there: Tree, root: Path, overwrite: bool) -> _Wanted:
    """What is to be fetched of a config and split. Raises where something would be lost that lies only here."""
    prefix = prefix_of(root)
    theirs, here = files_of(there, prefix), layout.files(root)
    with described(repository, there, prefix, schema.DMASK, schema.CHECKSUMS, schema.INFO) as known:
        spec, mask, sums = spec_of(known, prefix), untrusted.dmask(known)["mask"], sums_of(known, theirs)
        untrusted.info(known)
    theirs = {name: entry for name, entry in theirs.items() if name in sums or name in schema.DESCRIPTIONS}
    if not overwrite:
        if schema.DMASK in here and (differences := spec.differences(spec_of(root, prefix))):
            raise DmaskError(f"{root} holds other data: {'; '.join(differences)}; {_ADVICE}")
        if lost := _lost(repository, root, here, mask, sums):
            shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
            raise DmaskError(f"{root} holds what {repository.name} does not, and would lose it: {shown}; {_ADVICE}")
    missing = [name for name in theirs if name not in here or not whole(root / name, theirs[name], sums.get(name))]
    gone = [name for name in here if name not in theirs]
    gone += [meta.COPY] if schema.DMASK in missing else []
    if overwrite:
        gone += [storage.RELEASED, *(f"{storage.PARTS}/{part.name}" for part in (root / storage.PARTS).glob("*"))]
    return _Wanted(root, sums, missing, gone)


def _lost(repository: Store, root: Path, here: list[str], mask: dict[str, Any], sums: Sums) -> list[str]:
    """What lies here and neither is in the repository nor was when it was pulled from there."""
    mine = untrusted.checksums(root)
    before, old_mask = _before(repository, root)
    lost = []
    if schema.DMASK in here and (own := untrusted.dmask(root)["mask"]) not in (mask, old_mask):
        lost.append(f"the masks of {own['source']}")
    for name in here:
        if untrusted.shard_of(name) is not None:
            found = mine[name]["sha256"] if name in mine else sha256(root / name)
            if found not in [known[name]["sha256"] for known in (sums, before) if name in known]:
                lost.append(name)
    return lost


def _commit(root: Path, name: str) -> str | None:
    """The commit of the repository `name` that a root was pulled from; None where it was not."""
    found = origin(root) or {}
    return found["revision"] if found.get("repository") == name else None


def _before(repository: Store, root: Path) -> tuple[Sums, dict[str, Any] | None]:
    """Checksums and source of the masks, of the commit of the same repository that a root was pulled from."""
    from huggingface_hub.errors import HfHubHTTPError

    commit, prefix = _commit(root, repository.name), prefix_of(root)
    if commit in (None, repository.revision):
        return {}, None
    try:
        then = repository.at(str(commit))
        with described(then, then.files(), prefix, schema.DMASK, schema.CHECKSUMS) as known:
            return untrusted.checksums(known), untrusted.dmask(known)["mask"]
    except HfHubHTTPError:  # its history was rewritten
        return {}, None


@dataclass(frozen=True)
class _Card:
    """The README.md that the folder gets."""

    theirs: bytes | None  # the repository's, where it says all that there is to say; else one is made
    name: str | None  # what the loading lines of one that is made name
    license: str | None


def _card(repository: Store, there: Tree, directory: Path, roots: list[Path], overwrite: bool) -> _Card:
    """The repository's card, or, where the folder holds less or more or has kept text of its own, one that is made.

    Raises where a README.md that is no card of a dataset would be lost.
    """
    from huggingface_hub.errors import HfHubHTTPError

    from dmask_cards.template import refuse_foreign, stated_license

    file = untrusted.inside(directory, CARD)
    mine = file.read_bytes() if file.exists() and not overwrite else b""
    published = card_of(repository, there)
    known = [published]
    for commit in {_commit(root, repository.name) for root in roots} - {None, repository.revision}:
        with suppress(HfHubHTTPError):  # where its history was rewritten
            known.append(card_of(then := repository.at(str(commit)), then.files()))
    if mine and mine not in known:
        refuse_foreign(file, _ADVICE)
    in_all = set(choose(there, repository.name, None, None))
    here = {(config, split) for config, splits in read.configs(directory).items() for split in splits}
    here |= {(root.parts[-2], root.parts[-1]) for root in roots}
    license = stated_license((mine or published).decode("utf-8", "replace"))
    as_theirs = here == in_all and published and mine in (b"", *known)
    shown = repository.name if here <= in_all and repository.revision else None
    return _Card(published if as_theirs else None, shown, license)


def _write_card(directory: Path, card: _Card) -> None:
    from dmask_cards.dataset import parts, render

    text = card.theirs
    if text is None:
        text = render(directory, parts(directory), card.name, card.license).encode()
    with storage.atomic_write(untrusted.inside(directory, CARD)) as temporary:
        temporary.write_bytes(text)


def _refuse_full_disk(directory: Path, there: Tree, wanted: list[_Wanted]) -> None:
    """Raise where what is to be fetched can't fit."""
    needed = 0
    for part in wanted:
        for path in (f"{prefix_of(part.root)}/{name}" for name in part.missing):
            staged = untrusted.inside(untrusted.folder(part.root, storage.FETCHED), path)
            needed += 0 if staged.exists() else there[path].size
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DmaskError(
            f"No space left on device for {needed / 1e6:,.1f} MB in {directory} ({free / 1e6:,.1f} MB are free); "
            "make room or choose another folder and run the same command again"
        )
