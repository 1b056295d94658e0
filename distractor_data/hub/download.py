"""A dataset of the Hub in the Hub's own cache: one config and split, whole or shard by shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distractor_data import schema
from distractor_data.dataset import layout, read
from distractor_data.errors import DmaskError
from distractor_data.hub.fetch import Tree, prefix_of, refuse_large
from distractor_data.hub.patience import hub_errors
from distractor_data.hub.repository import Repository, api_of
from distractor_data.schema import CARD


def fetch(name: str, env: str | None, split: str, revision: str | None = None) -> Path:
    """Get one config and split into the Hub's cache, or what is in the cache when there is no connection.

    `name` may carry the revision: `org/name@v1`; without `env` it is the default config. Returns the folder.
    """
    repository, root = _described(name, env, split, revision)
    with hub_errors(name, "load"):
        _snapshot(repository, layout.patterns(root.parent.name, split))
    return root


def stream(name: str, env: str | None, split: str, revision: str | None = None) -> tuple[Path, Callable[..., Path]]:
    """Get only what describes a config and split; returns its folder, and what fetches a shard's frames.

    The latter is called with the shard's number and, where it is not to stay in the Hub's cache, a folder.
    """
    repository, root = _described(name, env, split, revision)
    return root, _shards(repository, root)


def streams(name: str, env: str | None = None, split: str | None = None) -> list[tuple[Path, Callable[..., Path]]]:
    """`stream` for every config and split of a dataset, or those of `env` and `split`, all at one commit."""
    repository, folder, there = _at_commit(name, None)
    with hub_errors(name, "load"):
        pairs = read.pairs(layout.parts(there), env, split, repository.name)
        _snapshot(repository, [pattern for pair in pairs for pattern in layout.patterns(*pair, frames=False)])
    roots = [schema.root(folder, *pair) for pair in pairs]
    return [(root, _shards(repository, root)) for root in roots]


def _shards(repository: Repository, root: Path) -> Callable[..., Path]:
    def shard_file(shard: int, folder: Path | None = None) -> Path:
        with hub_errors(repository.name, "load"):
            return repository.download(f"{prefix_of(root)}/{schema.data_file(shard)}", folder)

    return shard_file


def described(name: str, revision: str | None = None) -> Path:
    """Get what describes every config and split, and no frames. Returns the folder in the Hub's cache."""
    repository, folder, there = _at_commit(name, revision)
    found = layout.parts(there)
    if not found:
        raise DmaskError(f"{name} holds no dataset that dmask made")
    pairs = [(config, split) for config, splits in found.items() for split in splits]
    with hub_errors(name, "load"):
        _snapshot(repository, [pattern for pair in pairs for pattern in layout.patterns(*pair, frames=False)])
    return folder


def _described(name: str, env: str | None, split: str, revision: str | None) -> tuple[Repository, Path]:
    """The repository at its commit, and the folder in the Hub's cache of a config and split, with its `meta/`."""
    repository, folder, there = _at_commit(name, revision)
    with hub_errors(name, "load"):
        config = read.pick(layout.parts(there), env, split, repository.name)
        _snapshot(repository, layout.patterns(config, split, frames=False))
    return repository, schema.root(folder, config, split)


def _at_commit(name: str, revision: str | None) -> tuple[Repository, Path, Tree]:
    """The repository at its commit, its folder in the Hub's cache, with the card, and what it lists."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, RepositoryNotFoundError

    name, _, after = name.partition("@")
    repository = Repository(api_of(), name, revision=revision or after or None)
    with hub_errors(name, "load"):
        try:
            folder = _snapshot(repository, [CARD])
        except RepositoryNotFoundError:
            repository.head()  # says so where it is a model's name, or nearly another's
            raise
        repository = repository.at(folder.name)
        try:  # what `snapshot_download` listed
            there = repository.listed(get_cached_repo_tree(name, repo_type="dataset", revision=folder.name))
        except CachedRepoTreeNotFoundError:
            there = repository.files()
        refuse_large(repository, there, (path for path in there if path == CARD or layout.place(path)))
    return repository, folder, there


def _snapshot(repository: Repository, patterns: list[str]) -> Path:
    got = repository.api.snapshot_download(
        repository.name, repo_type="dataset", revision=repository.revision, allow_patterns=patterns
    )
    return Path(got)
