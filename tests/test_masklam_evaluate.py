import moving_square
import pytest
import torch

from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.generate import generate
from distractor_data.spec import Spec
from masklam import data, evaluate
from masklam.settings import Settings
from masklam.train import train

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("decoded_frames")


def test_returns_are_those_of_the_environment_and_fixed_by_their_seeds(tmp_path):
    spec = Spec(env="walker-run", episodes=3, steps=6, image_size=32)
    generate(spec, tmp_path / "d", workers=1)
    options = {"method": "bc", "labelled_trajectories": (0,), "res_blocks": 0, "policy_scale": 1, "policy_steps": 5}
    results = train(Settings(str(tmp_path / "d"), eval_episodes=1, **options), str(tmp_path / "run"))
    assert results["expert_return"] > 0
    for split in ("train", "test"):
        (found,) = results["returns"][split].values()
        assert len(found["returns"]) == 1
        assert found["normalised"] == pytest.approx(found["returns"][0] / results["expert_return"])
    seen = []

    def act(images):
        seen.append(images)
        return torch.zeros(len(images), 6)

    first, second = (evaluate.rollouts(act, spec, 2, stack=2, device=CPU) for _ in range(2))
    assert first == second
    assert all(total > 0 for total in first)
    assert seen[0].shape == (min(2, evaluate.cores()), 6, 32, 32)
    assert torch.equal(seen[0][:, :3], seen[0][:, 3:])  # before the start, the first frame repeats
    assert not torch.equal(seen[1][:, :3], seen[1][:, 3:])


def test_rollouts_without_their_videos_are_refused(tmp_path):
    spec = Spec(env="walker-run", episodes=2, steps=2, image_size=32, backgrounds="videos", backgrounds_digest="abc")

    class Job:
        settings = Settings(eval_episodes=1)

    with pytest.raises(DmaskError, match=r"give --backgrounds videos, or --eval-episodes 0"):
        evaluate.backgrounds(Job(), spec)


def test_background_motion_sees_the_background_and_not_the_agent(tmp_path):
    moving_square.write(tmp_path / "d", episodes=2, steps=6)
    frames = data.load(str(tmp_path / "d"), "walker-run", mask_column=schema.MASK)
    t = frames.transitions()
    before = evaluate.background_motion(frames, t)
    agent = frames.masks(torch.arange(12))[:, 0] > 0
    image = frames.image.clone()
    image[agent] = 0
    assert torch.equal(evaluate.background_motion(data.replace(frames, image=image), t), before)
    image[~agent] = 0
    assert not evaluate.background_motion(data.replace(frames, image=image), t).any()
