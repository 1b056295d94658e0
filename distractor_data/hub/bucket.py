"""A folder behind a URL, on any file system that fsspec reaches, read like a dataset repository.

It has no commits. What counts there is what `meta/checksums.json` lists: that is written last, and is shortened
before a file that it lists is replaced.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distractor_data import untrusted
from distractor_data.dataset import cache, sums
from distractor_data.dataset.sums import Sum
from distractor_data.errors import DmaskError, plain
from distractor_data.hub.patience import AGAIN
from distractor_data.hub.repository import Content


@dataclass(frozen=True)
class Stored:
    """A file as its file system lists it, which says nothing of its content."""

    path: str
    size: int
    blob_id: None = None
    lfs: None = None


def is_url(text: str) -> bool:
    """Whether this is no path of a folder here."""
    return "://" in text


@dataclass(frozen=True)
class Bucket:
    """The folder behind a URL such as `s3://bucket/folder`. Raises `DmaskError` for one that can't be reached."""

    url: str
    revision: None = None  # there is only what is there now

    def __post_init__(self) -> None:
        if urlsplit(self.url).password:
            raise DmaskError(
                "a URL is no place for a password, which all users of a machine could see; give it to fsspec by its "
                "environment variables or ~/.config/fsspec"
            )
        if self.url.startswith("hf://"):
            raise DmaskError(f"{self.url} is on the Hub; give its ORG/NAME to --push or to `dmask pull`")
        _ = self._place

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.url

    @property
    def folder(self) -> Path:
        """Where, on this machine, what is on its way there waits, and what describes it is kept."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        last = re.sub(r"[^A-Za-z0-9_-]", "", self.url.rstrip("/").rpartition("/")[2])
        return cache.folder() / "buckets" / digest / (last or "data")

    def at(self, commit: str) -> Bucket:
        """Itself: there are no commits."""
        return self

    def files(self) -> dict[str, Stored]:
        """Path → size, of every file. Paths are the file system's own words: no name to write to."""
        system, place = self._place
        with self._told("listed"):
            system.invalidate_cache()
            try:
                found = system.find(place, detail=True)
            except FileNotFoundError:
                found = {}
        names = {entry["name"].removeprefix(f"{place}/"): entry for entry in found.values()}
        return {name: Stored(name, int(entry["size"] or 0)) for name, entry in names.items()}

    def sum(self, path: str) -> Sum:
        """SHA-256 and size of what lies there: all of it is read."""
        system, place = self._place
        with self._told("read"), system.open(f"{place}/{path}", "rb") as file:
            return Sum(hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))

    def fetch(self, paths: Iterable[str], folder: Path, afresh: bool = False) -> None:
        """Several files into a folder, which every call reads `afresh`."""
        system, place = self._place

        def get(path: str) -> None:
            target = untrusted.inside(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{place}/{path}", str(target))

        with self._told("read"), ThreadPoolExecutor(8 if system.async_impl else 1) as pool:
            list(pool.map(get, paths))

    def send(self, content: Content, path: str, known: Sum | None = None) -> None:
        """One file; it is read back, and must be what is `known` of the content, or what that is now."""
        system, place = self._place
        with self._told("written"):
            if isinstance(content, bytes):
                system.pipe_file(f"{place}/{path}", content)
            else:
                system.put_file(str(content), f"{place}/{path}")
        if self.sum(path) != (known or sums.of(content)):
            raise DmaskError(f"{self.url}/{path} is not what was sent (SHA-256 differs){AGAIN}")

    def remove(self, paths: Iterable[str]) -> None:
        """Delete files, those that are there."""
        system, place = self._place
        with self._told("written"):
            for path in paths:
                if system.exists(f"{place}/{path}"):
                    system.rm_file(f"{place}/{path}")

    @property
    def _place(self) -> tuple[Any, str]:
        """The file system, and where on it the folder is."""
        with self._told("reached"):
            system, place = _reach(self.url, os.getpid())
        return system, place.rstrip("/")

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Whatever the libraries of file systems raise, which have no error in common, becomes one line."""
        try:
            yield
        except DmaskError:
            raise
        except Exception as error:
            said = plain(error)[:200] or type(error).__name__
            raise DmaskError(f"{self.url} can't be {done} ({said}){AGAIN if done != 'reached' else ''}") from error


@functools.cache
def _reach(url: str, process: int) -> tuple[Any, str]:
    """In each process its own: a connection doesn't outlive a fork."""
    from fsspec.core import url_to_fs

    local = url.startswith(("file:", "local:"))
    return url_to_fs(url, **({"auto_mkdir": True} if local else {}))
