"""The user's cache folder, and what was verified: the SHA-256 of a file is taken once for each content."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

from distractor_data import untrusted
from distractor_data.errors import DmaskError

_SETTLED = 2.0  # seconds after which a file can't change again within the same tick of the clock
_known: dict[str, str] = {}  # of this process


def folder(cache: str | Path | None = None) -> Path:
    """The argument, `DMASK_CACHE`, or `dmask` under the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return untrusted.expanded(cache or os.environ.get("DMASK_CACHE") or f"{home}/dmask")
    except DmaskError as error:
        raise DmaskError(f"{error}, or set DMASK_CACHE") from error


def sha256(path: Path, cache: str | Path | None = None) -> str:
    """SHA-256 of a file, as hexadecimal digits, remembered for as long as the file is not touched."""
    with untrusted.opened(path) as file:
        found = os.fstat(file.fileno())
        identity = (path.resolve(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        key = hashlib.sha256(repr(identity).encode()).hexdigest()
        if digest := _known.get(key) or _remembered(key, cache):
            return digest
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - max(found.st_mtime, found.st_ctime) > _SETTLED:
        _known[key] = digest
        _remember(key, digest, cache)
    return digest


def verified(path: Path, name: str, sums: dict[str, dict[str, Any]], cache: str | Path | None = None) -> str:
    """SHA-256 of a shard's file, which has the `name` in the split's checksums.

    Raises `DmaskError` where they tell of another. A split without any checksums has none to tell.
    """
    digest = sha256(path, cache)
    if sums and name not in sums:
        raise DmaskError(f"{path} is not among the checksums of its split; run `dmask verify`")
    if sums and digest != sums[name]["sha256"]:
        raise DmaskError(f"{path} has changed since it was written (SHA-256 differs); run `dmask verify`")
    return digest


def _remembered(key: str, cache: str | Path | None) -> str | None:
    try:
        digest = (folder(cache) / "verified" / key).read_text()
    except (OSError, UnicodeDecodeError, DmaskError):
        return None
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else None


def _remember(key: str, digest: str, cache: str | Path | None) -> None:
    """For the next process; where that can't be, it takes the sum again."""
    try:
        place = folder(cache) / "verified"
        place.mkdir(parents=True, exist_ok=True)
        (place / key).write_text(digest)
    except (OSError, DmaskError):
        return
