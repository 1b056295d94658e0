"""Masks by a model, and degraded ones, are mended to the byte; so is what only they can be lost by."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

import sam2_weights
from damage import SPEC, contents, flip, pages, root_of, small

from distractor_data import repair, schema
from distractor_data.dataset import meta
from distractor_data.errors import DmaskError
from distractor_data.masks import annotate, corrupt
from distractor_data.masks.annotate import Settings
from distractor_data.pipeline import generate
from distractor_data.remake import Given

IMAGE, MASK = f"{schema.IMAGE}.bytes", f"{schema.MASK}.bytes"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A dataset that `generate` made and a model masked, and beneath `bad` a copy with degraded masks."""
    out = tmp_path_factory.mktemp("masked")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        generate(SPEC, out / "data")
        settings = Settings(str(checkpoint), image_size=64, batch=2, device="cpu", precision="float32")
        annotate.mask_dataset(out / "data", settings)
        corrupt.corrupt_dataset(out / "data", out / "bad", corrupt.Corruption(dilate=1, flip=0.01, seed=3))
    return out


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many shards a model was asked to mask."""
    numbers: list[int] = []
    real = annotate.mask_shards
    monkeypatch.setattr(
        annotate, "mask_shards", lambda masker, pending: (numbers.append(len(pending)), real(masker, pending))[1]
    )
    return numbers


@pytest.mark.parametrize("kind", ["data", "bad"])
@pytest.mark.parametrize(
    ("name", "column", "episodes"),
    [
        (schema.data_file(1), IMAGE, 0),  # the masks are whole, so they are kept
        (schema.data_file(1), MASK, 1),
        (schema.episodes_file(1), None, 0),
        (schema.HISTOGRAM, None, 0),
        (schema.DMASK, None, 0),
    ],
)
def test_damage_is_mended_with_the_recorded_model(
    masked: Path,
    tmp_path: Path,
    checkpoint: Path,
    tracked: list[int],
    kind: str,
    name: str,
    column: str,
    episodes: int,
) -> None:
    copy = Path(shutil.copytree(masked / kind, tmp_path / "data"))
    root = root_of(copy)
    before = contents(root)
    flip(root / name, random.Random(0), pages(root / name, 1, column) if column else None)
    with pytest.raises(DmaskError):
        meta.verify_all(copy)
    assert repair.repair_all(copy, Given(model=str(checkpoint))) == {"cheetah-run/train": [name]}
    assert contents(root) == before
    if kind == "data":
        assert sum(tracked) == episodes


def test_generating_again_mends_a_models_masks(masked: Path, tmp_path: Path, checkpoint: Path) -> None:
    copy = Path(shutil.copytree(masked / "data", tmp_path / "data"))
    before = contents(root_of(copy))
    flip(root_of(copy) / schema.data_file(0), random.Random(1))
    settings = Settings(str(checkpoint), image_size=64, batch=2, device="cpu", precision="float32")
    generate(SPEC, copy, masks=settings)
    assert contents(root_of(copy)) == before


def test_a_model_that_is_not_the_recorded_one_is_refused(masked: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(masked / "data", tmp_path / "data"))
    path = root_of(copy) / schema.data_file(0)
    flip(path, random.Random(0), pages(path, 0, MASK))
    before = contents(root_of(copy))
    other = sam2_weights.save(tmp_path / "sam2.1_hiera_tiny.pt", seed=1)
    with pytest.raises(DmaskError, match="another weights_sha256"):
        repair.repair_all(copy, Given(model=str(other)))
    with pytest.raises(DmaskError, match="which lies elsewhere; give it with --model"):
        repair.repair_all(copy)
    assert contents(root_of(copy)) == before
