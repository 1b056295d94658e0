"""What a dataset is: one frozen dataclass, recorded beside the data, from which every seed follows."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import Any

import numpy as np

from distractor_data.errors import DmaskError

SHORT_NAMES = {
    "walker": "walker-run",
    "cheetah": "cheetah-run",
    "hopper": "hopper-hop",
    "humanoid": "humanoid-walk",
}
DIFFICULTIES = ("clean", "easy", "medium", "hard", "scale-easy-video-hard")
SPLITS = ("train", "test")
SYNTHETIC = "synthetic"
DEFAULT_DIR = "data/distracting-dcs-masked"
VERSION = 2  # 1 kept no mask of the clean image


class Purpose(IntEnum):
    """What a random stream is for. The numbers are part of the data's definition: never renumber them."""

    TASK = 0
    BACKGROUND = 1
    CAMERA = 2
    COLOR = 3
    POLICY = 4


@dataclass(frozen=True)
class Spec:
    """Everything that the bytes of one config and split depend on.

    `backgrounds` and `policy` may be paths; what identifies them is the digest beside them, so that a dataset
    can be continued after a folder was moved and its record names no path of the machine it was made on.
    """

    env: str = "walker-run"
    split: str = "train"
    episodes: int = 1000
    steps: int = 1000  # frames an episode has at most
    image_size: int = 64  # pixels, square
    difficulty: str = "scale-easy-video-hard"
    dynamic: bool = True
    backgrounds: str = SYNTHETIC  # or a folder of videos
    backgrounds_digest: str = ""
    policy: str = "expert"  # or another level, or a .safetensors file
    policy_digest: str = ""
    noise: float = 0.0  # standard deviation of the Gaussian noise added to every action
    clean: bool = False  # also keep the undistracted image and the agent's mask in it
    seed: int = 0
    version: int = VERSION  # of what these fields mean; a dataset keeps the one that it was begun with

    def __post_init__(self) -> None:
        for field in ("episodes", "steps", "image_size"):
            if getattr(self, field) < 1:
                name = field.replace("_", "-")
                raise DmaskError(f"--{name} is {getattr(self, field)}; give a number of at least 1")
        if self.image_size < 8:
            raise DmaskError(f"--image-size is {self.image_size}; give at least 8 pixels")
        if not self.noise >= 0:
            raise DmaskError(f"--noise is {self.noise}; give a standard deviation of at least 0")
        if self.seed < 0:
            raise DmaskError(f"--seed is {self.seed}; give a number of at least 0")
        for field, allowed in (("difficulty", DIFFICULTIES), ("split", SPLITS)):
            if getattr(self, field) not in allowed:
                raise DmaskError(f"--{field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}")

    @property
    def mask_clean(self) -> bool:
        """Whether the agent's mask in the undistracted image is kept."""
        return self.clean and self.version > 1

    def seed_sequence(self, episode: int, purpose: Purpose) -> np.random.SeedSequence:
        """The random stream of one purpose in one episode; the split is in the key, so no two share one."""
        key = (SPLITS.index(self.split), episode, int(purpose))
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def seed32(self, episode: int, purpose: Purpose) -> int:
        """The same as an unsigned 32-bit integer, for the `RandomState` that upstream and dm_control use."""
        return int(self.seed_sequence(episode, purpose).generate_state(1)[0])

    def to_json(self) -> dict[str, Any]:
        """The record that goes into `meta/dmask.json`: paths shortened to their last part."""
        record = dataclasses.asdict(self)
        for field in ("backgrounds", "policy"):
            record[field] = PurePath(record[field]).name
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Spec:
        """The inverse of `to_json`. Raises `DmaskError` where a field is unknown or missing."""
        names = {field.name for field in dataclasses.fields(cls)}
        record = {"version": 1} | record  # the first version didn't say so
        if set(record) != names:
            odd = ", ".join(sorted(set(record) ^ names))
            raise DmaskError(f"the dataset's spec was written by another version of dmask (fields: {odd})")
        return cls(**record)

    def differences(self, other: Spec) -> list[str]:
        """Names of the fields in which two specs define other data, `field (theirs, ours)`.

        The number of episodes is none of them: episode k is the same whatever their number.
        """
        mine, theirs = self.to_json(), other.to_json()
        for field in ("backgrounds", "policy"):
            if mine[f"{field}_digest"] and mine[f"{field}_digest"] == theirs[f"{field}_digest"]:
                mine[field] = theirs[field]  # the same content under another name
        mine["episodes"] = theirs["episodes"]
        return [
            f"{field} ({json.dumps(theirs[field])} there, {json.dumps(mine[field])} now)"
            for field in mine
            if mine[field] != theirs[field]
        ]


def full_name(env: str) -> str:
    """`walker` → `walker-run`; a full name stays as it is."""
    return SHORT_NAMES.get(env, env)
