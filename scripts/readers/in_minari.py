"""Run where Minari is installed: its reader on what `dmask export --format minari` wrote, beside the npz of the same.

MINARI_DATASETS_PATH=DIR python in_minari.py NPZ
"""

from __future__ import annotations

import sys
from pathlib import Path

import minari
import numpy as np


def main(npz: Path) -> None:
    (name,) = minari.list_local_datasets()
    dataset = minari.load_dataset(name)
    for number, episode in enumerate(dataset.iterate_episodes()):
        ours = np.load(npz / f"episode-{number:06d}.npz")
        for key in ("image", "mask", "state"):
            np.testing.assert_array_equal(episode.observations[key], ours[key])
        np.testing.assert_array_equal(episode.actions, ours["action"][:-1])
        np.testing.assert_array_equal(episode.rewards, ours["reward"][:-1])
        first = {key: values[0] for key, values in episode.observations.items()}
        assert dataset.observation_space.contains(first)
        assert dataset.action_space.contains(episode.actions[0])
    halves = minari.split_dataset(dataset, [1, len(dataset) - 1])
    assert [len(half) for half in halves] == [1, len(dataset) - 1]
    assert len(dataset.sample_episodes(1)) == 1
    assert len(dataset.filter_episodes(lambda episode: episode.rewards.sum() > 1e9)) == 0
    print(f"{len(dataset)} episodes, {dataset.total_steps} steps: all arrays equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
