"""The grid at whose crossings MuJoCo computes the light on a plane (`makePlane` in render_context.c)."""

from __future__ import annotations

MAX_LINES = 203  # mjMAXPLANEGRID and what its padding adds
_LEAST_SIZE = 1e-15  # mjMINVAL


def grid_lines(size: float, spacing: float) -> list[float]:
    """Grid lines of a plane along one of its axes, of half length `size`; the outer cells fill what is left over."""
    most = MAX_LINES - 3
    half_cell = max(spacing, size / (most - 2))
    inner = int(size / max(_LEAST_SIZE, half_cell))
    inner -= inner % 2
    pad = size - inner * half_cell
    return [-size, *(-size + pad + line * 2 * half_cell for line in range(inner + 1)), size]
