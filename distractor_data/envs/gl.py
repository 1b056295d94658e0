"""The one OpenGL context of a process, and what is wrong where it can't be opened.

Importing it raises `DmaskError` on a machine that can't draw off-screen: dm_control says so less clearly, so this
comes first. The platform was chosen before, in `distractor_data/__init__.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distractor_data.errors import DmaskError, PassingError

INSTALL = "`apt-get install libegl1 libgl1-mesa-dri`, or set MUJOCO_GL=osmesa where OSMesa is installed"
# Where these point, EGL looks for drivers instead of where the machine has them.
_PLACES = ("__EGL_VENDOR_LIBRARY_DIRS", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_DRIVERS_PATH")


def _refusal(error: Exception) -> DmaskError:
    """Why OpenGL can't be opened: a variable to unset, if there is one that can be the cause, or what to install."""
    name, reason = _culprit(), _one_line(error)
    if not name:
        return DmaskError(f"no off-screen OpenGL on this machine: {INSTALL} ({reason})")
    if name == "PYOPENGL_PLATFORM":
        reason = f"we draw through {os.environ['MUJOCO_GL']}"
    cure = f"unset {name}" + (f"; where it is right: {INSTALL}" if name in _PLACES else "")
    return DmaskError(f"OpenGL can't be opened with {name}={os.environ[name]!r} ({reason}); {cure}")


def _culprit() -> str:
    """The variable that keeps OpenGL from opening, the surest first; empty where none is set."""
    platform = os.environ["MUJOCO_GL"]
    if platform in ("egl", "osmesa") and os.environ.get("PYOPENGL_PLATFORM", platform).lower() != platform:
        return "PYOPENGL_PLATFORM"
    if platform != "egl":
        return "MUJOCO_GL"
    return next((name for name in ("MUJOCO_EGL_DEVICE_ID", *_PLACES) if os.environ.get(name)), "")


def _one_line(error: Exception) -> str:
    if isinstance(error, AttributeError):  # of a library that PyOpenGL doesn't find, and of a platform that is none
        return "it is not there"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _load_triton() -> None:
    """Load Triton, and the LLVM in it, before Mesa shows its own LLVM to all libraries that are loaded later.

    Triton would call into that one and crash. PyTorch imports it, where it is installed, with the first optimiser.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        found = importlib.util.find_spec("triton")
        for folder in (found and found.submodule_search_locations) or ():
            ctypes.CDLL(str(Path(folder, "_C", "libtriton.so")))


def _open() -> Any:
    """A context of the platform. Its size doesn't matter: we draw into MuJoCo's own buffers."""
    platform = os.environ["MUJOCO_GL"]
    # Not mujoco.GLContext for these: MuJoCo chose that one when it was imported, perhaps before us.
    module = importlib.import_module(f"mujoco.{platform}") if platform in ("egl", "osmesa") else mujoco
    module.GLContext._context = None  # what is half-made when it fails is then freed without a word
    with warnings.catch_warnings(record=True) as said:  # GLFW doesn't raise
        made = module.GLContext(64, 64)
        made.make_current()
    if not made._context:
        raise RuntimeError(said[0].message if said else "no context")
    return made


_load_triton()
try:
    import mujoco

    if os.environ["MUJOCO_GL"] == "egl":
        from mujoco.egl import EGL, create_initialized_egl_device_display

        if create_initialized_egl_device_display() == EGL.EGL_NO_DISPLAY:
            raise RuntimeError("no EGL device")
    else:
        _open().free()
    from OpenGL.error import GLError
except Exception as error:  # the bindings raise whatever the missing piece leads to
    raise _refusal(error) from error


@functools.cache
def _context() -> Any:
    try:
        made = _open()
    except Exception as error:
        raise _refusal(error) if _culprit() else _failure(error) from error
    atexit.register(_close, made)  # at the interpreter's end it's too late for OpenGL
    return made


def _close(context: Any) -> None:
    with contextlib.suppress(GLError):  # dm_control may have closed the display before
        context.free()
    context._context = None


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Makes the context the current one for what is drawn inside: somebody else, dm_control say, may have drawn.

    Raises `DmaskError` where the context can't be opened, or where the driver fails.
    """
    context = _context()
    try:
        context.make_current()
        yield
    except (mujoco.FatalError, GLError, RuntimeError) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> PassingError:
    return PassingError(
        f"the OpenGL driver failed ({_one_line(error)}); run the same command again (what was written is kept), with "
        "fewer --workers where memory is short"
    )


def describe() -> str:
    """OpenGL's vendor, renderer and version, on which the pixels depend."""
    with drawing():
        from OpenGL import GL

        named = (GL.glGetString(name) for name in (GL.GL_VENDOR, GL.GL_RENDERER, GL.GL_VERSION))
        vendor, renderer, version = (" ".join(name.decode(errors="replace").split()) for name in named)
        return f"{vendor}, {renderer}, OpenGL {version}"
