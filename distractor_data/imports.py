"""What `dmask import` does: a file that others made becomes a split of our layout, episode by episode."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from distractor_data import schema, shards, untrusted
from distractor_data.dataset import cache, folders, layout, meta, parts, storage
from distractor_data.dataset.formats import laom
from distractor_data.errors import DmaskError
from distractor_data.events import Made, OnEvent, ignore
from distractor_data.pipeline import Summary, summarise
from distractor_data.repair import repair, restore_record
from distractor_data.spec import Import
from dmask_cards.dataset import write_card
from dmask_cards.template import refuse_foreign as refuse_foreign_card


def describe(file: Path, fps: int | None = None) -> tuple[Import, int]:
    """What a file of LAOM's is as a split, and its frames a second: those given, or the task's own.

    Raises `DmaskError` where it is not whole, not of the format, or of a task whose rate isn't known.
    """
    found = laom.contents(file)
    if not layout.is_config(found.env):
        raise DmaskError(f"{file} is of the task {found.env!r}, which can't be the name of a folder")
    rate = fps or laom.FPS.get(found.env.partition("-")[0])
    if not rate or rate < 1:
        raise DmaskError(f"{file} doesn't tell the frames a second of {found.env}; give --fps")
    spec = Import(
        env=found.env,
        split=found.split,
        episodes=len(found.lengths),
        steps=max(found.lengths),
        image_size=found.image_size,
        format=laom.NAME,
        file=file.name,
        sha256=cache.sha256(file),
        difficulty=found.difficulty,
        dynamic=found.dynamic,
    )
    return spec, rate


def import_file(
    file: Path,
    spec: Import,
    fps: int,
    directory: str | Path,
    workers: int | None = None,
    on_event: OnEvent = ignore,
) -> Summary:
    """Write the split that `describe` found in a file into `directory`, going on from what is there.

    A few episodes are in memory at a time, whatever the file's size. Raises `DmaskError` where the folder holds
    other data, or another run is writing to it.
    """
    started, made = time.perf_counter(), 0
    directory = Path(directory)
    refuse_foreign_card(untrusted.inside(directory, schema.CARD))
    root = untrusted.folder(directory, spec.env, spec.split)
    root.mkdir(parents=True, exist_ok=True)
    with storage.lock(root, "DIR"):
        restore_record(root)
        _begin(root, spec, fps)
        work = functools.partial(_import_episode, file, root, fps)
        for event in shards.fill(root, spec, workers, work):
            on_event(event)
            made += event.frames if isinstance(event, Made) and event.anew else 0
    write_card(directory)
    return summarise(root, made, time.perf_counter() - started)


def _begin(root: Path, spec: Import, fps: int) -> None:
    """Make the folder ready for the file's episodes, or refuse and say what is there."""
    if not meta.has_record(root):
        if any(name != meta.COPY for name in folders.contents(root)):
            raise DmaskError(f"{root} is not empty and holds no dataset; choose another folder")
        storage.settle(root)
        meta.write_record(root, spec, fps, masks="none")
        return
    if differences := spec.differences(meta.read_spec(root)):
        raise DmaskError(f"{root} holds other data: {', '.join(differences)}; choose another folder")
    repair(root, exact=False)
    record = meta.read_record(root)
    if record["mask"]["source"] != "none" and len(storage.shards(root)) < len(storage.wanted_shards(spec)):
        meta.save_record(root, record | {"mask": record["mask"] | {"complete": False}})


def _import_episode(file: Path, root: Path, fps: int, number: int) -> int:
    """In a worker: read one episode and store it. Returns its number of frames."""
    episode = laom.read(file, number)
    parts.write_part(root, episode, fps)
    return len(episode)
