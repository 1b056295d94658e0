"""Environments: a spec and an episode's number give a seeded environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distractor_data.envs.suite import SuiteEnv
    from distractor_data.spec import Spec


def make(spec: Spec, episode: int) -> SuiteEnv:
    """The environment of one episode, all of its randomness derived from the spec's seed.

    Raises `DmaskError` for an unknown environment, unreadable backgrounds, or a machine without OpenGL.
    """
    from distractor_data.envs.suite import SuiteEnv

    return SuiteEnv(spec, episode)


def renderer(choice: str = "opengl") -> str:
    """What draws the pictures on this machine with a spec's `renderer`: their bytes depend on it.

    Raises `DmaskError` where that is OpenGL and there is none.
    """
    if choice == "caster":
        from distractor_data.envs.renderers.caster import VERSION

        return f"caster {VERSION}"
    from distractor_data.envs import opengl

    return opengl.describe()
