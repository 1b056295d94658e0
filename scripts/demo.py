"""The main job in miniature: generate, load back, look, train, probe. What `make demo` runs; writes to `demo/`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

OUT = Path("demo")
DATA, RUN, SHEET = OUT / "data", OUT / "run", OUT / "contact_sheet.png"


def run(command: str) -> None:
    """Show a command as a person would type it, and run it with this Python."""
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    module = {"dmask": "distractor_data.cli", "masklam": "masklam.cli"}[program]
    done = subprocess.run([sys.executable, "-m", module, *arguments])
    if done.returncode:
        sys.exit(done.returncode)


def look() -> None:
    """Load the dataset as a stranger would, and draw frames, masks and overlays."""
    print(f'\n>>> load_dataset("{DATA}", "walker-run", split="train")', flush=True)
    from datasets import load_dataset

    from distractor_data.media import contact_sheet

    rows = load_dataset(str(DATA), "walker-run", split="train")
    picked = rows.select(range(0, len(rows), len(rows) // 24)).to_list()[:24]
    images, masks = (
        np.stack([np.asarray(decode(row[name])) for row in picked])
        for name in ("observation.image", "observation.mask")
    )
    contact_sheet(images, masks, SHEET)
    print(f"{len(rows)} rows of {', '.join(rows.column_names)}\n{SHEET}: frames, masks and overlays")


def decode(cell: dict[str, bytes]) -> np.ndarray:
    """An image cell of a `to_list()` as an array."""
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(cell["bytes"])))


def main() -> None:
    """Run it all, and say how long it took."""
    shutil.rmtree(OUT, ignore_errors=True)
    started = time.perf_counter()
    run(f"dmask generate --env walker --episodes 12 --steps 250 --out {DATA}")
    run(f"dmask generate --env walker --episodes 3 --steps 250 --split test --out {DATA}")
    look()
    run(
        f"masklam train --dataset {DATA} --env walker-run --method masklam --stages lam --steps 200 --batch 64 "
        f"--latent-dim 64 --probe-every 100 --seed 0 --out {RUN}"
    )
    print(f"\nDone in {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
