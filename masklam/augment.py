"""LAOM's augmentations: shift, rotation, perspective and their pairs; which, is drawn image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("", "S", "R", "P", "SR", "RS", "RP", "PR")  # warps in their order: S shift, R rotation, P perspective
SHIFT, PERSPECTIVE = 14, 30  # by how many pixels of 64 an image is padded, its edge repeated, before the warp
ANGLE, DISTORTION = math.pi / 2, 0.5  # largest rotation; how far a corner moves inwards, of half the padded image


@dataclass(frozen=True)
class Draw:
    """What happens to a batch of images. Angle and corners are drawn once for each kind, as in LAOM's code."""

    kind: Tensor  # (B,) int64, a place in KINDS
    shift: Tensor  # (B, 2) int64, pixels in x and y, from -SHIFT to SHIFT
    angle: Tensor  # (8,) float64, radians
    corners: Tensor  # (8, 4, 2) int64, pixels inwards in x and y of the four corners of the padded image

    def share(self, rank: int, world: int) -> Draw:
        """One process's part of the batch."""
        return replace(self, kind=self.kind[rank::world], shift=self.shift[rank::world])


def draw(batch: int, size: int, generator: torch.Generator) -> Draw:
    """Draw for `batch` images of `size` pixels a side; every kind is as likely as any other."""
    shift = _scaled(SHIFT, size)
    reach = int(DISTORTION * ((size + 2 * _scaled(PERSPECTIVE, size)) // 2))

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    return Draw(
        kind=whole(0, len(KINDS) - 1, batch),
        shift=whole(-shift, shift, batch, 2),
        angle=ANGLE * (2 * torch.rand(len(KINDS), generator=generator, dtype=torch.float64) - 1),
        corners=whole(0, reach, len(KINDS), 4, 2),
    )


def augment(images: Tensor, drawn: Draw) -> Tensor:
    """Images (B, C, H, H), float32 in [-1, 1], or masks in [0, 1], as `drawn` says; bilinear where it isn't a shift.

    Outside of an image its edge is repeated. What perspective pulls in from outside of the padded image is 0.
    """
    found = images.clone()
    for number, kind in enumerate(KINDS):
        chosen = (drawn.kind == number).nonzero().flatten()
        if not kind or not len(chosen):
            continue
        place = chosen.to(images.device)
        part = images.index_select(0, place)
        for warp in kind:
            if warp == "S":
                part = shifted(part, drawn.shift[chosen])
            elif warp == "R":
                part = rotated(part, drawn.angle[number])
            else:
                part = in_perspective(part, drawn.corners[number])
        found.index_copy_(0, place, part)
    return found


def shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Each image's pixels copied from `shift` (B, 2) pixels further in x and y."""
    size = images.shape[-1]
    place = torch.arange(size) + shift[..., None]  # (B, 2, size)
    x, y = place.clamp(0, size - 1).to(images.device).unbind(1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[batch, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def rotated(images: Tensor, angle: Tensor) -> Tensor:
    """All images turned counter-clockwise about their centre."""
    size = images.shape[-1]
    centre = (size - 1) / 2
    x, y = (_pixels(size) - centre).unbind(-1)
    turned = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=-1)
    return _sampled(images, turned + centre)


def in_perspective(images: Tensor, corners: Tensor) -> Tensor:
    """All images, padded, with their corners moved inwards by `corners` (4, 2) pixels; clockwise from the upper left.

    The homography is torchvision's: it maps the moved corners, as whole numbers, to where they were, and is applied
    to the centres of pixels, half a pixel further.
    """
    size, pad = images.shape[-1], _scaled(PERSPECTIVE, images.shape[-1])
    last = size + 2 * pad - 1
    outer = torch.tensor([[0, 0], [last, 0], [last, last], [0, last]], dtype=torch.float64)
    inner = outer + corners * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    points = F.pad(_pixels(size) + pad + 0.5, (0, 1), value=1.0) @ homography(inner, outer).T
    source = points[..., :2] / points[..., 2:] - 0.5  # in the padded image
    found = _sampled(images, source - pad)
    inside = torch.minimum(source + 1, last + 1 - source).clamp(0, 1).prod(-1)  # 0 beyond it, 1 within
    return found if bool((inside == 1).all()) else found * inside.square().to(found)


def homography(start: Tensor, end: Tensor) -> Tensor:
    """The matrix (3, 3) that maps four points to four others, (4, 2) each, in homogeneous coordinates."""
    one, zero = torch.ones(4, 1, dtype=start.dtype), torch.zeros(4, 3, dtype=start.dtype)
    known = torch.cat([start, one], dim=1)
    rows = [torch.cat([known, zero, -end[:, :1] * start], 1), torch.cat([zero, known, -end[:, 1:] * start], 1)]
    solved = torch.linalg.solve(torch.cat(rows), torch.cat([end[:, 0], end[:, 1]]))
    return torch.cat([solved, solved.new_ones(1)]).view(3, 3)


def _pixels(size: int) -> Tensor:
    """x and y of every pixel; (size, size, 2) float64."""
    line = torch.arange(size, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def _sampled(images: Tensor, place: Tensor) -> Tensor:
    """Images (B, C, H, H) at `place` (H, H, 2), in pixels; outside, their edge is repeated."""
    grid = ((2 * place + 1) / images.shape[-1] - 1).to(images).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _scaled(pixels: int, size: int) -> int:
    return round(pixels * size / 64)
