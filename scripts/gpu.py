"""What a GPU makes of dmask, in under ten minutes: rendering, mask tracking and training, one table at the end.

    python scripts/gpu.py measure --out results              # on the GPU
    python scripts/gpu.py measure --out results --miniature  # on a processor: only whether all of it starts

For a bare machine with torch and no network. Bring this repository, which is run from its folder, and the wheels that
`pip download --no-deps` gets of what pyproject.toml lists (numpy, pillow and torch are there) and of what those need:
dm_env, dm_tree, absl-py, labmaze, glfw, PyOpenGL, lxml, gym-notices, cloudpickle, llvmlite, multiprocess, dill,
xxhash, and for the masks sam2, hydra-core, omegaconf, antlr4-python3-runtime, iopath, portalocker. They are some
300 MB, most of it pyarrow, opencv, llvmlite and dm_control. EGL must be there (libEGL.so.1 and the driver's), as
`dmask doctor` tells.

Each part is a process of its own with a time limit; what it says is written to `--out` as it comes, and a part that
fails or runs out of time leaves the others alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
RENDERERS = (("opengl", "fast"), ("opengl", "exact"), ("caster", "fast"))
app = typer.Typer()


@dataclass(frozen=True)
class Part:
    """One measurement: a command line of this Python, and the seconds that it may take."""

    name: str
    command: list[str]
    seconds: int
    limit_is_its_end: bool = False  # a run that goes on until it is stopped


def parts(out: Path, small: bool) -> list[Part]:
    """All of them, in their order: training reads the data that a part before it makes."""
    data, episodes, frames = str(out / "data"), "4" if small else "32", "40" if small else "500"
    script, device = str(Path(__file__).resolve()), "cpu" if small else "cuda"
    made = [
        Part(f"{renderer} {fidelity}, {size} pixels", [script, "render", renderer, fidelity, size], 60)
        for renderer, fidelity in RENDERERS
        for size in (["64"] if small else ["64", "128"])
    ]
    generate = ["-m", "distractor_data.cli", "generate", "--renderer", "caster", "--policy", "expert", "--quiet"]
    made.append(Part("data", [*generate, "--episodes", episodes, "--steps", frames, "--out", data], 120))
    track = [str(ROOT / "scripts" / "bench_sam2.py"), "--device", device, "--rounds", "1"]
    for size in ["256"] if small else ["256", "512", "1024"]:
        batches, length = (["2"], "4") if small else (["1", "8", "32", "128"], "30")
        command = [*track, "--sizes", size, "--batches", *batches, "--frames", length]
        made.append(Part(f"masks, {size} pixels", command, 90))
    batch, stack, spent = ("8", "1", "1") if small else ("512", "3", "5")
    speed = [str(ROOT / "scripts" / "bench_train.py"), "--dataset", data, "--batch", batch, "--frame-stack", stack]
    made.append(Part("training's speed", [*speed, "--seconds", spent], 120))
    scale = (
        [] if small else ["--encoder-scale", "6", "--res-blocks", "2", "--latent-dim", "8192", "--frame-stack", "3"]
    )
    for method in ("masklam", "lapo"):
        run = ["-m", "masklam.cli", "train", "--dataset", data, "--env", "walker-run", "--method", method]
        run += ["--stages", "lam", "--batch", batch, "--device", device, "--out", str(out / method), *scale]
        run += ["--steps", "20" if small else "1000000"]
        made.append(Part(f"{method}, {'20 steps' if small else '50 seconds'}", run, 120 if small else 50, not small))
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
def measure(
    out: Annotated[Path, typer.Option(help="A new folder for what comes out.")],
    miniature: Annotated[bool, typer.Option("--miniature", help="As little as shows that all starts.")] = False,
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
    for part in parts(out.resolve(), miniature):
        log, started = out / f"{part.name.replace(', ', '-').replace(' ', '-')}.txt", time.perf_counter()
        with log.open("w") as said:
            code = _run([sys.executable, *part.command], environ, said, part.seconds * (5 if miniature else 1))
        if code is None:
            outcome = "stopped, as planned" if part.limit_is_its_end else "out of time"
        else:
            outcome = "done" if code == 0 else f"failed ({code})"
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
