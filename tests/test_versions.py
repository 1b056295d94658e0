"""What must not differ between versions of MuJoCo, and data that is never made with two of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distractor_data.dataset import meta
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.rollout import rollout
from distractor_data.spec import Spec
from tests.damage import contents

# What experts did with MuJoCo 3.3.0 and dm_control 1.0.28, and their masks; `python -m tests.test_versions` wrote it
THEN = Path(__file__).parent / "mujoco-3.3.0.npz"
PAPERS = ["walker-run", "cheetah-run", "hopper-hop", "humanoid-walk"]


def played(env: str) -> dict[str, np.ndarray]:
    """Masks (as bits), states, actions and rewards of an episode."""
    episode = rollout(Spec(env=env, steps=60), 0)
    return {
        "mask": np.packbits(episode.mask, axis=-1),
        "state": episode.state,
        "action": episode.action,
        "reward": episode.reward,
    }


@pytest.mark.parametrize("env", PAPERS)
def test_masks_returns_and_shapes_are_those_of_the_oldest_mujoco(env: str) -> None:
    now = played(env)
    with np.load(THEN) as kept:
        then = {name: kept[f"{env}/{name}"] for name in now}
    for name in now:
        assert (now[name].shape, now[name].dtype) == (then[name].shape, then[name].dtype), name
    ours, theirs = (np.unpackbits(each["mask"], axis=-1).astype(bool) for each in (now, then))
    assert (ours & theirs).sum() > 0.98 * (ours | theirs).sum()
    np.testing.assert_allclose(now["state"], then["state"], atol=0.02)
    assert now["reward"].sum() == pytest.approx(then["reward"].sum(), rel=0.01, abs=1e-4)


@pytest.mark.parametrize("package", ["mujoco", "dm_control", "distracting-control"])
def test_data_goes_on_with_the_versions_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    spec = Spec(env="cheetah-run", episodes=1, steps=3, image_size=16, policy="random")
    generate(spec, tmp_path)
    root = tmp_path / "cheetah-run" / "train"
    assert meta.read_record(root)["versions"][package] == meta.versions()[package]
    before, now = contents(root), meta.versions()
    monkeypatch.setattr(meta, "versions", lambda family: now | {package: "9.9"})
    with pytest.raises(DmaskError, match=rf"made with other versions: {package} \({now[package]} there, 9.9 now\); "):
        generate(dataclasses.replace(spec, episodes=2), tmp_path)
    assert contents(root) == before


if __name__ == "__main__":
    np.savez_compressed(THEN, **{f"{env}/{name}": kept for env in PAPERS for name, kept in played(env).items()})
