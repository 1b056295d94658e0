"""SAM 2.1 hiera-tiny with seeded random weights, in the official checkpoint format."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from sam2.build_sam import build_sam2_video_predictor

# Such small tensors are slower on several threads, and very much so on a machine that does other things, too.
torch.set_num_threads(1)

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


def official(image_size: int, checkpoint: Path | None = None, device: str = "cpu", **options: Any) -> Any:
    """The package's own video predictor."""
    overrides = [f"++model.image_size={image_size}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_sam2_video_predictor(
            CONFIG, checkpoint, device=device, hydra_overrides_extra=overrides, **options
        )


def save(path: Path, seed: int = 0) -> Path:
    """Write the checkpoint. Biases and embeddings are larger than at initialisation, so that memories matter."""
    torch.manual_seed(seed)
    model = official(64)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or parameter.dim() < 2:
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        elif "maskmem_tpos" in name or "no_" in name:
            parameter.data.normal_(std=0.2)
    torch.save({"model": model.state_dict()}, path)
    return path
