"""What the dataset's page shows: all splits of a source in numbers, and the frames of one episode at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distractor_data import schema, sources
from distractor_data.dataset import meta, read, storage
from distractor_data.dataset.read import Episodes
from distractor_data.errors import DmaskError
from distractor_data.masks import quality
from distractor_data.viewer.page import base64_text, pack

CHUNK_PIXELS = 1 << 20  # of the frames that come together
HELD_BYTES = 24 << 20  # of the frames in a file, where nobody says which episodes it is to hold
_SHOWN = (
    schema.RETURN,
    schema.LENGTH,
    schema.BACKGROUND,
    schema.COVERAGE,
    schema.IOU,
    schema.BOUNDARY_F,
    schema.LOST_FRAMES,
    schema.SUCCEEDED,
)


class Library:
    """The configs and splits of a folder, or of a dataset on the Hub, of which the frames that are looked at are
    fetched."""

    def __init__(self, source: str | Path, env: str | None = None, split: str | None = None) -> None:
        """Raises `DmaskError` where there is no such config or split, or no masks in it."""
        self.source = str(source)
        if Path(source).is_dir():
            pairs = read.pairs(read.configs(source), env, split, str(source))
            opened = [sources.load(source, *pair) for pair in pairs]
        else:
            opened = sources.stream(source, env, split)
        here = Path(source).is_dir()
        self.splits = {(each.root.parts[-2], each.root.parts[-1]): Split(each, here) for each in opened}

    @property
    def name(self) -> str:
        """The folder's name, or that on the Hub."""
        return Path(self.source).resolve().name if Path(self.source).is_dir() else self.source

    def overview(self, opened: list[int], held: dict[tuple[str, str], list[int]] | None = None) -> dict[str, Any]:
        """What the page must know at once. `opened` are the episodes asked for, the first of which is shown first;
        `held` those whose frames are in the page, None where a server gives them."""
        advice = f"`dmask view {self.source} --serve`"
        splits = []
        for pair, split in self.splits.items():
            has = None if held is None else held[pair]
            first = next((number for number in opened or has or [] if number in split.numbers), split.numbers[0])
            splits.append({**split.overview(), "open": first, "held": has})
        return {"served": held is None, "advice": advice, "splits": splits}

    def chosen(self, episodes: list[int]) -> dict[tuple[str, str], list[int]]:
        """The episodes whose frames a file is to hold: those given, else as many of each split, spread over it, as
        `HELD_BYTES` have room for, and one at least. Raises `DmaskError` where one is in no split."""
        everywhere = {number for split in self.splits.values() for number in split.numbers}
        if missing := [number for number in episodes if number not in everywhere]:
            raise DmaskError(f"--episode {missing[0]}: {self.name} has the episodes 0 to {max(everywhere)}")
        room = HELD_BYTES // len(self.splits)
        return {
            pair: [number for number in split.numbers if number in episodes] if episodes else split.spread(room)
            for pair, split in self.splits.items()
        }

    def attached(self, held: dict[tuple[str, str], list[int]]) -> Iterator[tuple[str, Any]]:
        """Name and content of each episode that a file holds, one after the other."""
        for (config, split), numbers in held.items():
            part = self.splits[config, split]
            for number in numbers:
                chunks = [base64_text(part.frames(number, k)) for k in range(part.chunks(number))]
                yield f"{config}/{split}/{number}", {"chunks": chunks, "series": part.series(number)}


class Split:
    """The episodes of one config and split, found by their number."""

    def __init__(self, episodes: Episodes, here: bool = True) -> None:
        """`here`: its frames needn't be fetched."""
        self.episodes, self.here = episodes, here
        self.places = {record[schema.EPISODE]: place for place, record in enumerate(episodes.records)}
        self.numbers = list(self.places)
        self.images = [name for name in schema.IMAGE_COLUMNS if name in episodes.layout.columns]

    @cached_property
    def chunk(self) -> int:
        """Frames that come together: 250, as they lie in the file, or a part of them where they are large."""
        pixels = math.prod(self.episodes.layout.size) * storage.ROW_GROUP
        return max(10, storage.ROW_GROUP // math.ceil(pixels / CHUNK_PIXELS))

    def length(self, number: int) -> int:
        """Frames of an episode. Raises `LookupError` where there is none of that number."""
        if number not in self.places:
            raise LookupError(f"there is no episode {number}")
        return self.episodes.records[self.places[number]][schema.LENGTH]

    def chunks(self, number: int) -> int:
        """How many chunks an episode has."""
        return math.ceil(self.length(number) / self.chunk)

    def overview(self) -> dict[str, Any]:
        """Sizes, where the masks come from, and a row for each episode."""
        record, layout = meta.read_record(self.episodes.root), self.episodes.layout
        records = self.episodes.records
        return {
            "config": self.episodes.root.parts[-2],
            "split": self.episodes.root.parts[-1],
            "frames": sum(each[schema.LENGTH] for each in records),
            "fps": record["fps"],
            "size": list(layout.size),
            "action": layout.action,
            "columns": self.images,
            "masks": record["mask"]["source"],
            "expert": record.get("expert_return"),
            "chunk": self.chunk,
            "rows": [
                {"episode": each[schema.EPISODE]} | {key: each[key] for key in _SHOWN if key in each}
                for each in records
            ],
        }

    def spread(self, room: int) -> list[int]:
        """Episodes whose frames take about `room` bytes, one at least, spread over the split, or over its first
        shard where each must be fetched."""
        first = sum(len(self.frames(self.numbers[0], k)) for k in range(self.chunks(self.numbers[0])))
        among = self.numbers if self.here else self.numbers[: len(self.episodes.shards[0])]
        count = min(len(among), max(1, room // first))
        return [among[place] for place in np.linspace(0, len(among) - 1, count).round().astype(int)]

    def frames(self, number: int, chunk: int) -> bytes:
        """The pictures of a chunk of an episode as they lie in the dataset, `page.pack`ed.

        Raises `LookupError` where there is no such chunk, and `DmaskError` where the file is damaged.
        """
        if not 0 <= chunk < self.chunks(number):
            raise LookupError(f"episode {number} has no frames {chunk * self.chunk} and on")
        rows = self.episodes.rows(self.places[number], self.images, chunk * self.chunk, self.chunk)
        return pack({name: rows[name].combine_chunks().field("bytes").to_pylist() for name in self.images})

    def series(self, number: int) -> dict[str, Any]:
        """What is plotted over an episode: its actions, one list a dimension, its reward, how much the mask covers,
        and where there are two masks their J."""
        masks = [name for name in (schema.MASK, schema.MASK_SIM) if name in self.images]
        reward = [schema.REWARD] if schema.REWARD in self.episodes.layout.columns else []
        rows = self.episodes.rows(self.places[number], [schema.ACTION, *reward, *masks], 0, self.length(number))
        decoded = [storage.decode_images(rows[name]) > 127 for name in masks]
        return {
            "action": _rounded(read.vectors(rows[schema.ACTION]).T),
            "reward": _rounded(rows[schema.REWARD].to_numpy()) if reward else None,
            "coverage": _rounded(decoded[0].mean((1, 2))),
            "iou": _rounded(quality.iou(*decoded)) if len(decoded) == 2 else None,
        }


def _rounded(values: np.ndarray) -> Any:
    """To four digits after the point, as finely as it can be seen."""
    return np.asarray(values, np.float64).round(4).tolist()
