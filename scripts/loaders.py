"""`load_dataset` on our data: `datasets` of several versions, each in an environment of its own, with nothing else.

    python -m scripts.loaders [--versions 3.6.0,newest] [--folder build/loaders]

Makes a small dataset, builds the environments with pip where they are not there yet, and prints a table. Exit code 1
where a reader fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from distractor_data.pipeline import generate
from distractor_data.spec import Spec

SPECS = [
    Spec(env=env, split=split, episodes=2, steps=30, policy="random", renderer="caster", clean=True)
    for env in ("walker-run", "cheetah-run")
    for split in ("train", "test")
]
FRAMES = 60
# What is tried, as a person would write it; each ends with the number of frames that it found.
TRIED = {
    "load_dataset(DIR)": "len(load_dataset(DIR, split='train'))",
    'load_dataset(DIR, "cheetah-run")': "len(load_dataset(DIR, 'cheetah-run', split='test'))",
    "streaming": "sum(1 for _ in load_dataset(DIR, 'walker-run', split='train', streaming=True))",
    "streaming, shuffled": (
        "sum(1 for _ in load_dataset(DIR, 'walker-run', split='train', streaming=True).shuffle(seed=0))"
    ),
    "filters": ("2 * len(load_dataset(DIR, 'walker-run', split='train', filters=[('frame_index', '<', 15)]))"),
    "a split's folder": "len(load_dataset(DIR + '/walker-run/train')['train'])",
    "plain Parquet": (
        "len(load_dataset('parquet', data_files=DIR + '/walker-run/train/data/**/*.parquet', split='train'))"
    ),
    "image, mask, action": (
        "(lambda row: 60 * (row['observation.image'].size == (64, 64) and row['observation.mask'].mode == 'L'"
        " and len(row['action']) == 6))(load_dataset(DIR, 'walker-run', split='train')[7])"
    ),
}


def environment(folder: Path, version: str) -> Path:
    """The Python of an environment that holds `datasets` and Pillow alone."""
    place = folder / f"datasets-{version}"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        wanted = "datasets" if version == "newest" else f"datasets=={version}"
        subprocess.run([str(python), "-m", "pip", "install", "-q", wanted, "pillow"], check=True)
        (place / "complete").touch()
    return python


def try_one(python: Path, data: Path, code: str, cache: Path) -> str:
    """`yes`, or the last line of what went wrong."""
    program = f"from datasets import load_dataset; DIR = {str(data)!r}; print({code})"
    where = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(cache)}
    ran = subprocess.run([str(python), "-c", program], capture_output=True, text=True, env=where)
    if ran.returncode:
        return ran.stderr.strip().splitlines()[-1][:80]
    found = ran.stdout.split()[-1]
    return "yes" if found == str(FRAMES) else f"{found} frames"


def main(
    versions: Annotated[
        str, typer.Option(help="Of `datasets`, comma-separated; newest is the newest.")
    ] = "3.6.0,newest",
    folder: Annotated[Path, typer.Option(help="Where environments and data go.")] = Path("build/loaders"),
) -> None:
    """Print one table."""
    data, failed = (folder / "data").resolve(), False
    for spec in SPECS:
        generate(spec, data)
    pythons = {version: environment(folder.resolve(), version) for version in versions.split(",")}
    names = []
    for python in pythons.values():
        code = "import datasets, pyarrow; print(datasets.__version__, pyarrow.__version__)"
        version, arrow = subprocess.check_output([str(python), "-c", code], text=True).split()
        names.append(f"datasets {version}, pyarrow {arrow}")
    print("| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for name, code in TRIED.items():
        cells = [try_one(python, data, code, folder.resolve() / f"cache-{k}") for k, python in pythons.items()]
        failed |= any(cell != "yes" for cell in cells)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    typer.run(main)
