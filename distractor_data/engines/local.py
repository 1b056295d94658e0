"""Processes of this machine. One core and one OpenGL context each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from distractor_data.errors import DmaskError, PassingError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Rasteriser and BLAS threads would fight over the cores that the workers already fill.
ONE_THREAD = {"LP_NUM_THREADS": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
KEPT = "(what was written is kept)"
log = logging.getLogger(__name__)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker() -> int | None:
    """Which worker of `run_local` this process is, counted from 0 over all that its parent began; None for others."""
    if multiprocessing.parent_process() is None:
        return None
    return int(multiprocessing.current_process().name.rpartition("-")[2]) - 1  # SpawnProcess-1 is the first


def run_local(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) as they get done, in `workers` processes; begun in the order of `items`.

    When a worker is killed or loses its OpenGL context, most likely for want of memory, half as many go on with what
    is not done. Raises `DmaskError` when the last one fails twice and nothing got done in between; what the function
    raises otherwise is raised here. The workers end with this, also when this process is killed.
    """
    left = dict(enumerate(items))
    workers = max(1, min(workers or cores(), len(left)))
    in_vain = 0  # failures since something got done
    while left:
        try:
            for key, result in _in_processes(function, left, workers):
                in_vain = 0
                yield left.pop(key), result
        except (BrokenProcessPool, PassingError) as error:
            killed = "a worker was killed, most likely for want of memory"
            what = str(error).partition(";")[0] if isinstance(error, PassingError) else killed
            if workers == 1 and in_vain:
                if isinstance(error, PassingError):
                    raise
                raise DmaskError(f"{what}; make room and run the same command again {KEPT}") from error
            workers, in_vain = max(1, workers // 2), in_vain + 1
            log.warning("%s; going on with --workers %d %s", what, workers, KEPT)


def _in_processes(
    function: Callable[[Item], Result], items: dict[int, Item], workers: int
) -> Iterator[tuple[int, Result]]:
    """(key, function(item)) as they get done. Raises `BrokenProcessPool` when a worker is killed."""
    context = multiprocessing.get_context("spawn")  # a forked OpenGL context or thread pool doesn't work
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        queue, running = iter(list(items.items())), dict[Future[Result], int]()
        while True:
            while len(running) < 2 * workers and (entry := next(queue, None)) is not None:
                key, item = entry
                with _for_workers():
                    running[pool.submit(function, item)] = key
            if not running:
                return
            done = wait(running, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=lambda each: each.exception() is not None):  # what is done counts first
                yield running.pop(future), future.result()
    finally:
        _end(pool)


@contextmanager
def _for_workers() -> Iterator[None]:
    """What a process that is begun meanwhile inherits: one thread, and no SIGINT, which is the parent's to handle."""
    saved = {name: os.environ.get(name) for name in ONE_THREAD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """End the workers at once; what they were at was not written, or is whole."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
