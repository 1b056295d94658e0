"""The caster: OpenGL's picture in its exact form, the same bytes everywhere, and honest about what it can't draw."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from every_shape import digest, every_shape

from distractor_data import policies, schema
from distractor_data.dataset import meta
from distractor_data.envs import make
from distractor_data.envs.base import flatten
from distractor_data.envs.renderers.caster import VERSION, Caster, castable
from distractor_data.envs.renderers.opengl import OpenGL
from distractor_data.envs.suite import SuiteEnv
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.spec import Spec

PAPERS = ["walker-run", "cheetah-run", "hopper-hop", "humanoid-walk"]
OTHERS = ["quadruped-run", "fish-swim", "manipulator-insert_peg", "reacher-easy", "swimmer-swimmer6"]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def both(env: SuiteEnv, steps: int, every: int = 1, policy: str = "random") -> tuple[np.ndarray, ...]:
    """Images of the caster and of OpenGL, then their masks, of every so many steps of an episode."""
    state, rng, rows = env.reset().state, np.random.default_rng(0), []
    actor = policies.load(policy, env.spec.env, len(state), env.action_size)
    renderer = env._renderer
    caster = Caster(env.physics.model.ptr, env.camera, env.spec.image_size, renderer._agent)
    for step in range(steps):
        if step % every == 0:
            data = env.physics.data.ptr
            renderer.show_skybox(env.background_frame)
            caster.show_skybox(env.background_frame)
            rows.append((caster.image(data), renderer.image(data), caster.mask(), renderer.mask()))
        state = flatten(env.step_blind(np.clip(actor.act(state, rng), -1, 1))[0].observation)
    env.close()
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("name", PAPERS)
def test_experts_before_videos_look_as_opengl_draws_them(real_backgrounds, name, size):
    env = make(Spec(env=name, backgrounds=str(real_backgrounds), image_size=size, fidelity="exact"), 2)
    ours, theirs, our_mask, their_mask = both(env, steps=120, every=10, policy="expert")
    assert psnr(ours, theirs) > 46
    assert min(map(psnr, ours, theirs)) > 43
    assert iou(our_mask, their_mask) > 0.995


@pytest.mark.parametrize("name", OTHERS)
def test_other_tasks_of_simple_shapes_do_too(name):
    ours, theirs, our_mask, their_mask = both(make(Spec(env=name, fidelity="exact"), 0), steps=5)
    assert psnr(ours, theirs) > 43
    assert iou(our_mask, their_mask) > 0.98  # of agents of fifty pixels


def test_its_pictures_are_upstreams(real_backgrounds):
    from scripts.peer import alone, upstream_trace

    spec = Spec(env="walker-run", backgrounds=str(real_backgrounds), fidelity="exact")
    theirs = alone(upstream_trace, spec, 0, 15)["image"]
    env = make(spec, 0)
    env.reset()
    caster = Caster(env.physics.model.ptr, env.camera, 64, env._renderer._agent)
    rng = np.random.default_rng(0)
    for picture in theirs:
        caster.show_skybox(env.background_frame)
        assert psnr(caster.image(env.physics.data.ptr), picture) > 43
        env.step_blind(rng.uniform(-1, 1, env.action_size))
    env.close()


@pytest.mark.parametrize("size", [16, 33, 100, 512])
def test_every_shape_and_light_at_every_size(size):
    model, data, agent = every_shape()
    assert castable(model)
    caster, renderer = Caster(model, 0, size, agent), OpenGL(model, 0, size, agent)
    ours, theirs, our_mask, their_mask = caster.image(data), renderer.image(data), caster.mask(), renderer.mask()
    assert ours.shape == (size, size, 3)
    assert psnr(ours, theirs) > 40
    assert iou(our_mask, their_mask) > (0.97 if size < 64 else 0.995)
    renderer.close()


def test_pixel_centres_hit_what_the_simulators_rays_hit():
    model, data, agent = every_shape()
    size = 64
    caster = Caster(model, 0, size, agent)
    caster.image(data)
    hit = caster._buffers.hit[..., 4]  # the lowest row first
    eye, axes = data.cam_xpos[0], data.cam_xmat[0].reshape(3, 3)
    half, geom = np.tan(np.radians(model.cam_fovy[0] / 2)), np.zeros(1, np.int32)
    agree = []
    for y in range(0, size, 3):
        for x in range(0, size, 3):
            right, up = ((2 * place + 1) / size - 1 for place in (x, y))
            ray = axes @ np.array([half * right, half * up, -1.0])
            mujoco.mj_ray(model, data, eye, ray, None, 1, -1, geom)
            found = hit[y, x]
            shape = caster._tables.shapes[found]["index"] if found >= 0 else -1
            if shape < model.ngeom:  # rays go through sites
                agree.append(shape == geom[0])
    assert np.mean(agree) > 0.99


def test_mask_and_shapes_do_not_depend_on_the_background(real_backgrounds):
    seen = [
        both(make(Spec(env="hopper-hop", backgrounds=source), 1), steps=3)
        for source in ("synthetic", str(real_backgrounds))
    ]
    np.testing.assert_array_equal(seen[0][2], seen[1][2])
    assert (seen[0][0] != seen[1][0]).any()


def test_colours_camera_and_alpha_of_the_moment_reach_the_picture():
    model, data, agent = every_shape()
    caster = Caster(model, 0, 64, agent)
    pictures = [caster.image(data)]
    np.testing.assert_array_equal(pictures[0], caster.image(data))
    model.mat_rgba[1, :3] = [0, 1, 0]
    pictures.append(caster.image(data))
    model.mat_rgba[0, 3] = 0.3
    pictures.append(caster.image(data))
    model.geom_rgba[1, 3] = 0
    pictures.append(caster.image(data))
    data.cam_xpos[0, 0] += 0.1
    pictures.append(caster.image(data))
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))


@pytest.mark.parametrize(
    "target",
    [
        "generic",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("x86-64-v2", "x86-64-v3", "skylake-avx512")),
    ],
)
def test_same_bytes_when_compiled_for_another_processor(target):
    root = Path(__file__).parents[1]
    environ = os.environ | {
        "NUMBA_CPU_NAME": target,
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    }
    command = [sys.executable, "-W", "ignore", "-m", "every_shape"]
    made = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=900)
    assert made.stdout == digest()


def test_castable_says_what_can_be_drawn():
    def model(domain: str, task: str) -> mujoco.MjModel:
        from dm_control import suite as tasks

        return tasks.load(domain, task).physics.model.ptr

    assert all(castable(model(*name.split("-"))) for name in PAPERS + OTHERS)
    assert not castable(model("dog", "run"))  # a skin and meshes
    assert not castable(model("ball_in_cup", "catch"))  # a tendon
    assert not castable(model("quadruped", "fetch"))  # a ball with a texture
    other, _, _ = every_shape()
    other.light_castshadow[:] = True
    other.geom_matid[1] = 0  # a reflecting, textured box
    assert not castable(other)


def test_a_dataset_that_it_draws_goes_on_with_it_alone(tmp_path):
    spec = Spec(env="walker", episodes=1, steps=3, image_size=16, clean=True, policy="random", renderer="caster")
    for directory in (tmp_path / "one", tmp_path / "other"):
        root = generate(spec, directory, workers=1).root
    assert (root / schema.data_file(0)).read_bytes() == (
        schema.root(tmp_path / "one", "walker-run", "train") / schema.data_file(0)
    ).read_bytes()
    assert meta.read_record(root)["versions"]["renderer"] == f"caster {VERSION}"
    with pytest.raises(DmaskError, match='renderer \\("caster" there, "opengl" now\\)'):
        generate(dataclasses.replace(spec, renderer="opengl"), tmp_path / "other", workers=1)
    with pytest.raises(DmaskError, match="dog-run shows; give --renderer opengl"):
        generate(dataclasses.replace(spec, env="dog-run"), tmp_path / "dog", workers=1)
    assert not (tmp_path / "dog" / "dog-run" / "train" / schema.DMASK).exists()
