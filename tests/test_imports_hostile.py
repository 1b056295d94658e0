"""HDF5 that a stranger wrote: one line, and nothing else anywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distractor_data.errors import DmaskError

h5py = pytest.importorskip("h5py")
import laom_files  # noqa: E402  it needs h5py


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return laom_files.write(tmp_path / "walker.hdf5")


def _replace(file: Path, name: str, **how: object) -> None:
    """Write an array anew, in another way."""
    with h5py.File(file, "r+") as opened:
        group, key = opened[name].parent, name.rpartition("/")[2]
        values = how.pop("data", None)
        values = group[key][()] if values is None and "shape" not in how else values
        del group[key]
        group.create_dataset(key, **({"data": values} if values is not None else {}), **how)


def _external_link(file: Path) -> None:
    laom_files.write(file.with_name("private.hdf5"))
    with h5py.File(file, "r+") as opened:
        del opened["1"]
        opened["1"] = h5py.ExternalLink("private.hdf5", "/1")


def _external_link_to_an_array(file: Path) -> None:
    laom_files.write(file.with_name("private.hdf5"))
    with h5py.File(file, "r+") as opened:
        del opened["1/obs"]
        opened["1/obs"] = h5py.ExternalLink("private.hdf5", "/1/obs")


def _external_bytes(file: Path) -> None:
    file.with_name("private").write_bytes(bytes(12 * 16 * 16 * 3))
    _replace(
        file, "1/obs", shape=(12, 16, 16, 3), dtype=np.uint8, external=[(str(file.with_name("private")), 0, 9216)]
    )


def _virtual(file: Path) -> None:
    laom_files.write(file.with_name("private.hdf5"))
    with h5py.File(file, "r+") as opened:
        layout = h5py.VirtualLayout((12, 16, 16, 3), np.uint8)
        layout[:] = h5py.VirtualSource(str(file.with_name("private.hdf5")), "1/obs", (12, 16, 16, 3))
        del opened["1/obs"]
        opened["1"].create_virtual_dataset("obs", layout)


def _references(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        references = np.array([[opened["0"].ref] * 5] * 12, h5py.ref_dtype)
        del opened["1/states"]
        opened["1"].create_dataset("states", data=references, dtype=h5py.ref_dtype)


def _one_group_many_times(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        for number in range(5, 2000):
            opened[str(number)] = opened["0"]


def _circle(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        del opened["1"]
        opened["1"] = opened["/"]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _renumbered(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened.move("3", "7")


def _without(name: str) -> Callable[[Path], None]:
    def act(file: Path) -> None:
        with h5py.File(file, "r+") as opened:
            parent, _, key = name.rpartition("/")
            group = opened[parent or "/"]
            del (group.attrs if key in group.attrs else group)[key]

    return act


def _said(name: str, value: object) -> Callable[[Path], None]:
    def act(file: Path) -> None:
        with h5py.File(file, "r+") as opened:
            opened.attrs[name] = value

    return act


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_cut, "can't be read"),
    "no HDF5": (lambda file: file.write_bytes(b"no"), "can't be read"),
    "empty": (lambda file: file.write_bytes(b""), "can't be read"),
    "a link to another file": (_external_link, "link 1 to elsewhere"),
    "an array's link": (_external_link_to_an_array, "link obs to elsewhere"),
    "bytes of another file": (_external_bytes, "another file"),
    "a virtual array": (_virtual, "another file"),
    "references": (_references, "states is object"),
    "a chunk bomb": (
        lambda file: _replace(
            file, "1/obs", shape=(10**6, 64, 64, 3), dtype=np.uint8, chunks=(1000, 64, 64, 3), compression=9
        ),
        "chunked or compressed",
    ),
    "room never filled": (
        lambda file: _replace(file, "1/obs", shape=(10**9, 16, 16, 3), dtype=np.uint8),
        "not there",
    ),
    "one group many times": (_one_group_many_times, "bytes that are not there"),
    "a circle": (_circle, "has no obs"),
    "floats for images": (lambda file: _replace(file, "1/obs", dtype=np.float32), "obs is float32"),
    "doubles": (lambda file: _replace(file, "1/actions", dtype=np.float64), "actions is float64"),
    "no channels": (lambda file: _replace(file, "1/obs", data=np.zeros((12, 16, 16), np.uint8)), "3 dimensions"),
    "other pixels": (lambda file: _replace(file, "1/obs", data=np.zeros((12, 8, 8, 3), np.uint8)), "several shapes"),
    "another size said": (_said("img_hw", 64), "other images than 64×64"),
    "fewer actions": (
        lambda file: _replace(file, "1/actions", data=np.zeros((11, 3), np.float32)),
        "several lengths",
    ),
    "no frames": (lambda file: _replace(file, "1/obs", data=np.zeros((0, 16, 16, 3), np.uint8)), "not there"),
    "texts": (lambda file: _replace(file, "1/states", data=[["a"] * 5] * 12), "states is object"),
    "no obs": (_without("2/obs"), "has no obs"),
    "no return": (_without("2/traj_return"), "has no attribute traj_return"),
    "no task": (_without("task_name"), "has no attribute task_name"),
    "a gap": (_renumbered, "not numbered from 0 on"),
    "a folder for a task": (_said("task_name", "../../run"), "can't be the name of a folder"),
    "a list for a task": (_said("task_name", ["a", "b"]), "is no str"),
    "a number for a split": (_said("split", 3), "is no str"),
    "another split": (_said("split", "all"), "none of train"),
    "a huge text": (_said("difficulty", np.bytes_(b"x" * 60_000)), "too large"),
    "escapes": (_said("difficulty", "\x1b[31mred"), "difficulty of an import can't be"),
    "a size beyond all": (_said("img_hw", 2**40), "other images than"),
    "an unknown task": (_said("domain_name", "pigeon"), "give --fps"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_such_a_file_is_one_line(file, tmp_path, refusal, kind):
    damage, words = HOSTILE[kind]
    damage(file)
    line = refusal("import", str(file), str(tmp_path / "data"), "--workers", "1")
    assert words in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bits_are_one_line_or_other_numbers(file, seed):
    content = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, 6000 if seed % 2 else len(content), 3):
        content[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    from distractor_data.dataset.formats import laom

    with contextlib.suppress(DmaskError):  # whatever else was raised would fail here
        for number in range(len(laom.contents(file).lengths)):
            assert laom.read(file, number).image.dtype == np.uint8


def test_without_h5py_the_line_names_the_extra(file, tmp_path, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'dmask[formats]'" in refusal("import", str(file), str(tmp_path / "data"))


def test_a_file_that_is_not_there_is_asked_for(tmp_path: Path, refusal: Callable[..., str]) -> None:
    said = refusal("import", str(tmp_path / "none.hdf5"), str(tmp_path / "out"))
    assert "none.hdf5 is missing; give one that is there" in said
    assert not (tmp_path / "out").exists()
