"""What a hostile or a careless input may do here: one line, exit code 2, and nothing else anywhere.

A `World` is a dataset with things around it that are none of its business.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

import distractor_data
from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.errors import run_cli

SECONDS = 30  # within which everything is refused, on a machine that does other things, too


class World:
    """A folder with `data`, a dataset of one config and split in two shards, and `elsewhere`, somebody's own."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        self.folder, self.data, self.elsewhere = folder, folder / "data", folder / "elsewhere"
        shutil.copytree(dataset / "walker-run" / "train", self.data / "walker-run" / "train")
        self.root = schema.root(self.data, "walker-run", "train")
        self.elsewhere.mkdir()
        (self.elsewhere / "private.txt").write_text("precious")
        self.cache = folder.parent / f"{folder.name}-cache"

    @property
    def frames(self) -> Path:
        return self.root / schema.data_file(0)

    @property
    def records(self) -> Path:
        return self.root / schema.episodes_file(0)

    def json(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change what a JSON file says."""
        value = json.loads((self.root / name).read_text())
        (self.root / name).write_text(json.dumps(change(value)))

    def table(self, path: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
        """Change a table, and its checksum with it, as the one who made it would."""
        changed = change(pq.read_table(path, partitioning=None))
        pq.write_table(changed, path, **options)
        self.seal()

    def seal(self) -> None:
        """Checksums of the files as they lie there."""
        sums = json.loads((self.root / schema.CHECKSUMS).read_text())
        for name in sums:
            file = self.root / name
            sums[name] = {"sha256": storage.sha256(file), "size": file.stat().st_size}
        (self.root / schema.CHECKSUMS).write_text(json.dumps(sums))

    def load(self) -> list[Any]:
        """Every episode, by the library."""
        return list(distractor_data.load(self.data))

    def decode(self) -> Any:
        """All frames, as for training."""
        from masklam import data

        return data.load(str(self.data), "walker-run", mask_column=schema.MASK, cache=self.cache)


def snapshot(folder: Path) -> dict[str, str]:
    """Every entry below a folder, but for the empty file that is locked, and what it is."""
    found = {}
    for path in sorted(set(folder.rglob("*")) - set(folder.rglob(".lock"))):
        if path.is_symlink():
            what = f"link to {path.readlink()}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "folder" if path.is_dir() else "special"
        found[str(path.relative_to(folder))] = what
    return found


def refused(capfd: pytest.CaptureFixture[str], world: Path, act: Callable[[], object]) -> str:
    """The line with which a command is refused, after which the world is as it was."""
    before, began = snapshot(world), time.monotonic()
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda prog_name: (act(), pytest.fail("it was accepted")), "dmask")
    assert ended.value.code == 2
    assert time.monotonic() - began < SECONDS
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("dmask: error: ")
    assert snapshot(world) == before
    return line


def command(program: str, *arguments: object) -> Callable[[], object]:
    """A command line of `dmask` or `masklam`, run in this process."""

    def act() -> None:
        from distractor_data.cli import app as dmask
        from masklam.cli import app as masklam

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [program, *map(str, arguments)])
            with contextlib.suppress(typer.Exit):
                (dmask if program == "dmask" else masklam)(prog_name=program, standalone_mode=False)

    return act
