"""Datasets to the Hugging Face Hub and back: resumable, verified, through `huggingface_hub` alone.

A push compares what lies in the folder with what lies on the Hub and sends the difference in commits of a bounded
number of shards, so that a broken one goes on where it stopped. What describes the data goes last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distractor_data import dataset, meta, schema, storage
from distractor_data.errors import DmaskError, nearest
from distractor_data.repository import CARD, Content, Push, Repository, connect, hub_errors, size_of
from distractor_data.spec import DEFAULT_DIR, SPLITS, SYNTHETIC, Spec, full_name

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

    from cards.dataset import Part


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
) -> Push:
    """Make the dataset repository `name` hold what the folder holds (default: `<user>/<the folder's name>`).

    Configs and splits that only the repository has stay; shards that the folder no longer has go. `only` is the
    root of one config and split, where the others are not to be looked at. Raises `DmaskError` for a dataset that
    fails verification, a token that may not write, and a broken connection.
    """
    from cards.dataset import parts, render, write_sheet

    found = [part for part in parts(directory) if only in (None, part.root)]
    if not found:
        hint = f"the folder comes first: `dmask push {DEFAULT_DIR} {directory}`, or "
        hint = hint if name is None and not Path(directory).exists() else ""
        raise DmaskError(f"{directory} holds no dataset; {hint}make one with `dmask generate --out {directory}`")
    for part in found:
        if part.record["mask"].get("complete") is False:
            raise DmaskError(f"{part.root} has masks on a part of its shards; run the same `dmask mask` again first")
        meta.verify(part.root)
        write_sheet(part)
    contents: dict[str, Content] = {path: file for part in found for path, file in part_files(part).items()}
    default = Path(directory).resolve().name
    if dry_run:
        card = render(directory, found, name or default, _license(found, license))
        sizes = {path: size_of(content) for path, content in {**contents, CARD: card.encode()}.items()}
        return Push(name or default, "", sizes, card)
    api, name = connect(name, default, token)
    repository = Repository(api, name, revision=revision)
    with hub_errors(name, "push to"), tempfile.TemporaryDirectory() as folder:
        license = _license(found, license, repository)
        repository.create(private)
        there = repository.files()
        published = repository.download(CARD, folder).read_text("utf-8") if CARD in there else ""
        known = found + _other_parts(repository, there, found, Path(folder))
        card = render(directory, known, name, _license(known, license, repository), published)
        mine = tuple(f"{part.config}/{part.split}/" for part in found)
        released = {path for part in found for path in released_files(part)}
        obsolete = [path for path in there if path.startswith(mine) and path not in contents.keys() | released]
        sums = {path: sha for part in found for path, sha in _sums(part).items()}
        sent = repository.send({**contents, CARD: card.encode()}, obsolete, message, sums)
        if tag is not None:
            repository.tag(tag)
    return Push(name, repository.url, sent, card)


def _license(found: list[Part], license: str | None, repository: Repository | None = None) -> str:
    """The licence given, that of synthetic backgrounds, or the one that the repository's card states already."""
    from cards.dataset import license_of

    chosen = license_of(found, license) or (repository.license() if repository else None)
    if chosen is None:
        videos = ", ".join(sorted({part.record["spec"]["backgrounds"] for part in found} - {SYNTHETIC}))
        raise DmaskError(
            f"the licence follows that of the background videos ({videos}), which dmask can't know; "
            "give it with --license, such as --license cc-by-nc-4.0"
        )
    return chosen


def part_files(part: Part) -> dict[str, Path]:
    """Path in the repository → file, of what lies here of a config and split; shards first."""
    shards = [number for number in storage.shards(part.root) if number not in storage.released(part.root)]
    names = [name(k) for k in shards for name in (schema.data_file, schema.episodes_file)]
    described = sorted(file for file in (part.root / "meta").iterdir() if file.is_file() and file.name[0] != ".")
    names += [f"meta/{file.name}" for file in described]
    return {f"{part.config}/{part.split}/{name}": part.root / name for name in names}


def _sums(part: Part) -> dict[str, str]:
    """Path in the repository → SHA-256, of the shards; they were compared with the files just before."""
    sums = storage.read_json(part.root / schema.CHECKSUMS)
    return {f"{part.config}/{part.split}/{path}": known["sha256"] for path, known in sums.items()}


def released_files(part: Part) -> list[str]:
    """Paths in the repository of the shards whose frames lie only there."""
    names = [name(k) for k in storage.released(part.root) for name in (schema.data_file, schema.episodes_file)]
    return [f"{part.config}/{part.split}/{name}" for name in names]


def _other_parts(repository: Repository, there: dict[str, RepoFile], found: list[Part], folder: Path) -> list[Part]:
    """The configs and splits that only the repository has, as their `meta/` describes them."""
    from cards.dataset import parts

    mine = {(part.config, part.split) for part in found}
    for config, split in (pair for pair in _pairs(there) if pair not in mine):
        for path in (path for path in there if path.startswith(f"{config}/{split}/meta/")):
            repository.download(path, folder)
    return parts(folder)


def publisher(
    directory: str | Path, name: str, spec: Spec, license: str | None = None, fresh: bool = False
) -> Callable[[], None]:
    """For a run that pushes its shards as they get done: makes `directory` go on from what lies on the Hub.

    Returns what to call when shards are done: it pushes them and deletes their frames here. With `fresh` what
    lies on the Hub is replaced. Raises `DmaskError` before anything is made, where the push could not succeed or
    the repository holds data of another spec.
    """
    if license is None and spec.backgrounds != SYNTHETIC:
        raise DmaskError(
            f"the licence follows that of the background videos ({spec.backgrounds}); give it with --license"
        )
    api, name = connect(name, name)
    repository, root = Repository(api, name), schema.root(directory, spec.env, spec.split)
    with hub_errors(name, "push to"):
        repository.create()
        if not fresh:
            _go_on(repository, Path(directory), root, spec)

    def publish() -> None:
        if shards := [number for number in storage.shards(root) if number not in storage.released(root)]:
            meta.refresh(root)
            push(directory, name, license=license, only=root)
            storage.release(root, shards)

    return publish


def _go_on(repository: Repository, directory: Path, root: Path, spec: Spec) -> None:
    """Take over from the Hub the records of the shards that lie there and not here."""
    there, prefix = repository.files(), f"{spec.env}/{spec.split}"
    if gone := [number for number in storage.released(root) if f"{prefix}/{schema.data_file(number)}" not in there]:
        raise DmaskError(
            f"the frames of {len(gone)} shards of {root} were sent to another repository, or are gone from "
            f"{repository.name}; name the one that has them, or begin anew with --overwrite"
        )
    if f"{prefix}/{schema.CHECKSUMS}" not in there:
        return
    _refuse_other_data(repository, root, prefix)
    made = 0
    while all(f"{prefix}/{file(made)}" in there for file in (schema.data_file, schema.episodes_file)):
        made += 1
    missing = [number for number in range(made) if not (root / schema.episodes_file(number)).exists()]
    described = [path for path in (schema.DMASK, schema.INFO) if not (root / path).exists()]
    for path in [*described, *(schema.episodes_file(number) for number in missing)]:
        repository.download(f"{prefix}/{path}", directory)
    theirs = storage.published_sums(repository.download(f"{prefix}/{schema.CHECKSUMS}").parent.parent)
    storage.learn(root, theirs | {name: known for name, (known, *_) in storage.read_sums(root).items() if known})
    storage.release(root, missing)
    last = made - 1
    if spec.episodes > meta.read_spec(root).episodes and last in storage.released(root):
        room = storage.episodes_per_shard(spec) - len(storage.read_episodes(root, last))
        if room > 0:  # it will be filled up
            repository.download(f"{prefix}/{schema.data_file(last)}", directory)


def pull(
    name: str,
    directory: str | Path,
    *,
    env: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> dict[str, int]:
    """Get a dataset, or only one config or split of it, into a folder; returns `config/split` → files verified.

    What is there already is not fetched again. Raises `DmaskError` where the folder holds other data.
    """
    from huggingface_hub import DatasetCard

    from cards.dataset import write_card

    with hub_errors(name, "pull from"):
        repository = _at_commit(name, revision, token)
        there = repository.files()
        chosen = _choose(there, name, env, split)
        for config, part in chosen:
            _refuse_other_data(repository, schema.root(directory, config, part), f"{config}/{part}")
        _snapshot(repository, [f"{config}/{part}/*" for config, part in chosen], directory)
    counts = {}
    for config, part in chosen:
        root = schema.root(directory, config, part)
        try:
            counts[f"{config}/{part}"] = meta.verify(root)
        except DmaskError as error:
            for file in meta.damaged(root):
                file.unlink(missing_ok=True)  # or the same command would take it for fetched
            raise DmaskError(f"{error}; what is damaged was removed, run the same command again") from error
    if len(chosen) < len(_pairs(there)):
        write_card(directory, name, DatasetCard.load(Path(directory) / CARD).data.get("license"))
    return counts


def fetch(name: str, env: str | None, split: str, revision: str | None = None) -> Path:
    """Get one config and split into the Hub's cache, or what is in the cache when there is no connection.

    `name` may carry the revision: `org/name@v1`; without `env` it is the default config. Returns the folder.
    """
    repository, root = _described(name, env, split, revision)
    with hub_errors(name, "load"):
        _snapshot(repository, [f"{root.parent.name}/{split}/*"])
    return root


def stream(name: str, env: str | None, split: str, revision: str | None = None) -> tuple[Path, Callable[..., Path]]:
    """Get only what describes a config and split; returns its folder, and what fetches a shard's frames.

    The latter is called with the shard's number and, where it is not to stay in the Hub's cache, a folder.
    """
    repository, root = _described(name, env, split, revision)
    prefix = f"{root.parent.name}/{split}"
    with hub_errors(name, "load"):
        _snapshot(repository, [f"{prefix}/meta/*"])

    def shard_file(shard: int, folder: Path | None = None) -> Path:
        with hub_errors(name, "load"):
            return repository.download(f"{prefix}/{schema.data_file(shard)}", folder)

    return root, shard_file


def _described(name: str, env: str | None, split: str, revision: str | None) -> tuple[Repository, Path]:
    """The repository at its commit, and the folder in the Hub's cache of the config and split chosen."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    name, _, after = name.partition("@")
    repository = Repository(HfApi(), name, revision=revision or after or None)
    with hub_errors(name, "load"):
        try:
            folder = _snapshot(repository, [f"*/*/{schema.INFO}"])
        except RepositoryNotFoundError:
            repository.head()  # says so where it is a model's name
            raise
    return replace(repository, revision=folder.name), dataset.choose(folder, env, split, name)


def _snapshot(repository: Repository, patterns: list[str], folder: str | Path | None = None) -> Path:
    got = repository.api.snapshot_download(
        repository.name,
        repo_type="dataset",
        revision=repository.revision,
        local_dir=folder,
        allow_patterns=[*patterns, CARD],
    )
    return Path(got)


def _at_commit(name: str, revision: str | None, token: str | None) -> Repository:
    """The repository at the commit that the revision stands for now, so that all that is read is of one state."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    return Repository(api, name, revision=Repository(api, name, revision=revision).head())


def _pairs(there: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (config, split) of a repository's files."""
    parts = [path.split("/", 2) for path in there if path.endswith(f"/{schema.INFO}")]
    return sorted((p[0], p[1]) for p in parts if len(p) == 3 and p[1] in SPLITS and p[2] == schema.INFO)


def _choose(there: dict[str, Any], name: str, env: str | None, split: str | None) -> list[tuple[str, str]]:
    """The (config, split) pairs asked for."""
    pairs = _pairs(there)
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


def _refuse_other_data(repository: Repository, root: Path, prefix: str) -> None:
    """Raise where the folder holds data of another spec, which a pull would overwrite."""
    if not (root / schema.DMASK).exists():
        return
    theirs = repository.download(f"{prefix}/{schema.DMASK}").parent.parent
    if differences := meta.read_spec(theirs).differences(meta.read_spec(root)):
        raise DmaskError(f"{root} holds other data: {'; '.join(differences)}; choose another folder")
