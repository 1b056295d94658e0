"""Any change of any file of a dataset: reading gives the first arrays, or one line that says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import distractor_data
from distractor_data import schema
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from masklam import data

EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays, Arrays]:
    """A dataset of two shards, and what its readers give."""
    directory = tmp_path_factory.mktemp("property") / "data"
    small_dataset.write(directory, "walker-run")
    return directory, loaded(directory), decoded(directory, directory.with_name("cache"))


def loaded(directory: Path) -> Arrays:
    """All that `distractor_data.load` gives."""
    episodes = list(distractor_data.load(directory))
    names = ("image", "mask", "state", "action", "reward", "done")
    return {name: np.concatenate([getattr(episode, name) for episode in episodes]) for name in names}


def decoded(directory: Path, cache: Path) -> Arrays:
    """All that training sees."""
    frames = data.load(str(directory), "walker-run", mask_column=schema.MASK, cache=cache)
    return {name: value.numpy().copy() for name, value in vars(frames).items()}


def outcome(read: Callable[[], Arrays]) -> tuple[Arrays | None, str]:
    try:
        return read(), ""
    except DmaskError as error:
        return None, str(error)


@pytest.fixture
def readers(whole: tuple[Path, Arrays, Arrays], tmp_path: Path) -> Callable[..., None]:
    """Reads a changed copy with both readers, and compares."""
    first, load, decode = whole

    def check(change: Callable[[Path], None], same: bool = True) -> None:
        copy = tmp_path / "data"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(first, copy)
        change(copy / "walker-run" / "train")
        for expected, read in ((load, lambda: loaded(copy)), (decode, lambda: decoded(copy, tmp_path / "cache"))):
            found, error = outcome(read)
            assert len(error.splitlines()) == (found is None)
            for name, array in expected.items() if found else ():
                assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
                assert not same or np.array_equal(found[name], array)
        assert not list((tmp_path / "cache").glob(".*"))

    return check


def files(root: Path, suffix: str = "") -> list[Path]:
    return sorted(path for path in root.rglob(f"*{suffix}") if path.is_file())


def seal(root: Path) -> None:
    """Checksums as the one who changed the data would write them."""
    sums = json.loads((root / schema.CHECKSUMS).read_text())
    fresh = {name: {"sha256": storage.sha256(root / name), "size": (root / name).stat().st_size} for name in sums}
    (root / schema.CHECKSUMS).write_text(json.dumps(fresh))


BYTES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@EXAMPLES
@given(st.integers(0, 99), BYTES, st.sampled_from(["change", "cut", "add"]), st.booleans())
def test_bytes(readers, number: int, places: list[tuple[float, int]], how: str, sealed: bool) -> None:
    def change(root: Path) -> None:
        path = files(root)[number % len(files(root))]
        content = bytearray(path.read_bytes() or b"\0")
        for where, byte in places:
            place = int(where * len(content))
            if how == "change":
                content[place] = byte
            elif how == "cut":
                del content[place : place + 1 + byte]
            else:
                content[place:place] = bytes([byte] * byte)
            content = content or bytearray(b"\0")
        path.write_bytes(content)
        if sealed and path != root / schema.CHECKSUMS:
            seal(root)

    # Without their checksum, changed numbers are other data, of the same shapes.
    readers(change, same=not sealed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@EXAMPLES
@given(st.integers(0, 99), st.integers(0, 10**6), JSON | st.just(...))
def test_json_values(readers, number: int, where: int, value: Any) -> None:
    def change(root: Path) -> None:
        path = files(root, ".json")[number % len(files(root, ".json"))]
        content = json.loads(path.read_text())
        found = places(content)
        container, key = found[where % len(found)]
        if value is ...:
            del container[key]
        else:
            container[key] = value
        path.write_text(json.dumps(content))

    readers(change)


TYPES = [pa.null(), pa.bool_(), pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary()]
TYPES += [pa.list_(kind) for kind in TYPES[1:]] + [pa.list_(pa.float32(), 3), pa.struct([("bytes", pa.binary())])]
CELLS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=40) | st.text(max_size=9)


@EXAMPLES
@given(
    st.integers(0, 99),
    st.integers(0, 99),
    st.sampled_from(["drop", "repeat", "rename", "retype", "cell", "rows"]),
    st.sampled_from(TYPES),
    st.integers(0, 10**6),
    CELLS,
)
def test_columns(readers, number: int, column: int, how: str, kind: pa.DataType, row: int, value: Any) -> None:
    def change(root: Path) -> None:
        path = files(root, ".parquet")[number % len(files(root, ".parquet"))]
        table = pq.read_table(path, partitioning=None)
        index = column % table.num_columns
        name, old = table.column_names[index], table.column(index)
        if how == "drop":
            table = table.remove_column(index)
        elif how == "repeat":
            table = table.append_column(name, old)
        elif how == "rename":
            table = table.rename_columns([*table.column_names[:index], "x", *table.column_names[index + 1 :]])
        elif how == "retype":
            table = table.set_column(index, name, retyped(old, kind))
        elif how == "cell":
            table = table.set_column(index, name, changed(old, row % len(old), value))
        else:
            table = table.take(np.random.default_rng(row).integers(0, len(table), row % (2 * len(table))))
        pq.write_table(table, path)
        seal(root)

    readers(change, same=False)


def retyped(old: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    try:
        return old.cast(kind)
    except pa.ArrowException:
        return pa.nulls(len(old), kind)


def changed(old: pa.ChunkedArray, row: int, value: Any) -> pa.Array:
    """The column with one other value, of its own type where it can be one of it."""
    values = old.to_pylist()
    for candidate in (value, [value], {"bytes": value, "path": None}, None):
        try:
            return pa.array([*values[:row], candidate, *values[row + 1 :]], old.type)
        except (pa.ArrowException, OverflowError, UnicodeError):
            continue
    raise AssertionError("None is of every type")
