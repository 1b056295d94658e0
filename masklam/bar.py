"""Bars of tqdm; where no terminal shows them, a line every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from distractor_data.dataset.decoded import Values
from distractor_data.progress import EVERY


class _Lines:
    """Standard error, on which each state of a bar is a line of its own."""

    last = ""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line not in ("", self.last):
            self.last = line
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(*arguments: Any, **options: Any) -> tqdm:
    """`tqdm` with its arguments."""
    if not sys.stderr.isatty():
        form = "{desc}: {n_fmt}/{total_fmt} {unit}s, {rate_fmt}, {remaining} left"
        options |= {"file": _Lines(), "mininterval": EVERY, "bar_format": form, "leave": True}
    return tqdm(*arguments, **options)


def decoding(values: Values, rows: int, columns: int) -> Iterator[Any]:
    """The same values, with a bar over the frames where there are many."""
    done = 0
    with bar(total=rows, desc="decode", unit="frame", unit_scale=True, disable=rows < 4096) as shown:
        for name, frames in values:
            yield name, frames
            done += len(frames)
            shown.update(done // columns - shown.n)
