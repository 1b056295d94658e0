"""What is installed from the wheel: all that runs, no tests, and one line for an optional part that lacks."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    names = ("pyproject.toml", "README.md", "distractor_data", "masklam", "cards")
    tracked = subprocess.check_output(["git", "ls-files", *names], cwd=HOUSE, text=True).splitlines()
    for name in tracked:
        (folder / "sources" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "sources" / name).write_bytes((HOUSE / name).read_bytes())
    (folder / "sources" / "dmask_cards").symlink_to("cards")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(folder / "sources")], check=True, capture_output=True)
    return next(folder.glob("dmask-*.whl"))


def test_it_holds_all_that_runs_and_no_tests(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".md", ".bib", ".safetensors", ".html", ".css", ".js")
    tracked = subprocess.check_output(
        ["git", "ls-files", "distractor_data", "masklam", "cards"], cwd=HOUSE, text=True
    ).splitlines()
    installed = {re.sub("^cards/", "dmask_cards/", name) for name in tracked}  # `cards` is a name of others there
    assert {name for name in installed if name.endswith(kinds)} - held == set()
    assert not [name for name in held if name.startswith(("tests/", "scripts/"))]
    assert {name.partition("/")[0] for name in held} <= {
        "distractor_data",
        "masklam",
        "dmask_cards",
        "dmask-0.1.0.dist-info",
    }


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("accelerate", "from masklam.cli import main; sys.argv[1:] = ['train', '--dataset', 'nowhere']"),
        ("torch", "from masklam.cli import main; sys.argv[1:] = ['train', '--dataset', 'nowhere']"),
    ],
)
def test_a_part_that_lacks_is_one_line_that_names_it(module: str, command: str, tmp_path: Path) -> None:
    """The installed code, with an import that fails as if the extra were not there."""
    code = f"import sys; sys.modules[{module!r}] = None; {command}; main()"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert "pip install 'dmask[" in ran.stderr
