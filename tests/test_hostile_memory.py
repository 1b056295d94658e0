"""Small files that would take gigabytes: refused within a bounded memory, in a process that has no more."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import World
from small_dataset import PER_SHARD, SIZE, STEPS

from distractor_data import schema
from distractor_data.dataset import rows

ROWS = PER_SHARD * STEPS
MEGABYTE = 1 << 20
ALLOWED = 3 << 10  # MB that the process may map; without the checks each of these takes more
READ = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, ({ALLOWED} << 20, {ALLOWED} << 20))
import sys
import distractor_data
from distractor_data.errors import DmaskError
for folder in sys.argv[1:]:
    try:
        list(distractor_data.load(folder))
        print("it was accepted")
    except DmaskError as error:
        print(error)
print(next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def png(height: int, width: int, bits: int = 8) -> bytes:
    """A black grey PNG of which only some rows are there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(MEGABYTE))) + chunk(b"IEND", b"")


def webp(height: int, width: int) -> bytes:
    """The lossless WebP of one black pixel, said to be larger."""
    content = bytearray(rows.encode_image(np.zeros((1, 1, 3), np.uint8)))
    content[21:25] = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(content)


def large_masks(world: World) -> None:
    world.table(world.frames, images(schema.MASK, png(60_000, 60_000)))


def large_images(world: World) -> None:
    world.table(world.frames, images(schema.IMAGE, webp(16_383, 16_383)))


def images_as_large_as_info_says(world: World) -> None:
    def larger(info: dict[str, Any]) -> dict[str, Any]:
        for name in (schema.IMAGE, schema.MASK):
            info["features"][name]["shape"][:2] = [4096, 4096]
        return info

    world.json(schema.INFO, larger)
    for shard in range(2):
        world.table(world.root / schema.data_file(shard), images(schema.IMAGE, webp(4096, 4096)))
        world.table(world.root / schema.data_file(shard), images(schema.MASK, png(4096, 4096)))


def images(name: str, content: bytes) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        return table.set_column(index, name, pa.array([{"bytes": content, "path": None}] * len(table)))

    return change


def pixels_without_end(world: World) -> None:
    """Right by its header; its pixels inflate to half a gigabyte."""
    content = png(SIZE, SIZE)
    packed = zlib.compress(bytes(512 * MEGABYTE), 1)
    idat = b"IDAT" + packed
    whole = content[:33] + struct.pack(">I", len(packed)) + idat + struct.pack(">I", zlib.crc32(idat)) + content[-12:]
    world.table(world.frames, cell(whole))


def cell(content: bytes) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[schema.MASK].to_pylist()
        values[0] = {"bytes": content, "path": None}
        return table.set_column(table.schema.get_field_index(schema.MASK), schema.MASK, pa.array(values))

    return change


def repeated(column: str, value: bytes | str, rows: int, path: Path) -> None:
    """A column of one value that is stored once, packed, and is to be repeated in every row."""
    value_type = pa.binary() if isinstance(value, bytes) else pa.string()
    array = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value], value_type))
    if isinstance(value, bytes):
        array = pa.StructArray.from_arrays([array, pa.nulls(rows, pa.string())], ["bytes", "path"])
    table = pq.read_table(path, partitioning=None)
    other = table.take(np.zeros(rows, np.int64)).drop_columns(column)
    pq.write_table(other.append_column(column, array), path, compression="ZSTD", store_schema=False)


def an_image_for_all_rows(world: World) -> None:
    repeated(schema.IMAGE, bytes(128 * MEGABYTE), ROWS, world.frames)


def a_text_for_all_records(world: World) -> None:
    repeated("background", "x" * 128 * MEGABYTE, 30, world.records)


def rows_without_end(world: World) -> None:
    pq.write_table(pa.table({"length": np.zeros(30_000_000, np.int64)}), world.records)


def a_long_footer(world: World) -> None:
    world.frames.write_bytes(b"PAR1" + bytes(20 * MEGABYTE) + struct.pack("<I", 20 * MEGABYTE) + b"PAR1")


def a_long_json(world: World) -> None:
    (world.root / schema.INFO).write_text("[" + "{}," * 20_000_000 + "{}]")


def a_deep_json(world: World) -> None:
    (world.root / schema.INFO).write_text('{"a":' * 500_000)


BOMBS = [
    large_masks,
    large_images,
    images_as_large_as_info_says,
    pixels_without_end,
    an_image_for_all_rows,
    a_text_for_all_records,
    rows_without_end,
    a_long_footer,
    a_long_json,
    a_deep_json,
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, made_once: Path) -> tuple[dict[str, str], int]:
    """What reading each bomb gave, all in one process, and the most memory it took, in MB."""
    folder = tmp_path_factory.mktemp("bombs")
    for bomb in BOMBS:
        world = World(folder / bomb.__name__, made_once)
        bomb(world)
        if bomb not in (a_long_json, a_deep_json):
            world.seal()
    folders = [str(folder / bomb.__name__ / "data") for bomb in BOMBS]
    done = subprocess.run([sys.executable, "-c", READ, *folders], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    *lines, peak = done.stdout.splitlines()
    return dict(zip([bomb.__name__ for bomb in BOMBS], lines, strict=True)), int(peak)


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_small_files_take_no_gigabytes(bomb: Callable[[World], None], said: tuple[dict[str, str], int]) -> None:
    lines, peak = said
    assert "walker-run/train" in lines[bomb.__name__] or "image of the dataset" in lines[bomb.__name__]
    assert peak < ALLOWED / 2
