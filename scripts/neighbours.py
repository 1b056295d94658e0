"""The neighbours' real readers on our data, each in an environment of its own; prints a table in Markdown.

    python scripts/neighbours.py [--laom DIR] [NAME ...]      # of laom, minari, lerobot, datasets

Environments are made under build/ (minutes, some hundred MB), and those that need torch see this one's packages.
LAOM's code is read from DIR, a checkout of dunnolab/laom. SAM 2's weights are random: what is tried is that masks are
read, not that they are good. Exit code 1 where something failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))
from hub_server import TOKEN, HubServer  # noqa: E402

BUILD, READERS = REPOSITORY / "build", REPOSITORY / "scripts" / "readers"
DATA = BUILD / "neighbours"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    reader: str
    version: str
    tried: str
    result: str
    passed: bool


class Environment:
    """A virtual environment under build/, made where it isn't there; a `shared` one sees this one's packages."""

    def __init__(self, name: str, packages: list[str], shared: bool = False, alone: bool = False) -> None:
        self.folder = BUILD / name
        self.python = self.folder / "bin" / "python"
        mark = self.folder / "installed"
        if mark.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", self.folder])
        if shared:
            (site,) = self.folder.glob("lib/python*/site-packages")
            (site / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        pinned = self.folder / "constraints.txt"
        pinned.write_text("".join(f"{name}=={version(name)}\n" for name in ("torch", "numpy") if shared))
        options = ["--no-deps"] if alone else ["-c", str(pinned)]
        _run([self.python, "-m", "pip", "install", "-q", *options, *packages])
        mark.touch()

    def version(self, package: str) -> str:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return _run([self.python, "-c", code]).strip()

    def run(self, script: str, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
        """The last line that a script of scripts/readers prints."""
        printed = _run([self.python, READERS / script, *arguments], cwd, environment)
        return printed.strip().splitlines()[-1] if printed.strip() else ""


def _run(words: list[object], cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=os.environ | (environment or {}), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip() or "it failed").splitlines()[-1])
    return done.stdout


def dmask(*words: object, **environment: str) -> None:
    """A command of ours, as a person types it."""
    _run([sys.executable, "-m", "distractor_data.cli", *words], REPOSITORY, environment)


def attempt(reader: str, version: str, tried: str, act: Callable[[], str]) -> Row:
    try:
        return Row(reader, version, tried, act(), True)
    except RuntimeError as error:
        return Row(reader, version, tried, f"failed: {error}", False)


def ours() -> Path:
    """A small dataset of ours: three episodes of a thousand frames, as LAOM's have."""
    if not (DATA / "ours" / "README.md").exists():
        made = ["--episodes", 3, "--policy", "random", "--renderer", "caster", "--out", DATA / "ours"]
        dmask("generate", "--env", "cheetah", *made)
    return DATA / "ours"


def weights() -> Path:
    """SAM 2.1 hiera-tiny with random weights."""
    path = DATA / "sam2.pt"
    if not path.exists():
        code = f"import sam2_weights; from pathlib import Path; sam2_weights.save(Path({str(path)!r}))"
        _run([sys.executable, "-c", code], REPOSITORY / "tests")
    return path


def export(format: str) -> Path:
    out = DATA / format
    dmask("export", ours(), "--format", format, "--out", out, "--overwrite")
    return out


def mask(source: Path, column: str) -> Path:
    """A copy of a dataset with masks."""
    out = source.with_name(f"{source.name}-masked")
    how = ["--prompt", "box=2,2,20,20", "--model", weights(), "--image-size", 64, "--device", "cpu"]
    dmask("mask", source, "--image-column", column, *how, "--out", out, "--overwrite")
    return out


def minari(laom: Path | None) -> Iterator[Row]:
    place = Environment("minari", ["minari[hdf5]", "pillow"])
    yield attempt(
        "Minari",
        place.version("minari"),
        "`dmask export --format minari`: load_dataset, iterate, sample, filter, split_dataset",
        lambda: place.run(
            "in_minari.py", export("npz") / "cheetah-run" / "train", MINARI_DATASETS_PATH=str(export("minari"))
        ),
    )


def laom(checkout: Path | None) -> Iterator[Row]:
    if checkout is None:
        yield Row("LAOM's code", "e133195", "`dmask export --format laom`", "left out: give --laom DIR", True)
        return
    place = Environment(
        "laom", ["shimmy", "pyrallis", "wandb", "torchinfo", "h5py", "vector-quantize-pytorch"], shared=True
    )
    file, npz = export("laom") / "cheetah-run-train.hdf5", export("npz") / "cheetah-run" / "train"
    path = {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    yield attempt(
        "LAOM's code",
        "e133195",
        "`dmask export --format laom`: its datasets, train_laom.py's first stage",
        lambda: place.run("in_laom.py", file, npz, cwd=checkout, **path),
    )

    def there_and_back() -> str:
        sampled = DATA / "sampled" / "labelled.hdf5"
        shutil.rmtree(DATA / "sampled", ignore_errors=True)
        words = [f"--data_path={file}", f"--save_path={sampled}", "--num_trajectories=2"]
        _run([place.python, "-m", "scripts.sample_labeled_data", *words], checkout, path)
        dmask("import", sampled, DATA / "sampled" / "back")
        dmask("verify", DATA / "sampled" / "back")
        return "2 episodes of 1000 frames imported and verified"

    yield attempt("LAOM's code", "e133195", "`dmask import` of what its sample_labeled_data.py wrote", there_and_back)


def lerobot(laom: Path | None) -> Iterator[Row]:
    policies = ["draccus==0.10.0", "mergedeep", "pyyaml-include", "toml", "typing-inspect", "mypy-extensions"]
    policies += ["einops", "diffusers", "pyserial", "deepdiff<9", "orderly-set"]
    place = Environment("lerobot", ["lerobot==0.4.4", *policies], shared=True, alone=True)
    written = DATA / "lerobot"
    shutil.rmtree(written, ignore_errors=True)
    place.run("in_lerobot.py", "write", written)
    for kind in ("image", "video"):

        def act(kind: str = kind) -> str:
            return place.run("in_lerobot.py", "read", written / kind, mask(written / kind, "observation.images.top"))

        tried = f"`dmask mask --image-column` on a dataset that it wrote, {kind} columns of 48×64"
        yield attempt("LeRobot", place.version("lerobot"), tried, act)
    with HubServer(DATA / "hub") as hub:
        home = DATA / "home"
        for folder in (home, DATA / "hub"):
            shutil.rmtree(folder, ignore_errors=True)
        there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HOME": str(home)}
        for tried, what in (
            ("`dmask push --lerobot`: LeRobotDataset and StreamingLeRobotDataset by name", "named"),
            ("`dmask push --lerobot`: the card's --policy.input_features", "policy"),
        ):

            def by_name(what: str = what) -> str:
                dmask("push", ours(), "org/ours", "--lerobot", **there)
                truth = [export("npz") / "cheetah-run" / "train"] if what == "named" else []
                return place.run("in_lerobot.py", what, "org/ours-cheetah-run", *truth, **there)

            yield attempt("LeRobot", place.version("lerobot"), tried, by_name)


def datasets(laom: Path | None) -> Iterator[Row]:
    code = "import lerobot_files; from pathlib import Path; lerobot_files.write_parquet(Path({!r}))"
    source = DATA / "walks"
    shutil.rmtree(source, ignore_errors=True)
    _run([sys.executable, "-c", code.format(str(source))], REPOSITORY / "tests")
    for release in ("3.6.0", version("datasets")):
        place = Environment(f"datasets-{release}", [f"datasets=={release}", "pillow"])
        yield attempt(
            "datasets",
            release,
            "`dmask mask --image-column image` on Parquet with a card",
            lambda place=place: place.run("in_datasets.py", mask(source, "image"), "image", "mask"),  # type: ignore
        )


NAMES: dict[str, Callable[[Path | None], Iterator[Row]]] = {
    "laom": laom,
    "minari": minari,
    "lerobot": lerobot,
    "datasets": datasets,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="all by default")
    parser.add_argument("--laom", type=Path, help="a checkout of dunnolab/laom")
    given = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    checkout = given.laom and given.laom.resolve()
    print("| reader | version | what was tried | result |\n|---|---|---|---|")
    passed = True
    for name in given.names or NAMES:
        for row in NAMES[name](checkout):
            print(f"| {row.reader} | {row.version} | {row.tried} | {row.result} |", flush=True)
            passed &= row.passed
    sys.exit(not passed)


if __name__ == "__main__":
    main()
