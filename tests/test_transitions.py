"""`distractor_data.transitions`: what a trainer of one's own gets is what the episodes hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_dataset
import torch
from torch.utils.data import DataLoader

import distractor_data
from distractor_data import DmaskError

STEPS = small_dataset.STEPS


@pytest.mark.parametrize(("stack", "horizon"), [(1, 1), (3, 1), (2, 4)])
def test_they_are_the_episodes_frames_masks_and_actions(
    folder: Path, tmp_path: Path, stack: int, horizon: int
) -> None:
    data = distractor_data.transitions(folder, "walker", frame_stack=stack, horizon=horizon, cache=tmp_path / "cache")
    episodes = list(distractor_data.load(folder, "walker"))
    assert len(data) == len(episodes) * (STEPS - horizon)
    for index in range(len(data)):
        number, t = divmod(index, STEPS - horizon)
        episode, got = episodes[number], data[index]
        for at, seen in ((t, got.observation), (t + horizon, got.next_observation)):
            wanted = [episode.image[max(at - back, 0)].transpose(2, 0, 1) for back in reversed(range(stack))]
            np.testing.assert_array_equal(seen.numpy(), np.concatenate(wanted))
        masks = [episode.mask[max(t - back, 0)] for back in reversed(range(stack))]
        np.testing.assert_array_equal(got.mask.numpy(), np.stack(masks))
        np.testing.assert_array_equal(got.action.numpy(), episode.action[t : t + horizon])


def test_a_loader_with_workers_gives_the_same_batches(folder: Path, tmp_path: Path) -> None:
    data = distractor_data.transitions(folder, "walker-run", frame_stack=2, cache=tmp_path / "cache")
    for number, batch in enumerate(DataLoader(data, batch_size=8, num_workers=2)):
        wanted = data.batch(range(8 * number, min(8 * number + 8, len(data))))
        assert all(torch.equal(*pair) for pair in zip(batch, wanted, strict=True))
        assert batch.observation.shape[1:] == (6, small_dataset.SIZE, small_dataset.SIZE)


def test_it_is_decoded_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distractor_data.dataset import storage

    first = distractor_data.transitions(folder, "walker", cache=tmp_path / "cache")
    monkeypatch.setattr(storage, "decode_images", lambda *_: pytest.fail("decoded again"))
    again = distractor_data.transitions(folder, "walker", horizon=2, cache=tmp_path / "cache")
    assert torch.equal(first[0].observation, again[0].observation)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"horizon": 0}, "give 1 or more"), ({"frame_stack": 0}, "give 1 or more"), ({"horizon": STEPS}, "smaller")],
)
def test_what_gives_none_is_refused(folder: Path, tmp_path: Path, options: dict[str, int], said: str) -> None:
    with pytest.raises(DmaskError, match=said):
        distractor_data.transitions(folder, "walker", cache=tmp_path / "cache", **options)
