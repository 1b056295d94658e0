"""Frames and records that are not what they should be, under checksums that fit: both readers refuse them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pyarrow as pa
import pytest
from hostile import World
from PIL import Image
from small_dataset import ACTION, PER_SHARD, SIZE, STEPS

from distractor_data import schema
from distractor_data.dataset import rows

ROWS = PER_SHARD * STEPS
Change = Callable[[pa.Table], pa.Table]


@pytest.fixture
def world(tmp_path: Path, made_once: Path) -> World:
    return World(tmp_path / "world", made_once)


def column(name: str, make: Callable[[pa.ChunkedArray], object], kind: pa.DataType | None = None) -> Change:
    """Put what `make` gives in the place of a column."""

    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        given = make(table[name])
        array = given if isinstance(given, pa.Array | pa.ChunkedArray) else pa.array(given, kind or table[name].type)
        return table.set_column(index, name, array)

    return change


def cell(name: str, value: object, row: int = 5) -> Change:
    """Change one value."""
    return column(name, lambda old: [value if k == row else v for k, v in enumerate(old.to_pylist())])


def picture(shape: tuple[int, ...] = (SIZE, SIZE, 3), form: str = "PNG", mode: str | None = None) -> dict:
    """A cell with an image of another kind."""
    image = Image.fromarray(np.zeros(shape, np.uint16 if mode == "I;16" else np.uint8))
    buffer = io.BytesIO()
    (image if mode in (None, "I;16") else image.convert(mode)).save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": None}


def blob(content: bytes) -> dict:
    return {"bytes": content, "path": None}


def no_bytes(column: pa.ChunkedArray) -> pa.Array:
    return pa.StructArray.from_arrays([column.combine_chunks().field("path")], ["path"])


def broken_pixels() -> dict:
    content = bytearray(rows.encode_mask(np.ones((SIZE, SIZE), bool)))
    content[45:60] = bytes(15)
    return blob(bytes(content))


EXTRA = pa.field(schema.ACTION, pa.float32())
FRAMES: dict[str, Change] = {
    "rows missing": lambda t: t.slice(0, ROWS - 3),
    "rows twice": lambda t: pa.concat_tables([t, t]),
    "no rows": lambda t: t.slice(0, 0),
    "rows in another order": lambda t: t.take(np.arange(ROWS)[::-1]),
    "no image": lambda t: t.drop_columns(schema.IMAGE),
    "no mask": lambda t: t.drop_columns(schema.MASK),
    "no action": lambda t: t.drop_columns(schema.ACTION),
    "two actions": lambda t: t.append_column(EXTRA, pa.array(np.zeros(len(t), np.float32))),
    "images are texts": column(schema.IMAGE, lambda old: ["x"] * ROWS, pa.string()),
    "images without bytes": column(schema.IMAGE, no_bytes),
    "an image is null": cell(schema.IMAGE, None),
    "an image has null bytes": cell(schema.IMAGE, {"bytes": None, "path": None}),
    "an image is empty": cell(schema.IMAGE, blob(b"")),
    "an image of 1×1": cell(schema.IMAGE, picture((1, 1, 3))),
    "all images of 1×1": column(schema.IMAGE, lambda old: [picture((1, 1, 3))] * ROWS),
    "a larger image": cell(schema.IMAGE, picture((SIZE, 4 * SIZE, 3))),
    "a grey image": cell(schema.IMAGE, picture((SIZE, SIZE))),
    "an image with alpha": cell(schema.IMAGE, picture(mode="RGBA")),
    "a WebP with alpha": cell(schema.IMAGE, picture((SIZE, SIZE, 4), "WEBP")),
    "an image as JPEG": cell(schema.IMAGE, picture(form="JPEG")),
    "an image as PostScript": cell(schema.IMAGE, picture(form="EPS")),
    "an image with a longer name than itself": cell(schema.IMAGE, {"bytes": b"x", "path": "x" * 10**6}),
    "an image cut short": cell(schema.IMAGE, blob(picture()["bytes"][:40])),
    "a mask of 16 bits": cell(schema.MASK, picture((SIZE, SIZE), mode="I;16")),
    "a mask of one bit": cell(schema.MASK, picture((SIZE, SIZE), mode="1")),
    "a mask with a palette": cell(schema.MASK, picture((SIZE, SIZE), mode="P")),
    "a mask in colour": cell(schema.MASK, picture()),
    "masks of another size": column(schema.MASK, lambda old: [picture((8, 8))] * ROWS),
    "a mask with damaged pixels": cell(schema.MASK, broken_pixels()),
    "actions of another size": column(
        schema.ACTION,
        lambda old: np.zeros((ROWS, ACTION + 1), np.float32).tolist(),
        pa.list_(pa.float32(), ACTION + 1),
    ),
    "actions of any size": column(schema.ACTION, lambda old: old.to_pylist(), pa.list_(pa.float32())),
    "actions in double precision": column(schema.ACTION, lambda old: old.to_pylist(), pa.list_(pa.float64(), ACTION)),
    "actions are texts": column(schema.ACTION, lambda old: ["left"] * ROWS, pa.string()),
    "an action is null": cell(schema.ACTION, None),
    "an action is not finite": cell(schema.ACTION, [float("nan")] * ACTION),
    "episode numbers that skip": cell(schema.EPISODE, 7),
    "episode numbers in floats": column(schema.EPISODE, lambda old: np.zeros(ROWS), pa.float64()),
    "frame numbers that repeat": cell(schema.FRAME, 0),
    "an index out of this world": cell(schema.INDEX, 2**62),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames(case: str, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.table(world.frames, FRAMES[case])
    hostile.refused(capfd, world.folder, world.decode)
    assert not [path for path in world.cache.glob("*") if path.name != "verified"]
    hostile.refused(capfd, world.folder, world.load)


RECORDS: dict[str, Change] = {
    "no lengths": lambda t: t.drop_columns("length"),
    "lengths in floats": column("length", lambda old: [12.0, 12.0], pa.float64()),
    "a length is null": cell("length", None, 0),
    "a length below zero": cell("length", -12, 0),
    "a length beyond all": cell("length", 10**12, 0),
    "lengths that don't sum": cell("length", 11, 0),
    "episodes that skip": cell("episode_index", 5, 1),
    "episodes from another start": column("episode_index", lambda old: [3, 4]),
    "rows that overlap": cell("dataset_from_index", 3, 1),
    "rows before the first": column("dataset_from_index", lambda old: [-12, 0]),
    "another shard's records": column("data/file_index", lambda old: [1, 1]),
    "a chunk beyond all": column("data/chunk_index", lambda old: [2**62] * PER_SHARD),
    "no records": lambda t: t.slice(0, 0),
    "records twice": lambda t: pa.concat_tables([t, t]),
    "a return that is no number": cell("return", float("nan"), 0),
    "returns are texts": column("return", lambda old: ["much"] * PER_SHARD, pa.string()),
    "a background of a megabyte": cell("background", "x" * 10**6, 0),
    "statistics of several lengths": cell(f"stats/{schema.ACTION}/mean", [1.0], 0),
    "statistics of nothing": lambda t: t.append_column("stats/x", pa.array([[1.0]] * len(t))),
    "statistics without a count": lambda t: t.drop_columns(f"stats/{schema.ACTION}/count"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_records(case: str, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.table(world.records, RECORDS[case])
    for act in (world.load, world.decode, hostile.command("dmask", "mask", world.data, "--report-only")):
        hostile.refused(capfd, world.folder, act)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 3, b"{}", bytes(range(256)) * 40])
def test_files_that_are_no_tables(content: bytes, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (world.frames, world.records):
        world.seal()
        path.write_bytes(content)
        world.seal()
        assert path.name in hostile.refused(capfd, world.folder, world.decode)
        hostile.refused(capfd, world.folder, world.load)
