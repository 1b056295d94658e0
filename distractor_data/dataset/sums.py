"""SHA-256 and size of a split's files, each taken by the write that made the file: the text of `.sums.json`.

A file's sum is noted before the file takes its name, beside the sum of what it replaces. So a run that is killed at
any moment leaves every file as one of those that are noted, and nothing ever needs to be hashed to find out what it
should be. The text ends with its own SHA-256: it can't blame a file for damage of its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.untrusted.values import listing, mapping, matching, optional, record, whole

BYTES = 64 << 20  # of the list; what is longer is cut, and so no list


@dataclass(frozen=True)
class Sum:
    """What a file's bytes are."""

    sha256: str  # hexadecimal digits
    size: int  # bytes


# Path from the split's root → what the file may be: one sum, or while it is written those before and after; None: no
# file.
Sums = dict[str, list[Sum | None]]


def of(content: Path | bytes) -> Sum:
    """The sum of a file, or of what is to become one."""
    if isinstance(content, bytes):
        return Sum(hashlib.sha256(content).hexdigest(), len(content))
    with untrusted.opened(content) as file:
        return Sum(hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))


def render(sums: Sums) -> str:
    """The text of `.sums.json`: the same for the same sums."""
    files = {name: [value and asdict(value) for value in sums[name]] for name in sorted(sums)}
    own = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return json.dumps({"files": files, "sha256": own}, indent=2) + "\n"


_ONE = record({"sha256": matching("[0-9a-f]{64}", "64 hexadecimal digits"), "size": whole()})
_TEXT = record({"files": mapping(listing(optional(_ONE)))})


def parse(text: str) -> Sums:
    """The inverse of `render`. Raises `ValueError` for a text that is not to the byte one of its."""
    try:
        files = untrusted.parse(text, "the list of checksums", _TEXT)["files"]
        sums: Sums = {name: [value and Sum(**value) for value in values] for name, values in files.items()}
        if render(sums) == text:
            return sums
    except (DmaskError, TypeError) as error:
        raise ValueError("not what was written") from error
    raise ValueError("not what was written")
