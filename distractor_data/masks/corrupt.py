"""A copy of a dataset with degraded masks: how much of a method's gain survives wrong ones?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema, untrusted
from distractor_data.dataset import meta, read, rewrite, storage
from distractor_data.errors import DmaskError
from distractor_data.masks import store
from distractor_data.masks.annotate import OnFrames
from distractor_data.masks.report import Report, report
from distractor_data.schema import CARD
from distractor_data.spec import SPLITS
from dmask_cards.dataset import write_card


@dataclass(frozen=True)
class Corruption:
    """What is done to every mask, in this order. Sizes are in pixels, `flip` and `drop` are probabilities."""

    dilate: int = 0  # grown by that many pixels, each step by the four neighbours
    erode: int = 0  # shrunk likewise
    shift: int = 0  # moved by whole pixels, drawn per frame and axis from -shift … shift
    flip: float = 0.0  # each pixel inverted
    drop: float = 0.0  # the whole mask of a frame emptied
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dilate", "erode", "shift", "seed"):
            if getattr(self, name) < 0:
                raise DmaskError(f"--{name} is {getattr(self, name)}; give a number of at least 0")
        for name in ("flip", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise DmaskError(f"--{name} is {getattr(self, name)}; give a probability from 0 to 1")
        if not (self.dilate or self.erode or self.shift or self.flip or self.drop):
            raise DmaskError("nothing to corrupt; give at least one of --dilate, --erode, --shift, --flip, --drop")


def corrupt(masks: np.ndarray, how: Corruption, rng: np.random.Generator) -> np.ndarray:
    """Degraded copy of `masks` (T, H, W) bool."""
    import cv2

    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    result = np.empty_like(masks)
    offsets = rng.integers(-how.shift, how.shift + 1, (len(masks), 2))
    for t, mask in enumerate(masks):
        changed = cv2.dilate(mask.astype(np.uint8), cross, iterations=how.dilate)
        # What lies outside of the image counts as the object: its edge doesn't wear off there.
        changed = cv2.erode(changed, cross, iterations=how.erode)
        result[t] = _moved(changed > 0, *offsets[t])
    if how.flip:
        result ^= rng.random(masks.shape, np.float32) < how.flip
    result[rng.random(len(masks)) < how.drop] = False
    return result


def _moved(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """`mask` (H, W) moved, with background coming in from outside."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    source = mask[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    moved[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)] = source
    return moved


def corrupt_dataset(
    directory: str | Path,
    out: str | Path,
    how: Corruption,
    env: str | None = None,
    split: str | None = None,
    on_frames: OnFrames = lambda frames, total: None,
) -> list[Report]:
    """Write a copy of `directory` to `out` in which `observation.mask` is degraded.

    The simulator's masks are there as `observation.mask_sim`, against which the degraded ones are measured.
    Raises `DmaskError` where `out` holds something that this did not begin, or would replace `directory`.
    """
    out, reports = Path(out), list[Report]()
    if out.resolve() == Path(directory).resolve():
        raise DmaskError(f"--out {out} is the dataset itself; choose another folder")
    card = untrusted.inside(Path(directory), CARD)
    picked = [(root, untrusted.folder(out, *root.parts[-2:])) for root in rewrite.roots(directory, env, split)]
    records = {target: _record(root, target, how) for root, target in picked}  # all checks before anything is written
    total = sum(int(np.sum(storage.read_episodes(root)[schema.LENGTH].to_numpy())) for root, _ in picked)
    for root, target in picked:
        target.mkdir(parents=True, exist_ok=True)
        with storage.lock(target):
            storage.settle(target)
            meta.save_record(target, records[target])
            for number in storage.shards(root)[len(storage.shards(target)) :]:
                source = records[target]["mask"]
                corrupt_shard(root, target, number, how, source, lambda frames: on_frames(frames, total))
            meta.refresh(target)
            reports.append(report(target))
    if card.exists() and not (out / CARD).exists():
        shutil.copyfile(card, out / CARD)  # for what hands wrote into it
    write_card(out)
    return reports


def _record(root: Path, target: Path, how: Corruption) -> dict[str, Any]:
    """The record of the copy. Raises `DmaskError` where `root` is not whole or `target` holds something else."""
    rewrite.check(root)
    read.refuse_half_masked(root)
    if target.exists():
        untrusted.plain(target)
    record = meta.read_record(root)
    record |= {"mask": {"source": "corrupted", "of": record["mask"], **asdict(how)}}
    if (target / schema.DMASK).exists():
        meta.refuse_damaged(target)
        if meta.read_record(target) != record:
            raise DmaskError(f"{target} holds other data; choose another --out")
    elif target.exists() and any(path.name != ".lock" for path in target.iterdir()):
        raise DmaskError(f"{target} is not empty and holds no dataset; choose another --out")
    return record


def corrupt_shard(
    root: Path,
    target: Path,
    number: int,
    how: Corruption,
    source: dict[str, Any],
    on_frames: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write a shard of `root` into `target`, its masks degraded; `source` is what `target` records of its masks."""
    frames, episodes = storage.read_frames(root, number), storage.read_episodes(root, number)
    masks = []
    for part, episode in zip(
        rewrite.split_episodes(frames, episodes), episodes[schema.EPISODE].to_pylist(), strict=True
    ):
        key = (SPLITS.index(root.name), episode)
        rng = np.random.default_rng(np.random.SeedSequence(how.seed, spawn_key=key))
        masks.append(corrupt(storage.decode_images(part[schema.MASK]) > 127, how, rng))
        on_frames(len(part))
    held = source["of"]["source"]
    store.write_masks(target, number, store.keep_simulator(frames, held), episodes, masks, source)
