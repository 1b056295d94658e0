"""Commands as a person types them in a fresh shell: nothing in the environment but HOME, PATH and what is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = {"dmask": "distractor_data.cli", "masklam": "masklam.cli"}


def run(
    *command: str, cwd: Path = REPOSITORY, timeout: float = 120, **given: str
) -> subprocess.CompletedProcess[str]:
    """Run a command, `dmask` and `masklam` being those of this Python, in the environment `given`."""
    program = [sys.executable, "-m", MODULES[command[0]]] if command[0] in MODULES else [command[0]]
    basic = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    found = {"PYTHONPATH": str(REPOSITORY)} if cwd != REPOSITORY else {}
    return subprocess.run(
        [*program, *command[1:]],
        cwd=cwd,
        env=basic | found | given,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def refusal(*command: str, **given: str) -> str:
    """The one line of a command that is refused with exit code 2."""
    done = run(*command, **given)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line
