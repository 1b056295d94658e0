"""SHA-256 and size of a split's files, each taken by the write that made the file: the text of `.sums.json`.

A file's sum is noted before the file takes its name, beside the sum of what it replaces. So a run that is killed at
any moment leaves every file as one of those that are noted, and nothing ever needs to be hashed to find out what it
should be. The text ends with its own SHA-256: it can't blame a file for damage of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distractor_data import untrusted
from distractor_data.errors import DmaskError
from distractor_data.untrusted.values import mapping

_SHA256 = re.compile("[0-9a-f]{64}").fullmatch
BYTES = 64 << 20  # of the list; what is longer is cut, and so no list


@dataclass(frozen=True)
class Sum:
    """What a file's bytes are."""

    sha256: str  # hexadecimal digits
    size: int  # bytes


# Path from the split's root → what the file may be: one sum, or while it is written those before and after; None: no
# file.
Sums = dict[str, list[Sum | None]]
_rendered: tuple[str, Sums] = ("", {})  # the last that was no part's: it is read again and again as a dataset grows


def of(content: Path | bytes) -> Sum:
    """The sum of a file, or of what is to become one."""
    if isinstance(content, bytes):
        return Sum(hashlib.sha256(content).hexdigest(), len(content))
    with untrusted.opened(content) as file:
        return Sum(hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))


def render(sums: Sums) -> str:
    """The text of `.sums.json`: the same for the same sums."""
    global _rendered
    text = json.dumps({name: [value and vars(value) for value in sums[name]] for name in sorted(sums)})
    text = f'{{"files": {text}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}\n'
    if len(sums) > 1:
        _rendered = text, _copy(sums)
    return text


def _copy(sums: Sums) -> Sums:
    return {name: list(values) for name, values in sums.items()}


def _indented(text: str) -> str:
    """As older versions wrote it: the same content."""
    return json.dumps(json.loads(text), indent=2) + "\n"


def parse(text: str) -> Sums:
    """The inverse of `render`. Raises `ValueError` for a text that is not to the byte one of its."""
    known, found = _rendered
    if text == known:
        return _copy(found)
    try:
        files = untrusted.parse(text, "the list of checksums", mapping(untrusted.anything))["files"]
        sums: Sums = {name: [None if value is None else _sum(value) for value in files[name]] for name in files}
        whole = render(sums)
        if text == whole or text == _indented(whole):
            return sums
    except (DmaskError, TypeError, AttributeError, KeyError) as error:
        raise ValueError("not what was written") from error
    raise ValueError("not what was written")


def _sum(value: dict[str, Any]) -> Sum:
    """One entry; a list of thousands is read at every write, so this is plain code."""
    sha256, size = value["sha256"], value["size"]
    if type(size) is int and size >= 0 and len(value) == 2 and _SHA256(sha256):
        return Sum(sha256, size)
    raise TypeError(f"{value} is no checksum")
