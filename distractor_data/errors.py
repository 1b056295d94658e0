"""Errors as part of the interface: one line that says what is wrong and what to do, exit code 2."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches

from distractor_data import signals

_DISTRIBUTIONS = {"sbx": "sbx-rl"}  # whose modules have other names than they
_PLACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS} | {
    errno.EISDIR,  # something else lies where a folder or a file belongs
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}


class DmaskError(Exception):
    """Something the user can mend. The message is one line: what is wrong, then what to do about it."""


class PassingError(DmaskError):
    """A fault of a process, such as a broken OpenGL context, that a new one may not have."""


class NoSplitError(DmaskError):
    """A dataset that was reached has no such split."""


def nearest(word: str, words: Iterable[str]) -> str:
    """`"; did you mean 'walker-run'?"` for the nearest of `words`, or an empty string."""
    close = get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def plain(text: object) -> str:
    """One line of text that a terminal shows and never obeys: white space folded, control characters left out."""
    folded = " ".join(str(text).split())
    return folded if folded.isprintable() else "".join(letter for letter in folded if letter.isprintable())


def extra_of(module: str) -> str:
    """The extra of this package that brings a module; empty where none does."""
    package = _DISTRIBUTIONS.get(module.partition(".")[0], module.partition(".")[0])
    for requirement in importlib.metadata.requires("dmask") or []:
        named = re.match(r"([A-Za-z0-9._-]+).*extra == [\"']([a-z0-9]+)[\"']", requirement)
        if named and named[1].replace("-", "_").lower() == package.replace("-", "_").lower():
            return named[2]
    return ""


def lacking(error: ModuleNotFoundError) -> str:
    """What to install where a module of an optional part is missing; empty where it is of none."""
    extra = extra_of(error.name or "")
    return extra and f"{error.name} is not installed, which is of an optional part: pip install 'dmask[{extra}]'"


@contextlib.contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Meanwhile our warnings are plain lines on stderr, however libraries have set up logging."""
    log, handler = logging.getLogger(__package__), logging.lastResort
    assert handler is not None
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True


def run_cli(app: Callable[..., int | None], name: str) -> None:
    """Run an app and exit with its code; a `DmaskError` or what the system refuses becomes one line and code 2.

    So does SIGINT or SIGTERM, with 128 and the signal's number.
    """
    code, kind = 2, "error: "
    try:
        try:
            with signals.raised(), _warnings_in_lines():
                sys.exit(app(prog_name=name))
        finally:
            sys.stdout.flush()  # a full disk or a closed pipe is told of here, not when Python ends
    except signals.Stopped as stopped:
        code, kind = stopped.code, ""
        message = f"{stopped}; run the same command again to go on: what was written is whole and kept"
    except DmaskError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        if not (message := lacking(error)):
            raise
    except OSError as error:
        if not error.errno:
            raise
        where = f" ({error.filename})" if error.filename else ""
        message = f"{os.strerror(error.errno)}{where}"
        if error.errno in _PLACE_ERRNOS:
            message += "; make room or choose another folder and run the same command again: "
            message += "what was written is whole and kept"
    with contextlib.suppress(OSError):  # nobody listens
        print(f"{name}: {kind}{plain(message)}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python tries again as it ends
    sys.exit(code)
