"""OpenGL: chosen before MuJoCo is imported, whatever comes first, and refused in one line with the true cause."""

from __future__ import annotations

import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path

import bare
import pytest

import distractor_data
import dmask_cards
import masklam
from distractor_data import engines
from distractor_data.errors import DmaskError
from distractor_data.spec import Spec
from tests.test_backgrounds import write_frames, write_video

# In a process that has imported nothing of ours, one child a module: import it, then draw.
DRAW_AFTER = """
import os, sys
import cv2, datasets, matplotlib.pyplot, numpy, pandas, PIL.Image, torch  # each child then imports what is ours
assert 'mujoco' not in sys.modules
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            __import__(name)
            import mujoco
            from distractor_data.envs.renderers.opengl import OpenGL
            texture = '<texture type="skybox" builtin="flat" rgb1="1 0 0" width="8" height="8"/>'
            model = mujoco.MjModel.from_xml_string(
                f'<mujoco><asset>{texture}</asset><worldbody><camera/></worldbody></mujoco>'
            )
            data = mujoco.MjData(model)
            mujoco.mj_forward(model, data)
            pixels = OpenGL(model, 0, 16, frozenset()).image(data)
            os._exit(int(not (pixels[..., 0] > 200).all()))
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(*failed)
"""


def modules() -> list[str]:
    packages = (distractor_data, masklam, dmask_cards)
    return [
        found.name
        for package in packages
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]


def test_whatever_is_imported_first_can_draw():
    names = modules()
    assert {"distractor_data.envs.upstream", "distractor_data.policies.training.batch", "masklam.train"} <= set(names)
    done = bare.run(sys.executable, "-c", DRAW_AFTER, *names)
    assert done.stdout.strip() == "", done.stdout + done.stderr


@pytest.mark.parametrize("first", ["mujoco", "dm_control.suite"])
def test_mujoco_imported_before_us_can_draw(first):
    done = bare.run(sys.executable, "-c", DRAW_AFTER, first)
    assert done.stdout.strip() == "", done.stdout + done.stderr


@pytest.mark.skipif(not find_spec("triton"), reason="this build of PyTorch is one without Triton")
def test_training_can_begin_after_something_was_drawn():
    """Triton, which comes with the first optimiser, has an LLVM of its own beside Mesa's."""
    draw = "from distractor_data.envs import gl; gl.describe()"
    train = "import torch; torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])"
    for order in (f"{draw}; {train}", f"import torch; {draw}; {train}", f"{train}; {draw}"):
        done = bare.run(sys.executable, "-c", order)
        assert done.returncode == 0, (order, done.returncode, done.stderr)


def davis(folder: Path) -> None:
    for name in ("bear", "camel"):  # one of DAVIS's training videos and one of its others; no train, no val
        write_frames(folder / name)


def clips(folder: Path) -> None:
    folder.mkdir()
    for index in range(5):
        write_video(folder / f"clip{index}.mp4")


@pytest.mark.parametrize("layout", [davis, clips])
def test_the_first_command_in_a_bare_shell(tmp_path, layout):
    layout(tmp_path / "videos")
    command = ["dmask", "generate", "--env", "cheetah", "--episodes", "1", "--steps", "3", "--policy", "random"]
    done = bare.run(*command, "--clean", "--backgrounds", str(tmp_path / "videos"), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"MUJOCO_EGL_DEVICE_ID": "7"}, ("got 7", "unset MUJOCO_EGL_DEVICE_ID")),
        ({"MUJOCO_EGL_DEVICE_ID": "first"}, ("'first'", "unset MUJOCO_EGL_DEVICE_ID")),
        ({"PYOPENGL_PLATFORM": "osmesa"}, ("'osmesa'", "draw through egl", "unset PYOPENGL_PLATFORM")),
        ({"MUJOCO_GL": "glfw"}, ("DISPLAY", "unset MUJOCO_GL")),
        ({"MUJOCO_GL": "off"}, ("'off'", "unset MUJOCO_GL")),
        ({"MUJOCO_GL": "elg"}, ("'elg'", "unset MUJOCO_GL")),
    ],
)
def test_a_variable_that_keeps_opengl_shut_is_named(tmp_path, given, words):
    write_frames(tmp_path / "videos" / "bear")
    command = ["dmask", "generate", "--episodes", "1", "--backgrounds", str(tmp_path / "videos")]
    line = bare.refusal(*command, "--out", str(tmp_path / "out"), **given)
    for word in words:
        assert word in line
    assert "apt-get" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [{"MUJOCO_GL": "EGL"}, {"MUJOCO_GL": ""}, {"PYOPENGL_PLATFORM": "egl"}])
def test_other_ways_to_say_egl_are_egl(given):
    done = bare.run(sys.executable, "-c", DRAW_AFTER, "distractor_data.envs.suite", **given)
    assert done.stdout.strip() == "", done.stdout + done.stderr


def draw_until_it_fails(episode: int) -> None:
    """In a worker: the display is closed under a context that has drawn before."""
    from mujoco import egl

    from distractor_data import envs

    env = envs.make(Spec(steps=3, image_size=16), episode)
    observation = env.reset()
    nothing = egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_CONTEXT
    egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, *nothing)
    egl.EGL.eglTerminate(egl.EGL_DISPLAY)
    env.step(observation.state[: env.action_size])


def test_a_context_that_fails_in_a_worker_is_one_line():
    with pytest.raises(DmaskError, match=r"the OpenGL driver failed .*EGL_.*run the same command again") as raised:
        list(engines.run_local(draw_until_it_fails, [0], 1))
    assert len(str(raised.value).splitlines()) == 1


def test_a_driver_that_has_too_little_is_one_line(tmp_path):
    """The context opens, and MuJoCo finds no way to draw off-screen in it."""
    command = ["dmask", "generate", "--episodes", "1", "--steps", "1", "--out", str(tmp_path)]
    line = bare.refusal(*command, MESA_GL_VERSION_OVERRIDE="1.1")
    assert "the OpenGL driver failed (OpenGL version 1.5 or higher required)" in line
