"""A repository on the Hugging Face Hub: who may write, what it holds, and how it comes to hold something else."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from distractor_data import untrusted
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError, nearest
from distractor_data.events import OnFiles, unheard
from distractor_data.hub.patience import hub_errors, patiently
from distractor_data.schema import CARD

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

FILES_PER_COMMIT = 64  # a shard has two: its frames and its episodes
CONFLICTS = 10  # times in a row that another's commit may come between without one of ours going through
Content = Path | bytes


class Listed(Protocol):
    """A file somewhere else as it is listed there: its size, and hashes where they are stated."""

    @property
    def size(self) -> int: ...
    @property
    def blob_id(self) -> str | None: ...
    @property
    def lfs(self) -> Any: ...


class Store(Protocol):
    """What datasets are read from: a repository, or a `Bucket`."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    def at(self, commit: str) -> Store: ...
    def files(self) -> Mapping[str, Listed]: ...
    def fetch(self, paths: Iterable[str], folder: Path, afresh: bool = False) -> None: ...


@dataclass(frozen=True)
class Push:
    """What a push sent, or with `dry_run` would send: path in the repository → size in bytes."""

    name: str
    url: str
    sent: dict[str, int]
    card: str


@dataclass(frozen=True)
class Plan:
    """What a repository is to hold, given what it holds now."""

    contents: Mapping[str, Content]  # path → content, in the order in which they are sent; the card follows
    card: str
    obsolete: Collection[str] = ()  # paths that go, with the last commit
    sums: Mapping[str, str] = field(default_factory=dict)  # path → SHA-256 that its content must have

    @property
    def files(self) -> dict[str, Content]:
        """All contents, and the card."""
        return {**self.contents, CARD: self.card.encode()}

    @property
    def sizes(self) -> dict[str, int]:
        """Path → number of bytes."""
        return {path: size_of(content) for path, content in self.files.items()}


@dataclass(frozen=True)
class Sent:
    """The plan that was carried out, what of it was sent (path → size), and the commit that holds it."""

    plan: Plan
    sizes: dict[str, int]
    commit: str


@dataclass(frozen=True)
class Repository:
    """A dataset or model repository at a branch, tag or commit (`revision`, default: the main branch)."""

    api: HfApi
    name: str
    kind: str = "dataset"
    revision: str | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"{self.api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def other(self) -> str:
        """The kind that it is not."""
        return "model" if self.kind == "dataset" else "dataset"

    def exists(self) -> bool:
        """Whether there is such a repository, and the token may see it."""
        return self.api.repo_exists(self.name, repo_type=self.kind)

    def create(self, private: bool = False) -> None:
        """Make the repository and the branch where they are not there yet."""
        if not self.exists():
            if self.api.repo_exists(self.name, repo_type=self.other):
                raise DmaskError(f"{self.name} is a {self.other} repository; give the {self.kind} another name")
            patiently(lambda: self.api.create_repo(self.name, private=private, repo_type=self.kind, exist_ok=True))
        if self.revision not in (None, "main"):
            self.api.create_branch(self.name, branch=str(self.revision), repo_type=self.kind, exist_ok=True)

    def head(self) -> str:
        """The commit that the revision stands for. Where there is no such repository, names what may be meant."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return str(self.api.repo_info(self.name, repo_type=self.kind, revision=self.revision).sha)
        except RepositoryNotFoundError as error:
            if self.api.repo_exists(self.name, repo_type=self.other):
                raise DmaskError(f"{self.name} is a {self.other} repository, not a {self.kind}") from None
            hint = nearest(self.name, self._siblings())
            raise DmaskError(
                f"{self.name}: there is no such repository, or the token may not see it{hint}"
                + (f"; {self.name} is a folder here" if Path(self.name).exists() and not hint else "")
            ) from error

    def _siblings(self) -> list[str]:
        """Names of its owner's repositories of the same kind, as far as they can be seen."""
        from huggingface_hub.errors import HfHubHTTPError

        listed: Callable[..., Iterable[Any]] = getattr(self.api, f"list_{self.kind}s")
        try:
            return [info.id for info in listed(author=self.name.partition("/")[0], limit=500)]
        except HfHubHTTPError:
            return []

    def at(self, commit: str) -> Repository:
        """The same repository at a commit, so that all that is read is of one state."""
        return replace(self, revision=commit)

    def files(self) -> dict[str, RepoFile]:
        """Path → size and hash of every file. Paths are the repository's own words: no name to write to."""
        from huggingface_hub.hf_api import RepoFile

        tree = self.api.list_repo_tree(self.name, recursive=True, revision=self.revision, repo_type=self.kind)
        return self.listed(entry for entry in tree if isinstance(entry, RepoFile))

    def listed(self, entries: Iterable[RepoFile]) -> dict[str, RepoFile]:
        """By path. Raises `DmaskError` where a size is none."""
        found = {entry.path: entry for entry in entries}
        for path, entry in found.items():
            if type(entry.size) is not int or entry.size < 0:
                raise DmaskError(f"{self.name} states no size of {path!r}")
        return found

    def download(self, path: str, folder: str | Path | None = None, afresh: bool = False) -> Path:
        """One file, into a folder or the Hub's cache; `afresh` even where it seems to be there."""
        got = self.api.hf_hub_download(
            self.name,
            path,
            repo_type=self.kind,
            revision=self.revision,
            local_dir=folder,
            force_download=afresh,
        )
        return Path(got)

    def fetch(self, paths: Iterable[str], folder: Path, afresh: bool = False) -> None:
        """Several files at a time, into a folder."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: self.download(path, folder, afresh), paths))

    def send(
        self,
        plan: Callable[[Repository, dict[str, RepoFile]], Plan],
        message: str,
        on_files: OnFiles = unheard,
    ) -> Sent:
        """Make the repository hold what `plan` wants, given the repository at its newest commit and its files.

        Only what differs is sent, in commits of `FILES_PER_COMMIT` files. Each names the commit it builds on: where
        another has come between, the plan is made again from what is there now. Raises `DmaskError` where the
        repository then holds something else than what was sent.
        """
        from huggingface_hub.errors import HfHubHTTPError

        message = message.strip() or "Upload"  # the Hub refuses an empty one
        sizes: dict[str, int] = {}
        conflicts = 0
        while True:
            now, done = self.at(self.head()), len(sizes)
            there = now.files()
            wanted = plan(now, there)
            try:
                commit = self._bring(str(now.revision), there, wanted, message, sizes, on_files)
                break
            except HfHubHTTPError as error:
                conflicts = conflicts + 1 if len(sizes) == done else 1
                if error.response.status_code != 412 or conflicts == CONFLICTS:
                    raise
                time.sleep(random.uniform(0, min(8, 2.0**conflicts)))
        there = self.at(commit).files() if sizes else there
        for path, content in wanted.files.items():
            if not same(content, there.get(path), wanted.sums.get(path)):
                raise DmaskError(f"{path} in {self.name} is not what was sent; run the same command again")
        return Sent(wanted, sizes, commit)

    def _bring(
        self,
        parent: str,
        there: dict[str, RepoFile],
        wanted: Plan,
        message: str,
        sizes: dict[str, int],
        on_files: OnFiles,
    ) -> str:
        """Send what differs, one commit after the other, adding to `sizes`; the last commit."""
        contents, sums = wanted.files, wanted.sums
        changed = [path for path in contents if not same(contents[path], there.get(path), sums.get(path))]
        gone = [path for path in wanted.obsolete if path in there]
        batches = [changed[i : i + FILES_PER_COMMIT] for i in range(0, len(changed), FILES_PER_COMMIT)]
        if gone and not batches:
            batches = [[]]
        total = len(sizes) + len(changed)
        for number, batch in enumerate(batches, 1):
            text = message if len(batches) == 1 else f"{message} ({number} of {len(batches)})"
            leaving = gone if number == len(batches) else []
            add = {path: contents[path] for path in batch}
            parent = patiently(lambda: self._commit(parent, add, sums, leaving, text))  # noqa: B023
            sizes |= {path: size_of(content) for path, content in add.items()}
            on_files(len(batch), total)
        return parent

    def _commit(
        self, parent: str, contents: dict[str, Content], sums: Mapping[str, str], gone: Collection[str], message: str
    ) -> str:
        """One commit on `parent`; the new one. What was uploaded is compared with `sums` before it is committed."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [
            CommitOperationAdd(path, content if isinstance(content, bytes) else content.absolute())
            for path, content in contents.items()
        ]
        self.api.preupload_lfs_files(self.name, added, repo_type=self.kind, revision=self.revision, free_memory=False)
        for operation in added:
            path = operation.path_in_repo
            if path in sums and operation.upload_info.sha256.hex() != sums[path]:
                raise DmaskError(f"{path} has changed since it was written (SHA-256 differs) and is not published")
        operations: list[Any] = [*added, *(CommitOperationDelete(path) for path in gone)]
        made = self.api.create_commit(
            self.name,
            operations,
            commit_message=message,
            parent_commit=parent,
            repo_type=self.kind,
            revision=self.revision,
        )
        return str(made.oid)

    def tag(self, name: str, commit: str, move: bool = False) -> None:
        """Tag a commit. A tag is a promise: one that points elsewhere is not moved, unless it only names a format."""
        for ref in self.api.list_repo_refs(self.name, repo_type=self.kind).tags:
            if ref.name == name and ref.target_commit != commit:
                if move:
                    patiently(lambda: self.api.delete_tag(self.name, tag=name, repo_type=self.kind))
                    continue
                raise DmaskError(f"{self.name} has a tag {name!r} on another commit; choose another --tag")
        patiently(
            lambda: self.api.create_tag(self.name, tag=name, revision=commit, repo_type=self.kind, exist_ok=True)
        )


def named(name: str) -> None:
    """Raise `DmaskError` where `name` can't be that of somebody's repository on the Hub."""
    here = "is a folder here and " if Path(name).exists() else ""
    if not _is_named(name):
        raise DmaskError(f"{name!r} {here}can't name a repository; give ORG/NAME")
    if "/" not in name:
        raise DmaskError(f"{name!r} {here}names no user or organisation; give ORG/NAME")


def _is_named(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def connect(name: str | None, default: str, token: str | None = None) -> tuple[HfApi, str]:
    """An API whose token may write, and a repository's full name: `name`, or the user's `default` without one.

    The token is the one given, that of the environment, or the stored login.
    """
    from huggingface_hub import get_token

    if not _is_named(name or default):
        raise DmaskError(f"{name or default!r} can't name a repository; give ORG/NAME")
    token = token or get_token()
    if not token:
        raise DmaskError("no Hugging Face token; run `hf auth login`, or set HF_TOKEN, or give --token-file")
    api = api_of(token)
    with hub_errors(name or default, "push to"):
        user = patiently(api.whoami)
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise DmaskError(f"the token of {user['name']} may only read; make one that may write and log in with it")
    if name is None:
        return api, f"{user['name']}/{default}"
    if "/" not in name:
        full = f"{user['name']}/{name}"
        raise DmaskError(f"{name!r} names no user or organisation; did you mean {full!r}?")
    return api, name


def api_of(token: str | None = None) -> HfApi:
    """An API with the token given, or that of the environment or the login, or none. Raises for what is no token."""
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    return HfApi(token=token and sound(token))


def read_content(file: Path) -> bytes:
    """A small regular file, read once, so that what is compared is what is sent."""
    with untrusted.opened(file) as source:
        return source.read()


def read_token(file: Path) -> str:
    """The token that a file holds, or standard input where the file is `-`. It is never part of an error."""
    if str(file) == "-":
        content = sys.stdin.buffer.readline(1000)
    elif file.exists():
        with untrusted.opened(file) as source:
            content = source.read(1000)
    else:
        raise DmaskError(f"--token-file {file}: there is no such file")
    return sound(content.decode("ascii", "replace").strip())


def sound(token: str) -> str:
    """The same token. Raises `DmaskError` where it can't be one."""
    if not (token.isascii() and token.isprintable() and " " not in token and token):
        raise DmaskError("what was given as a Hugging Face token is none; copy it again")
    return token


def same(content: Content, there: Listed | None, known: str | None = None) -> bool:
    """Whether a file elsewhere has our content, by its SHA-256, `known` or taken now, or by git's hash.

    Where neither is stated the size alone is compared.
    """
    from huggingface_hub.utils.sha import git_hash

    if there is None or there.size != size_of(content):
        return False
    if there.lfs is None and there.blob_id is None:
        return known in (None, sha256(content))
    if there.lfs is None:
        held = content if isinstance(content, bytes) else content.read_bytes()
        return git_hash(held) == there.blob_id and known in (None, sha256(held))
    return (known or sha256(content)) == there.lfs.sha256


def sha256(content: Content) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else storage.sha256(content)


def size_of(content: Content) -> int:
    """Number of bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
