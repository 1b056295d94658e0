"""Let a torchvision be imported whose compiled operators are of another torch: their names are enough."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch


def declare() -> torch.library.Library:
    """Declare the operators that torchvision's Python files name. The library must be kept."""
    found = importlib.util.find_spec("torchvision")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = "".join(file.read_text() for file in Path(found.submodule_search_locations[0]).rglob("*.py"))
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r"torchvision::(\w+)", source))):
        library.define(f"{name}(Tensor x) -> Tensor")
    return library
