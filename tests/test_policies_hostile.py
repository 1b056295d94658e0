"""Policy files that a careless or hostile person wrote: one line, before memory is taken and before anything acts."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

import bare
import numpy as np
import pytest
from safetensors.numpy import save

from distractor_data import policies
from distractor_data.errors import DmaskError
from distractor_data.policies import file
from distractor_data.rollout import rollout
from distractor_data.spec import Spec

ENV, STATE, ACTION = "walker-run", 24, 6
Tensors = dict[str, np.ndarray]


def whole() -> tuple[Tensors, dict[str, str]]:
    """A policy of two layers."""
    tensors = {
        "layers.0.weight": np.zeros((8, STATE), np.float32),
        "layers.0.bias": np.zeros(8, np.float32),
        "layers.1.weight": np.zeros((ACTION, 8), np.float32),
        "layers.1.bias": np.zeros(ACTION, np.float32),
        "obs_mean": np.zeros(STATE, np.float32),
        "obs_var": np.ones(STATE, np.float32),
    }
    return tensors, {"env": ENV, "activation": "relu", "output": "clip"}


def with_tensor(name: str, value: Any) -> Callable[[], bytes]:
    return lambda: save({**whole()[0], name: np.asarray(value)}, whole()[1])


def with_entry(name: str, value: float) -> Callable[[], bytes]:
    def write() -> bytes:
        tensors, metadata = whole()
        tensors[name].flat[0] = value
        return save(tensors, metadata)

    return write


def with_metadata(**changed: str) -> Callable[[], bytes]:
    return lambda: save(whole()[0], {**whole()[1], **changed})


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[], bytes]:
    """The file with its header changed and its numbers as they were."""

    def write() -> bytes:
        content = save(*whole())
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        text = json.dumps(change(header) or header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return write


def set_header(name: str, **changed: Any) -> Callable[[], bytes]:
    return with_header(lambda header: header[name].update(changed))


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a NaN in a weight": (with_entry("layers.0.weight", np.nan), "layers.0.weight' is not finite"),
    "an infinity in a bias": (with_entry("layers.1.bias", np.inf), "layers.1.bias' is not finite"),
    "a NaN in the mean": (with_entry("obs_mean", np.nan), "obs_mean' is not finite"),
    "a NaN variance": (with_entry("obs_var", np.nan), "obs_var' is not finite"),
    "a negative variance": (with_entry("obs_var", -1), "obs_var is negative"),
    "no variance": (with_entry("obs_var", 0), "can't be normalised"),
    "whole numbers": (with_tensor("layers.0.bias", np.zeros(8, np.int64)), "'layers.0.bias' is I64"),
    "truth values": (with_tensor("obs_mean", np.zeros(STATE, bool)), "'obs_mean' is BOOL"),
    "bfloat16": (
        set_header("layers.0.bias", dtype="BF16", shape=[16]),
        "'layers.0.bias' is BF16, not one of F16, F32, F64",
    ),
    "an unknown type": (set_header("layers.0.bias", dtype="F7"), "can't be read as safetensors"),
    "a number for a vector": (with_tensor("layers.0.bias", np.float32(1)), "layer 0 is"),
    "a matrix for a vector": (with_tensor("layers.0.bias", np.zeros((8, 1), np.float32)), "layer 0 is"),
    "a vector for a matrix": (with_tensor("layers.0.weight", np.zeros(8, np.float32)), "layer 0 is"),
    "another state": (with_tensor("layers.0.weight", np.zeros((8, 17), np.float32)), "needs (8, 24)"),
    "another action": (with_tensor("layers.1.weight", np.zeros((1, 8), np.float32)), "needs (6, 8)"),
    "another mean": (with_tensor("obs_mean", np.zeros(17, np.float32)), "obs_mean has (17,)"),
    "a foreign tensor": (with_tensor("layers.7.weight\n" * 9, np.zeros(1, np.float32)), "missing or unknown"),
    "shapes beyond the file": (set_header("layers.0.weight", shape=[2**40, 2**40]), "can't be read as safetensors"),
    "offsets beyond the file": (set_header("obs_var", data_offsets=[0, 2**60]), "can't be read as safetensors"),
    "a hundred dimensions": (set_header("layers.0.bias", shape=[8] + [1] * 99), "can't be read as safetensors"),
    "no header": (with_header(lambda header: ["nothing"]), "can't be read as safetensors"),
    "a longer header": (lambda: struct.pack("<Q", 2**62) + b"{}", "can't be read as safetensors"),
    "an empty file": (lambda: b"", "can't be read as safetensors"),
    "a NaN epsilon": (with_metadata(obs_norm_eps="nan"), "obs_norm_eps is 'nan'"),
    "a negative epsilon": (with_metadata(obs_norm_eps="-2"), "can't be normalised"),
    "a word for the clip": (with_metadata(obs_clip="ten"), "obs_clip is 'ten'"),
    "a negative clip": (with_metadata(obs_clip="-1"), "can't be normalised"),
    "a NaN clip": (with_metadata(obs_clip="nan"), "obs_clip is 'nan'"),
    "a word for the return": (with_metadata(return_mean="much"), "return_mean is 'much'"),
    "an infinite return": (with_metadata(return_mean="inf"), "return_mean is 'inf'"),
    "another activation": (with_metadata(activation="__import__"), "activation '__import__'"),
    "another environment": (with_metadata(env="cheetah-run"), "was trained on cheetah-run"),
    "a path for an environment": (with_metadata(env="../../x"), "env is '../../x'"),
    "lines for an environment": (with_metadata(env="a\nb\n" * 1000), "metadata is damaged"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_wrong_file_is_one_line(tmp_path, kind):
    write, words = FILES[kind]
    path = tmp_path / "policy.safetensors"
    path.write_bytes(write())
    with pytest.raises(DmaskError) as raised:
        policies.load(str(path), ENV, STATE, ACTION)
    message = str(raised.value)
    assert words in message
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert len(message) < 600


def test_the_right_file_is_none_of_them(tmp_path):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(save(*whole()))
    action = policies.load(str(path), ENV, STATE, ACTION).act(np.ones(STATE, np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(action, np.zeros(ACTION))


@pytest.mark.parametrize("read", [policies.read, file.content])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.safetensors", "wb") as sparse:
        sparse.truncate(1 << 40)  # a terabyte that takes no room
    for name, words in (
        ("pipe", "is no file"),
        ("folder", "is no file"),
        ("device", "is no file"),
        ("sparse", "bytes"),
    ):
        with pytest.raises(DmaskError, match=words):
            read(tmp_path / f"{name}.safetensors")


def test_an_action_that_is_no_number_stops_the_episode(tmp_path):
    """Each weight is finite; their product isn't, and infinity less infinity is no number."""
    tensors, metadata = whole()
    tensors["layers.0.bias"][:] = 3e38
    tensors["layers.1.weight"][:, 0], tensors["layers.1.weight"][:, 1] = 3e38, -3e38
    path = tmp_path / "policy.safetensors"
    path.write_bytes(save(tensors, metadata))
    with np.errstate(all="ignore"), pytest.raises(DmaskError, match="an action that is no number"):
        rollout(Spec(env=ENV, steps=2, image_size=16, policy=str(path)), 0)


def test_a_wrong_file_is_one_line_of_the_command(tmp_path):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(with_entry("obs_var", -1)())
    assert "obs_var is negative" in bare.refusal("dmask", "expert", "eval", str(path))
