"""The image encoder (Hiera trunk and FPN neck) of a SAM 2 model, without the work whose result is thrown away.

The numbers are those of `SAM2Base.forward_image` up to rounding. What is left out:
- Windows that stick out over the image are filled with zeros there; after `qkv` each such token is the bias.
  One token with `log(count)` added to its attention logit stands for all of them (at 256² two thirds of the
  tokens in windows of 14 are filling).
- Levels 0 and 1 of the neck are used only through the mask decoder's 1×1 convolutions: two convolutions in one.
- The position encodings, which depend on the size alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def encode_image(model: Any, images: Tensor) -> list[Tensor]:
    """(B, 3, S, S) normalised images → (B, 32, S/4, S/4), (B, 64, S/8, S/8), (B, 256, S/16, S/16).

    These are the `backbone_fpn` that `model.forward_image` returns.
    """
    trunk, neck, decoder = model.image_encoder.trunk, model.image_encoder.neck, model.sam_mask_decoder
    maps = _trunk(trunk, images)
    lateral = [conv[0] for conv in reversed(neck.convs)]  # the convolution of each level
    coarsest = F.interpolate(lateral[3](maps[3]).float(), scale_factor=2.0, mode="nearest")
    return [
        _conv1x1_twice(lateral[0], decoder.conv_s0, maps[0]),
        _conv1x1_twice(lateral[1], decoder.conv_s1, maps[1]),
        lateral[2](maps[2]) + coarsest,
    ]


def _conv1x1_twice(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> Tensor:
    """`second(first(x))` as one convolution."""
    outer = second.weight.flatten(1)
    weight = outer @ first.weight.flatten(1)
    assert first.bias is not None
    assert second.bias is not None
    bias = torch.addmv(second.bias, outer, first.bias)
    return F.conv2d(x, weight[:, :, None, None], bias)


def _trunk(trunk: Any, images: Tensor) -> list[Tensor]:
    """(B, 3, S, S) → the last map of each of the four stages, (B, C, h, w)."""
    x = trunk.patch_embed(images)  # (B, H, W, C)
    x = x + trunk._get_pos_embed(x.shape[1:3])
    maps = []
    for index, block in enumerate(trunk.blocks):
        x = _block(block, x)
        if index in trunk.stage_ends:
            maps.append(x.permute(0, 3, 1, 2))
    return maps


def _pool(x: Tensor, pool: nn.Module) -> Tensor:
    return pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _block(block: Any, x: Tensor) -> Tensor:
    """A `MultiScaleBlock` on (B, H, W, C)."""
    normed, shortcut = block.norm1(x), x
    if block.dim != block.dim_out:
        shortcut = block.proj(normed)
        shortcut = _pool(shortcut, block.pool) if block.pool else shortcut
    x = shortcut + _attention(block.attn, normed, block.window_size)
    return x + block.mlp(block.norm2(x))


def _attention(attn: Any, x: Tensor, window: int) -> Tensor:
    """A `MultiScaleAttention` on (B, H, W, C) within windows (0: over the whole map), filling left out."""
    height, width = x.shape[1:3]
    window = window or height
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    q, k, v = qkv.unbind(3)  # (B, H, W, heads, d) each
    bias = attn.qkv.bias.view(3, attn.num_heads, 1, -1).to(k.dtype)
    stride = 1
    if attn.q_pool:  # sizes and windows are even: no cell of the pooling holds both image and filling
        q = _pool(q.flatten(3), attn.q_pool).unflatten(-1, (attn.num_heads, -1))
        stride = height // q.shape[1]
    rows = []
    for top, bottom, h in _spans(height, window):
        row = []
        for left, right, w in _spans(width, window):
            query = _split(
                q[:, top // stride : bottom // stride, left // stride : right // stride], h // stride, w // stride
            )
            key = _split(k[:, top:bottom, left:right], h, w)
            value = _split(v[:, top:bottom, left:right], h, w)
            mask = None
            if filling := window * window - h * w:
                key = torch.cat([key, bias[1].expand(len(key), -1, 1, -1)], 2)
                value = torch.cat([value, bias[2].expand(len(key), -1, 1, -1)], 2)
                mask = F.pad(query.new_zeros(1, h * w), (0, 1), value=math.log(filling))
            y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (B·n·m, heads, h·w, d)
            n, m = (bottom - top) // h, (right - left) // w
            y = y.transpose(1, 2).flatten(2).view(-1, n, m, h // stride, w // stride, attn.dim_out)
            row.append(y.transpose(2, 3).flatten(3, 4).flatten(1, 2))  # (B, n·h, m·w, C)
        rows.append(torch.cat(row, 2) if len(row) > 1 else row[0])
    return attn.proj(torch.cat(rows, 1) if len(rows) > 1 else rows[0])


def _spans(size: int, window: int) -> list[tuple[int, int, int]]:
    """(start, end, step) of the whole windows along one side and of what is left."""
    whole = size // window * window
    return [span for span in ((0, whole, window), (whole, size, size - whole)) if span[1] > span[0]]


def _split(x: Tensor, h: int, w: int) -> Tensor:
    """(B, n·h, m·w, heads, d) → (B·n·m, heads, h·w, d): the windows as a batch."""
    x = x.unflatten(2, (-1, w)).unflatten(1, (-1, h))  # (B, n, h, m, w, heads, d)
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(0, 2)
