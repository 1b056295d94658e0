"""The spec: what its record means in every version, and that a stranger's is right or one line."""

from __future__ import annotations

import dataclasses
import json

import pytest

from distractor_data.envs import make
from distractor_data.errors import DmaskError
from distractor_data.spec import VERSION, Spec

RECORD = Spec(backgrounds="videos", backgrounds_digest="0af", policy="mine.safetensors", policy_digest="1b").to_json()
ADDED = ("version", "renderer", "first", "fidelity")
FIRST = {key: value for key, value in RECORD.items() if key not in ADDED}  # as version 1 wrote it


def test_a_short_name_is_the_full_one():
    assert Spec(env="walker") == Spec(env="walker-run")
    assert dataclasses.replace(Spec(), env="hopper").env == "hopper-hop"
    assert Spec.from_json(RECORD | {"env": "cheetah"}).env == "cheetah-run"


def test_a_record_gives_back_its_spec():
    assert Spec.from_json(json.loads(json.dumps(RECORD))).to_json() == RECORD
    assert Spec.from_json(RECORD).version == VERSION


def test_a_record_without_a_version_is_of_the_first():
    old = Spec.from_json(FIRST)
    assert old.version == 1
    assert Spec.from_json(old.to_json()) == old
    said = ['fidelity ("medium" there, "fast" now)', f"version (1 there, {VERSION} now)"]
    assert sorted(Spec.from_json(RECORD).differences(old)) == said


def test_fidelity_is_of_opengl_in_the_suite_alone():
    for other in ({"renderer": "caster"}, {"env": "metaworld-reach-v3"}):
        spec = Spec(**{"env": "walker", **other})
        assert "fidelity" not in spec.to_json()
        assert Spec.from_json(spec.to_json()) == spec
        with pytest.raises(DmaskError, match="--fidelity exact is for OpenGL"):
            dataclasses.replace(spec, fidelity="exact")


@pytest.mark.parametrize("record", [RECORD | {"gravity": 9.8}, RECORD | {"version": VERSION + 1, "gravity": 9.8}])
def test_fields_of_a_newer_version_are_named(record):
    with pytest.raises(DmaskError, match=r"with the fields 'gravity'; .* use a newer one"):
        Spec.from_json(record)


def test_a_newer_version_is_refused_even_with_the_same_fields():
    with pytest.raises(DmaskError, match=f"version {VERSION + 1};.*use a newer one"):
        Spec.from_json(RECORD | {"version": VERSION + 1})


@pytest.mark.parametrize("field", sorted(FIRST))
def test_a_missing_field_is_named(field):
    with pytest.raises(DmaskError, match=rf"lacks the fields {field};"):
        Spec.from_json({key: value for key, value in FIRST.items() if key != field})


WRONG = [None, [], {}, "", "x" * 10**6, "a\nb", "\x1b[31m", "\ud800", "../up", "/abs", True, -1, 0, 1.5, 10**40]
WRONG += [float("nan"), float("inf"), -0.5]
RIGHT = {
    "dynamic": (True,),
    "clean": (True,),
    "backgrounds": ("",),
    "backgrounds_digest": ("",),
    "policy": ("",),
    "policy_digest": ("",),
    "noise": (0, 1.5),
    "seed": (0,),
    "first": (0,),
}


@pytest.mark.parametrize("field", sorted(RECORD))
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_a_strangers_value_is_right_or_one_line(field, value):
    right = [(type(one), one) for one in RIGHT.get(field, ())]
    record = RECORD | {field: value}
    if (type(value), value) in right:
        assert getattr(Spec.from_json(record), field) == value
        return
    with pytest.raises(DmaskError) as raised:
        Spec.from_json(record)
    message = str(raised.value)
    assert field.replace("_", "-") in message or field in message
    assert len(message.splitlines()) == 1
    assert len(message) < 300


@pytest.mark.parametrize("record", [None, [], "spec", 3, {}, {"env": "walker-run"}])
def test_what_is_no_record_is_one_line(record):
    with pytest.raises(DmaskError) as raised:
        Spec.from_json(record)
    assert len(str(raised.value).splitlines()) == 1


def test_hoppers_floor_is_laoms_in_the_new_version_alone():
    floors = {}
    for version in (1, VERSION):
        for env in ("hopper-hop", "walker-run", "humanoid-walk", "reacher-easy"):
            made = make(Spec(env=env, version=version, image_size=16, steps=1), 0)
            made.reset()
            floors[env, version] = float(made.physics.named.model.mat_rgba["grid", "a"])
            made.close()
    assert floors["hopper-hop", 1] == pytest.approx(0.3)
    assert floors["hopper-hop", VERSION] == 1
    for env, alpha in (("walker-run", 1), ("humanoid-walk", 0.3), ("reacher-easy", 0)):
        assert floors[env, 1] == floors[env, VERSION] == pytest.approx(alpha)
    made = make(Spec(env="hopper-hop", difficulty="hard", image_size=16, steps=1), 0)
    made.reset()
    assert made.physics.named.model.mat_rgba["grid", "a"] == pytest.approx(0.3)  # upstream's own table
    made.close()
