"""Look on while a dataset is made."""

from __future__ import annotations

from collections.abc import Callable

from distractor_data.events import Event, Made, OnEvent


def watch(act: Callable[[int, bool], object]) -> OnEvent:
    """What calls `act(frames, anew)` for every episode that there is."""

    def on_event(event: Event) -> None:
        if isinstance(event, Made):
            act(event.frames, event.anew)

    return on_event
