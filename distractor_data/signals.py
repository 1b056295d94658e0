"""SIGINT and SIGTERM as an exception, so that workers end, temporary files go and locks are freed before we do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_OURS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # unless the caller ignores them


class Stopped(BaseException):
    """Somebody wants this process to end. Not a `KeyboardInterrupt`, of which libraries speak their own words."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number  # as a shell has it


@contextmanager
def raised() -> Iterator[None]:
    """Meanwhile SIGINT or SIGTERM raises `Stopped` in the main thread; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _OURS}
    mine = [number for number, usual in _OURS.items() if before[number] == usual]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


@contextmanager
def kept() -> Iterator[None]:
    """Meanwhile a library may set handlers of its own; afterwards they are what they were."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _OURS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
