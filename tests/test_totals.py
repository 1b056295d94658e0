"""What a split's shards sum up to is the same whether they are summed one after the other or all at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import small_dataset
from damage import flip

from distractor_data import schema
from distractor_data.dataset import meta, storage, totals
from distractor_data.dataset.sums import Sum
from distractor_data.dataset.totals import Totals


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_dataset.write(tmp_path, "walker-run", shards=4)
    return schema.root(tmp_path, "walker-run", "train")


def test_shard_by_shard_and_all_at_once(root: Path) -> None:
    whole, summed = meta.derived(root), Totals()
    for number in storage.shards(root):
        known = storage.read_sums(root)[schema.episodes_file(number)][0]
        assert known is not None
        summed = Totals(**json.loads(json.dumps(summed.to_json())))  # as if the process had ended in between
        summed = summed.add(known, storage.read_episodes(root, number))
    assert storage.json_text(summed.to_json()).encode() == whole[storage.TOTALS]
    assert {name: (root / name).read_bytes() for name in whole} == whole


def test_only_new_shards_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int | None] = []
    real = storage.read_episodes
    monkeypatch.setattr(storage, "read_episodes", lambda root, shard=None: (read.append(shard), real(root, shard))[1])
    meta.refresh(root)
    assert read == []


def test_the_sums_are_those_of_all_frames(root: Path) -> None:
    frames = [storage.read_frames(root, number) for number in storage.shards(root)]
    stats = json.loads((root / schema.STATS).read_text())
    for name in schema.VECTOR_COLUMNS:
        values = np.concatenate([np.array(table[name].to_pylist(), np.float64) for table in frames])
        for key, expected in (("min", values.min(0)), ("max", values.max(0)), ("mean", values.mean(0))):
            np.testing.assert_allclose(stats[name][key], expected, rtol=1e-6)
        np.testing.assert_allclose(stats[name]["std"], values.std(0), rtol=1e-5)
        assert stats[name]["count"] == [len(values)]


def test_sums_of_other_shards_or_damaged_ones_are_not_believed(root: Path) -> None:
    whole = meta.derived(root)
    flip(root / storage.TOTALS, random.Random(1))
    assert meta.derived(root, again=False) == whole
    (root / storage.TOTALS).unlink()
    assert meta.derived(root, again=False) == whole
    meta.refresh(root)
    assert Totals(**json.loads(whole[storage.TOTALS])).of != totals.after(Totals().of, Sum("0" * 64, 1))
    episodes = storage.read_episodes(root, 1)
    storage.write_episodes(root, 1, episodes.replace_schema_metadata({"other": "bytes"}))
    assert meta.derived(root, again=False) == meta.derived(root)
