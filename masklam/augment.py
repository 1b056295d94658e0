"""LAOM's augmentations: shift, rotation, perspective and their pairs, drawn per image, as one resampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT, ANGLE, DISTORTION = 14, math.pi / 2, 0.5  # pixels of 64, radians, share of half an image
# Which of (shift, rotation, perspective) each choice applies: none, one of them, or a pair; the last pair is
# shift with perspective again in the place of a fourth, as three kinds have only three pairs.
CHOICES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 0, 1))


def augment(images: Tensor, draw: Tensor) -> Tensor:
    """Augment (B, C, H, W) as `draw` (B, 9), uniform in [0, 1), says; pixels from outside repeat the edge.

    The three warps are homographies, so that any pair of them is one matrix and one bilinear resampling.
    """
    kind = torch.tensor(CHOICES, device=draw.device)[(draw[:, 0] * len(CHOICES)).long()]  # (B, 3)
    signed = 2 * draw[:, 1:] - 1
    eye = torch.eye(3, device=draw.device).expand(len(draw), 3, 3)
    warps = (_shift(signed[:, :2]), _rotation(signed[:, 2]), _perspective(signed[:, 3:5], signed[:, 5:7]))
    matrix = eye
    for index, warp in enumerate(warps):
        matrix = torch.where(kind[:, index, None, None].bool(), warp @ matrix, matrix)
    grid = _grid(matrix, images.shape[-2], images.shape[-1])
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _shift(amount: Tensor) -> Tensor:
    """(B, 2) in [-1, 1] → (B, 3, 3)."""
    matrix = torch.eye(3, device=amount.device).repeat(len(amount), 1, 1)
    matrix[:, :2, 2] = amount * (2 * SHIFT / 64)
    return matrix


def _rotation(amount: Tensor) -> Tensor:
    """(B,) in [-1, 1] → (B, 3, 3)."""
    angle = amount * ANGLE
    matrix = torch.eye(3, device=amount.device).repeat(len(amount), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def _perspective(tilt: Tensor, shear: Tensor) -> Tensor:
    """A tilt of the image plane about both axes, and a little shear; twice (B, 2) in [-1, 1] → (B, 3, 3)."""
    matrix = torch.eye(3, device=tilt.device).repeat(len(tilt), 1, 1)
    matrix[:, 2, :2] = tilt * (DISTORTION / 2)
    matrix[:, 0, 1] = shear[:, 0] * (DISTORTION / 2)
    matrix[:, 1, 0] = shear[:, 1] * (DISTORTION / 2)
    return matrix


def _grid(matrix: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel's centre comes from; (B, 3, 3) → (B, H, W, 2) in [-1, 1]."""
    y = (torch.arange(height, device=matrix.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=matrix.device) + 0.5) / width * 2 - 1
    points = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=x.device)], -1)
    mapped = points.flatten(0, 1) @ matrix.transpose(1, 2)  # (B, H·W, 3)
    return (mapped[..., :2] / mapped[..., 2:].clamp(min=0.1)).unflatten(1, (height, width))
