"""What describes a split, in its `meta/` folder."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distractor_data import schema
from distractor_data.errors import DmaskError
from distractor_data.untrusted.files import inside
from distractor_data.untrusted.values import (
    anything,
    flag,
    listing,
    mapping,
    matching,
    number,
    optional,
    parse,
    read_json,
    record,
    text,
    whole,
)

EDGE = 4096  # pixels an image is high or wide at most, and numbers a vector has
SHARDS = 10**6  # of a split
_FEATURE = record({"dtype": matching("image|float32|float64|int64|bool|string", "a type"), "shape": anything})
_INFO = record(
    {"fps": whole(1, 10**6), "total_episodes": whole(), "total_frames": whole(), "features": mapping(_FEATURE)}
)


def _mask(value: Any, where: str) -> None:
    """What masks come from; of degraded ones also `of` what, and how."""
    details = {"model": text, "image_size": whole(), "prompt": text, "reprompt": whole(), "precision": text}
    record({"source": text}, {"complete": flag, "of": _mask, **details})(value, where)
    if value["source"] == "corrupted":
        record({"of": _mask})(value, where)


def _edit(value: Any, where: str) -> None:
    """What an edited dataset was made of; that may have been edited, too."""
    made = record({"spec": mapping(anything)}, {"edit": _edit})
    record({"verb": matching("[a-z-]{1,20}", "a command"), "command": text, "of": listing(made, 10**4)})(value, where)


_RECORD = record(
    {
        "spec": record({"env": text}),
        "fps": whole(1, 10**6),
        "mask": _mask,
        "versions": mapping(text),
    },
    {"expert_return": optional(number), "edit": _edit, "masked": text},
)
_SUM = record({"sha256": matching("[0-9a-f]{64}", "64 hexadecimal digits"), "size": whole()})


@dataclass(frozen=True)
class Layout:
    """The sizes that all frames of a split have."""

    size: tuple[int, int]  # height, width
    state: int
    action: int
    columns: tuple[str, ...]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an image of that column: (H, W) of a mask, (H, W, 3) of others."""
        return self.size if name in schema.MASK_COLUMNS else (*self.size, 3)


def info(root: Path) -> dict[str, Any]:
    """`meta/info.json`."""
    path = inside(root, schema.INFO)
    found = read_json(path, _INFO)
    sizes = set()
    for name, feature in found["features"].items():
        shape, where = feature["shape"], f"{path}: the shape of {reprlib.repr(name)}"
        listing(whole(1, EDGE), 4)(shape, where)
        if name in schema.IMAGE_COLUMNS:
            sizes.add(tuple(shape[:2]))
            fits = len(shape) == 3 and shape[2] == (1 if name in schema.MASK_COLUMNS else 3) and len(sizes) == 1
        else:
            fits = len(shape) == 1
        if not fits:
            raise DmaskError(f"{where} is {shape}, which such a column can't have; pull or generate it again")
    if missing := [name for name in (schema.IMAGE, *schema.VECTOR_COLUMNS) if name not in found["features"]]:
        raise DmaskError(f"{path} lists no column {missing[0]}; pull or generate it again")
    return found


def layout(root: Path) -> Layout:
    """The sizes of a split's frames, by its `info.json`."""
    features = info(root)["features"]
    height, width, _ = features[schema.IMAGE]["shape"]
    state, action = (features[name]["shape"][0] for name in schema.VECTOR_COLUMNS)
    return Layout((height, width), state, action, tuple(features))


def dmask(root: Path) -> dict[str, Any]:
    """`meta/dmask.json`. What its spec says is checked by `Spec.from_json`."""
    return read_json(inside(root, schema.DMASK), _RECORD)


def mask_source(content: bytes, where: str) -> dict[str, Any]:
    """What a shard says its masks come from."""
    return parse(content, where, _mask)


def checksums(root: Path) -> dict[str, dict[str, Any]]:
    """`meta/checksums.json`: name of a shard's file → `sha256` and `size`. Empty where there is no such file."""
    path = inside(root, schema.CHECKSUMS)
    if not path.exists():
        return {}
    found = read_json(path, mapping(_SUM))
    for name in found:
        if shard_of(name) is None:
            raise DmaskError(f"{path} lists {reprlib.repr(name)}, which is no file of a shard; it is not touched")
    return found


def shard_of(name: str) -> int | None:
    """The shard whose frames or records lie in file `name`, relative to the root; None for any other name."""
    digits = re.fullmatch(r"(?:data|meta/episodes)/chunk-([0-9]{3,4})/file-([0-9]{3})\.parquet", name)
    shard = int(digits[1]) * schema.CHUNK_SIZE + int(digits[2]) if digits else SHARDS
    return shard if name in (schema.data_file(shard), schema.episodes_file(shard)) else None


def released(path: Path) -> list[int]:
    """The file that lists the shards whose frames lie on the Hub alone."""
    return read_json(path, listing(whole(0, SHARDS - 1)))
