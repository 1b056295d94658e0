"""Progress where no terminal shows bars: a line every few seconds, so that a log file can be read."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress, Task
from rich.text import Text

EVERY = 5.0  # seconds


class Lines(Progress):
    """Takes the same calls as bars, and prints one line a task at a time."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, auto_refresh=False)
        self.told: dict[int, float] = {}  # task → what was done when it was last told of
        self.last = time.monotonic()

    def start(self) -> None:
        """There is nothing to draw."""

    def stop(self) -> None:
        """Say how far it came."""
        self.tell()

    def update(self, *args: Any, **changes: Any) -> None:
        """As with bars; a line where the last one is long ago."""
        super().update(*args, **changes)
        if time.monotonic() - self.last >= EVERY:
            self.tell()

    def tell(self) -> None:
        """A line for each task that got on since the last one."""
        self.last = time.monotonic()
        for task in self.tasks:
            if task.visible and task.completed != self.told.get(task.id, 0):
                self.told[task.id] = task.completed
                self.console.print(Text(_line(task)), soft_wrap=True)


def _line(task: Task) -> str:
    total = "?" if task.total is None else f"{task.total:,.0f}"
    words = [f"{task.description}: {task.completed:,.0f}/{total}", task.fields.get("unit"), task.fields.get("rate")]
    if task.time_remaining:
        words.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    return " ".join(word for word in words if word)
