"""The nodes of a Ray cluster, which see the dataset's folder under the same path: one core and one context a task.

Tasks carry what to do and no data: workers write episodes and shards themselves. Nodes may come and go meanwhile.
"""

from __future__ import annotations

import functools
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
    if not items:
        return
    with _connected(address) as ray, _told():
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
        finally:
            for future in running:
                ray.cancel(future, force=True)


def run_actors(
    address: str | None, make: Callable[[], Callable[[Item], Result]], items: Sequence[Item]
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) as they get done, by actors, each of which keeps the function that it `make`s once.

    An actor has a GPU, or where the cluster has none a node. An item whose actor is lost is given to another that is
    left, or to a new one. What the function raises is raised here.
    """
    if not items:
        return
    with _connected(address) as ray, _told():
        gpus = int(ray.cluster_resources().get("GPU", 0))
        needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(**needs)(_Actor)
        count = gpus or sum(node["Alive"] for node in ray.nodes())
        idle = [actor.remote(os.getcwd(), make) for _ in range(min(count, len(items)))]
        queue, running, losses = list(items), dict[Any, tuple[Any, Item]](), 0
        try:
            while queue or running:
                while queue and idle:
                    one, item = idle.pop(), queue.pop(0)
                    running[one.work.remote(item)] = one, item
                done, _ = ray.wait(list(running), num_returns=1)
                one, item = running.pop(done[0])
                try:
                    result = ray.get(done[0])
                except ray.exceptions.RayActorError:
                    losses += 1
                    if losses > RETRIES:
                        raise
                    queue.insert(0, item)
                    idle += [] if idle or running else [actor.remote(os.getcwd(), make)]
                    continue
                idle.append(one)
                yield item, result
        finally:
            for one in [*idle, *(one for one, _ in running.values())]:
                ray.kill(one)


class _Actor:
    """On a node: a function and what it keeps, such as a model on a GPU."""

    def __init__(self, folder: str, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.folder, self.make = folder, functools.cache(make)

    def work(self, item: Any) -> Any:
        return _work(self.folder, lambda item: self.make()(item), item)


@contextmanager
def _told() -> Iterator[None]:
    """What Ray raises meanwhile: the error of the function itself, or one line."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
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


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster, unless this process is already. Raises `DmaskError` where it isn't installed."""
    if importlib.util.find_spec("ray") is None:
        raise DmaskError("--engine ray needs Ray; install it with `pip install 'dmask[ray]'`")
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    with signals.kept():
        try:
            _reach(address)  # Ray itself waits for minutes
            ray.init(address=address or "local", **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise DmaskError(
                f"no Ray cluster at {address} ({_line(error)}); begin one with `ray start --head`, or set "
                "RAY_AUTH_MODE=token where it asks for one"
            ) from error
    try:
        yield ray
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
