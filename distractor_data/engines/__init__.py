"""Where work is done: processes of this machine (`local`), or the nodes of a Ray cluster (`ray`).

An engine maps a function over items. Both are sent to workers, so they name data and hold none: an episode is a spec
and a number, and what becomes of it is written by the worker.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from distractor_data.engines.local import cores, run_local, worker

__all__ = ["Actors", "Engine", "actors", "cores", "engine", "run_local", "worker"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """What gives (item, function(item)) as they get done, begun in the order of `items`.

    `workers` work at a time: None is one for each core. An item whose worker is lost is given to another; what the
    function raises is raised here, and the workers end.
    """

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
    ) -> Iterator[tuple[Item, Result]]: ...


class Actors(Protocol):
    """As an `Engine`, by workers that keep what `make` gives them when they begin, such as a model on a GPU."""

    def __call__(
        self, make: Callable[[], Callable[[Item], Result]], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result]]: ...


def actors(name: str, address: str | None = None) -> Actors | Any | None:
    """The actors of an engine's name; None for processes of this machine, which need none."""
    if name != "ray":
        return None
    from distractor_data.engines import ray

    return functools.partial(ray.run_actors, address)


def engine(name: str, address: str | None = None) -> Engine | Any:
    """The engine of a name; `address` is of a Ray cluster's head, without which one is begun on this machine."""
    if name == "ray":
        from distractor_data.engines import ray

        return functools.partial(ray.run_ray, address)
    return run_local
