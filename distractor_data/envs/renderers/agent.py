"""Which of a model's objects are the agent: what the mask covers."""

from __future__ import annotations

import mujoco

from distractor_data.errors import DmaskError

AgentParts = frozenset[tuple[int, int]]


def agent_parts(model: mujoco.MjModel) -> AgentParts:
    """(object type, index) of all that belongs to the agent: every geom, site, skin on an actuated body tree.

    Targets, props, rails and the floor hang on the world or on trees that no actuator moves, so they are not
    part of it. Raises `DmaskError` where nothing is actuated.
    """
    roots: set[int] = set()
    for transmission, (index, _) in zip(model.actuator_trntype, model.actuator_trnid, strict=True):
        roots |= {int(model.body_rootid[body]) for body in _moved_bodies(model, int(transmission), int(index))}
    roots.discard(0)
    if not roots:
        raise DmaskError("the model has no actuated body, so it has no agent to mask")
    objects = mujoco.mjtObj
    parts = {
        (int(kind), index)
        for kind, bodies in (
            (objects.mjOBJ_GEOM, model.geom_bodyid),
            (objects.mjOBJ_SITE, model.site_bodyid),
        )
        for index, body in enumerate(bodies)
        if int(model.body_rootid[body]) in roots
    }
    for skin in range(model.nskin):
        start = model.skin_boneadr[skin]
        bones = model.skin_bonebodyid[start : start + model.skin_bonenum[skin]]
        if all(int(model.body_rootid[body]) in roots for body in bones):
            parts.add((int(objects.mjOBJ_SKIN), skin))
    return frozenset(parts)


def _moved_bodies(model: mujoco.MjModel, transmission: int, index: int) -> list[int]:
    """Bodies that an actuator acts on, given its transmission type and the index of its target."""
    kinds, wraps = mujoco.mjtTrn, mujoco.mjtWrap
    if transmission in (kinds.mjTRN_JOINT, kinds.mjTRN_JOINTINPARENT):
        return [int(model.jnt_bodyid[index])]
    if transmission in (kinds.mjTRN_SITE, kinds.mjTRN_SLIDERCRANK):
        return [int(model.site_bodyid[index])]
    if transmission == kinds.mjTRN_BODY:
        return [index]
    start = model.tendon_adr[index]
    bodies = []
    for wrap in range(start, start + model.tendon_num[index]):
        target = int(model.wrap_objid[wrap])
        if model.wrap_type[wrap] == wraps.mjWRAP_JOINT:
            bodies.append(int(model.jnt_bodyid[target]))
        elif model.wrap_type[wrap] == wraps.mjWRAP_SITE:
            bodies.append(int(model.site_bodyid[target]))
    return bodies
