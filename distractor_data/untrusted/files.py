"""Paths that a stranger may have laid: no link is followed out of a folder, no pipe is waited for."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from distractor_data.errors import DmaskError

_FILES = (".json", ".jsonl", ".parquet", ".png", ".safetensors")  # what the files of a dataset or a run end with


def expanded(path: str | Path) -> Path:
    """`~` replaced by the home folder. Raises `DmaskError` where there is none."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, KeyError) as error:
        raise DmaskError(f"{path}: there is no such home folder (HOME is not set?); give a path without ~") from error


def inside(root: Path, name: str) -> Path:
    """The path of file `name` below `root`: a regular file or nothing, reached through no link.

    In the Hub's cache a file is a link to a blob of its own repository; no other link is followed.
    """
    relative = PurePosixPath(name)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts:
        raise DmaskError(f"{name!r} does not lie in {root}; it is not touched")
    path = root
    for part in relative.parts:
        path = path / part
        if path.is_symlink() and not _is_blob(path, root):
            raise DmaskError(f"{path} is a link, and none in a dataset or a run is followed; put a copy in its place")
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    if not stat.S_ISREG(mode):
        raise DmaskError(f"{path} is no regular file; remove it")
    return path


def _is_blob(link: Path, root: Path) -> bool:
    """Whether a link below a snapshot of the Hub's cache leads to a blob of the same repository."""
    repository = next((folder.parent for folder in (root, *root.parents) if folder.name == "snapshots"), None)
    if repository is None or not repository.name.startswith(("datasets--", "models--")):
        return False
    return os.path.dirname(os.path.realpath(link)) == os.path.join(os.path.realpath(repository), "blobs")


def folder(directory: str | Path, *names: str) -> Path:
    """A folder below `directory`, reached through no link. It need not be there yet."""
    path = Path(directory)
    for name in names:
        path = path / name
        if path.is_symlink():
            raise DmaskError(f"{path} is a link, and none in a dataset is followed; put the folder in its place")
    return path


def splits(directory: str | Path, name: str) -> list[Path]:
    """Every `<config>/<split>` folder that holds file `name` and is reached through no link, in sorted order."""
    found = (path.parents[len(PurePosixPath(name).parts) - 1] for path in Path(directory).glob(f"*/*/{name}"))
    return sorted(root for root in found if not (root.is_symlink() or root.parent.is_symlink()))


def plain(root: Path) -> None:
    """Raise `DmaskError` where a folder, which is to be written to, holds anything but files and folders.

    Also where a folder has a file's name.
    """
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            if entry.name.endswith(_FILES):
                raise DmaskError(f"{entry.path} is a folder, no regular file; move it out of {root}")
            plain(Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            what = "a link" if entry.is_symlink() else "neither a file nor a folder"
            raise DmaskError(f"{entry.path} is {what}, which would be written through; move it out of {root}")


_AGAIN = "pull it from the Hub or generate it again"
GIVEN = "give one that is there"  # advice for a file that the user named


def opened(path: Path, advice: str = _AGAIN) -> io.BufferedReader:
    """A regular file, open for reading. A pipe or a device is refused, not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DmaskError(f"{path} is missing; {advice}") from error
    except OSError as error:
        raise DmaskError(f"{path} can't be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DmaskError(f"{path} is no regular file; remove it")
    return os.fdopen(descriptor, "rb")


@contextmanager
def damage(path: Path, advice: str = _AGAIN) -> Iterator[None]:
    """What libraries raise over the content of a file becomes one line."""
    try:
        yield
    except (OSError, MemoryError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DmaskError(f"{path} can't be read ({said}); {advice}") from error
