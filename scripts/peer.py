"""Upstream's Distracting Control Suite, patched just enough to run on current MuJoCo: what we compare with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from distractor_data.envs import gl  # sets up OpenGL before dm_control is imported

# isort: split
import mujoco
from dm_control import suite
from dm_control.mujoco.wrapper import core
from dm_control.suite.wrappers import pixels

from distractor_data.envs import backgrounds, upstream
from distractor_data.envs.renderers.agent import agent_parts
from distractor_data.envs.suite import SuiteEnv, camera_index, split_name
from distractor_data.spec import Purpose, Spec

assert gl  # imported for what it sets up

Result = TypeVar("Result")


def make_upstream(spec: Spec, episode: int, image_size: int | None = None) -> Any:
    """Upstream's own wrappers with the seeds of our episode; `spec.backgrounds` has `train` and `val` folders.

    Its constructor `suite.load` has one seed for all three processes; ours have one each, so the wrappers are
    put together here as it does. The patch: MuJoCo calls `tex_rgb` `tex_data` now.
    """
    from distracting_control.background import DistractingBackgroundEnv

    if not hasattr(core.MjModel, "tex_rgb"):
        core.MjModel.tex_rgb = property(lambda model: model.tex_data)
    domain, task = split_name(spec.env)
    folder = Path(spec.backgrounds) / ("train" if spec.split == "train" else "val")
    scale = upstream.DIFFICULTY_SCALE["easy"]
    env = suite.load(
        domain,
        task,
        task_kwargs={"random": spec.seed32(episode, Purpose.TASK), "time_limit": float("inf")},
    )
    background = upstream.get_background_kwargs(domain, None, spec.dynamic, str(folder))
    if domain == "hopper" and spec.version > 1:
        background["ground_plane_alpha"] = 1.0  # as LAOM's preset `scale_easy_video_hard` has it
    env = DistractingBackgroundEnv(env, seed=spec.seed32(episode, Purpose.BACKGROUND), **background)
    env = upstream.DistractingCameraEnv(
        env,
        camera_id=camera_index(domain),
        seed=spec.seed32(episode, Purpose.CAMERA),
        **upstream.get_camera_kwargs(domain, scale, spec.dynamic),
    )
    env = upstream.DistractingColorEnv(
        env, seed=spec.seed32(episode, Purpose.COLOR), **upstream.get_color_kwargs(scale, spec.dynamic)
    )
    size = image_size or spec.image_size
    render = {"height": size, "width": size, "camera_id": camera_index(domain)}
    return pixels.Wrapper(env, pixels_only=False, render_kwargs=render)


def upstream_trace(spec: Spec, episode: int, steps: int) -> dict[str, np.ndarray]:
    """What upstream shows and does over `steps` seeded random actions, one row a frame."""
    env = make_upstream(spec, episode)
    background = env._env._env._env
    rng = np.random.default_rng(episode)
    time_step, rows = env.reset(), []
    for step in range(steps):
        physics = env.physics
        rows.append(
            {
                "image": time_step.observation["pixels"].copy(),
                "cam_xpos": physics.data.cam_xpos.copy(),
                "cam_xmat": physics.data.cam_xmat.copy(),
                "mat_rgba": physics.model.mat_rgba.copy(),
                "qpos": physics.data.qpos.copy(),
                "frame": np.array(background._current_img_index),
            }
        )
        if step < steps - 1:
            time_step = env.step(rng.uniform(-1, 1, env.action_spec().shape[0]))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def dm_control_frame(spec: Spec, steps: int) -> dict[str, np.ndarray]:
    """What dm_control's own renderer shows of our environment, after `steps` of `seeded_actions`.

    `image` is (H, W, 3) uint8, `mask` (H, W) bool: where its segmentation sees a part of the agent.
    """
    env = SuiteEnv(spec, 0)
    env._env.reset()
    for action in seeded_actions(env.action_size, steps):
        env.step_blind(action)
    physics, model = env.physics, env.physics.model.ptr
    if spec.difficulty != "clean":  # the present frame of the video, if dm_control sent another one before
        with physics.contexts.gl.make_current() as context:
            skybox = backgrounds.skybox(model)
            context.call(mujoco.mjr_uploadTexture, model, physics.contexts.mujoco.ptr, skybox)
    view = {"height": spec.image_size, "width": spec.image_size, "camera_id": env.camera}
    image, segments = physics.render(**view), physics.render(segmentation=True, **view)
    agent = agent_parts(model)
    mask = [[(kind, index) in agent for index, kind in row] for row in segments.tolist()]
    physics.free()
    return {"image": image, "mask": np.array(mask)}


def seeded_actions(size: int, steps: int) -> np.ndarray:
    """(steps, size) in [-1, 1], the same for the same arguments."""
    return np.random.default_rng(0).uniform(-1, 1, (steps, size))


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a fresh process: dm_control believes that no one else draws in its thread."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
