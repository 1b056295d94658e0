"""Which device computes, and in which precision."""

from __future__ import annotations

from distractor_data.errors import DmaskError

PRECISIONS = ("auto", "bf16", "float32")


def pick_device(device: str = "auto") -> str:
    """`auto` → `cuda` where there is one, else `cpu`; anything else is tried. Raises `DmaskError`."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DmaskError(f"--device {device} can't be used ({reason}); try --device auto") from error
    return device


def uses_bf16(precision: str, device: str) -> bool:
    """Whether to autocast to bfloat16 on `device` (`cuda:0`, `cpu`).

    `auto`: on GPUs that can, and on processors with matrix units for it (AMX).
    """
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu.get_capabilities().get("amx_bf16", False)
