"""Where episodes are made: processes of this machine. One core and one OpenGL context each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from distractor_data.errors import DmaskError

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_local(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) as they get done, in `workers` processes; begun in the order of `items`.

    What a worker raises is raised here, and the workers end. They also end when this process is killed.
    """
    # Rasteriser and BLAS threads would fight over the cores that the workers already fill.
    saved = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update({"LP_NUM_THREADS": "0"} | dict.fromkeys(_THREAD_VARIABLES[1:], "1"))
    context = multiprocessing.get_context("spawn")  # a forked OpenGL context or thread pool doesn't work
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        queue, running = iter(items), dict[Future[Result], Item]()
        while True:
            while len(running) < 2 * workers and (item := next(queue, None)) is not None:
                running[pool.submit(function, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise DmaskError(
            "a worker was killed, most likely for want of memory; run the same command again with fewer --workers "
            "(what was written is kept)"
        ) from error
    finally:
        _end(pool)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
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
