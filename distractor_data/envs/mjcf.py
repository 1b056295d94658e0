"""dm_control's tasks, whose models are compiled once a process: a copy takes a fraction of the time of its XML."""

from __future__ import annotations

import copy
import functools
import logging
import threading
from typing import Any

from distractor_data.envs import gl  # says what is missing more clearly than dm_control, so it comes first

# isort: split
from dm_control import suite
from dm_control.mujoco.wrapper import core
from dm_control.rl import control

assert gl  # imported for what it says

_compile = core.MjModel.from_xml_string
_LOADING = threading.Lock()


def load(domain: str, task: str, **task_kwargs: Any) -> control.Environment:
    """`suite.load`, with a model of its own."""
    with _LOADING:
        core.MjModel.from_xml_string = _copied
        try:
            return suite.load(domain, task, task_kwargs=task_kwargs)
        finally:
            core.MjModel.from_xml_string = _compile


def _copied(xml: str, assets: dict[str, bytes] | None = None) -> Any:
    return copy.copy(_compiled(xml, frozenset((assets or {}).items())))


@functools.lru_cache(maxsize=2)  # they hold textures: ten megabytes or so each
def _compiled(xml: str, assets: frozenset[tuple[str, bytes]]) -> Any:
    said = logging.getLogger("absl")  # by MuJoCo of the suite's own XML, where it is newer than that
    before, said.disabled = said.disabled, True
    try:
        return _compile(xml, dict(assets))
    finally:
        said.disabled = before
