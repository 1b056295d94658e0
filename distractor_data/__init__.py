"""dmask: masked video of agents in front of distractors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distractor_data.errors import DmaskError
    from distractor_data.gymnasium import make_env
    from distractor_data.sources import load
    from distractor_data.spec import Spec
    from distractor_data.torch_dataset import transitions

# The one place that chooses how MuJoCo opens OpenGL: it runs before any module of the package can import MuJoCo.
os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software rasteriser on the process's own core

__all__ = ["DmaskError", "Spec", "load", "make_env", "transitions"]

_HOMES = {
    "load": "sources",
    "make_env": "gymnasium",
    "transitions": "torch_dataset",
    "Spec": "spec",
    "DmaskError": "errors",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that importing the package costs nothing."""
    if name in _HOMES:
        from importlib import import_module

        errors = import_module("distractor_data.errors")  # by name: this module is under all others
        try:
            return getattr(import_module(f"distractor_data.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            if what := errors.lacking(error):
                raise errors.DmaskError(what) from error
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
