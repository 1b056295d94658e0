"""Episodes on disk and back: parts, shards, the files in `meta/`; each appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distractor_data import schema, untrusted
from distractor_data.errors import DmaskError
from distractor_data.rollout import Episode
from distractor_data.spec import Spec
from distractor_data.untrusted import images

SHARD_FRAMES = 50_000  # about 300 MB at 64×64; LeRobot and the Hub want files of some hundred MB
ROW_GROUP = 250  # rows a reader must fetch to see one; an episode never shares a row group with another
RELEASED = ".released.json"  # numbers of the shards whose frames lie on the Hub alone
PARTS = ".parts"  # episodes not yet in a shard; the folder is hidden from readers by its name


def episodes_per_shard(spec: Spec) -> int:
    """How many episodes a full shard of this spec holds; follows from the spec alone."""
    frame = (spec.image_size / 64) ** 2 * (2 if spec.clean else 1)
    return max(1, int(SHARD_FRAMES / frame) // spec.steps)


# --- files that appear whole or not at all -------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end; removed where the body raises."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a killed process that had this number
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield temporary
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
    with open(os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DmaskError(f"another run is writing to {root}; wait for it or choose another {option}") from error
        yield


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises `DmaskError` naming a missing or damaged file."""
    return untrusted.read_json(path)


def _write_parquet(path: Path, groups: Iterable[pa.Table], schema_: pa.Schema) -> None:
    """Write tables one after the other. Image bytes are already compressed, so only the rest is."""
    images = [field.name for field in schema_ if field.name in schema.IMAGE_COLUMNS]
    plain = [field.name for field in schema_ if field.name not in images]
    compression = {f"{name}.bytes": "NONE" for name in images} | {f"{name}.path": "NONE" for name in images}
    for name in plain:
        nested = pa.types.is_nested(schema_.field(name).type)
        compression[f"{name}.list.element" if nested else name] = "ZSTD"
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(
            temporary, schema_, compression=compression, use_dictionary=plain, write_page_index=True
        ) as writer,
    ):
        for group in groups:
            writer.write_table(group, row_group_size=ROW_GROUP)


# --- images --------------------------------------------------------------------------------------------------


def encode_image(image: np.ndarray) -> bytes:
    """Lossless WebP of (H, W, 3) uint8."""
    return _encode(image, format="WEBP", lossless=True, method=0, quality=0)


def encode_mask(mask: np.ndarray) -> bytes:
    """One-channel PNG, 0 or 255, of (H, W) bool."""
    return _encode(mask.astype(np.uint8) * 255, format="PNG", compress_level=6)


def _encode(array: np.ndarray, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


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


# --- parts: one episode each, until their shard is full ------------------------------------------------------


def part_file(root: Path, episode: int) -> Path:
    """Where an episode waits for its shard."""
    return root / _part_name(episode)


def _part_name(episode: int) -> str:
    return f"{PARTS}/episode-{episode:06d}.parquet"


def write_part(root: Path, episode: Episode, fps: int) -> None:
    """Store one episode, with its record in the file's metadata."""
    _write_part(root, frames_table(episode, fps), episode.info | {"stats": frame_stats(episode)})


def _write_part(root: Path, frames: pa.Table, record: dict[str, Any]) -> None:
    frames = frames.replace_schema_metadata({**frames.schema.metadata, b"dmask": json.dumps(record).encode()})
    _write_parquet(part_file(root, record["episode_index"]), [frames], frames.schema)


def part_complete(root: Path, episode: int) -> bool:
    """Whether an episode's part is there. Parts appear by rename, so one that is there is whole."""
    return part_file(root, episode).exists()


def part_length(root: Path, episode: int) -> int:
    """Number of frames in a part."""
    return untrusted.parquet(untrusted.inside(root, _part_name(episode))).metadata.num_rows


def frames_table(episode: Episode, fps: int) -> pa.Table:
    """An episode's rows. `index`, which counts through the whole split, is filled in by `assemble`."""
    images: dict[str, list[bytes]] = {
        schema.IMAGE: [encode_image(image) for image in episode.image],
        schema.MASK: [encode_mask(mask) for mask in episode.mask],
    }
    if episode.mask_sim is not None:
        images[schema.MASK_SIM] = [encode_mask(mask) for mask in episode.mask_sim]
    if episode.image_clean is not None:
        images[schema.IMAGE_CLEAN] = [encode_image(image) for image in episode.image_clean]
    if episode.mask_clean is not None:
        images[schema.MASK_CLEAN] = [encode_mask(mask) for mask in episode.mask_clean]
    (length, state_size), action_size = episode.state.shape, episode.action.shape[1]
    columns: dict[str, Any] = {
        name: [{"bytes": blob, "path": None} for blob in blobs] for name, blobs in images.items()
    }
    for name, vectors in ((schema.STATE, episode.state), (schema.ACTION, episode.action)):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    frame = np.arange(length)
    columns |= {
        schema.REWARD: episode.reward,
        schema.DONE: episode.done,
        schema.TIMESTAMP: (frame / fps).astype(np.float32),
        schema.FRAME: frame,
        schema.EPISODE: np.full(length, episode.info["episode_index"], np.int64),
        schema.INDEX: frame,
        schema.TASK: np.zeros(length, np.int64),
    }
    return pa.table(columns, schema=schema.arrow_schema(state_size, action_size, tuple(images)))


def frame_stats(episode: Episode) -> dict[str, dict[str, Any]]:
    """Minimum, maximum, mean, standard deviation and count of every column, as LeRobot keeps them.

    Images are taken in [0, 1] with one value a channel, from at most 100 frames spread over the episode.
    """
    picked = spread(len(episode))
    values: dict[str, np.ndarray] = {
        schema.IMAGE: episode.image[picked] / 255.0,
        schema.MASK: episode.mask[picked][..., None].astype(float),
        schema.STATE: episode.state,
        schema.ACTION: episode.action,
        schema.REWARD: episode.reward[:, None],
    }
    if episode.mask_sim is not None:
        values[schema.MASK_SIM] = episode.mask_sim[picked][..., None].astype(float)
    if episode.image_clean is not None:
        values[schema.IMAGE_CLEAN] = episode.image_clean[picked] / 255.0
    if episode.mask_clean is not None:
        values[schema.MASK_CLEAN] = episode.mask_clean[picked][..., None].astype(float)
    return {name: column_stats(value) for name, value in values.items()}


def spread(length: int) -> np.ndarray:
    """Indices of at most 100 frames spread over an episode, from which its images' statistics are taken."""
    return np.unique(np.linspace(0, length - 1, 100).astype(int))


def column_stats(value: np.ndarray) -> dict[str, Any]:
    """Statistics of one column, (N, …, C), for each channel."""
    flat = value.reshape(-1, value.shape[-1]).astype(np.float64)
    return {
        "min": flat.min(0).tolist(),
        "max": flat.max(0).tolist(),
        "mean": flat.mean(0).tolist(),
        "std": flat.std(0).tolist(),
        "count": [len(value)],
    }


# --- shards --------------------------------------------------------------------------------------------------


def assemble(root: Path, shard: int, episodes: range, first_index: int, task: str) -> int:
    """Move the parts of `episodes` into shard `shard`. Returns the index after the shard's last frame."""
    first = untrusted.part(untrusted.inside(root, _part_name(episodes[0])), episodes[0])[0].schema
    frames_schema = first.with_metadata({b"huggingface": first.metadata[b"huggingface"]})
    records: list[dict[str, Any]] = []

    def groups() -> Iterator[pa.Table]:
        index = first_index
        for episode in episodes:
            part, record = untrusted.part(untrusted.inside(root, _part_name(episode)), episode)
            records.append(_episode_row(record, shard, index, task))
            position = part.schema.get_field_index(schema.INDEX)
            index += len(part)
            counted = pa.array(np.arange(index - len(part), index))
            part = part.set_column(position, part.schema.field(position), counted)
            yield part.cast(frames_schema)

    _write_parquet(root / schema.data_file(shard), groups(), frames_schema)
    write_episodes(root, shard, pa.Table.from_pylist(records))
    for episode in episodes:
        part_file(root, episode).unlink(missing_ok=True)
    return records[-1]["dataset_to_index"]


def _episode_row(record: dict[str, Any], shard: int, index: int, task: str) -> dict[str, Any]:
    """An episode's row in `meta/episodes`: LeRobot's columns, then ours, then the statistics."""
    record = dict(record)
    stats, length = record.pop("stats"), record.pop("length")
    chunk, file = shard // schema.CHUNK_SIZE, shard % schema.CHUNK_SIZE
    return {
        "episode_index": record.pop("episode_index"),
        "tasks": [task],
        "length": length,
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": index,
        "dataset_to_index": index + length,
        "meta/episodes/chunk_index": chunk,
        "meta/episodes/file_index": file,
        **record,
        **{f"stats/{name}/{key}": value for name, of in stats.items() for key, value in of.items()},
    }


_ROW_ONLY = ("tasks", "data/", "dataset_", "meta/", "stats/")  # columns that `_episode_row` adds to a record


def disassemble(root: Path, shard: int) -> None:
    """Copy a shard back into parts, for the last shard of a split that is to grow. `assemble` will replace it."""
    frames, rows = read_frames(root, shard), read_episodes(root, shard).to_pylist()
    for row in rows:
        stats: dict[str, dict[str, Any]] = {}
        for column, value in row.items():
            if column.startswith("stats/"):
                _, name, key = column.split("/")
                stats.setdefault(name, {})[key] = value
        record = {key: value for key, value in row.items() if not key.startswith(_ROW_ONLY)} | {"stats": stats}
        part = frames.slice(row["dataset_from_index"] - rows[0]["dataset_from_index"], row["length"])
        _write_part(root, part, record)


def write_shard(root: Path, shard: int, frames: pa.Table, episodes: pa.Table) -> None:
    """Write one shard's frames and episode records, replacing those that are there. Call `meta.refresh` after."""
    frames = frames.combine_chunks()
    lengths = episodes["length"].to_pylist()
    starts = np.cumsum([0, *lengths])
    groups = [frames.slice(start, length) for start, length in zip(starts, lengths, strict=False)]
    _write_parquet(root / schema.data_file(shard), groups, frames.schema)
    write_episodes(root, shard, episodes)


def write_episodes(root: Path, shard: int, episodes: pa.Table) -> None:
    """The records come after the frames: a shard is there when they are."""
    with atomic_write(root / schema.episodes_file(shard)) as temporary:
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
    write_json(root / RELEASED, numbers)
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
    with untrusted.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Delete a file or a folder with all it holds."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
