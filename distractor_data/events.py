"""What happens while a dataset is made, as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Begun:
    """So many episodes will be there at the end."""

    episodes: int


@dataclass(frozen=True)
class Made:
    """An episode is stored; not `anew` where it was there already."""

    episode: int
    frames: int
    anew: bool


@dataclass(frozen=True)
class Shard:
    """A shard is whole, its number; it may have been before."""

    number: int


@dataclass(frozen=True)
class Masked:
    """A model has masked `frames` more frames, of `total` that the split will have."""

    frames: int
    total: int


Event = Begun | Made | Shard | Masked
OnEvent = Callable[[Event], None]
OnFiles = Callable[[int, int], None]  # hears how many files came through just now, and of how many


def ignore(event: Event) -> None:
    """Nobody looks."""


def unheard(files: int, total: int) -> None:
    """Nobody looks at files."""
