"""What tests share: where the folders that are not part of the repository lie."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _folder(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs ../shared/{name}, which is not part of the repository")
    return SHARED / name


@pytest.fixture(scope="session")
def real_backgrounds() -> Path:
    """Real videos, `train` and `val`, in the layout of DAVIS."""
    return _folder("backgrounds")


@pytest.fixture(scope="session")
def published_experts() -> Path:
    """The LAOM authors' policies."""
    return _folder("experts")
