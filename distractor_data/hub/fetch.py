"""Files of a dataset repository, fetched and compared, and moved into a folder when they are all there.

What a repository lists, states and records is a stranger's word until it was compared: only names that the layout
can give are fetched, and only what has the stated size and hash is kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distractor_data import schema, untrusted
from distractor_data.dataset import layout, storage, sums
from distractor_data.dataset.sums import Sum
from distractor_data.errors import DmaskError, nearest
from distractor_data.hub.repository import Listed, Repository, Store, api_of, same, sha256
from distractor_data.schema import CARD
from distractor_data.spec import Import, Spec, full_name, of_record
from distractor_data.untrusted.values import BYTES, matching, record, text

ORIGIN = ".origin.json"  # in a root: the repository and the commit that it was pulled from
_ORIGIN = record({"repository": text, "revision": matching("[0-9a-f]{40}", "a commit")})
_CARD_BYTES = 1_000_000
_OTHER_BYTES = 64 << 20  # what another file has at most, of those that only describe
Tree = Mapping[str, Listed]
Sums = dict[str, dict[str, Any]]


def at_commit(name: str, revision: str | None, token: str | None = None) -> Repository:
    """The repository at the commit that the revision stands for now, so that all that is read is of one state."""
    repository = Repository(api_of(token), name, revision=revision)
    return repository.at(repository.head())


def choose(there: Iterable[str], name: str, env: str | None, split: str | None) -> list[tuple[str, str]]:
    """The (config, split) pairs asked for, of a repository's paths."""
    pairs = [(config, part) for config, parts in layout.parts(there).items() for part in sorted(parts)]
    config = None if env is None else full_name(env)
    if not pairs:
        raise DmaskError(f"{name} holds no dataset that dmask made")
    for what, asked, has in (("env", config, {c for c, _ in pairs}), ("split", split, {s for _, s in pairs})):
        if asked is not None and asked not in has:
            choices = ", ".join(sorted(has))
            raise DmaskError(f"{name} has no {what} {asked!r}{nearest(asked, has)}; it has {choices}")
    chosen = [(c, s) for c, s in pairs if config in (None, c) and split in (None, s)]
    if not chosen:
        raise DmaskError(f"{name} has no split {split!r} of {config}")
    return chosen


def origin(root: Path) -> dict[str, str] | None:
    """The `repository` and the commit (`revision`) that a root was pulled from; None where it was not."""
    file = untrusted.inside(root, ORIGIN)
    return untrusted.read_json(file, _ORIGIN) if file.exists() else None


def prefix_of(root: Path) -> str:
    """Where a root's files lie in a repository."""
    return "/".join(root.parts[-2:])


def files_of(there: Tree, prefix: str) -> dict[str, Listed]:
    """Name, seen from the root → what the repository states, of the files of one config and split."""
    places = ((layout.place(path), entry) for path, entry in there.items())
    return {place[2]: entry for place, entry in places if place and f"{place[0]}/{place[1]}" == prefix}


def refuse_large(repository: Store, there: Tree, paths: Iterable[str]) -> None:
    """Raise where a file that only describes is larger than such a file is."""
    for path in paths:
        limit = _CARD_BYTES if path == CARD else BYTES if path.endswith(".json") else _OTHER_BYTES
        if "/data/" not in path and there[path].size > limit:
            raise DmaskError(f"{path} of {repository.name} has {there[path].size:,} bytes, too many for what it is")


def get(repository: Store, there: Tree, paths: list[str], place: Path) -> None:
    """Fetch files into a folder and compare them with what the repository states; those that differ go again."""
    for path in paths:
        if path not in there:
            raise DmaskError(f"{repository.name} lacks {path}; it is no whole dataset")
    refuse_large(repository, there, paths)
    repository.fetch(paths, place)
    if wrong := [path for path in paths if not same(untrusted.inside(place, path), there[path])]:
        repository.fetch(wrong, place, afresh=True)  # the Hub's cache on this machine may be damaged
    if wrong := [path for path in wrong if not same(untrusted.inside(place, path), there[path])]:
        for path in wrong:
            untrusted.inside(place, path).unlink()
        raise DmaskError(
            f"{repository.name}: {wrong[0]} has changed since it was written (SHA-256 differs); what is damaged was "
            "removed, run the same command again"
        )


@contextmanager
def described(repository: Store, there: Tree, prefix: str, *names: str) -> Iterator[Path]:
    """A root that holds the named files of `meta/` while the context lasts; errors name the repository instead."""
    with tempfile.TemporaryDirectory() as place:
        try:
            get(repository, there, [f"{prefix}/{name}" for name in names], Path(place))
            yield Path(place, prefix)
        except DmaskError as error:
            raise DmaskError(str(error).replace(f"{place}/", f"{repository.name}: ")) from error


def card_of(repository: Store, there: Tree) -> bytes:
    """The repository's README.md, or nothing where it has none."""
    if CARD not in there:
        return b""
    with tempfile.TemporaryDirectory() as place:
        get(repository, there, [CARD], Path(place))
        return untrusted.inside(Path(place), CARD).read_bytes()


def spec_of(root: Path, prefix: str) -> Spec | Import:
    """The spec in a root's record, which must be of that config and split."""
    spec = of_record(untrusted.dmask(root)["spec"])
    if f"{spec.env}/{spec.split}" != prefix:
        raise DmaskError(f"{root / schema.DMASK} is of {spec.env}/{spec.split}, not of {prefix}")
    return spec


def sums_of(root: Path, theirs: Mapping[str, Listed]) -> Sums:
    """The checksums in a root's record, which must be those of files that the repository has.

    Shards that it doesn't list are those of a push that goes on, and no part of the dataset yet.
    """
    found, shown = untrusted.checksums(root), root / schema.CHECKSUMS
    for name, known in found.items():
        if name not in theirs:
            raise DmaskError(f"{shown} lists {name}, which is missing there")
        lfs = theirs[name].lfs
        if theirs[name].size != known["size"] or (lfs is not None and lfs.sha256 != known["sha256"]):
            raise DmaskError(f"{shown} states another {name} than lies there (size or SHA-256)")
    return found


def whole(file: Path, entry: Listed, known: Mapping[str, Any] | None) -> bool:
    """Whether a file is what the repository and, where it is `known`, what the record of checksums states."""
    return same(file, entry) and (entry.lfs is not None or known is None or sha256(file) == known["sha256"])


def stage(repository: Store, there: Tree, root: Path, names: list[str], known: Sums) -> None:
    """Fetch files of a config and split into a hidden folder in their root, where a broken fetch goes on."""
    place, prefix = untrusted.folder(root, storage.FETCHED), prefix_of(root)
    if place.exists():
        untrusted.plain(place)
    get(repository, there, [f"{prefix}/{name}" for name in names], place)
    for name in names:
        if not whole(file := untrusted.inside(place, f"{prefix}/{name}"), there[f"{prefix}/{name}"], known.get(name)):
            file.unlink()
            raise DmaskError(f"{prefix}/{name} of {repository.name} is not what its checksums.json states (SHA-256)")


def unstage(root: Path, names: list[str], known: Sums) -> None:
    """Move what was staged to its place, checksums last."""
    order = {name: number for number, name in enumerate(schema.DESCRIPTIONS, 1)}
    staged = {name: untrusted.inside(root, f"{storage.FETCHED}/{prefix_of(root)}/{name}") for name in names}
    coming = {name: Sum(**known[name]) if name in known else sums.of(file) for name, file in staged.items()}
    with storage.recorded_moves(root, coming):
        for name in sorted(names, key=lambda name: (order.get(name, 0), name)):
            target = untrusted.inside(root, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged[name], target)
    storage.remove(root / storage.FETCHED)
