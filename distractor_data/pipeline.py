"""What `dmask generate` does: the stream of a spec's episodes and shards, and all that takes part in it.

A model's masks and the Hub are fed with the events that `generate` gives, and so is whoever looks on.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distractor_data import generate as generation
from distractor_data import resume, schema, untrusted
from distractor_data.dataset import folders, storage
from distractor_data.engines import Engine
from distractor_data.errors import DmaskError
from distractor_data.events import Made, OnEvent, ignore
from distractor_data.repair import restore_record
from distractor_data.spec import Spec
from dmask_cards.dataset import write_card
from dmask_cards.template import refuse_foreign as refuse_foreign_card

if TYPE_CHECKING:
    from distractor_data.masks.annotate import Settings
    from distractor_data.publish import Destination
    from distractor_data.publish_bucket import Delivery


@dataclass(frozen=True)
class Summary:
    """What one config and split holds after a run, and how fast the run was."""

    root: Path
    episodes: int
    frames: int
    mean_return: float
    success: float | None  # share of the episodes that solved their task at some step; None where none can
    mask_coverage: float | None  # share of pixels; None where there are no masks
    bytes: int
    made: int  # frames made by this run
    seconds: float


def generate(
    spec: Spec,
    directory: str | Path,
    workers: int | None = None,
    overwrite: bool = False,
    any_renderer: bool = False,
    push: Destination | Delivery | None = None,
    masks: Settings | None = None,
    on_event: OnEvent = ignore,
    engine: Engine | None = None,
) -> Summary:
    """Write the config and split of a spec into `directory`, going on from what is there.

    With `push` each shard goes to the Hub, or to a bucket whose `folder_of` is `directory`, when it is done and its
    frames are not kept here; what lies there is not made again. With `masks` shards get a model's masks while others
    are made.
    Episodes are made by processes of this machine, or by `engine`.
    With `overwrite` the new data is written beside the old, and takes its place when it is complete.
    Raises `DmaskError` where the folder or the repository holds another spec, where another renderer drew what is
    there (but for `any_renderer`), or another run is writing to the folder.
    """
    started = time.perf_counter()
    directory = Path(directory)
    refuse_foreign_card(untrusted.inside(directory, schema.CARD))
    spec, fps = generation.complete(spec)
    consumers = _consumers(push, masks, overwrite)
    final = untrusted.folder(directory, spec.env, spec.split)
    folders.recover(final)
    resume.refuse_other_columns(final, spec)
    replaces = overwrite and (final / schema.DMASK).exists()
    if replaces:
        folders.refuse_foreign(final)
    home = directory / folders.STAGING if replaces else directory
    root = untrusted.folder(home, spec.env, spec.split)
    final.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    made = 0
    with ExitStack() as locks:
        for folder in dict.fromkeys((final, root)):
            locks.enter_context(storage.lock(folder))
        restore_record(root)
        spec = resume.as_begun(final, root, spec)
        if replaces and not resume.continues(root, spec):
            folders.empty(root)  # of an earlier --overwrite that was broken off, and is not wanted any more
        with ExitStack() as feeds:
            feed = [feeds.enter_context(consumer(home, spec, overwrite, on_event)) for consumer in consumers]
            resume.resume(root, spec, fps, masks.model if masks else None, any_renderer)
            through = None if push is None else push.through
            for event in generation.generate(spec, root, fps, workers, engine, through):
                for consume in (*feed, on_event):
                    consume(event)
                made += event.frames if isinstance(event, Made) and event.anew else 0
        if replaces:
            folders.replace_folder(root, final)
            folders.remove_empty(root.parent, directory)
    write_card(directory)
    return summarise(final, made, time.perf_counter() - started)


def _consumers(
    push: Destination | Delivery | None, masks: Settings | None, overwrite: bool
) -> list[Callable[..., Any]]:
    """What takes part in a run: each is called with the folder, the spec, whether it is made anew and whom to tell,
    and is a context that yields what to feed with events."""
    if push is not None and masks is not None:
        raise DmaskError(
            "--push, or a URL as --out, sends a shard when it is rendered, before a model has masked it; run `dmask "
            "generate --masks` into a folder without --push, then `dmask push`"
        )
    if push is not None and overwrite and not push.replaces:
        raise DmaskError(
            "--overwrite replaces data when the new is whole, which can't be done behind a URL; remove what lies "
            "there, or choose another --out"
        )
    if masks is not None:
        from distractor_data.masks.annotate import prepare
        from distractor_data.masks.follow import follow

        return [functools.partial(follow, prepare(masks))]
    return [push.consume] if push is not None else []


def _released(root: Path) -> int:
    """Bytes of the frames that were sent away."""
    sums = untrusted.checksums(root)
    return sum(sums[schema.data_file(number)]["size"] for number in storage.released(root))


def summarise(root: Path, made: int, seconds: float) -> Summary:
    """What a split holds after `made` frames were written to it in `seconds`."""
    episodes: dict[str, Any] = storage.read_episodes(root).to_pydict()
    frames = sum(episodes[schema.LENGTH])
    shares, solved = episodes.get(schema.COVERAGE), episodes.get(schema.SUCCEEDED)
    covered = sum(share * n for share, n in zip(shares, episodes[schema.LENGTH], strict=True)) if shares else None
    return Summary(
        root=root,
        episodes=len(episodes[schema.LENGTH]),
        frames=frames,
        mean_return=sum(episodes[schema.RETURN]) / len(episodes[schema.RETURN]),
        success=sum(solved) / len(solved) if solved else None,
        mask_coverage=None if covered is None else covered / frames,
        bytes=sum(path.stat().st_size for path in root.rglob("*.parquet")) + _released(root),
        made=made,
        seconds=seconds,
    )
