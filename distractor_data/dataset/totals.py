"""Episode records summed up shard by shard: what a split holds, told by the shards before and the last one alone.

Adding a shard costs the same however many there are. Sums are folded in the order of the shards, so that the same
shards give the same numbers to the bit, wherever the fold was interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from distractor_data import schema
from distractor_data.dataset.sums import Sum
from distractor_data.untrusted.values import listing, mapping, matching, real, record, text, whole

_KEYS = ("min", "max", "mean", "m2")  # by channel; m2 is the sum of squared distances from the mean
_STATS = record({**dict.fromkeys(_KEYS, listing(real)), "count": whole()})
RECORD = record(
    {
        "of": matching("[0-9a-f]{64}", "64 hexadecimal digits"),
        "shards": whole(),
        "episodes": whole(),
        "frames": whole(),
        "task": text,
        "stats": mapping(_STATS),
    }
)


@dataclass(frozen=True)
class Totals:
    """What the first `shards` shards hold. `of` tells by their checksums which shards those are."""

    of: str = hashlib.sha256().hexdigest()
    shards: int = 0
    episodes: int = 0
    frames: int = 0
    task: str = ""
    stats: dict[str, dict[str, Any]] = field(default_factory=dict)  # column → min, max, mean, m2 by channel, count

    def add(self, known: Sum, records: pa.Table) -> Totals:
        """With one more shard, whose file of episode records has the checksum `known`."""
        found = _stats(records)
        stats = found if not self.shards else {k: _both(self.stats[k], found[k]) for k in self.stats if k in found}
        return Totals(
            of=after(self.of, known),
            shards=self.shards + 1,
            episodes=self.episodes + len(records),
            frames=self.frames + int(np.sum(records[schema.LENGTH].to_numpy())),
            task=self.task or records[schema.TASK_NAMES][0].as_py()[0],
            stats=stats,
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of `Totals(**…)`, for JSON."""
        return dataclasses.asdict(self)

    def lerobot(self) -> dict[str, dict[str, Any]]:
        """The statistics as `meta/stats.json` has them."""
        found: dict[str, dict[str, Any]] = {}
        for name, stats in self.stats.items():
            shape = (-1, 1, 1) if name in schema.IMAGE_COLUMNS else (-1,)
            deviation = np.sqrt(np.array(stats["m2"]) / stats["count"])
            values = {"min": stats["min"], "max": stats["max"], "mean": stats["mean"], "std": deviation}
            found[name] = {key: np.array(value).reshape(shape).tolist() for key, value in values.items()}
            found[name]["count"] = [stats["count"]]
        return found


def after(of: str, known: Sum) -> str:
    """What tells shards from others, with one more."""
    return hashlib.sha256(f"{of} {known.sha256}".encode()).hexdigest()


def of_shards(known: Iterable[Sum]) -> str:
    """What tells these shards from others."""
    of = Totals().of
    for each in known:
        of = after(of, each)
    return of


def _stats(episodes: pa.Table) -> dict[str, dict[str, Any]]:
    """Statistics of one shard from those of its episodes, weighted by their counts."""
    whole = [name for name in episodes.column_names if not episodes[name].null_count]  # while shards get new masks
    names = dict.fromkeys(name.split("/")[1] for name in whole if name.startswith("stats/"))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        low, high, mean, std, count = (
            np.array(episodes[f"stats/{name}/{key}"].to_pylist()) for key in ("min", "max", "mean", "std", "count")
        )
        total = int(count.sum())
        average = (mean * count).sum(0) / total
        spread = ((std**2 + (mean - average) ** 2) * count).sum(0)
        values = {"min": low.min(0), "max": high.max(0), "mean": average, "m2": spread}
        found[name] = {key: value.tolist() for key, value in values.items()} | {"count": total}
    return found


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Statistics of two sets together (Chan, Golub & LeVeque 1983)."""
    a, b = ({key: np.array(stats[key]) for key in _KEYS} for stats in (one, other))
    n, m = one["count"], other["count"]
    gap = b["mean"] - a["mean"]
    values = {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": a["mean"] + gap * (m / (n + m)),
        "m2": a["m2"] + b["m2"] + gap**2 * (n * m / (n + m)),
    }
    return {key: value.tolist() for key, value in values.items()} | {"count": n + m}
