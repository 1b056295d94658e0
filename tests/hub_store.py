"""The repositories of the loopback Hub as they lie on disk: listings by commit, content by its hash."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LFS_SUFFIXES = (".parquet", ".safetensors", ".png")


class Refused(Exception):
    """An answer that is no success: status, the Hub's error code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Repo:
    """One repository as it lies on disk: refs to commits, each a listing of paths."""

    file: Path
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Any]] = field(default_factory=dict)  # oid → title, files: path → entry

    @classmethod
    def load(cls, file: Path) -> Repo:
        if not file.exists():
            raise Refused(404, "RepoNotFound", "Repository not found")
        return cls(file, **json.loads(file.read_text()))

    def save(self) -> None:
        record = {name: value for name, value in vars(self).items() if name != "file"}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(self.file)

    def commit(self, branch: str, title: str, files: dict[str, Any]) -> str:
        parent = self.branches.get(branch)
        content = json.dumps([parent, title, files, len(self.commits)], sort_keys=True)
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid] = {"title": title, "files": files, "parent": parent}
        self.branches[branch] = oid
        self.save()
        return oid

    def resolve(self, revision: str) -> str:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid


class Store:
    """Repositories and blobs in one folder."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def repo_file(self, kind: str, repo_id: str) -> Path:
        return self.directory / kind / f"{repo_id}.json"

    def blob(self, oid: str) -> Path:
        return self.directory / "blobs" / oid

    def store(self, oid: str, content: bytes) -> None:
        file = self.blob(oid)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{oid}.{threading.get_ident()}.part")
        part.write_bytes(content)
        part.replace(file)

    def entry(self, content: bytes, lfs: bool) -> dict[str, Any]:
        """Store a file's content; what a commit's listing says of it."""
        if not lfs:
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self.store(oid, content)
            return {"blob": oid, "shown": {"oid": oid, "size": len(content)}}
        oid = hashlib.sha256(content).hexdigest()
        self.store(oid, content)
        return self.pointer(oid, len(content))

    def pointer(self, oid: str, size: int) -> dict[str, Any]:
        """What a commit's listing says of a large file."""
        shown = {"oid": hashlib.sha1(oid.encode()).hexdigest(), "size": size}
        return {"blob": oid, "shown": {**shown, "lfs": {"oid": oid, "size": size, "pointerSize": 134}}}

    def lay(
        self, repo_id: str, files: dict[str, bytes], stated: dict[str, dict[str, Any]], kind: str = "datasets"
    ) -> None:
        """Commit what no client would send: files under any path, of which the tree says what is `stated`."""
        file = self.repo_file(kind, repo_id)
        repo = Repo.load(file) if file.exists() else Repo(file)
        listing = {path: self.entry(content, path.endswith(LFS_SUFFIXES)) for path, content in files.items()}
        for path, says in stated.items():
            listing[path]["shown"] |= says
        repo.commit("main", "laid", listing)

    def card(self, repo: Repo) -> dict[str, Any]:
        """The metadata of a repository's card."""
        entry = repo.commits[repo.resolve("main")]["files"].get("README.md")
        text = self.blob(entry["blob"]).read_text(errors="replace") if entry else ""
        return yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}

    def files(self, repo_id: str, revision: str = "main", kind: str = "datasets") -> dict[str, bytes]:
        """Every file of a repository, for tests to compare."""
        repo = Repo.load(self.repo_file(kind, repo_id))
        listing = repo.commits[repo.resolve(revision)]["files"]
        return {path: self.blob(entry["blob"]).read_bytes() for path, entry in listing.items()}
