"""Display lists of our own in place of MuJoCo's (render_context.c): what costs vertices and hardly shows."""

from __future__ import annotations

import functools

import mujoco
import numpy as np

from distractor_data.envs import gl
from distractor_data.envs.renderers.agent import AgentParts
from distractor_data.envs.renderers.grid import grid_lines

_CYLINDER, _OPEN_CYLINDER = 3, 4  # places of its lists for whole cylinders and for those of capsules
_NEAR = 8  # cells of a floor's grid that stay on each side of the agent
_STRIDE = 4  # cells that the agent goes before the grid follows


def shorten_cylinders(context: mujoco.MjrContext, slices: int) -> None:
    """Make cylinders of two stacks of facets: they are straight, so that more change only where light is computed."""
    from OpenGL import GL

    other = _two_stacks(slices)
    for place in (_CYLINDER, _OPEN_CYLINDER):
        GL.glNewList(context.baseBuiltin + place, GL.GL_COMPILE)
        GL.glCallList(other.baseBuiltin + place)
        GL.glEndList()


@functools.cache
def outlines(slices: int, stacks: int) -> mujoco.MjrContext:
    """A context, kept for its lists: shapes whose outlines, all that a mask shows, are those of so many facets."""
    made = _shapes(slices, stacks)
    shorten_cylinders(made, slices)
    return made


@functools.cache
def _two_stacks(slices: int) -> mujoco.MjrContext:
    """A context that is kept for its lists."""
    return _shapes(slices, 2)


def _shapes(slices: int, stacks: int) -> mujoco.MjrContext:
    quality = f'<quality numslices="{slices}" numstacks="{stacks}" shadowsize="0"/>'
    model = mujoco.MjModel.from_xml_string(f"<mujoco><visual>{quality}</visual></mujoco>")
    return mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)


class Floors:
    """Floors whose grid lines, 200 by 200 on humanoid's, are left out where they are far from the agent.

    MuJoCo computes light at the lines' crossings, and far from the lamps, which follow the agent, it is even.
    """

    def __init__(self, model: mujoco.MjModel, agent: AgentParts, context: mujoco.MjrContext) -> None:
        """`context` is the one whose lists change; `model` the one that it was made of."""
        self._context = context
        self._body = np.array([index for kind, index in sorted(agent) if kind == mujoco.mjtObj.mjOBJ_GEOM], int)
        planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        self._planes = []  # number of the list, geom, lines along x and y, of those that have lines to leave out
        for number, geom in enumerate(planes, 1):
            x, y, spacing = (float(value) for value in model.geom_size[geom])
            if min(x, y) > 0:
                lines = np.array(grid_lines(x, spacing)), np.array(grid_lines(y, spacing))
                if max(map(len, lines)) > 2 * _NEAR + _STRIDE:
                    self._planes.append((number, int(geom), lines))
        self._drawn: dict[int, tuple[int, int]] = {}  # number of the list → line in x and y that it is drawn around

    def follow(self, data: mujoco.MjData) -> None:
        """Draw the floors' lists anew where the agent went on since they were drawn."""
        if not len(self._body):
            return
        for number, geom, lines in self._planes:
            away = data.geom_xpos[self._body].mean(0) - data.geom_xpos[geom]
            place = away @ data.geom_xmat[geom].reshape(3, 3)
            x, y = (int(np.searchsorted(lines[axis], place[axis])) // _STRIDE * _STRIDE for axis in range(2))
            if self._drawn.get(number) != (x, y):
                self._drawn[number] = x, y
                _draw(self._context.basePlane + number, _near(lines[0], x), _near(lines[1], y))


def _near(lines: np.ndarray, middle: int) -> np.ndarray:
    """The lines around one of them, and the first and the last of all."""
    kept = np.arange(len(lines))
    return lines[(abs(kept - middle) <= _NEAR + _STRIDE // 2) | (kept == 0) | (kept == len(lines) - 1)]


def _draw(number: int, x: np.ndarray, y: np.ndarray) -> None:
    """Compile a list that draws the cells between lines as MuJoCo's `makePlane` does.

    MuJoCo 3.17 takes the texture's places from the list too; 3.3 makes them of the corners'.
    """
    left, low = (grid.ravel() for grid in np.meshgrid(x[:-1], y[:-1], indexing="ij"))
    right, high = (grid.ravel() for grid in np.meshgrid(x[1:], y[1:], indexing="ij"))
    corners = np.zeros((len(left), 4, 3), np.float32)
    corners[..., 0] = np.stack([left, right, right, left], 1)
    corners[..., 1] = np.stack([low, low, high, high], 1)
    texture = (0.5 + corners[..., :2] / (2 * x[-1], -2 * y[-1])).astype(np.float32)  # (0, 1) at the first of x and y
    with gl.drawing():
        from OpenGL import GL

        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, 0)  # that of a skin may be bound, and the corners be sought in it
        GL.glEnableClientState(GL.GL_VERTEX_ARRAY)
        GL.glVertexPointer(3, GL.GL_FLOAT, 0, corners)
        GL.glEnableClientState(GL.GL_TEXTURE_COORD_ARRAY)
        GL.glTexCoordPointer(2, GL.GL_FLOAT, 0, texture)
        GL.glNewList(number, GL.GL_COMPILE)
        GL.glNormal3f(0, 0, 1)
        GL.glDrawArrays(GL.GL_QUADS, 0, corners.size // 3)
        GL.glEndList()
        GL.glDisableClientState(GL.GL_VERTEX_ARRAY)
        GL.glDisableClientState(GL.GL_TEXTURE_COORD_ARRAY)
