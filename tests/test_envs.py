"""Environments: equal to upstream's processes, repeatable, and with masks that mean what they say."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import mujoco
import numpy as np
import pytest

from distractor_data import envs
from distractor_data.envs import make
from distractor_data.errors import DmaskError
from distractor_data.spec import FAMILIES, VERSION, Spec, full_name

SPEC = Spec(env="walker-run", steps=80)
TOO_SMALL = ("lqr-lqr_6_2", "point_mass-easy", "point_mass-hard")  # the agent is less than a pixel of 32×32
PAPERS = ["walker-run", "cheetah-run", "hopper-hop", "humanoid-walk"]


def run(spec: Spec, episode: int = 0, steps: int = 4) -> list:
    env = make(spec, episode)
    rng = np.random.default_rng(1)
    seen = [env.reset(), *(env.step(rng.uniform(-1, 1, env.action_size))[0] for _ in range(steps))]
    env.close()
    return seen


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize(
    ("env", "dynamic", "version"),
    [(env, dynamic, VERSION) for env in PAPERS for dynamic in (True, False)] + [("hopper-hop", False, 1)],
)
def test_camera_colour_and_background_follow_upstream_step_by_step(real_backgrounds, env, dynamic, version):
    from scripts.peer import alone, upstream_trace

    steps = 75 if dynamic else 5  # the videos have 60 frames, so that it turns around at least once
    spec = Spec(env=env, steps=80, dynamic=dynamic, backgrounds=str(real_backgrounds), version=version)
    theirs = alone(upstream_trace, spec, 3, steps)
    ours = make(spec, 3)
    rng = np.random.default_rng(3)
    observation = ours.reset()
    for step in range(steps):
        for name, value in (
            ("cam_xpos", ours.physics.data.cam_xpos),
            ("cam_xmat", ours.physics.data.cam_xmat),
            ("mat_rgba", ours.physics.model.mat_rgba),
            ("qpos", ours.physics.data.qpos),
        ):
            np.testing.assert_array_equal(value, theirs[name][step], err_msg=f"{name}, step {step}")
        if dynamic:
            assert ours.background_frame == theirs["frame"][step]
        # The frame shown is upstream's, and so is the picture but for what the smaller shadow map leaves out.
        assert psnr(observation.image, theirs["image"][step]) > 38
        observation, _, _ = ours.step(rng.uniform(-1, 1, ours.action_size))
    ours.close()


def test_same_arguments_same_pixels_other_episode_other_pixels():
    spec = dataclasses.replace(SPEC, clean=True)
    first, second, other = run(spec), run(spec), run(spec, episode=1)
    for one, two in zip(first, second, strict=True):
        for field in ("image", "mask", "state", "image_clean", "mask_clean"):
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert (first[0].image != other[0].image).any()


def test_splits_share_no_seed_and_no_video():
    train, test = make(SPEC, 0), make(dataclasses.replace(SPEC, split="test"), 0)
    assert (train.reset().state != test.reset().state).any()
    assert train.background.startswith("synthetic-train")
    assert test.background.startswith("synthetic-test")
    train.close(), test.close()


@pytest.mark.parametrize("env", PAPERS)
def test_mask_covers_the_agent_and_nothing_else(env):
    """On clean frames, pixels that change when only the agent's colour changes are those of the mask."""
    made = make(Spec(env=env, difficulty="clean"), 0)
    seen = made.reset()
    model = made.physics.model
    agent = [geom for geom in range(model.ngeom) if model.body_rootid[model.geom_bodyid[geom]] != 0]
    before = made._renderer.image(made.physics.data.ptr).astype(int)
    model.geom_matid[agent] = -1
    model.geom_rgba[agent] = [1, 0, 1, 1]
    changed = (abs(made._renderer.image(made.physics.data.ptr).astype(int) - before) > 40).any(-1)
    made.close()
    # The reflecting floor shows the new colour too, faintly; edges are blended in the image, not in the mask.
    assert 0 < seen.mask.mean() < 0.5
    assert (changed & seen.mask).sum() > 0.85 * seen.mask.sum()
    assert (changed & ~seen.mask).sum() < 0.5 * seen.mask.sum()


def test_distractors_change_the_image_and_neither_state_nor_reward():
    distracted, clean = make(SPEC, 0), make(dataclasses.replace(SPEC, difficulty="clean"), 0)
    one, two = distracted.reset(), clean.reset()
    rng = np.random.default_rng(0)
    for _ in range(5):
        np.testing.assert_array_equal(one.state, two.state)
        assert psnr(one.image, two.image) < 25
        action = rng.uniform(-1, 1, 6)
        (one, reward, _), (two, other, _) = distracted.step(action), clean.step(action)
        assert reward == other
    distracted.close(), clean.close()


def test_clean_image_is_that_of_the_undistracted_environment():
    distracted = run(dataclasses.replace(SPEC, clean=True))
    clean = run(dataclasses.replace(SPEC, difficulty="clean"))
    for one, two in zip(distracted, clean, strict=True):
        np.testing.assert_array_equal(one.image_clean, two.image)
        np.testing.assert_array_equal(one.mask_clean, two.mask)
        assert (one.mask_clean != one.mask).any()  # the distracted camera stands elsewhere


def test_static_backgrounds_and_cameras_stand_still():
    env = make(dataclasses.replace(SPEC, dynamic=False), 0)
    env.reset()
    frame, colours = env.background_frame, env.physics.model.mat_rgba.copy()
    env.step(np.zeros(6))
    assert env.background_frame == frame
    np.testing.assert_array_equal(env.physics.model.mat_rgba, colours)
    env.close()


@pytest.mark.parametrize("difficulty", ["clean", "easy", "medium", "hard", "scale-easy-video-hard"])
def test_every_difficulty_runs(difficulty):
    seen = run(dataclasses.replace(SPEC, difficulty=difficulty), steps=1)
    assert seen[-1].image.shape == (64, 64, 3)


def drawn_by_dm_control(specs: list[Spec]) -> list[dict[str, np.ndarray]]:
    from scripts.peer import dm_control_frame

    return [dm_control_frame(spec, steps=1) for spec in specs]


def test_every_environment_is_drawn_as_dm_control_draws_it(capfd):
    """Distracted and clean, image and mask, pixel for pixel, where exact pictures are asked for; without a word."""
    from distractor_data.envs.suite import environments
    from scripts.peer import alone, seeded_actions

    specs = [Spec(env=env, steps=3, image_size=32, clean=True, fidelity="exact") for env in environments()]
    clean = [dataclasses.replace(spec, difficulty="clean") for spec in specs]
    with ThreadPoolExecutor() as pool:
        theirs = pool.submit(alone, drawn_by_dm_control, specs + clean)
        ours = []
        for spec in specs:
            made = make(spec, 0)
            made.reset()
            ours.append(made.step(seeded_actions(made.action_size, 1)[0]))
            made.close()
    frames = theirs.result()
    assert capfd.readouterr().err == ""
    for spec, (seen, reward, _), distracted, clear in zip(
        specs, ours, frames[: len(specs)], frames[len(specs) :], strict=True
    ):
        np.testing.assert_array_equal(seen.image, distracted["image"], err_msg=spec.env)
        np.testing.assert_array_equal(seen.mask, distracted["mask"], err_msg=spec.env)
        np.testing.assert_array_equal(seen.image_clean, clear["image"], err_msg=spec.env)
        np.testing.assert_array_equal(seen.mask_clean, clear["mask"], err_msg=spec.env)
        assert seen.mask_clean.any() or spec.env in TOO_SMALL, spec.env
        assert np.isfinite(reward), spec.env


@pytest.mark.parametrize("env", ["quadruped-escape", "swimmer-swimmer6", "dog-run", *PAPERS])
@pytest.mark.parametrize("fidelity", ["medium", "fast"])
def test_faster_pictures_are_near_the_exact_ones(env, fidelity, real_backgrounds):
    spec = Spec(env=env, clean=True, backgrounds=str(real_backgrounds))
    near, exact = (run(dataclasses.replace(spec, fidelity=each), steps=4) for each in (fidelity, "exact"))
    ours, theirs = (np.stack([seen.image for seen in each]) for each in (near, exact))
    assert psnr(ours, theirs) > (42 if env in PAPERS else 30)
    ours, theirs = (np.stack([seen.image_clean for seen in each]) for each in (near, exact))
    assert psnr(ours, theirs) > 30
    ours, theirs = (
        np.stack([mask for seen in each for mask in (seen.mask, seen.mask_clean)]) for each in (near, exact)
    )
    assert (ours & theirs).sum() >= 0.998 * (ours | theirs).sum()


def test_a_video_shown_from_kept_textures_looks_as_when_it_was_sent(real_backgrounds, monkeypatch):
    """Also where few textures are kept: frames come back as the video turns around."""
    from distractor_data.envs.renderers import opengl

    spec = Spec(env="cheetah-run", backgrounds=str(real_backgrounds), image_size=16, policy="random")
    kept, few = run(spec, steps=150), []
    monkeypatch.setattr(opengl, "_SKYBOX_MEMORY", 3 * 50**2 * opengl._TEXEL)
    few = run(spec, steps=150)
    env = make(spec, 0)
    rng = np.random.default_rng(1)
    env.reset()
    for step, (one, other) in enumerate(zip(kept[1:], few[1:], strict=True)):
        env._renderer._textures.clear()  # so that each frame is sent again, into the texture shown
        seen = env.step(rng.uniform(-1, 1, env.action_size))[0]
        np.testing.assert_array_equal(one.image, seen.image, err_msg=str(step))
        np.testing.assert_array_equal(other.image, seen.image, err_msg=str(step))
    env.close()


def test_a_copy_of_a_compiled_model_is_what_its_xml_gives():
    from dm_control import suite

    from distractor_data.envs import mjcf

    for _ in range(2):
        theirs = suite.load("swimmer", "swimmer6", task_kwargs={"random": 3}).physics.model
        ours = mjcf.load("swimmer", "swimmer6", random=3).physics.model
        assert ours.to_bytes() == theirs.to_bytes()
        ours.ptr.geom_size[:] = 7  # which the next copy doesn't see


def test_frames_of_videos_are_kept_within_bounds(real_backgrounds):
    from distractor_data.envs.distract import _Decoded
    from distractor_data.envs.videos import VideoFolder

    source = str(real_backgrounds)
    names = VideoFolder(real_backgrounds).videos("train")[:3]
    decoded = _Decoded(2 * 4 * 100 * 100 * 3)  # two of the three
    first = [decoded.frames(source, "train", name, 0, 3, 100, False) for name in names]
    again = [decoded.frames(source, "train", name, 0, 3, 100, False) for name in reversed(names)]
    assert [one is other for one, other in zip(first, reversed(again), strict=True)] == [False, True, True]
    np.testing.assert_array_equal(first[0], again[-1])


def test_unknown_environment_names_the_nearest():
    with pytest.raises(DmaskError, match="walker-run"):
        make(Spec(env="walker-rum"), 0)


def test_a_target_or_a_prop_is_not_the_agent():
    env = make(Spec(env="reacher-easy", difficulty="clean"), 0)
    env.reset()
    names = {env.physics.model.id2name(index, "geom") for kind, index in env._renderer._agent if kind == 5}
    env.close()
    assert "target" not in names
    assert {"arm", "hand", "finger"} <= names


@pytest.mark.parametrize("family", FAMILIES)
def test_a_list_of_environments_makes_none_of_them(family, monkeypatch):
    if family == "metaworld":
        pytest.importorskip("metaworld")
    listed = envs.environments(family)
    monkeypatch.setattr(mujoco.MjModel, "from_xml_string", None)
    monkeypatch.setattr(mujoco.MjModel, "from_xml_path", None)
    assert {envs.sizes(name) for name in listed} >= ({(39, 4)} if family == "metaworld" else {(24, 6), (17, 6)})


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_listed_sizes_are_the_tasks_own(family):
    if family == "metaworld":
        pytest.importorskip("metaworld")
    for name in envs.environments(family):
        task = envs.task(full_name(name), 0)
        assert envs.sizes(name) == (len(task.reset()), task.action_size), name
