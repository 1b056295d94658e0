"""JSON that a stranger may have written: of a bounded size, and every field of its kind."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from distractor_data.errors import DmaskError
from distractor_data.untrusted.files import opened

BYTES = 4 << 20  # of a JSON file: the checksums of 14,000 shards
TEXT = 4096  # characters of a string
Kind = Callable[[Any, str], None]  # raises where the value that stands at the place named is of another kind


def refuse(value: Any, where: str, wanted: str) -> NoReturn:
    """Raise `DmaskError` for a value that stands where what is `wanted` belongs."""
    raise DmaskError(f"{where} is {reprlib.repr(value)}, where {wanted} belongs; it is damaged or of another version")


def anything(value: Any, where: str) -> None:
    """What is checked where it is used."""


def whole(low: int = 0, high: int = 2**53) -> Kind:
    """An integer from `low` to `high`."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse(value, where, f"a whole number from {low} to {high}")

    return check


def number(value: Any, where: str) -> None:
    """A finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        refuse(value, where, "a finite number")


def real(value: Any, where: str) -> None:
    """A number, which may be infinite or NaN: a measure that went wrong."""
    if type(value) not in (int, float):
        refuse(value, where, "a number")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if type(value) is not bool:
        refuse(value, where, "true or false")


def text(value: Any, where: str) -> None:
    """A string of at most `TEXT` characters."""
    if type(value) is not str or len(value) > TEXT:
        refuse(value, where, "a short text")


def matching(pattern: str, wanted: str) -> Kind:
    """A string all of which matches a regular expression."""

    def check(value: Any, where: str) -> None:
        if type(value) is not str or not re.fullmatch(pattern, value):
            refuse(value, where, wanted)

    return check


def optional(kind: Kind) -> Kind:
    """The same, or null."""
    return lambda value, where: None if value is None else kind(value, where)


def listing(kind: Kind, longest: int = 10**6) -> Kind:
    """A list of values of one kind."""

    def check(value: Any, where: str) -> None:
        if type(value) is not list or len(value) > longest:
            refuse(value, where, f"a list of at most {longest}")
        for index, item in enumerate(value):
            kind(item, f"{where}[{index}]")

    return check


def mapping(kind: Kind, names: Kind | Collection[str] | None = None) -> Kind:
    """An object whose values are all of one kind, under `names` of a kind, some of a few, or any."""

    def check(value: Any, where: str) -> None:
        if type(value) is not dict:
            refuse(value, where, "an object")
        for name, item in value.items():
            if isinstance(names, Collection) and name not in names:
                refuse(name, f"a name in {where}", f"one of {', '.join(names)}")
            (names if callable(names) else text)(name, f"a name in {where}")
            kind(item, f"{where}: {reprlib.repr(name)}")

    return check


def record(required: Mapping[str, Kind], others: Mapping[str, Kind] | None = None) -> Kind:
    """An object that has the fields `required`. Those of `others` are checked where they are there."""

    def check(value: Any, where: str) -> None:
        mapping(anything)(value, where)
        if missing := [name for name in required if name not in value]:
            raise DmaskError(f"{where} has no {missing[0]!r}; it is damaged or of another version")
        for name, kind in {**required, **(others or {})}.items():
            if name in value:
                kind(value[name], f"{where}: {name}")

    return check


def parse(content: bytes | str, where: str | Path, kind: Kind = anything) -> Any:
    """What JSON says, checked; `where` names it in errors."""
    try:
        value = json.loads(content)
        kind(value, str(where))
    except (ValueError, RecursionError) as error:
        said = str(error).splitlines()[0][:200]
        raise DmaskError(f"{where} is damaged ({said}); pull it from the Hub or make it again") from error
    return value


def read_json(path: Path, kind: Kind = anything) -> Any:
    """What a JSON file says, checked."""
    if not os.path.lexists(path):
        raise DmaskError(f"{path} is missing; is this a dataset that `dmask generate` made?")
    with opened(path) as file:
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise DmaskError(f"{path} has more than {BYTES >> 20} MB, too much for what it should say; make it again")
    return parse(content, path, kind)
