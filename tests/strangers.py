"""What tests of hostile and careless input share: a repository that no client would send, and what a folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_server import HubServer

from distractor_data import schema

PART = "walker-run/train"
SHARD = f"{PART}/{schema.data_file(1)}"
SUMS, RECORD, INFO = (f"{PART}/{name}" for name in (schema.CHECKSUMS, schema.DMASK, schema.INFO))
Files = dict[str, bytes]  # path in the repository → content
Stated = dict[str, dict[str, Any]]  # path → what the repository's listing says of it instead of the truth


def as_it_is(files: Files, stated: Stated) -> None:
    """Nothing hostile."""


def lay(
    server: HubServer, one: Path, change: Callable[[Files, Stated], None] = as_it_is, name: str = "org/name"
) -> None:
    """Make the folder `one`, changed, a repository."""
    files = {file.relative_to(one).as_posix(): file.read_bytes() for file in one.rglob("*") if file.is_file()}
    stated: Stated = {}
    change(files, stated)
    server.lay(name, files, stated)


def state(directory: Path) -> dict[str, Any]:
    """All that lies in a folder, links as links; locks and what was fetched for another try don't count."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != ".pull"]
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file() and name != ".lock":
                found[str(path)] = path.read_bytes()
    return found
