"""Bytes belong to what drew them: it is recorded, and another renderer goes on only where it is told to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import bare
import pytest

from distractor_data import envs, resume, schema
from distractor_data.dataset import meta, storage
from distractor_data.pipeline import generate
from distractor_data.spec import Spec

SPEC = Spec(env="cheetah-run", episodes=1, steps=2, image_size=16, policy="random")
ROOT = schema.root("", SPEC.env, "train")
SIZES = ["--steps", "2", "--image-size", "16", "--policy", "random", "--workers", "1"]
COMMAND = ["dmask", "generate", "--env", "cheetah", *SIZES]
OTHER = {"LP_NATIVE_VECTOR_WIDTH": "128"}  # Mesa's own rasteriser, in narrower steps


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """One episode, drawn by this process."""
    generate(SPEC, tmp_path / "data", workers=1)
    return tmp_path / "data"


def test_what_the_bytes_depend_on_is_recorded(made):
    versions = meta.read_record(made / ROOT)["versions"]
    assert versions["renderer"] == envs.renderer()
    assert {"opencv-python-headless", "av", "mujoco", "numpy", "pillow"} <= set(versions)
    card = (made / "README.md").read_text()
    assert "the same renderer gives the same bytes" in card
    assert envs.renderer() in card


@pytest.mark.skipif("llvmpipe" not in envs.renderer(), reason="only Mesa's rasteriser can be made another one")
def test_another_renderer_goes_on_only_where_it_is_told_to(made):
    before = meta.read_record(made / ROOT)
    line = bare.refusal(*COMMAND, "--episodes", "2", "--out", str(made), **OTHER)
    assert envs.renderer() in line
    assert "128 bits" in line
    assert "--any-renderer" in line
    assert meta.read_record(made / ROOT) == before
    told = bare.run(*COMMAND, "--episodes", "2", "--out", str(made), "--any-renderer", **OTHER)
    assert told.returncode == 0, told.stderr
    both = meta.read_record(made / ROOT)["versions"]["renderer"].split("; ")
    assert both[0] == envs.renderer()
    assert "128 bits" in both[1]
    generate(dataclasses.replace(SPEC, episodes=3), made, workers=1)  # either of them goes on
    assert meta.read_record(made / ROOT)["versions"]["renderer"].split("; ") == both


def test_a_record_that_names_no_renderer_goes_on_without(made):
    record = meta.read_record(made / ROOT)
    del record["versions"]["renderer"]
    meta.save_record(made / ROOT, record)
    generate(dataclasses.replace(SPEC, episodes=2), made, workers=1)
    assert "renderer" not in meta.read_record(made / ROOT)["versions"]
    assert len(storage.read_episodes(made / ROOT)) == 2


def test_auto_is_the_caster_where_it_draws_all_and_goes_on_with_what_is_there(tmp_path: Path) -> None:
    assert [envs.fastest(env) for env in ("walker", "humanoid-walk", "dog-run")] == ["caster", "caster", "opengl"]
    assert resume.drawing(tmp_path, "walker", "train")[0] == "caster"
    root = schema.root(tmp_path, "walker-run", "train")
    assert resume.drawing(tmp_path, "walker", "train", fidelity="exact") == ("opengl", "exact")
    meta.write_record(root, Spec(env="walker", renderer="opengl", fidelity="medium"), 40)
    assert resume.drawing(tmp_path, "walker", "train") == ("opengl", "medium")
    assert resume.drawing(tmp_path, "walker", "train", "opengl", "fast") == ("opengl", "fast")
    assert resume.drawing(tmp_path, "walker", "train")[0] == "opengl"
    assert resume.drawing(tmp_path, "walker", "test")[0] == "opengl"  # a config's splits are read together
