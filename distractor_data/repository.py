"""A repository on the Hugging Face Hub: who may write, what it holds, what changes, and errors in one line."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distractor_data import storage
from distractor_data.errors import DmaskError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

CARD = "README.md"
FILES_PER_COMMIT = 64  # a shard has two: its frames and its episodes
RETRIES = 3
Content = Path | bytes
T = TypeVar("T")


@dataclass(frozen=True)
class Push:
    """What a push sent, or with `dry_run` would send: path in the repository → size in bytes."""

    name: str
    url: str
    sent: dict[str, int]
    card: str


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

    def license(self) -> str | None:
        """What the card of the main branch states; None without a card."""
        from huggingface_hub import DatasetCard

        if not self.api.file_exists(self.name, CARD, repo_type=self.kind):
            return None
        return DatasetCard.load(replace(self, revision=None).download(CARD)).data.get("license")

    def create(self, private: bool = False) -> None:
        """Make the repository and the branch where they are not there yet."""
        other = "model" if self.kind == "dataset" else "dataset"
        if not self.api.repo_exists(self.name, repo_type=self.kind):
            if self.api.repo_exists(self.name, repo_type=other):
                raise DmaskError(f"{self.name} is a {other} repository; give the {self.kind} another name")
            patiently(lambda: self.api.create_repo(self.name, private=private, repo_type=self.kind, exist_ok=True))
        if self.revision not in (None, "main"):
            self.api.create_branch(self.name, branch=str(self.revision), repo_type=self.kind, exist_ok=True)

    def files(self) -> dict[str, RepoFile]:
        """Path → size and hash of every file."""
        from huggingface_hub.hf_api import RepoFile

        tree = self.api.list_repo_tree(self.name, recursive=True, revision=self.revision, repo_type=self.kind)
        return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    def send(
        self,
        contents: Mapping[str, Content],
        obsolete: Collection[str],
        message: str,
        sums: Mapping[str, str] | None = None,
    ) -> dict[str, int]:
        """Make the repository hold `contents` and drop what is `obsolete`; returns what was sent, with sizes.

        Only what differs is sent, in commits of `FILES_PER_COMMIT` files in the order given; what is obsolete goes
        with the last. `sums` gives the SHA-256 of files for which it is known. Raises `DmaskError` where the Hub
        then holds something else.
        """
        there, known = self.files(), sums or {}
        changed = [path for path, content in contents.items() if not same(content, there.get(path), known.get(path))]
        gone = [path for path in obsolete if path in there]
        batches = [changed[i : i + FILES_PER_COMMIT] for i in range(0, len(changed), FILES_PER_COMMIT)]
        if gone and not batches:
            batches = [[]]
        for number, batch in enumerate(batches, 1):
            text = message if len(batches) == 1 else f"{message} ({number} of {len(batches)})"
            last = number == len(batches)
            patiently(lambda: self._commit({p: contents[p] for p in batch}, gone if last else (), text))  # noqa: B023
        there = self.files() if batches else there
        for path, content in contents.items():
            if not same(content, there.get(path), known.get(path)):
                raise DmaskError(f"{path} in {self.name} is not what was sent; run the same command again")
        return {path: size_of(contents[path]) for path in changed}

    def _commit(self, contents: dict[str, Content], gone: Collection[str], message: str) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationAdd(path, content) for path, content in contents.items()]
        operations += [CommitOperationDelete(path) for path in gone]
        self.api.create_commit(
            self.name, operations, commit_message=message, repo_type=self.kind, revision=self.revision
        )

    def head(self) -> str:
        """The commit that the revision stands for. Says so where the name is one of the other kind."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return str(self.api.repo_info(self.name, repo_type=self.kind, revision=self.revision).sha)
        except RepositoryNotFoundError:
            other = "model" if self.kind == "dataset" else "dataset"
            if self.api.repo_exists(self.name, repo_type=other):
                raise DmaskError(f"{self.name} is a {other} repository, not a {self.kind}") from None
            raise

    def tag(self, name: str) -> None:
        """Tag the head. A tag is a promise: one that points elsewhere is not moved."""
        head = self.head()
        for ref in self.api.list_repo_refs(self.name, repo_type=self.kind).tags:
            if ref.name == name and ref.target_commit != head:
                raise DmaskError(f"{self.name} has a tag {name!r} on another commit; choose another --tag")
        patiently(lambda: self.api.create_tag(self.name, tag=name, revision=head, repo_type=self.kind, exist_ok=True))

    def download(self, path: str, folder: str | Path | None = None) -> Path:
        """One file, into a folder or the Hub's cache."""
        return Path(
            self.api.hf_hub_download(self.name, path, repo_type=self.kind, revision=self.revision, local_dir=folder)
        )


def connect(name: str | None, default: str, token: str | None = None) -> tuple[HfApi, str]:
    """An API whose token may write, and a repository's full name: `name`, or the user's `default` without one.

    The token is the one given, that of the environment, or the stored login.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name or default)
    except HFValidationError as error:
        raise DmaskError(f"{name or default!r} can't name a repository; give ORG/NAME") from error
    token = token or get_token()
    if not token:
        raise DmaskError("no Hugging Face token; run `hf auth login`, or set HF_TOKEN, or pass --token")
    api = HfApi(token=token)
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


def same(content: Content, there: RepoFile | None, known: str | None = None) -> bool:
    """Whether the Hub's file has our content, by its SHA-256, `known` or taken now, or by git's hash."""
    from huggingface_hub.utils.sha import git_hash

    if there is None or there.size != size_of(content):
        return False
    if there.lfs is None:
        return git_hash(content if isinstance(content, bytes) else content.read_bytes()) == there.blob_id
    return (known or sha256(content)) == there.lfs.sha256


def sha256(content: Content) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else storage.sha256(content)


def size_of(content: Content) -> int:
    """Number of bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def patiently(call: Callable[[], T]) -> T:
    """Call, and call again where the Hub asks to wait or stumbles; only for what may be repeated."""
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(RETRIES - 1):
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in (429, 500, 502, 503, 504):
                raise
            wait = error.response.headers.get("Retry-After", "")
            time.sleep(float(wait) if wait.isdigit() else 2.0**attempt)
    return call()


@contextmanager
def hub_errors(name: str, action: str) -> Iterator[None]:
    """Turn what the Hub and the connection can refuse into one line that says what to do."""
    import httpx2
    from huggingface_hub import errors

    start = f"can't {action} {name}"
    again = "; what was sent or fetched is kept, run the same command again"
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        hint = "there is no such repository, or the token may not see it"
        raise DmaskError(f"{start}: {hint}") from error
    except errors.RevisionNotFoundError as error:
        raise DmaskError(f"{start}: it has no such revision; see its tags and branches") from error
    except errors.HfHubHTTPError as error:
        raise DmaskError(f"{start}: {_reason(error, again)}") from error
    except (httpx2.HTTPError, errors.LocalEntryNotFoundError) as error:
        raise DmaskError(f"{start}: the connection to the Hub broke{again}") from error
    except RuntimeError as error:  # huggingface_hub wraps what breaks in a thread that uploads
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise DmaskError(f"{start}: {_reason(cause, again)}") from error
        if isinstance(cause, httpx2.HTTPError):
            raise DmaskError(f"{start}: the connection to the Hub broke{again}") from error
        if "home directory" in str(error):
            raise DmaskError(f"{start}: there is no home folder for its cache; set HF_HOME") from error
        raise


def _reason(error: Any, again: str) -> str:
    """What an HTTP status means to the one who pushes or pulls."""
    status = error.response.status_code
    if status == 401:
        return "the token was refused; log in again with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return "the token may not write there; use one with write access, or a name of your own"
    if status == 422:
        return f"what arrived is not what was sent (checksum){again}"
    said = " ".join((error.server_message or "").split())
    return f"the Hub answered {status}{f' ({said})' if said else ''}{again}"
