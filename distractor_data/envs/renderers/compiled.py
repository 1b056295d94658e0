"""How this package's functions become machine code: numba's, in IEEE arithmetic, cached between runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numba


def _cache_folder() -> Path:
    """A writable folder for machine code, its name from this package's sources.

    numba looks at the age of the file that holds a function, not of the files whose functions it calls, so code
    left by other sources must lie somewhere else. Site-packages may be read-only, and so may the home folder.
    """
    content = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        content.update(source.read_bytes())
    name = f"numba-{content.hexdigest()[:16]}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "dmask"
    for parent in (home, Path(tempfile.gettempdir()) / f"dmask-{os.getuid()}"):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return parent / name
    return Path(tempfile.mkdtemp(prefix="dmask-numba-"))


if not numba.config.CACHE_DIR:  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]

# Without fastmath LLVM neither reorders nor contracts, so that +, -, *, / and sqrt round alike on every processor.
# Functions of libm are not called: they differ between processors. Nothing is allocated inside (`_nrt`, numba's
# runtime): counting references to the tables at every call took two thirds of the time.
_OPTIONS = {"cache": True, "error_model": "numpy", "fastmath": False, "nogil": True, "_nrt": False}
kernel = numba.njit(**_OPTIONS)  # type: ignore[call-overload]
# For what is called for every pixel and takes all the tables: they would be copied to the stack, pointer by pointer.
inner_kernel = numba.njit(**_OPTIONS, forceinline=True)  # type: ignore[call-overload]
