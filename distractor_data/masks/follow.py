"""Masks by a model while the rest renders: a thread follows a run, and masks each shard when it is done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema
from distractor_data.dataset import meta, rewrite, storage
from distractor_data.events import Event, Masked, OnEvent
from distractor_data.masks import store
from distractor_data.masks.annotate import Masker, check_source, mask_shards
from distractor_data.spec import Spec


class _Stopped(Exception):
    """The run that the thread masks for is over."""


@contextmanager
def follow(
    masker: Masker, home: Path, spec: Spec, fresh: bool, on_event: OnEvent
) -> Iterator[Callable[[Event], None]]:
    """Mask the shards of a split that is being generated in `home`; yields what to feed with the run's events.

    `on_event` hears how many frames were masked. At the end all shards have their masks. Whatever is raised
    meanwhile, the thread has ended when this ends: none writes without the caller's lock.
    """
    root = schema.root(home, spec.env, spec.split)
    with ExitStack() as begun:
        add: Callable[[], None] | None = None

        def feed(event: Event) -> None:
            nonlocal add
            if add is None:  # the folder is ready for the spec now
                total = spec.episodes * spec.steps
                add = begun.enter_context(masking(root, masker, lambda frames: on_event(Masked(frames, total))))
            add()

        yield feed
    meta.refresh(root)


@contextmanager
def masking(
    root: Path, masker: Masker, on_frames: Callable[[int], None] = lambda frames: None
) -> Iterator[Callable[[], None]]:
    """Mask the shards of a split in a thread; yields what to call when another one may be done.

    `on_frames` hears how many frames were masked. The caller refreshes what is derived from the shards.
    """
    check_source(root, masker.source, overwrite=False)
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    failures: list[BaseException] = []
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def work() -> None:
        try:
            numbers: list[int | None] = [0]
            while numbers[-1] is not None:  # None comes last
                numbers = [waiting.get()]
                while not waiting.empty():
                    numbers.append(waiting.get())
                pending = [(root, number) for number in numbers if number is not None]
                on_frames(0)  # from here on speed counts
                with closing(mask_shards(masker, pending, check)) as tracked:
                    for frames in tracked:
                        on_frames(frames)
        except _Stopped:
            pass
        except BaseException as error:  # raised again by the thread that waits for this one
            failures.append(error)

    def raise_failure() -> None:
        if failures:
            raise failures[0]

    with store.rewriting(root, masker.source):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        add = _adder(root, masker.source, waiting, raise_failure, on_frames)
        try:
            yield add
            add()
        except BaseException:
            stopped.set()
            raise
        finally:
            waiting.put(None)
            thread.join()
        raise_failure()


def _adder(
    root: Path,
    source: dict[str, Any],
    waiting: queue.SimpleQueue[int | None],
    raise_failure: Callable[[], None],
    on_frames: Callable[[int], None],
) -> Callable[[], None]:
    """What puts the shards that got done since the last call, and lack masks of `source`, among those `waiting`."""
    seen: set[int] = set()

    def add() -> None:
        raise_failure()
        for number in storage.shards(root):
            if number in seen:
                continue
            seen.add(number)
            if rewrite.shard_source(root, number) == source:
                on_frames(int(np.sum(storage.read_episodes(root, number)[schema.LENGTH].to_numpy())))
            else:
                waiting.put(number)

    return add
