"""Environments: a spec and an episode's number give a seeded environment. What is here is the only door to them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from distractor_data.errors import DmaskError, nearest
from distractor_data.spec import FAMILIES, SHORT_NAMES, Spec, family_of, full_name

if TYPE_CHECKING:
    from distractor_data.envs.base import Environment, Task


def make(spec: Spec, episode: int) -> Environment:
    """The environment of one episode, all of its randomness derived from the spec's seed.

    Raises `DmaskError` for an unknown environment, unreadable backgrounds, or a machine without OpenGL.
    """
    return known(spec.env).distracted(spec, episode)


def task(env: str, seed: int) -> Task:
    """An episode of a task alone, by its full name. Raises `DmaskError` for an unknown environment."""
    return known(env).alone(env, seed)


def environments(family: str) -> list[str]:
    """Names of all tasks of a family, as `--env` takes them. Raises `DmaskError` where its extra isn't installed."""
    return _module(family).environments()


def groups(family: str) -> list[str]:
    """Names of groups of tasks, as `--env` takes them."""
    return [f"{family}/{name}" for name in _module(family).groups()]


def sizes(env: str) -> tuple[int, int]:
    """How many numbers a state and an action have, of a task by any of its names."""
    return known(full_name(env)).sizes(full_name(env))


def expand(names: Iterable[str]) -> list[str]:
    """Full names of environments, each once, of names and groups such as `suite/laom` and `metaworld/mt10`.

    Raises `DmaskError` for an unknown name.
    """
    found: dict[str, None] = {}
    for name in names:
        family, _, group = name.partition("/")
        members = _module(family).groups().get(group) if family in FAMILIES else None
        for env in members or [full_name(name)]:
            known(env)
            found[env] = None
    return list(found)


def known(env: str) -> ModuleType:
    """The module of the family that has an environment, by its full name. Raises `DmaskError` where none has."""
    module = _module(family := family_of(env))
    if env in map(full_name, module.environments()):
        return module
    asked = f"{family}/{env.removeprefix(FAMILIES[family])}" if FAMILIES[family] else env
    groups = [f"{family}/{group}" for group in module.groups()]
    close = nearest(asked, [*module.environments(), *groups, *SHORT_NAMES])
    raise DmaskError(f"--env {asked}: no such environment{close} (`dmask envs` lists all)")


def _module(family: str) -> ModuleType:
    if family == "metaworld":
        from distractor_data.envs import metaworld

        return metaworld
    from distractor_data.envs import suite

    return suite


def fastest(env: str) -> str:
    """The renderer that draws a task soonest: the caster where it can, else OpenGL."""
    return "caster" if known(full_name(env)).can_cast(full_name(env)) else "opengl"


def renderer(choice: str = "opengl") -> str:
    """What draws the pictures on this machine with a spec's `renderer`: their bytes depend on it.

    Raises `DmaskError` where that is OpenGL and there is none.
    """
    if choice == "caster":
        from distractor_data.envs.renderers.caster import VERSION

        return f"caster {VERSION}"
    from distractor_data.envs import gl

    return gl.describe()
