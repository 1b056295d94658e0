"""A model with all that the caster draws, its picture's digest as a program, for one processor among others."""

from __future__ import annotations

import hashlib
import sys

import mujoco
import numpy as np

from distractor_data.envs.renderers.agent import AgentParts, agent_parts
from distractor_data.envs.renderers.caster import Caster

MODEL = """
<mujoco>
  <visual><headlight ambient=".3 .3 .3" diffuse=".5 .6 .4" specular=".3 .3 .3"/><quality shadowsize="2048"/></visual>
  <statistic extent="2" center="0 0 0.5"/>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1=".4 .6 .8" rgb2=".1 0 .2" width="64" height="384" mark="random"/>
    <texture name="grid" type="2d" builtin="checker" rgb1=".1 .2 .3" rgb2=".4 .3 .2" width="100" height="75"/>
    <material name="grid" texture="grid" texrepeat="1 2" texuniform="true" reflectance=".3"/>
    <material name="shiny" rgba=".7 .3 .2 1" specular="1" shininess=".9" emission=".2"/>
  </asset>
  <worldbody>
    <light pos="1 -1 3" dir="-.3 .3 -1" cutoff="50" exponent="3.5" attenuation="1 .05 .01" diffuse=".6 .5 .4"/>
    <light directional="true" castshadow="false" pos="0 0 3" dir=".3 .4 -1" diffuse=".3 .3 .4"/>
    <light pos="-1 -1 2.5" dir=".4 .4 -1" cutoff="40" exponent="10" diffuse=".3 .4 .3"/>
    <camera name="eye" pos="0 -3 1.4" xyaxes="1 0 0 0 .35 1"/>
    <geom type="plane" size="4 3 .3" material="grid"/>
    <geom type="box" pos="-.9 .3 .3" size=".25 .2 .3" euler="10 20 40" rgba=".2 .6 .3 1"/>
    <geom type="cylinder" pos=".9 .5 .4" size=".2 .3" euler="30 50 0" material="shiny"/>
    <geom type="sphere" pos="0 1.2 .9" size=".02" rgba="1 1 0 1"/>
    <site type="ellipsoid" pos=".3 -.6 .5" size=".2 .1 .15" rgba=".2 .2 .9 .4"/>
    <body pos="0 0 .8">
      <joint name="hinge" axis="0 1 0" damping="1"/>
      <geom type="capsule" fromto="0 0 0 .5 0 .3" size=".1" material="shiny"/>
      <geom type="ellipsoid" pos="-.3 0 .1" size=".3 .15 .2" euler="0 30 20" rgba=".7 .7 .7 1"/>
      <geom type="sphere" pos="0 0 -.3" size=".15"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge"/></actuator>
</mujoco>
"""


def every_shape() -> tuple[mujoco.MjModel, mujoco.MjData, AgentParts]:
    """The model, its data at rest, and its agent: the body on the hinge."""
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data, agent_parts(model)


def digest() -> str:
    """SHA-256 of pictures and masks at several sizes and camera poses."""
    content = hashlib.sha256()
    model, data, agent = every_shape()
    rng = np.random.default_rng(0)
    for size in (16, 47, 64):
        caster = Caster(model, 0, size, agent)
        for _ in range(4):
            data.cam_xpos[0] += rng.uniform(-0.3, 0.3, 3)
            content.update(caster.image(data).tobytes() + caster.mask().tobytes())
    return content.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest())
