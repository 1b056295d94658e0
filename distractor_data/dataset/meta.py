"""The files in `meta/`: what LeRobot reads, checksums, and the record of how a split was made.

All but the record are derived from the shards that are there, so they can be written anew at any time.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import platform
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from distractor_data import schema, untrusted
from distractor_data.dataset import storage, sums
from distractor_data.dataset.totals import RECORD, Totals, of_shards
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS, Import, Spec, of_record

_MUST_MATCH = ("mujoco", "dm_control", "distracting-control")
_OF_FAMILY = {"metaworld": ("metaworld", "fast-simplification")}  # must match, too
COPY = ".dmask.json"  # of the record
_CARD = """\
---
configs:
- config_name: {config}
  data_files:
  - split: {split}
    path: data/**/*.parquet
---
The split `{split}` of `{config}`: frames in `data/`, episodes and all else that describes them in `meta/`.
"""
MEND = "mend it with `dmask verify --repair`"
_PACKAGES = (
    "dmask",
    "mujoco",
    "dm_control",
    "distracting-control",
    "numpy",
    "opencv-python-headless",
    "av",
    "pyarrow",
    "pillow",
)


def write_record(
    root: Path,
    spec: Spec | Import,
    fps: int,
    renderer: str = "",
    expert_return: float | None = None,
    masks: str = "simulator",
) -> None:
    """`meta/dmask.json`: the spec, the versions that ran, where the masks come from, what the policy reaches.

    `renderer` names what drew the frames, several of them with "; " between; empty where it isn't known.
    """
    save_record(
        root,
        {
            "spec": spec.to_json(),
            "fps": fps,
            "masked": spec.masked,
            "mask": {"source": masks},
            "expert_return": expert_return,
            "versions": versions(spec.family) | ({"renderer": renderer} if renderer else {}),
        },
    )


def save_record(root: Path, record: dict[str, Any]) -> None:
    """Write the record and its copy: the one file that can't be made again from what the others say."""
    for name in (COPY, schema.DMASK):
        with storage.recorded_write(root, name) as temporary:
            temporary.write_text(storage.json_text(record))


def versions(family: str = "suite") -> dict[str, str]:
    """Versions of Python and of the packages that the bytes of a family's data depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    for name in _OF_FAMILY.get(family, ()):  # of an extra
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return {"python": platform.python_version(), **found}


def refuse_other_versions(root: Path | str, there: dict[str, str], spec: Spec, choices: str) -> None:
    """Raise `DmaskError` where data of a spec was made with versions, `there`, other than those that are here."""
    now = versions(spec.family)
    names = (*_MUST_MATCH, *_OF_FAMILY.get(spec.family, ()))
    changed = [f"{name} ({there.get(name)} there, {now[name]} now)" for name in names if there.get(name) != now[name]]
    if changed:
        raise DmaskError(f"{root} was made with other versions: {', '.join(changed)}; {choices}")


def read_record(root: Path) -> dict[str, Any]:
    """`meta/dmask.json`. Raises `DmaskError` where it is missing or damaged."""
    return untrusted.dmask(root)


def has_record(root: Path) -> bool:
    """Whether the folder holds a split, be its record damaged or lost."""
    if (root / schema.DMASK).exists():
        return True
    return None not in storage.read_sums(root).get(schema.DMASK, [None])


def read_spec(root: Path) -> Spec | Import:
    """The spec that a split was made by, or what it was imported from."""
    return of_record(read_record(root)["spec"])


def refresh(root: Path) -> None:
    """Write info, stats, tasks and checksums anew from the shards that are there and from their writes' checksums.

    Raises `DmaskError` where a shard has none: hashing what lies there would bless damage.
    """
    storage.write_files(root, derived(root, again=False))


def derived(root: Path, again: bool = True) -> dict[str, bytes]:
    """The files that follow from the record and the shards: path from the root → content; none without a shard.

    What an earlier call summed up is read and not summed `again` where it is of the shards that are there.
    """
    record, numbers = read_record(root), storage.shards(root)
    if not numbers:
        return {}
    known = _sums_of(root, numbers)
    sums_of_records = [known[schema.episodes_file(number)] for number in numbers]
    summed = Totals() if again else _summed(root, sums_of_records)
    for number in numbers[summed.shards :]:
        summed = summed.add(sums_of_records[number], storage.read_episodes(root, number))
    here = [root / schema.data_file(number) for number in numbers if number not in storage.released(root)]
    spec = of_record(record["spec"])
    info = {
        "codebase_version": "v3.0",
        "robot_type": "sawyer" if spec.family == "metaworld" else spec.env.split("-")[0],
        "total_episodes": summed.episodes,
        "total_frames": summed.frames,
        "total_tasks": 1,
        "chunks_size": schema.CHUNK_SIZE,
        "data_files_size_in_mb": max(1, int(storage.shard_frames(spec)) * 6 // 1000),
        "video_files_size_in_mb": 0,
        "fps": record["fps"],
        "splits": {spec.split: f"0:{summed.episodes}"},
        "data_path": schema.DATA_PATH,
        "video_path": None,
        "features": schema.lerobot_features(_layout(here, summed), (spec.image_size, spec.image_size)),
    }
    tasks = io.BytesIO()
    pd.DataFrame({"task_index": [0]}, index=pd.Index([summed.task], name="task")).to_parquet(tasks)
    return {
        storage.TOTALS: storage.json_text(summed.to_json()).encode(),
        schema.INFO: storage.json_text(info).encode(),
        schema.STATS: storage.json_text(summed.lerobot()).encode(),
        schema.CARD: _CARD.format(config=spec.env, split=spec.split).encode(),
        schema.TASKS: tasks.getvalue(),
        schema.CHECKSUMS: storage.json_text(
            {name: dataclasses.asdict(value) for name, value in known.items()}
        ).encode(),
    }


def _summed(root: Path, shards: list[sums.Sum]) -> Totals:
    """What was summed up of the first of these shards; nothing where that is damaged or of others."""
    path = untrusted.inside(root, storage.TOTALS)
    try:
        if sums.of(path) not in storage.read_sums(root).get(storage.TOTALS, []):
            return Totals()
        found = Totals(**untrusted.read_json(path, RECORD))
    except (DmaskError, OSError):
        return Totals()
    return found if found.of == of_shards(shards[: found.shards]) else Totals()


def _layout(frames: list[Path], summed: Totals) -> pa.Schema:
    """The columns of the files of frames; where none is here, by the statistics of their episodes."""
    if frames:
        return untrusted.parquet(frames[0]).schema_arrow
    state, action = (len(summed.stats[name]["mean"]) for name in schema.VECTOR_COLUMNS)
    held = (name for name in schema.OPTIONAL_COLUMNS if name in summed.stats)
    return schema.arrow_schema(state, action, tuple(held), schema.REWARD in summed.stats)


def _sums_of(root: Path, numbers: list[int]) -> dict[str, sums.Sum]:
    """What `meta/checksums.json` says. While a file is being written again, it is what it was."""
    known, found = storage.read_sums(root), {}
    for name in (file(number) for number in numbers for file in (schema.data_file, schema.episodes_file)):
        first = known.get(name, [None])[0]
        if first is None:
            raise DmaskError(f"{root / name} has no checksum of the write that made it; {MEND}")
        found[name] = first
    return found


def verify(root: Path) -> int:
    """Compare every file with its checksum and count those of the shards. Raises `DmaskError` naming what differs."""
    refuse_damaged(root)
    checksums = storage.published_sums(root)
    files = [file(k) for k in storage.shards(root) for file in (schema.data_file, schema.episodes_file)]
    if not checksums or not set(files) <= set(checksums):
        raise DmaskError(f"{root}: checksums are missing; run the `dmask generate` that made it again")
    return len(checksums)


def refuse_damaged(root: Path) -> None:
    """Raise `DmaskError` where a file is not as it was written: what is made from it would hide the damage."""
    found = damaged(root)
    for file, fault in found.items():
        more = f" (and {len(found) - 1} more files)" if len(found) > 1 else ""
        raise DmaskError(f"{file} {fault}{more}; {MEND}")


def damaged(root: Path) -> dict[Path, str]:
    """Every file that is not as the write that made it left it, and in what way."""
    while True:
        listed, known = _known(root)
        found = {} if listed else {root / storage.SUMS: "is damaged"}
        for name, values in known.items():
            file = untrusted.inside(root, name)
            if not file.exists():
                if None not in values and not name.startswith(storage.PARTS):  # a part is in its shard
                    found[file] = "is missing"
            elif sums.of(file) not in values:
                found[file] = "has changed since it was written (SHA-256 differs)"
        released = root / storage.RELEASED
        if released in found:  # named first: frames that are missing may be on the Hub
            found = {released: found[released]} | found
        else:
            for number in storage.released(root):
                found.pop(root / schema.data_file(number), None)
        if not found or (listed, known) == _known(root):  # else a run wrote meanwhile
            return found


def _known(root: Path) -> tuple[bool, sums.Sums]:
    """Whether the list of checksums can be read, and what it says, or what is published of it."""
    try:
        return True, storage.read_sums(root)
    except DmaskError:
        return False, {name: [value] for name, value in storage.published_sums(root).items()}


def roots(directory: str | Path) -> list[Path]:
    """Every config and split of a dataset, be files of it missing. Raises `DmaskError` where there is none."""
    marks = (schema.DMASK, schema.CHECKSUMS, storage.SUMS)
    found = {root for name in marks for root in untrusted.splits(directory, name) if root.name in SPLITS}
    if not found:
        raise DmaskError(f"{directory} holds no dataset; give the folder that `dmask generate` wrote")
    return sorted(found)


def verify_all(directory: str | Path) -> dict[str, int]:
    """`verify` every config and split of a dataset: their names and numbers of files."""
    return {"/".join(root.parts[-2:]): verify(root) for root in roots(directory)}
