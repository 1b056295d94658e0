"""What a dataset is: one frozen dataclass, recorded beside the data, from which every seed follows."""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from distractor_data.errors import DmaskError

if TYPE_CHECKING:
    import numpy as np

SHORT_NAMES = {
    "walker": "walker-run",
    "cheetah": "cheetah-run",
    "hopper": "hopper-hop",
    "humanoid": "humanoid-walk",
}
FAMILIES = {"suite": "", "metaworld": "metaworld-"}  # what `family/task` becomes: a name that is a plain word
CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview")  # of Meta-World, those that stand still
DIFFICULTIES = ("clean", "easy", "medium", "hard", "scale-easy-video-hard")
SPLITS = ("train", "test")
RENDERERS = ("opengl", "caster")
FIDELITIES = ("fast", "medium", "exact")  # of OpenGL
SYNTHETIC = "synthetic"
DEFAULT_DIR = "data/distracting-dcs-masked"
# 1 kept no mask of the clean image, and drew hopper's floor in scale-easy-video-hard at alpha 0.3; 2 had shards of
# five times as many frames, and described lists in a word that `datasets` 3 doesn't know.
VERSION = 3

# Fields of Meta-World alone: records of other families lack them.
_OF_METAWORLD = {
    "camera": "corner2",
    "camera_back": 0.6,
    "mask_mount": False,
    "mask_objects": False,
    "steps_after_success": 0,
}
# Fields that records may lack, and what that means.
_ADDED = {"version": 1, "renderer": "opengl", "fidelity": "medium", "first": 0} | _OF_METAWORLD
_TYPES = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "float": ((float, int), "a number"),
    "bool": ((bool,), "true or false"),
}
_RANGES = {
    "episodes": (1, 10**6),
    "first": (0, 10**6),
    "steps": (1, 10**6),
    "image_size": (8, 4096),
    "noise": (0, 1000),
    "camera_back": (-10, 10),
    "steps_after_success": (0, 10**6),
    "seed": (0, 2**63 - 1),
    "version": (1, VERSION),
}
# Characters that make more than one line, or none that UTF-8 can hold.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What a record may say where text becomes a part of a path or of a command; `to_json` leaves no folders in it.
_FORMS = {
    "env": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"),
    "backgrounds": re.compile(r"[^/]{0,255}"),
    "policy": re.compile(r"[^/]{0,255}"),
    "backgrounds_digest": re.compile(r"[0-9a-f]{0,64}"),
    "policy_digest": re.compile(r"[0-9a-f]{0,64}"),
}


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

    env: str = "walker-run"  # or a short name, which becomes the full one
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
    renderer: str = "opengl"  # or `caster`, for scenes of simple shapes
    fidelity: str = "fast"  # of OpenGL's pictures of the suite; exact: upstream's own
    first: int = 0  # which of all episodes its first is: others than 0 are a part of a whole, such as `--shard`'s
    camera: str = "corner2"  # of Meta-World, as what follows
    camera_back: float = 0.6  # metres that the camera stands further back than in the package
    mask_mount: bool = False  # the robot's mount is part of the mask
    mask_objects: bool = False  # so is what the task moves
    steps_after_success: int = 0  # how many the episode goes on after its first success; 0: to its end
    version: int = VERSION  # of what these fields mean; a dataset keeps the one that it was begun with

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), field.name.replace("_", "-")
            types, words = _TYPES[str(field.type)]
            if type(value) not in types:
                raise DmaskError(f"--{name} is {reprlib.repr(value)}; give {words}")
            if isinstance(value, str) and UNWRITABLE.search(value):
                raise DmaskError(f"--{name} is {reprlib.repr(value)}; give text without control characters")
            if field.name in _RANGES:
                low, high = _RANGES[field.name]
                if not low <= value <= high:  # so is NaN
                    raise DmaskError(f"--{name} is {reprlib.repr(value)}; give a number from {low} to {high}")
        choices = {"difficulty": DIFFICULTIES, "split": SPLITS, "renderer": RENDERERS, "fidelity": FIDELITIES}
        choices["camera"] = CAMERAS
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                value = reprlib.repr(getattr(self, name))
                raise DmaskError(f"--{name} is {value}; choose one of {', '.join(allowed)}")
        object.__setattr__(self, "env", full_name(self.env))
        if not self._has_fidelity:
            if self.fidelity == "exact":
                raise DmaskError("--fidelity exact is for OpenGL and dm_control's tasks alone; leave it out")
            object.__setattr__(self, "fidelity", "fast")
        for name, usual in _OF_METAWORLD.items():
            if self.family != "metaworld" and getattr(self, name) != usual:
                option = f"--{name.replace('_', '-')}"
                raise DmaskError(f"{option} is for Meta-World's tasks, not for {self.env}; leave it out")

    @property
    def family(self) -> str:
        """The family of environments that the task is of, one of `FAMILIES`."""
        return family_of(self.env)

    @property
    def _has_fidelity(self) -> bool:
        return self.renderer == "opengl" and self.family == "suite"

    @property
    def masked(self) -> str:
        """What the simulator's mask covers, in words."""
        if self.family != "metaworld":
            return "every geometry on a body tree that an actuator moves"
        parts = ["the robot's arm with its gripper"]
        parts += ["the mount beneath it"] * self.mask_mount + ["what the task moves"] * self.mask_objects
        return " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}"

    @property
    def mask_clean(self) -> bool:
        """Whether the agent's mask in the undistracted image is kept."""
        return self.clean and self.version > 1

    def seed_sequence(self, episode: int, purpose: Purpose) -> np.random.SeedSequence:
        """The random stream of one purpose in one episode; the split is in the key, so no two share one."""
        key = (SPLITS.index(self.split), self.first + episode, int(purpose))
        import numpy as np  # here, so that a command line answers without it

        return np.random.SeedSequence(self.seed, spawn_key=key)

    def seed32(self, episode: int, purpose: Purpose) -> int:
        """The same as an unsigned 32-bit integer, for the `RandomState` that upstream and dm_control use."""
        return int(self.seed_sequence(episode, purpose).generate_state(1)[0])

    def share(self, number: int, of: int) -> Spec:
        """The part that the `number`-th of so many independent runs makes; together they make all. Counts from 0."""
        edges = [self.episodes * place // of for place in (number, number + 1)] if 0 <= number < of else [0, 0]
        if edges[0] == edges[1]:
            raise DmaskError(
                f"--shard is {number}/{of}; give 0/{of} to {of - 1}/{of}, each with some of {self.episodes} episodes"
            )
        return dataclasses.replace(self, first=self.first + edges[0], episodes=edges[1] - edges[0])

    def to_json(self) -> dict[str, Any]:
        """The record that goes into `meta/dmask.json`: paths shortened to their last part."""
        record = dataclasses.asdict(self)
        if self.family != "metaworld":
            record = {name: value for name, value in record.items() if name not in _OF_METAWORLD}
        if not self._has_fidelity:
            del record["fidelity"]
        for field in ("backgrounds", "policy"):
            record[field] = PurePath(record[field]).name
        return record

    @classmethod
    def from_json(cls, record: Any) -> Spec:
        """The inverse of `to_json`, for the record of any older version; it may be a stranger's.

        Raises `DmaskError` where a field is missing, unknown, or of a wrong type, range or form.
        """
        if not isinstance(record, dict):
            raise DmaskError(f"a dataset's spec is {reprlib.repr(record)}, not a record of fields; get it again")
        if "format" in record:
            raise DmaskError(
                f"this is data imported from {reprlib.repr(record.get('file'))}, which `dmask generate` can't go on "
                "with; choose another --out"
            )
        record = _ADDED | record
        names, version = {field.name for field in dataclasses.fields(cls)}, record["version"]
        unknown = ", ".join(map(reprlib.repr, sorted(set(record) - names)[:9]))
        if unknown or (type(version) is int and version > VERSION):
            raise DmaskError(
                f"a dataset's spec is of version {reprlib.repr(version)}{unknown and ', with the fields '}{unknown}; "
                f"this dmask knows versions up to {VERSION}: use a newer one"
            )
        if missing := sorted(names - set(record)):
            raise DmaskError(f"a dataset's spec lacks the fields {', '.join(missing)}; get the dataset again")
        try:
            spec = cls(**record)
        except DmaskError as error:
            raise DmaskError(f"a dataset's spec is damaged: {error}") from error
        for name, form in _FORMS.items():
            if not form.fullmatch(record[name]):
                raise DmaskError(f"a dataset's spec is damaged: {name} is {reprlib.repr(record[name])}")
        return spec

    def differences(self, other: Spec | Import) -> list[str]:
        """Names of the fields in which two specs define other data, `field (theirs, ours)`.

        The number of episodes is none of them: episode k is the same whatever their number.
        """
        if isinstance(other, Import):
            return [f"origin (imported from {other.file!r} there, generated now)"]
        mine, theirs = self.to_json(), other.to_json()
        for field in ("backgrounds", "policy"):
            if mine[f"{field}_digest"] and mine[f"{field}_digest"] == theirs[f"{field}_digest"]:
                mine[field] = theirs[field]  # the same content under another name
        mine["episodes"] = theirs["episodes"]
        return _differences(mine, theirs)


@dataclass(frozen=True)
class Import:
    """What a split that others made is: the file it was read from, and what that says. No seed makes it again."""

    env: str
    split: str
    episodes: int
    steps: int  # frames the longest episode has
    image_size: int  # pixels, square
    format: str  # the module of `dataset.formats` that read it
    file: str  # its name, without path
    sha256: str
    difficulty: str = ""  # in the words of the file
    dynamic: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            types, words = _TYPES[str(field.type)]
            if type(value) not in types:
                raise DmaskError(f"{field.name} of an import is {reprlib.repr(value)}, where {words} belongs")
            if isinstance(value, str) and not _IMPORT_FORMS.get(field.name, _LINE).fullmatch(value):
                raise DmaskError(f"{field.name} of an import can't be {reprlib.repr(value)}")
            if field.name in _RANGES:
                low, high = _RANGES[field.name]
                if not low <= value <= high:
                    raise DmaskError(f"{field.name} of an import is {value}, where {low} to {high} belong")

    @property
    def family(self) -> str:
        """The family of environments that the task is of, as far as that is known."""
        return family_of(self.env)

    @property
    def version(self) -> int:
        """As a spec's."""
        return VERSION

    @property
    def masked(self) -> str:
        """What a simulator's mask would cover: there is none."""
        return ""

    @property
    def backgrounds(self) -> str:
        """Whose videos are behind the agent, as far as that is known."""
        return f"those of {self.file}"

    @property
    def clean(self) -> bool:
        """Whether the undistracted image is kept."""
        return False

    def to_json(self) -> dict[str, Any]:
        """The record that goes into `meta/dmask.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Import:
        """The inverse. Raises `DmaskError` where a field is missing, unknown, or of a wrong type, range or form."""
        try:
            return cls(**record)
        except TypeError as error:
            raise DmaskError("a dataset's record of its import has other fields than this dmask knows") from error

    def differences(self, other: Spec | Import) -> list[str]:
        """Names of the fields in which two define other data, `field (theirs, ours)`."""
        if isinstance(other, Spec):
            return [f"origin (generated there, imported from {self.file!r} now)"]
        mine = self.to_json()
        return _differences(mine, other.to_json() | {"file": mine["file"]})  # the same content under another name


_LINE = re.compile(r"[^/\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,255}")
_IMPORT_FORMS = {
    "env": _FORMS["env"],
    "split": re.compile("|".join(SPLITS)),
    "format": re.compile("[a-z]{1,20}"),
    "sha256": re.compile("[0-9a-f]{64}"),
}


def of_record(record: Any) -> Spec | Import:
    """What `meta/dmask.json` has under `spec`. Raises `DmaskError` where it is neither."""
    if isinstance(record, dict) and "format" in record:
        return Import.from_json(record)
    return Spec.from_json(record)


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [
        f"{field} ({json.dumps(theirs.get(field))} there, {json.dumps(mine.get(field))} now)"
        for field in mine | theirs
        if mine.get(field) != theirs.get(field)
    ]


def full_name(env: str) -> str:
    """`walker` → `walker-run`, `metaworld/reach` → `metaworld-reach`; a full name stays as it is."""
    family, slash, task = env.partition("/")
    if slash and family in FAMILIES:
        env = FAMILIES[family] + task
    return SHORT_NAMES.get(env, env)


def family_of(env: str) -> str:
    """The family of a full name."""
    return next((family for family, prefix in FAMILIES.items() if prefix and env.startswith(prefix)), "suite")
