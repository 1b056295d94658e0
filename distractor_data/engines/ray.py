"""The nodes of a Ray cluster, which see the dataset's folder under the same path: one core and one context a task.

Tasks carry what to do and no data: workers write episodes themselves. Nodes may come and go meanwhile.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from distractor_data import signals
from distractor_data.engines.local import KEPT, ONE_THREAD
from distractor_data.errors import DmaskError, PassingError

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRIES = 5  # how often an item may lose its worker: with its node, for want of memory, or with its OpenGL context


def run_ray(
    address: str | None,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) as they get done, in `workers` tasks at a time, or as many as the cluster has cores.

    `address` is the head's, "auto" for the one of this machine; without one a cluster is begun here and ended with
    this. An item whose node or worker is lost is given to another. What the function raises is raised here.
    """
    if importlib.util.find_spec("ray") is None:
        raise DmaskError("--engine ray needs Ray; install it with `pip install 'dmask[ray]'`")
    if not items:
        return
    import ray
    from ray.exceptions import RayError, RayTaskError

    with _connected(ray, address):
        task: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        queue, running = iter(items), dict[Any, Item]()
        try:
            while True:
                # Twice as many as work, so that none waits for us; cores are counted anew, as nodes come and go.
                at_once = workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
                while len(running) < at_once and (item := next(queue, None)) is not None:
                    running[task.remote(os.getcwd(), function, item)] = item
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                for future in done:
                    result = ray.get(future)
                    yield running.pop(future), result
        except RayTaskError as error:
            if isinstance(error.cause, RayError):  # the task could not even be read
                raise DmaskError(
                    f"a node of the cluster can't take the work ({_line(error)}); install the same dmask on all"
                ) from error
            raise error.cause from None
        except RayError as error:
            raise DmaskError(
                f"Ray lost a task {RETRIES + 1} times ({_line(error)}); run the same command again {KEPT}"
            ) from error
        finally:
            for future in running:
                ray.cancel(future, force=True)


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connected to a cluster, unless this process is already."""
    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    with signals.kept():
        try:
            _reach(address)  # Ray itself waits for minutes
            ray.init(address=address or "local", **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise DmaskError(
                f"no Ray cluster at {address} ({_line(error)}); begin one with `ray start --head`"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _line(error: Exception) -> str:
    """The last line of what Ray says: before it come tracebacks of its own."""
    return str(error).strip().rpartition("\n")[2][:200]


def _reach(address: str | None) -> None:
    """Raise `OSError` or `ValueError` where nobody listens at HOST:PORT; "auto" and ray://… are Ray's to find."""
    host, _, port = (address or "").rpartition(":")
    if host and "//" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _work(folder: str, function: Callable[[Item], Result], item: Item) -> Result:
    """In a worker, in the folder that paths are relative to."""
    os.environ.update(ONE_THREAD)
    try:
        os.chdir(folder)
    except OSError as error:
        raise DmaskError(f"a node of the cluster has no {folder}; all need the same shared folder") from error
    try:
        return function(item)
    except PassingError:
        os._exit(1)  # Ray gives the item to a new process
