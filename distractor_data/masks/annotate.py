"""SAM 2 over a whole dataset: shards in, the same shards with the model's masks out."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import engines, schema
from distractor_data.dataset import meta, read, rewrite, storage
from distractor_data.device import PRECISIONS, pick_device, uses_bf16
from distractor_data.engines import Actors
from distractor_data.errors import DmaskError
from distractor_data.masks import prompts, store
from distractor_data.masks.prompts import Prompt
from distractor_data.masks.report import Report, report
from dmask_cards.dataset import write_card

OnFrames = Callable[[int, int], None]  # how many frames got done now, and how many there are to do


@dataclass(frozen=True)
class Settings:
    """How masks are made. `reprompt` frames after a prompt the next one is given; 0: there is only the first."""

    model: str = "facebook/sam2.1-hiera-tiny"
    image_size: int = 1024
    batch: int = 0  # videos tracked at once; 0: 32 where there is CUDA, else 8
    prompt: str = "simulator"
    reprompt: int = 0
    device: str = "auto"  # or several, separated by commas: a process for each
    precision: str = "auto"  # or bf16, float32
    compile: bool | None = None  # None: where there is CUDA

    def __post_init__(self) -> None:
        if self.reprompt < 0 or self.reprompt == 1:
            raise DmaskError(f"--reprompt is {self.reprompt}; give a number of frames of at least 2, or 0 for never")
        if self.reprompt and self.prompt not in ("simulator", "motion"):
            raise DmaskError(
                f"--reprompt gives the simulator's or the motion's box again, not {self.prompt}; leave it out"
            )
        if self.batch < 0:
            raise DmaskError(f"--batch is {self.batch}; give a number of at least 1")
        if self.precision not in PRECISIONS:
            raise DmaskError(f"--precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}")


@dataclass
class _Shard:
    """A shard whose videos are being tracked."""

    root: Path
    number: int
    frames: pa.Table
    episodes: pa.Table
    masks: list[np.ndarray] = field(default_factory=list)
    missing: int = 0  # videos


@dataclass(frozen=True)
class Masker:
    """What masks shards: the model, ready to track, and what the record will say of it."""

    settings: Settings
    source: dict[str, Any]
    tracker: Any


class _Images(Sequence[np.ndarray]):
    """An image column, decoded frame by frame as it is asked for; `check` is called before and may raise."""

    def __init__(self, column: pa.ChunkedArray, check: Callable[[], None]) -> None:
        self.column = column.combine_chunks()
        self.check = check

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, t: Any) -> Any:
        self.check()
        return storage.decode_images(self.column[t : t + 1], threads=1)[0]


def mask_dataset(
    directory: str | Path,
    settings: Settings,
    env: str | None = None,
    split: str | None = None,
    overwrite: bool = False,
    on_frames: OnFrames = lambda frames, total: None,
    actors: Actors | None = None,
) -> list[Report]:
    """Give `directory` the model's masks; the simulator's stay as `observation.mask_sim`.

    Shards are rewritten one by one; a shard that has these masks already is left alone, so a killed run goes
    on. Videos are tracked on the devices of `settings`, or by `actors` that see the same folder.
    Raises `DmaskError` where another model's masks are there and `overwrite` is not set.
    """
    picked = rewrite.roots(directory, env, split)
    for root in picked:
        rewrite.check(root)
    if actors:
        ((_, source),) = actors(functools.partial(_teller, settings), [settings.model])
    else:
        source = source_of(settings)
    with ExitStack() as locks:
        pending: list[tuple[Path, int]] = []
        for root in picked:
            locks.enter_context(storage.lock(root))
            storage.settle(root)
            check_source(root, source, overwrite)
            numbers = storage.shards(root)
            pending += [(root, n) for n in numbers if overwrite or rewrite.shard_source(root, n) != source]
        with ExitStack() as records:
            for root in dict.fromkeys(root for root, _ in pending):
                records.enter_context(store.rewriting(root, source))
            _mask_all(settings, source, pending, on_frames, actors)
        for root in picked:
            store.set_source(root, source)
            meta.refresh(root)
    reports = [report(root) for root in picked]
    write_card(directory)
    return reports


def report_only(
    directory: str | Path, env: str | None = None, split: str | None = None, on_episode: Any = lambda: None
) -> list[Report]:
    """Measure the masks that are there once more, and report."""
    picked = rewrite.roots(directory, env, split)
    for root in picked:
        rewrite.check(root)
    for root in picked:
        with storage.lock(root):
            storage.settle(root)
            store.measure_again(root, on_episode)
    write_card(directory)
    return [report(root) for root in picked]


def source_of(settings: Settings) -> dict[str, Any]:
    """What `meta/dmask.json` says of the masks: all that they depend on."""
    from distractor_data.masks.model import resolve

    prompt, weights = settings.prompt, resolve(settings.model)[1]
    return {
        "source": weights.stem,
        "model": settings.model if settings.model.startswith("facebook/") else weights.name,
        "weights_sha256": storage.sha256(weights),
        "image_size": settings.image_size,
        "precision": "bf16" if uses_bf16(settings.precision, _devices(settings.device)[0]) else "float32",
        "prompt": f"mask={Path(prompt).name}" if prompt.startswith("mask=") else prompt,
        "reprompt": settings.reprompt,
        "versions": {name: importlib.metadata.version(name) for name in ("sam2", "torch")},
    }


def check_source(root: Path, source: dict[str, Any], overwrite: bool) -> None:
    there = {key: value for key, value in meta.read_record(root)["mask"].items() if key != "complete"}
    if there["source"] == "none" and source["prompt"] == "simulator":
        raise DmaskError(f"{root} has no simulator's masks to take a box from; {read.how_to_mask(root)}")
    if overwrite or there["source"] in ("simulator", "none") or there == source:
        return
    differs = [key for key in source if there.get(key) != source[key]]
    raise DmaskError(
        f"{root} has masks of {there['source']}, made with another {', '.join(differs)}; replace with --overwrite"
    )


def _mask_all(
    settings: Settings,
    source: dict[str, Any],
    pending: list[tuple[Path, int]],
    on_frames: OnFrames,
    actors: Actors | None,
) -> None:
    """Mask the shards, by `actors`, or each device its share in a process of its own where there are several."""
    if not pending:
        return
    total = sum(int(np.sum(storage.read_episodes(root, n)[schema.LENGTH].to_numpy())) for root, n in pending)
    on_frames(0, total)
    if actors:
        for _, frames in actors(functools.partial(_tracking, settings, source), _in_batches(settings, pending)):
            on_frames(frames, total)
        return
    devices = _devices(settings.device)
    if len(devices) == 1:
        _mask_shards(settings, source, lambda frames: on_frames(frames, total), (devices[0], pending))
        return
    shares = [(device, pending[i :: len(devices)]) for i, device in enumerate(devices) if pending[i :: len(devices)]]
    work = functools.partial(_mask_shards, settings, source, None)
    for _, frames in engines.run_local(work, shares, len(shares)):
        on_frames(frames, total)


def _in_batches(settings: Settings, pending: list[tuple[Path, int]]) -> list[list[tuple[Path, int]]]:
    """Shards that are masked together, so that their videos fill a batch."""
    size = max(1, (settings.batch or 32) // len(storage.read_episodes(*pending[0])))
    return [pending[start : start + size] for start in range(0, len(pending), size)]


def _teller(settings: Settings) -> Callable[[str], dict[str, Any]]:
    """In an actor: what says what the masks that are made there come from."""
    return lambda model: source_of(settings)


def _tracking(settings: Settings, source: dict[str, Any]) -> Callable[[list[tuple[Path, int]]], int]:
    """In an actor: what masks shards and returns their number of frames.

    Raises `DmaskError` where they would be others than those of `source`.
    """
    if differing := [name for name, value in source_of(settings).items() if source[name] != value]:
        raise DmaskError(
            f"{platform.node()} would make other masks (its {', '.join(differing)}); use nodes that are alike"
        )
    masker = Masker(settings, source, tracker_for(settings, _devices(settings.device)[0]))
    return lambda pending: sum(mask_shards(masker, pending))


def _devices(text: str) -> list[str]:
    import torch

    if text == "auto" and torch.cuda.device_count() > 1:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [pick_device(device) for device in text.split(",")]


def tracker_for(settings: Settings, device: str) -> Any:
    """A `MaskTracker` on `device`."""
    from distractor_data.masks.model import build
    from distractor_data.masks.tracker import MaskTracker

    cuda = device.startswith("cuda")
    compiled = cuda if settings.compile is None else settings.compile
    predictor = build(settings.model, settings.image_size, device, compiled)
    bf16 = uses_bf16(settings.precision, device)
    return MaskTracker(predictor, settings.batch or (32 if cuda else 8), bf16, compiled)


def _mask_shards(
    settings: Settings,
    source: dict[str, Any],
    on_frames: Callable[[int], None] | None,
    share: tuple[str, list[tuple[Path, int]]],
) -> int:
    """Mask a share of shards on one device. Returns the number of frames."""
    device, pending = share
    total = 0
    with closing(mask_shards(Masker(settings, source, tracker_for(settings, device)), pending)) as tracked:
        for frames in tracked:
            total += frames
            if on_frames:
                on_frames(frames)
    return total


def mask_shards(
    masker: Masker, pending: list[tuple[Path, int]], check: Callable[[], None] = lambda: None
) -> Generator[int, None, None]:
    """Rewrite shards with a model's masks; yields the number of frames of each video that was tracked.

    `check` is called before each frame is read and each shard is written, and may raise.
    """
    prompt = prompts.parse(masker.settings.prompt)

    def write(shard: _Shard) -> None:
        check()
        store.write_masks(shard.root, shard.number, shard.frames, shard.episodes, shard.masks, masker.source)
        shard.frames, shard.masks = None, []  # large, and done with

    def videos() -> Iterator[Any]:
        for root, number in pending:
            yield from _videos(_open(root, number), prompt, masker.settings.reprompt, write, check)

    for track in masker.tracker.track(videos()):
        shard, row, start = track.key
        shard.masks[row][start : start + len(track.masks)] = track.masks
        shard.missing -= 1
        if not shard.missing:
            write(shard)
        yield len(track.masks)


def prepare(settings: Settings) -> Masker:
    """The model, ready to track. Raises `DmaskError` for whatever is missing, before anything is written."""
    source = source_of(settings)
    return Masker(settings, source, tracker_for(settings, _devices(settings.device)[0]))


def _open(root: Path, number: int) -> _Shard:
    episodes, frames = storage.read_episodes(root, number), storage.read_frames(root, number)
    held = (rewrite.shard_source(root, number) or {"source": "simulator"})["source"]
    return _Shard(root, number, store.keep_simulator(frames, held), episodes)


def _videos(
    shard: _Shard,
    prompt: str | Prompt,
    reprompt: int,
    on_empty: Callable[[_Shard], None],
    check: Callable[[], None],
) -> Iterator[Any]:
    """The shard's episodes as videos to track, each beginning at a prompt. One that shows nothing has none."""
    from distractor_data.masks.schedule import Video

    found: list[Any] = []
    for row, part in enumerate(rewrite.split_episodes(shard.frames, shard.episodes)):
        images = _Images(part[schema.IMAGE], check)
        shard.masks.append(np.zeros((len(images), *images[0].shape[:2]), bool))
        episode = shard.episodes[schema.EPISODE][row].as_py()
        name = f"{'/'.join(shard.root.parts[-2:])} episode {episode}"
        sim = store.reference(part)
        for start, stop, given in prompts.segments(images, prompt, reprompt, sim, name):
            found.append(Video((shard, row, start), prompts.Part(images, start, stop), given, name))
    shard.missing = len(found)
    if not found:
        on_empty(shard)
    yield from found
