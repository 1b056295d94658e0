"""What `dmask export` does: a dataset of ours in a format that other readers know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from distractor_data import untrusted
from distractor_data.dataset import folders, meta, rewrite, storage
from distractor_data.dataset.formats import laom, minari, npz
from distractor_data.dataset.read import Episodes
from distractor_data.episode import Episode
from distractor_data.errors import DmaskError
from distractor_data.sources import refuse_half_masked

FORMATS = {"laom": laom, "minari": minari, "npz": npz}
OnEpisode = Callable[[int, int], None]  # how many episodes got done now, and how many there are to do


def export(
    directory: str | Path,
    format: str,
    out: Path,
    env: str | None = None,
    split: str | None = None,
    overwrite: bool = False,
    on_episode: OnEpisode = lambda done, total: None,
) -> list[Path]:
    """Write configs and splits of `directory` into `out`, one episode in memory at a time; what was written.

    Each appears when it is whole. Raises `DmaskError`, before anything is written, where one is there already and
    `overwrite` is not set, or where the format can't hold what the dataset has.
    """
    writer = FORMATS[format]
    picked = []
    for root in rewrite.roots(directory, env, split):
        rewrite.check(root)
        refuse_half_masked(root)
        episodes, spec = Episodes(root), meta.read_spec(root)
        writer.check(episodes)
        target = out / writer.place(spec)
        folders.recover(target)
        if target.exists() and not overwrite:
            raise DmaskError(f"{target} is there already; choose another --out, or replace it with --overwrite")
        picked.append((episodes, spec, target))
    total = sum(len(episodes) for episodes, _, _ in picked)

    def counted(episodes: Episodes) -> Iterator[Episode]:
        for episode in episodes:
            yield episode
            on_episode(1, total)

    out.mkdir(parents=True, exist_ok=True)
    with storage.lock(out):
        for episodes, spec, target in picked:
            new = untrusted.folder(out, ".new")
            storage.remove(new)
            new.mkdir()
            writer.write(counted(episodes), spec, new / target.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                folders.replace_folder(new / target.name, target)
            else:
                os.replace(new / target.name, target)
            storage.remove(new)
    return [target for _, _, target in picked]
