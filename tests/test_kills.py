"""Thirty kills at random moments of one dataset's making, of all processes or of a worker, cost no byte."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from damage import contents
from test_generate import REPOSITORY, SMALL_SHARDS, SPEC, command

from distractor_data.dataset import meta, storage

RUNS = 10  # two workers of each are killed, one after the other, and then all of it
LONG = dataclasses.replace(SPEC, episodes=150)


def begin(out: Path) -> subprocess.Popen[bytes]:
    """A run in shards of two, so that it is writing shards, lists and parts nearly all the time."""
    _, _, _, *arguments = command(out, "--workers", "2", spec=LONG)
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_SHARDS, *arguments],
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stored(root: Path) -> int:
    """Episodes that are in shards or parts, or, while a shard is put together, in both."""
    waiting = {int(path.stem.removeprefix("episode-")) for path in (root / storage.PARTS).glob("episode-*.parquet")}
    return len(waiting | {2 * shard + k for shard in storage.shards(root) for k in range(2)})


def await_moment(run: subprocess.Popen[bytes], root: Path, draw: random.Random) -> Path | None:
    """Wait until the run has got on by a few episodes, and then for a random time or for a file that is being
    written, which is returned."""
    # Of two the run may know nothing: the last of a lost worker, and one that is stored and not yet told of.
    goal = stored(root) + draw.randrange(3, 5)
    while run.poll() is None and stored(root) < goal:
        time.sleep(0.01)
    if draw.random() < 0.3:
        time.sleep(draw.uniform(0, 0.3))
        return None
    while run.poll() is None:
        if writing := [path for path in root.rglob(".*.tmp") if draw.random() < 0.5]:
            return writing[0]
    return None


def worker_of(run: subprocess.Popen[bytes], draw: random.Random) -> int:
    """A worker's process; what waited for its shard may have been put in one before any is begun."""
    while run.poll() is None:
        ps = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(run.pid)]
        listed = subprocess.run(ps, capture_output=True, text=True).stdout.splitlines()
        if workers := [line for line in listed if "spawn_main" in line]:
            return int(draw.choice(workers).split()[0])
    raise AssertionError("the run was over before it could be killed")


@contextmanager
def killed_at_last(run: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, no process is left."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


@pytest.mark.slow
def test_thirty_kills(tmp_path: Path) -> None:
    seed = time.time_ns()
    draw, kills, interrupted = random.Random(seed), 0, 0
    root = tmp_path / "killed" / LONG.env / "train"
    for _ in range(RUNS):
        run = begin(tmp_path / "killed")
        with killed_at_last(run):
            for _ in range(2):
                await_moment(run, root, draw)
                os.kill(worker_of(run, draw), signal.SIGKILL)
                kills += 1
            await_moment(run, root, draw)
            assert run.poll() is None, f"seed {seed}: the run was over before it could be killed"
        kills += 1
        open_lists = any(len(values) > 1 for values in storage.read_sums(root).values())
        interrupted += open_lists or any(root.rglob(".*.tmp"))
        assert not meta.damaged(root), f"seed {seed}"
    assert kills == 30
    assert interrupted >= 3, f"seed {seed}: hardly a write was interrupted"
    assert stored(root) < LONG.episodes
    assert begin(tmp_path / "killed").wait() == 0, f"seed {seed}"
    assert begin(tmp_path / "whole").wait() == 0
    assert contents(root) == contents(tmp_path / "whole" / LONG.env / "train"), f"seed {seed}"
