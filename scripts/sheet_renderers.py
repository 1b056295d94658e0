"""Upstream's picture beside ours, with masks: exact and fast OpenGL, and the caster, in small and in large.

    python -m scripts.sheet_renderers --backgrounds DIR --out renderers.webp

Each task has a row of pictures and a row of masks, all of the same instant. Upstream's mask is dm_control's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw

from distractor_data.envs import make
from distractor_data.media import GAP
from distractor_data.spec import Spec
from scripts.bench_generate import ENVS, iou, psnr
from scripts.peer import alone, dm_control_frame, seeded_actions, upstream_trace

OURS: dict[str, dict[str, Any]] = {
    "exact": {"fidelity": "exact"},
    "fast": {"fidelity": "fast"},
    "caster": {"renderer": "caster"},
}
TITLE = 16  # pixels
Seen = tuple[np.ndarray, np.ndarray]  # image (S, S, 3) uint8 and mask (S, S) bool


def upstreams(specs: list[Spec], steps: int) -> list[Seen]:
    """What upstream shows after so many seeded actions, and the agent as dm_control sees it."""
    pictures = [upstream_trace(spec, 0, steps + 1)["image"][-1] for spec in specs]
    return [(image, dm_control_frame(spec, steps)["mask"]) for spec, image in zip(specs, pictures, strict=True)]


def ours(spec: Spec, steps: int) -> Seen:
    """What we show after the same actions."""
    env = make(spec, 0)
    seen = env.reset()
    for action in seeded_actions(env.action_size, steps):
        seen = env.step(action)[0]
    env.close()
    return seen.image, seen.mask


def column(title: str, cells: list[Seen], edge: int) -> np.ndarray:
    """One renderer's pictures and masks, one below the other, enlarged to `edge` pixels."""
    page = Image.new("RGB", (edge + GAP, TITLE + 2 * len(cells) * (edge + GAP)), "white")
    ImageDraw.Draw(page).text((GAP, 2), title, fill="black")
    for place, array in enumerate(array for cell in cells for array in cell):
        cell = Image.fromarray(array).convert("RGB").resize((edge, edge), Image.Resampling.NEAREST)
        page.paste(cell, (GAP, TITLE + place * (edge + GAP)))
    return np.asarray(page)


def main(
    backgrounds: Annotated[Path, typer.Option(help="Folder with `train` and `val` videos.")],
    out: Annotated[Path, typer.Option(help="The sheet, WebP or PNG.")],
    steps: Annotated[int, typer.Option(help="Seeded actions before the instant that is shown.")] = 25,
    sizes: Annotated[str, typer.Option(help="Edges of the images, comma-separated.")] = "64,256",
) -> None:
    """Draw the sheet, and print how near ours are."""
    edges, columns = [int(size) for size in sizes.split(",")], []
    for size in edges:
        specs = [Spec(env=env, backgrounds=str(backgrounds), image_size=size) for env in ENVS]
        theirs = alone(upstreams, specs, steps)
        columns.append(column(f"upstream, {size} pixels", theirs, max(edges)))
        for name, options in OURS.items():
            cells = [ours(dataclasses.replace(spec, **options), steps) for spec in specs]
            for spec, mine, their in zip(specs, cells, theirs, strict=True):
                near = f"{psnr(mine[0], their[0]):.1f} dB" if (mine[0] != their[0]).any() else "equal"
                print(f"{spec.env} {size} {name}: {near}, mask IoU {iou([mine[1]], [their[1]]):.4f}", flush=True)
            columns.append(column(f"{name}, {size} pixels", cells, max(edges)))
    Image.fromarray(np.concatenate(columns, 1)).save(out, quality=75)


if __name__ == "__main__":
    typer.run(main)
