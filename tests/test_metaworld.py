"""Distracting Meta-World: the package's tasks to the bit, pictures that stand upright, silhouettes that are soft."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from distractor_data import envs, policies
from distractor_data.envs import gl
from distractor_data.envs.base import Observation
from distractor_data.errors import DmaskError
from distractor_data.rollout import rollout
from distractor_data.spec import CAMERAS, Purpose, Spec

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("metaworld")

SPEC = Spec(env="metaworld/drawer-open", steps=60, image_size=32)
TASKS = ["drawer-open", "window-open", "peg-insert-side"]


def play(spec: Spec, actions: np.ndarray, episode: int = 0) -> tuple[list[Observation], list[tuple[float, bool]]]:
    env = envs.make(spec, episode)
    seen, outcomes = [env.reset()], []
    for action in actions:
        observation, reward, _ = env.step(action)
        seen.append(observation)
        outcomes.append((reward, env.success))
    env.close()
    return seen, outcomes


def expert_actions(env: str, seed: int, steps: int) -> np.ndarray:
    """What the expert does in a task without distractors."""
    task, rng = envs.task(env, seed), np.random.default_rng(0)
    state, policy, actions = task.reset(), policies.load("expert", env, 39, 4), []
    for _ in range(steps):
        actions.append(policy.act(state, rng).astype(np.float32))
        state, _, _ = task.step(actions[-1])
    return np.array(actions)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("name", TASKS)
def test_states_rewards_and_success_are_the_packages_own_whatever_is_in_front(name):
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    spec = dataclasses.replace(SPEC, env=f"metaworld/{name}", image_size=16)
    seed = spec.seed32(0, Purpose.TASK)
    actions = expert_actions(spec.env, seed, 100)
    theirs = ALL_V3_ENVIRONMENTS[f"{name}-v3"]()
    theirs._freeze_rand_vec, theirs.seeded_rand_vec, theirs._set_task_called = False, True, True
    theirs.seed(seed)
    state, _ = theirs.reset()
    goal = theirs._target_pos.copy()
    own = [(state, None, None), *((s, r, i["success"]) for s, r, _, _, i in map(theirs.step, actions))]
    for difficulty, clean in (("hard", True), ("clean", False)):
        seen, outcomes = play(dataclasses.replace(spec, difficulty=difficulty, clean=clean, steps=100), actions)
        assert any(success for _, success in outcomes) or name == "peg-insert-side"
        for observation, (reward, success), (state, its_reward, its_success) in zip(
            seen, [(None, None), *outcomes], own, strict=True
        ):
            np.testing.assert_array_equal(observation.state[:36], state[:36].astype(np.float32))
            np.testing.assert_allclose(observation.state[36:], goal, atol=1e-6)
            assert reward == its_reward
            assert success == its_success


@pytest.mark.parametrize("env", envs.expand(["metaworld/mt10"]))
def test_an_episode_is_a_function_of_its_seed(env):
    first, again, other = (envs.task(env, seed) for seed in (1, 1, 2))
    states = [task.reset() for task in (first, again, other)]
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != states[2]).any()
    np.testing.assert_array_equal(first.step(np.ones(4))[0], again.step(np.ones(4))[0])


def test_same_arguments_same_pixels_and_the_clean_picture_is_the_undistracted_one():
    spec, actions = dataclasses.replace(SPEC, clean=True), np.random.default_rng(0).uniform(-1, 1, (3, 4))
    first, again, other = (play(spec, actions, episode)[0] for episode in (0, 0, 1))
    clean = play(dataclasses.replace(SPEC, difficulty="clean"), actions)[0]
    for one, two, undistracted in zip(first, again, clean, strict=True):
        for field in ("image", "mask", "state", "image_clean", "mask_clean"):
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
        np.testing.assert_array_equal(one.image_clean, undistracted.image)
        np.testing.assert_array_equal(one.mask_clean, undistracted.mask)
        assert psnr(one.image, undistracted.image) < 25
    assert (first[0].image != other[0].image).any()


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_the_packages_and_stand_upright(camera):
    """Without distractors and at the package's distance: MuJoCo's own picture, turned where it hangs."""
    made = envs.make(dataclasses.replace(SPEC, difficulty="clean", camera=camera, camera_back=0.0, image_size=64), 0)
    ours = made.reset().image
    model, data = made._task.model, made._task.data
    fresh = copy.copy(data)
    mujoco.mj_forward(model, fresh)
    data.cam_xpos[:], data.cam_xmat[:] = fresh.cam_xpos, fresh.cam_xmat  # the model's own
    hangs = data.cam_xmat[made.camera].reshape(3, 3)[2, 1] < -1e-6
    assert hangs == (camera != "topview")
    model.vis.global_.offwidth = model.vis.global_.offheight = 64
    with gl.drawing():
        renderer = mujoco.Renderer(model, 64, 64)
        renderer.update_scene(data, camera)
        theirs = renderer.render()
        renderer.close()
    made.close()
    assert psnr(ours, theirs[::-1, ::-1] if hangs else theirs) > (38 if camera == "corner2" else 35)
    assert psnr(ours, theirs[::-1]) < 30  # a mirrored scene is another


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_distracted_camera_looks_at_the_scene_as_the_clean_one_does(camera):
    """Upstream's process keeps to its limits: turned by less than the sum of its ranges, upright, not far away."""
    for episode in range(3):
        made = envs.make(dataclasses.replace(SPEC, camera=camera, image_size=16), episode)
        made.reset()
        for _ in range(5):
            made.step(np.zeros(4))
            pose = made._frame.out_of(made._stand_in.pose)
            turned = made._pose.axes.T @ pose.axes
            assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) < 25
            np.testing.assert_allclose(pose.axes.T @ pose.axes, np.eye(3), atol=1e-4)
            away = np.linalg.norm(made._pose.position - made._frame.origin)
            assert 0.949 * away < np.linalg.norm(pose.position - made._frame.origin) < 1.151 * away
        made.close()


def test_the_mask_covers_the_arm_and_by_options_mount_and_objects():
    masks = {}
    for mount, objects in ((False, False), (True, False), (False, True), (True, True)):
        spec = dataclasses.replace(SPEC, difficulty="clean", mask_mount=mount, mask_objects=objects, image_size=64)
        made = envs.make(spec, 0)
        masks[mount, objects] = made.reset().mask
        if not (mount or objects):
            draw, data, pose = made._renderer, made._task.data, made._pose
            before, model = draw.image(data, pose).astype(int), draw._plain
            arm = [index for kind, index in draw._agent if kind == mujoco.mjtObj.mjOBJ_GEOM]
            model.geom_rgba[arm, :3] = [1, 0, 1] - model.geom_rgba[arm, :3]
            changed = (abs(draw.image(data, pose).astype(int) - before) > 40).any(-1)
            assert (changed & masks[False, False]).sum() > 0.85 * masks[False, False].sum()
            assert (changed & ~masks[False, False]).sum() < 0.5 * masks[False, False].sum()
        made.close()
    arm = masks[False, False]
    assert 0.01 < arm.mean() < 0.1
    for other in masks.values():
        assert (other | arm == other).all()
    assert masks[True, False].sum() > 2 * arm.sum()  # the still mount would be most of it
    drawer = masks[False, True] & ~arm
    assert 0 < drawer.mean() < 0.05
    np.testing.assert_array_equal(masks[True, True], masks[True, False] | masks[False, True])


def test_the_silhouette_is_soft_and_glass_covers_by_its_alpha():
    """Before a white video and before a black one: their difference is what is not covered."""
    made = envs.make(dataclasses.replace(SPEC, env="metaworld/window-open", image_size=64), 0)
    made.reset()
    pictures = []
    for level in (0, 255):
        made._video._frames = np.full_like(made._video._frames, level)
        pictures.append(made._observe(np.zeros(39)).image.astype(int))
    black, white = pictures
    uncovered = (white - black)[..., 0]
    assert (np.abs(white - black - uncovered[..., None]) <= 1).all()  # but for the rounding of white
    assert ((uncovered == 0).any(), (uncovered == 255).any()) == (True, True)
    edge = (uncovered > 0) & (uncovered < 255)
    inside, outside = uncovered == 0, uncovered == 255
    beside = lambda area: np.logical_or.reduce([np.roll(area, by, axis) for by in (1, -1) for axis in (0, 1)])  # noqa: E731
    assert edge.sum() > 100
    assert (beside(inside) & outside).sum() < edge.sum() / 2  # a hard edge is the exception
    model = made._task.model
    (glass,) = {float(model.mat(material).rgba[3]) for material in ["window_glass"]}
    assert np.isin(np.round(255 * (1 - glass)) + np.arange(-3, 4), uncovered).any()  # blending alone takes its square
    made.close()


def test_an_episode_ends_so_many_steps_after_its_first_success():
    spec = dataclasses.replace(SPEC, env="metaworld/drawer-close", steps=200, image_size=16, steps_after_success=5)
    episode, longer = rollout(spec, 0), rollout(dataclasses.replace(spec, steps_after_success=8), 0)
    first = int(np.flatnonzero(episode.success)[0])
    assert len(episode) == first + 1 + 5
    assert len(longer) == len(episode) + 3
    assert episode.info["success"] is True
    assert abs(episode.action).max() <= 1
    short = rollout(dataclasses.replace(spec, steps=10), 0)
    assert (len(short), short.info["success"]) == (10, False)


def test_medium_is_the_expert_with_noise_and_its_digest_says_so():
    state, rng = envs.task(SPEC.env, 0).reset(), np.random.default_rng(0)
    expert, medium = (policies.load(level, SPEC.env, 39, 4) for level in ("expert", "medium"))
    differences = [medium.act(state, rng) - expert.act(state, rng) for _ in range(2000)]
    assert np.std(differences) == pytest.approx(medium.noise, rel=0.05)
    assert np.abs(np.mean(differences, 0)).max() < 0.1
    digests = {
        policies.digest(level, env)
        for level in ("expert", "medium", "mixed")
        for env in (SPEC.env, "metaworld-reach")
    }
    assert len(digests) == 6


def test_names_and_groups():
    assert Spec(env="metaworld/reach").env == "metaworld-reach"
    assert envs.expand(["suite/laom", "metaworld/reach", "walker"]) == [
        "walker-run", "cheetah-run", "hopper-hop", "humanoid-walk", "metaworld-reach",
    ]  # fmt: skip
    assert len(envs.expand(["metaworld/mt10"])) == 10
    assert envs.expand(["metaworld/mt50"]) == sorted(
        envs.expand(envs.environments("metaworld")), key=envs.expand(["metaworld/mt50"]).index
    )


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("metaworld/drawer-opne", "metaworld/drawer-open"),
        ("metaworld/button-press-topdown-v3", "metaworld/button-press-topdown"),
        ("metaworld/mt1", "metaworld/mt10"),
        ("metaworld-reech", "metaworld/reach"),
        ("suite/laoms", "suite/laom"),
        ("suite/walker-rum", "walker-run"),
    ],
)
def test_an_unknown_name_names_the_nearest(refusal, tmp_path, asked, meant):
    line = refusal("generate", "--env", "walker", "--env", asked, "--out", str(tmp_path / "data"))
    assert f"did you mean {meant!r}?" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--camera=corner", "--camera-back=0", "--mask-mount", "--mask-objects"])
def test_what_is_meta_worlds_alone_is_refused_elsewhere(refusal, tmp_path, option):
    assert "is for Meta-World's tasks" in refusal("generate", "--env", "walker", option, "--out", str(tmp_path / "d"))


def test_without_the_extra_one_line_names_it(refusal, tmp_path, monkeypatch):
    from distractor_data.envs import metaworld

    metaworld._classes.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "metaworld.env_dict", None)
    try:
        line = refusal("generate", "--env", "metaworld/reach", "--out", str(tmp_path / "data"))
    finally:
        metaworld._classes.cache_clear()
    assert "pip install 'dmask[metaworld]'" in line


def test_the_caster_says_that_it_cannot(refusal, tmp_path):
    line = refusal("generate", "--env", "metaworld/reach", "--renderer", "caster", "--out", str(tmp_path / "data"))
    assert "give --renderer opengl" in line


def test_a_task_that_is_no_more_is_an_error_of_the_door():
    with pytest.raises(DmaskError, match="no such environment"):
        envs.make(dataclasses.replace(SPEC, env="metaworld/nothing-at-all"), 0)
