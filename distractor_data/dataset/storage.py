"""Episodes on disk and back: parts, shards, the files in `meta/`; each appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distractor_data import schema, untrusted
from distractor_data.dataset import sums
from distractor_data.dataset.sums import Sum, Sums
from distractor_data.errors import DmaskError
from distractor_data.spec import Import, Spec
from distractor_data.untrusted import images

SHARD_FRAMES = 10_000  # about 60 MB at 64×64: tens of files for a thousand episodes, one for each of many readers
ROW_GROUP = 250  # rows a reader must fetch to see one, at most; an episode never shares a row group with another
ROW_GROUP_BYTES = 32 << 20  # of large pictures
SUMS = ".sums.json"  # of all files here; hidden, because it is of this folder alone
SUMS_LOCK = ".sums.lock"
TOTALS = ".totals.json"  # what the shards' records sum up to
RELEASED = ".released.json"  # numbers of the shards whose frames lie on the Hub alone
SCRATCH = ".repair"  # what is made anew until it takes its place
PARTS = ".parts"  # episodes not yet in a shard; the folder is hidden from readers by its name
FETCHED = ".pull"  # what comes from the Hub and is not in its place yet
_HIDDEN = re.compile(r"\.(dmask|released|origin|totals)\.json|\.parts/episode-\d{6,}\.(parquet|json)")


def episodes_per_shard(spec: Spec | Import) -> int:
    """How many episodes a full shard of this spec holds; follows from the spec alone."""
    frame = (spec.image_size / 64) ** 2 * (2 if spec.clean else 1)
    return max(1, int(shard_frames(spec) / frame) // spec.steps)


def shard_frames(spec: Spec | Import) -> float:
    """How many frames of 64×64 fill a shard."""
    return SHARD_FRAMES * (5 if spec.version < 3 else 1)


def wanted_shards(spec: Spec | Import) -> list[range]:
    """The episodes of each shard."""
    size = episodes_per_shard(spec)
    return [range(start, min(start + size, spec.episodes)) for start in range(0, spec.episodes, size)]


@contextlib.contextmanager
def atomic_write(path: Path, synced: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end; removed where the body raises.

    Not `synced`, it may be empty after the machine lost its power.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a killed process that had this number
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield temporary
        if synced:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise DmaskError(
            f"{path} can't be written ({error.strerror}: {error.filename}); move away what is there"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(root: Path, option: str = "--out") -> Iterator[None]:
    """One writer at a time for a folder, which `option` chose. Raises `DmaskError` where there is another.

    Also where the folder holds a link, through which something else would be written.
    """
    untrusted.plain(root)
    with _opened(root / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DmaskError(f"another run is writing to {root}; wait for it or choose another {option}") from error
        yield


def _opened(path: Path) -> BinaryIO:
    """A file to lock; no link is followed to it."""
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(value))


def json_text(value: Any) -> str:
    """JSON as it stands in our files."""
    return json.dumps(value, indent=2) + "\n"


def read_json(path: Path) -> Any:
    """Read JSON. Raises `DmaskError` naming a missing or damaged file."""
    return untrusted.read_json(path)


@contextlib.contextmanager
def recorded_write(root: Path, name: str) -> Iterator[Path]:
    """`atomic_write` of `root / name`, whose checksum is noted before the file takes its name.

    Only this and `write_files` make checksums. Killed between the two, the list, `.sums.json`, has what was there
    and what was to come. A part has a list of its own beside it: it costs the same however many shards there are,
    and no two machines write to one.
    """
    part = name.startswith(PARTS)
    with atomic_write(root / name) as temporary:
        yield temporary
        written = sums.of(temporary)
        if part:
            there = _part_sums(root, name) if (root / name).exists() else []
            _write_list(root / listed(name), {name: [*there, written]})
        else:
            with change_sums(root) as known:
                known[name] = [*known.get(name, [None]), written]
    if not part:
        with change_sums(root) as known:
            known[name] = [written]


def write_files(root: Path, contents: Mapping[str, bytes]) -> None:
    """`recorded_write` of several files, whose checksums are noted together."""
    with recorded_moves(root, {name: sums.of(content) for name, content in contents.items()}):
        for name, content in contents.items():
            with atomic_write(root / name) as temporary:
                temporary.write_bytes(content)


@contextlib.contextmanager
def change_sums(root: Path) -> Iterator[Sums]:
    """The checksums of a split but for its parts, to be changed by one thread of one process at a time."""
    with _opened(root / SUMS_LOCK) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = _read_list(root)
        before = {name: list(values) for name, values in known.items()}
        yield known
        if known != before or not (root / SUMS).exists():
            _write_list(root / SUMS, known)


def read_sums(root: Path) -> Sums:
    """What each file of a split may be. Raises `DmaskError` where the list itself is damaged.

    A split that was fetched, or made by an older version, has the published checksums of its shards alone.
    """
    waiting = (f"{PARTS}/{path.name}" for path in sorted((root / PARTS).glob("episode-*.parquet")))
    return _read_list(root) | {name: _part_sums(root, name) for name in waiting if (root / listed(name)).exists()}


def _read_list(root: Path) -> Sums:
    path = untrusted.inside(root, SUMS)
    if not path.exists():
        return {name: [known] for name, known in published_sums(root).items()}
    try:
        with untrusted.opened(path) as file:
            known = sums.parse(file.read(sums.BYTES).decode())
        if all(is_ours(name) for name in known):
            return known
    except ValueError:
        pass
    raise DmaskError(f"{path} is damaged; mend it with `dmask verify --repair`")


def listed(part: str) -> str:
    """Path, relative to the root, of the list beside a part."""
    return f"{part.removesuffix('.parquet')}.json"


def _part_sums(root: Path, name: str) -> list[Sum | None]:
    """What a part may be: nothing at all where its list is damaged, so that it is made anew."""
    path = untrusted.inside(root, listed(name))
    if not path.exists():
        return [None]
    try:
        with untrusted.opened(path) as file:
            return sums.parse(file.read(sums.BYTES).decode())[name]
    except (ValueError, KeyError):
        return []


def _write_list(path: Path, known: Sums) -> None:
    with atomic_write(path, synced=path.name == SUMS) as temporary:  # a part that lost its list is made anew
        temporary.write_text(sums.render(known))


@functools.lru_cache(1 << 16)
def is_ours(name: str) -> bool:
    """Whether a file of ours may lie at a path, relative to a split's root."""
    shown = name in schema.DESCRIPTIONS or untrusted.shard_of(name) is not None
    return shown or _HIDDEN.fullmatch(name) is not None


def published_sums(root: Path) -> dict[str, Sum]:
    """`meta/checksums.json`: those of the shards, none where it is missing."""
    return {name: Sum(**known) for name, known in untrusted.checksums(root).items()}


def settle(root: Path) -> None:
    """What a killed run left becomes definite: its temporary files go, and what it was writing is old or new.

    To be called with the lock, before anything is written.
    """
    for leftover in root.rglob(".*.tmp"):
        leftover.unlink()
    for listed in (root / PARTS).glob("episode-*.json"):
        part = listed.with_suffix(".parquet")
        if not part.exists():
            listed.unlink()  # it is in its shard, or was never whole
        elif len(values := _part_sums(root, f"{PARTS}/{part.name}")) > 1 and (whole := sums.of(part)) in values:
            _write_list(listed, {f"{PARTS}/{part.name}": [whole]})
    with change_sums(root) as known:
        for name, values in list(known.items()):
            file = root / name
            now = sums.of(file) if len(values) > 1 and file.exists() else None
            if name.startswith(PARTS) and not file.exists():
                del known[name]  # it is in its shard
            elif len(values) > 1 and now in values:
                known[name] = [now]
            if known.get(name) == [None]:
                del known[name]


@contextlib.contextmanager
def recorded_moves(root: Path, coming: Mapping[str, Sum]) -> Iterator[None]:
    """As `recorded_write`, for files that the body moves to their places and whose checksums are known."""
    with change_sums(root) as known:
        known |= {name: [*known.get(name, [None]), value] for name, value in coming.items()}
    yield
    learn(root, coming)


def learn(root: Path, known: Mapping[str, Sum]) -> None:
    """Take over checksums that others noted when they wrote the files: those of the Hub."""
    with change_sums(root) as mine:
        mine |= {name: [value] for name, value in known.items()}


def forget(root: Path, names: Iterable[str]) -> None:
    """Delete files that are no longer wanted, and their checksums."""
    with change_sums(root) as known:
        for name in names:
            (root / name).unlink(missing_ok=True)
            known.pop(name, None)
            if name.startswith(PARTS):
                (root / listed(name)).unlink(missing_ok=True)


def write_parquet(root: Path, name: str, groups: Iterable[pa.Table], schema_: pa.Schema) -> None:
    """Write tables one after the other. Image bytes are already compressed, so only the rest is.

    Pages carry a checksum each, which tells the damaged episodes of a damaged file from the others.
    """
    images = [field.name for field in schema_ if field.name in schema.IMAGE_COLUMNS]
    plain = [field.name for field in schema_ if field.name not in images]
    compression = {f"{name}.bytes": "NONE" for name in images} | {f"{name}.path": "NONE" for name in images}
    for column in plain:
        nested = pa.types.is_nested(schema_.field(column).type)
        compression[f"{column}.list.element" if nested else column] = "ZSTD"
    options: dict[str, Any] = {"write_page_index": True, "write_page_checksum": True}
    with (
        recorded_write(root, name) as temporary,
        pq.ParquetWriter(temporary, schema_, compression=compression, use_dictionary=plain, **options) as writer,
    ):
        for group in groups:
            rows = ROW_GROUP_BYTES * len(group) // max(group.nbytes, 1)
            writer.write_table(group, row_group_size=min(ROW_GROUP, max(1, rows)))


def decode_images(column: pa.ChunkedArray | pa.Array, threads: int | None = None) -> np.ndarray:
    """An image column as one array: (N, H, W, 3), or (N, H, W) where the images have one channel, uint8.

    Raises `DmaskError` where an image is damaged or, by its header, of another size than the first.
    """
    import cv2  # decodes WebP 2.4 times and PNG 3.5 times as fast as Pillow

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    blobs = [blob for chunk in chunks for blob in chunk.field("bytes").to_pylist()]

    def fill(start: int) -> None:
        for index in range(start, min(start + 256, len(blobs))):
            image = cv2.imdecode(np.frombuffer(images.intact(blobs[index], shape), np.uint8), kind)
            if image is None or image.shape != shape:
                raise ValueError(f"image {index} can't be decoded")
            decoded[index] = image

    try:
        shape = images.check(blobs)
        kind = cv2.IMREAD_UNCHANGED if len(shape) == 2 else cv2.IMREAD_COLOR_RGB
        if len(blobs) * math.prod(shape) > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise MemoryError(f"{len(blobs)} of {shape[0]}×{shape[1]} pixels are more than this machine's memory")
        decoded = np.empty((len(blobs), *shape), np.uint8)
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            list(pool.map(fill, range(0, len(blobs), 256)))
    except (cv2.error, ValueError, MemoryError) as error:
        raise DmaskError(f"an image of the dataset is damaged ({error}); pull or generate it again") from error
    return decoded


def write_shard(root: Path, shard: int, frames: pa.Table, episodes: pa.Table) -> None:
    """Write one shard's frames and episode records, replacing those that are there. Call `meta.refresh` after."""
    frames = frames.cast(schema.like(frames.schema)).combine_chunks()
    lengths = episodes[schema.LENGTH].to_pylist()
    starts = np.cumsum([0, *lengths])
    groups = [frames.slice(start, length) for start, length in zip(starts, lengths, strict=False)]
    write_parquet(root, schema.data_file(shard), groups, frames.schema)
    write_episodes(root, shard, episodes)


def write_episodes(root: Path, shard: int, episodes: pa.Table) -> None:
    """The records come after the frames: a shard is there when they are."""
    with recorded_write(root, schema.episodes_file(shard)) as temporary:
        pq.write_table(episodes, temporary)


def shards(root: Path, frames: bool = True) -> list[int]:
    """Numbers of the complete shards, from 0 up to the first that is missing.

    The frames may have been released. Without `frames` it is enough that the records are there.
    """
    elsewhere, found = released(root), list[int]()
    while (root / schema.episodes_file(len(found))).exists() and (
        not frames or len(found) in elsewhere or (root / schema.data_file(len(found))).exists()
    ):
        found.append(len(found))
    return found


def released(root: Path) -> list[int]:
    """Shards whose frames were deleted here because they lie on the Hub."""
    path = untrusted.inside(root, RELEASED)
    numbers = untrusted.released(path) if path.exists() else []
    return [number for number in numbers if not (root / schema.data_file(number)).exists()]


def release(root: Path, numbers: Iterable[int]) -> None:
    """Delete the frames of shards that lie on the Hub, and remember that they do."""
    numbers = sorted({*released(root), *numbers})
    with recorded_write(root, RELEASED) as temporary:
        temporary.write_text(json_text(numbers))
    for number in numbers:
        (root / schema.data_file(number)).unlink(missing_ok=True)


def read_frames(root: Path, shard: int, columns: list[str] | None = None) -> pa.Table:
    """A shard's frames. Raises `DmaskError` naming a damaged file, or one that is not as its records tell."""
    path = untrusted.inside(root, schema.data_file(shard))
    layout = untrusted.layout(root) if (root / schema.INFO).exists() else None  # it is written after the first shard
    return untrusted.frames_table(path, layout, read_episodes(root, shard), columns)


def read_episodes(root: Path, shard: int | None = None, frames: bool = True) -> pa.Table:
    """The episode records of one shard, or of all (see `shards`)."""
    if shard is not None:
        return untrusted.episodes(untrusted.inside(root, schema.episodes_file(shard)), shard)
    numbers = shards(root, frames)
    if not numbers:
        raise DmaskError(f"{root} holds no finished shard; run the `dmask generate` that began it again")
    return untrusted.in_order([read_episodes(root, number) for number in numbers], root)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return sums.of(path).sha256


def remove(path: Path) -> None:
    """Delete a file or a folder with all it holds."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
