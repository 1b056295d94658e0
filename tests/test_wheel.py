"""What is installed from the wheel: all that runs, no tests, and one line for an optional part that lacks."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
SOURCES = ("distractor_data", "masklam", "cards/dmask_cards")


def tracked(*names: str) -> list[str]:
    return subprocess.check_output(["git", "ls-files", *names], cwd=HOUSE, text=True).splitlines()


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in tracked("pyproject.toml", "README.md", *SOURCES):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_bytes((HOUSE / name).read_bytes())
    if request.param == "sdist":
        build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
        subprocess.run([sys.executable, "-c", build, str(folder)], cwd=sources, check=True, capture_output=True)
        (sources,) = folder.glob("dmask-*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(sources)], check=True, capture_output=True)
    return next(folder.glob("dmask-*.whl"))


def test_it_holds_all_that_runs_and_no_tests(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".md", ".bib", ".safetensors", ".html", ".css", ".js")
    wanted = {name.removeprefix("cards/") for name in tracked(*SOURCES) if name.endswith(kinds)}
    assert wanted - held == set()
    assert not [name for name in held if name.startswith(("tests/", "scripts/"))]
    # Not `cards`, which would be a name that others have too.
    packages = {"distractor_data", "masklam", "dmask_cards", "dmask-0.1.0.dist-info"}
    assert {name.partition("/")[0] for name in held} == packages


def test_no_link_is_lost_from_a_zip_of_the_repository() -> None:
    """GitHub's zip, from which pip installs, has links as files of text."""
    listed = subprocess.check_output(["git", "ls-files", "-s"], cwd=HOUSE, text=True).splitlines()
    assert not [line for line in listed if line.startswith("120000")]


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


@pytest.mark.parametrize(("name", "module"), [("make_env", "gymnasium"), ("transitions", "torch")])
def test_a_function_whose_part_lacks_names_it(name: str, module: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import distractor_data; distractor_data.{name}('walker')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    said = ran.stderr.splitlines()[-1]
    assert said.startswith(f"distractor_data.errors.DmaskError: {module} is not installed, which is of an optional")
    assert "pip install 'dmask[" in said
