"""What a GPU makes of dmask, in under ten minutes: rendering, mask tracking and training, one table at the end.

    python scripts/gpu.py measure --out results                   # on the GPU
    python scripts/gpu.py measure --out results --only masks      # or only one kind of the parts
    python scripts/gpu.py measure --out results --miniature       # on a processor: only whether all of it starts
    pip wheel --no-deps -w kit $(python scripts/gpu.py wheels)    # with a network, what to bring along

For a bare machine with Python 3.12, torch (with numpy, pillow and what torch itself asks for) and no network. Bring
this repository, which is run from its folder, and wheels: 61 MB for the masks, 229 for OpenGL, 293 for the caster,
368 for training, 369 for all, of which opencv, llvmlite, dm_control, pyarrow, av and scipy are 304. Parts whose
wheels are not there are left out, and what they lack is in the table. EGL must be there (libEGL.so.1, the driver's),
as `dmask doctor` tells.

Each part is a process of its own with a time limit; what it says is written to `--out` as it comes, and a part that
fails or runs out of time leaves the others alone.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
# The limits of all parts are ten minutes in sum. The caster's code is compiled when it is first used.
RENDERERS = (("opengl", "fast", 20), ("opengl", "exact", 20), ("caster", "fast", 40))
BATCHES = ["--batches", "1", "8", "32", "128", "--frames", "30"]
PAPER = ["--encoder-scale", "6", "--res-blocks", "2", "--latent-dim", "8192", "--frame-stack", "3"]
SLOWER = 10  # in miniature, on processors that do other things
app = typer.Typer()


class Kind(StrEnum):
    """What a part measures."""

    opengl = "opengl"
    caster = "caster"
    masks = "masks"
    training = "training"


_MODULES = ("dm_control", "mujoco", "distracting_control", "cv2", "pyarrow")
NEEDS = {  # modules, by which a part that can't run is told before it is begun
    Kind.opengl: (*_MODULES, "OpenGL"),
    Kind.caster: (*_MODULES, "numba"),
    Kind.masks: ("sam2", "hydra", "pyarrow"),
    Kind.training: (*_MODULES, "numba", "pandas", "av", "datasets", "accelerate", "safetensors"),
}


# What is imported for each, beside torch and what comes with it.
_SHELL = (
    "typer rich shellingham markdown-it-py mdurl Pygments annotated-doc annotated-types pydantic pydantic_core "
    "typing-inspection"
)
_SIMULATOR = (
    "dm_control mujoco distracting-control gym gym-notices cloudpickle dm-env absl-py lxml scipy pyarrow "
    "opencv-python-headless"
)
WHEELS = {
    Kind.opengl: f"{_SHELL} {_SIMULATOR} PyOpenGL",
    Kind.caster: f"{_SHELL} {_SIMULATOR} PyOpenGL numba llvmlite PyYAML",
    Kind.masks: f"{_SHELL} sam2 hydra-core omegaconf antlr4-python3-runtime iopath portalocker packaging PyYAML tqdm "
    "pyarrow",
    Kind.training: f"{_SHELL} {_SIMULATOR} PyOpenGL numba llvmlite PyYAML pandas python-dateutil av datasets dill "
    "multiprocess xxhash huggingface_hub httpx2 httpcore2 anyio h11 idna truststore packaging tqdm safetensors "
    "accelerate psutil tensorboard protobuf matplotlib contourpy kiwisolver fonttools cycler pyparsing",
}


@dataclass(frozen=True)
class Part:
    """One measurement: a command line of this Python, and the seconds that it may take."""

    kind: Kind
    name: str
    command: list[str]
    seconds: int
    limit_is_its_end: bool = False  # a run that goes on until it is stopped


def parts(out: Path, small: bool) -> list[Part]:
    """All of them, in their order: training reads the data that a part before it makes."""
    return [*_rendering(small), *_tracking(small), *_training(out, small)]


def _rendering(small: bool) -> list[Part]:
    script, sizes = str(Path(__file__).resolve()), ["64"] if small else ["64", "128"]
    return [
        Part(Kind(name), f"{name} {fidelity}, {size} pixels", [script, "render", name, fidelity, size], seconds)
        for name, fidelity, seconds in RENDERERS
        for size in sizes
    ]


def _tracking(small: bool) -> list[Part]:
    track = [str(ROOT / "scripts" / "bench_sam2.py"), "--device", "cpu" if small else "cuda", "--rounds", "1"]
    size_of = ["--batches", "2", "--frames", "3", "--precisions", "float32"] if small else BATCHES
    return [
        Part(Kind.masks, f"masks, {size} pixels", [*track, "--sizes", size, *size_of], 60)
        for size in (["256"] if small else ["256", "512", "1024"])
    ]


def _training(out: Path, small: bool) -> list[Part]:
    data, episodes, frames = str(out / "data"), "4" if small else "32", "40" if small else "500"
    generate = ["-m", "distractor_data.cli", "generate", "--renderer", "caster", "--policy", "expert", "--quiet"]
    made = [Part(Kind.training, "data", [*generate, "--episodes", episodes, "--steps", frames, "--out", data], 60)]
    batch, stack, spent = ("8", "1", "1") if small else ("512", "3", "5")
    speed = [str(ROOT / "scripts" / "bench_train.py"), "--dataset", data, "--batch", batch, "--frame-stack", stack]
    made.append(Part(Kind.training, "training's speed", [*speed, "--seconds", spent], 60))
    for method in ("masklam", "lapo"):
        run = ["-m", "masklam.cli", "train", "--dataset", data, "--env", "walker-run", "--method", method]
        run += ["--stages", "lam", "--batch", batch, "--out", str(out / method)]
        run += ["--device", "cpu", "--steps", "20"] if small else ["--device", "cuda", "--steps", "1000000", *PAPER]
        name = f"{method}, {'20 steps' if small else '70 seconds'}"
        made.append(Part(Kind.training, name, run, 70, limit_is_its_end=not small))
    return made


@app.command()
def render(renderer: str, fidelity: str, size: int, seconds: float = 5.0) -> None:
    """Frames/s of image and mask with physics and distractors, in one process."""
    import numpy as np

    from distractor_data import envs
    from distractor_data.spec import Spec

    rates = []
    for env in ("walker-run", "humanoid-walk"):
        made = envs.make(Spec(env=env, renderer=renderer, fidelity=fidelity, image_size=size), 0)
        made.reset()
        still = np.zeros(made.action_size)
        for _ in range(20):  # compiled code, textures
            made.step(still)
        started, frames = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            made.step(still)
            frames += 1
        rates.append(f"{env} {frames / (time.perf_counter() - started):.0f} frames/s")
        made.close()
    print(f"{', '.join(rates)} ({envs.renderer(renderer)})")


@app.command()
def wheels(
    only: Annotated[list[Kind] | None, typer.Option(help="For which parts; may be given again.")] = None,
) -> None:
    """Print what to bring along, in the versions of the lock file."""
    names = {name.lower() for kind in only or Kind for name in WHEELS[kind].split()}
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    print("\n".join(line for line in lock if line.partition("==")[0].lower() in names))


@app.command()
def measure(
    out: Annotated[Path, typer.Option(help="A new folder for what comes out.")],
    miniature: Annotated[bool, typer.Option("--miniature", help="As little as shows that all starts.")] = False,
    only: Annotated[list[Kind] | None, typer.Option(help="Which parts; may be given again.")] = None,
) -> None:
    """Run every part and print a table of what each said last."""
    out.mkdir(parents=True)
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "LP_NUM_THREADS": "0",
    }
    rows = []
    for part in (part for part in parts(out.resolve(), miniature) if not only or part.kind in only):
        log, started = out / f"{part.name.replace(', ', '-').replace(' ', '-')}.txt", time.perf_counter()
        if missing := [name for name in NEEDS[part.kind] if importlib.util.find_spec(name) is None]:
            log.write_text(f"lacks {', '.join(missing)}")
            outcome = "left out"
        else:
            with log.open("w") as said:
                limit = part.seconds * (SLOWER if miniature else 1)
                code = _run([sys.executable, *part.command], environ, said, limit)
            ended = "stopped, as planned" if part.limit_is_its_end else "out of time"
            outcome = ended if code is None else "done" if code == 0 else f"failed ({code})"
        last = (log.read_text(errors="replace").replace("\r", "\n").strip().splitlines() or [""])[-1].strip()
        rows.append(f"| {part.name} | {outcome} | {time.perf_counter() - started:.0f} | {last[:160]} |")
        with (out / "table.md").open("a") as table:
            table.write(rows[-1] + "\n")
        print(rows[-1], file=sys.stderr, flush=True)
    print("\n".join(["| part | outcome | seconds | its last line |", "|---|---|---|---|", *rows]))


def _run(command: list[str], environ: dict[str, str], said: IO[str], seconds: float) -> int | None:
    """The exit status; None where the time was over, and the process and all that it began were ended."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


if __name__ == "__main__":
    app()
