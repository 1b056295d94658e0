"""What the memory attention of SAM 2 can reach of many videos at once, in tensors of constant size."""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor


class MemoryBank:
    """Per slot: memory and object pointer of the prompted frame, and rings of those of the last frames.

    Frame t reads the prompted frame (0), the frames t-1 … t-(num_maskmem-1) and the object pointers of frames
    t-1 … t-(max_obj_ptrs_in_encoder-1), as `SAM2Base._prepare_memory_conditioned_features` selects them.
    Memories are bfloat16, as the official predictor stores them.
    """

    def __init__(self, model: Any, slots: int) -> None:
        self.model = model
        device = next(model.parameters()).device
        side = model.image_size // model.backbone_stride
        self.recent = model.num_maskmem - 1
        self.pointers = model.max_obj_ptrs_in_encoder - 1

        def store(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, device=device)

        area, width = side * side, model.mem_dim
        self.first_memory = store(area, width, dtype=torch.bfloat16)
        self.memory = store(self.recent, area, width, dtype=torch.bfloat16)
        self.first_pointer = store(model.hidden_dim, dtype=torch.float32)
        self.pointer = store(self.pointers, model.hidden_dim, dtype=torch.float32)
        blank = torch.zeros(1, width, side, side, device=device)
        self.position = model.memory_encoder.position_encoding(blank).flatten(2)[0].T.clone()  # (h*w, C)

    def signature(self, t: int) -> tuple[int, int]:
        """How many recent memories and pointers frame t > 0 reads: frames that agree can share a batch."""
        return min(t - 1, self.recent), min(t - 1, self.pointers)

    def read(self, slots: Tensor, t: Tensor, lengths: Tensor, signature: tuple[int, int]) -> dict[str, Any]:
        """What `model.memory_attention` gets to condition frames `t` (B,) of videos of `lengths` (B,) on.

        All frames have the same `signature`. Returns `memory` and `memory_pos`, (N, B, C), and
        `num_obj_ptr_tokens`.
        """
        n_memories, n_pointers = signature
        model, row = self.model, slots[:, None]
        ago = torch.arange(n_memories, 0, -1, device=t.device)  # the oldest first
        recent = self.memory[row, (t[:, None] - ago) % self.recent]  # (B, n, h*w, C)
        memory = torch.cat([self.first_memory[slots][:, None], recent], 1).flatten(1, 2)
        when = model.maskmem_tpos_enc[:, 0]  # (num_maskmem, 1, C): the last entry is the prompted frame's
        when = torch.cat([when[-1:], when[ago - 1]])
        memory_pos = (self.position + when).flatten(0, 1).expand(len(slots), -1, -1)

        ago = torch.arange(1, n_pointers + 1, device=t.device)
        pointer = self.pointer[row, (t[:, None] - ago) % self.pointers]  # (B, m, C)
        pointer = torch.cat([self.first_pointer[slots][:, None], pointer], 1)
        pieces = model.hidden_dim // model.mem_dim  # a pointer is as many tokens
        pointer = pointer.unflatten(2, (pieces, model.mem_dim)).flatten(1, 2)
        pointer_pos = self._pointer_positions(torch.cat([t[:, None], ago.expand(len(t), -1)], 1), lengths)
        pointer_pos = pointer_pos.repeat_interleave(pieces, 1)
        return {
            "memory": torch.cat([memory.to(pointer.dtype), pointer], 1).transpose(0, 1),
            "memory_pos": torch.cat([memory_pos, pointer_pos.to(memory_pos.dtype)], 1).transpose(0, 1),
            "num_obj_ptr_tokens": pointer.shape[1],
        }

    def _pointer_positions(self, ago: Tensor, lengths: Tensor) -> Tensor:
        """Temporal encodings of pointers (B, m) frames back: (B, m, mem_dim)."""
        model = self.model
        if not model.add_tpos_enc_to_obj_ptrs:
            return torch.zeros(*ago.shape, model.mem_dim, device=ago.device)
        longest = lengths.clamp(max=model.max_obj_ptrs_in_encoder)[:, None] - 1
        width = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
        return model.obj_ptr_tpos_proj(get_1d_sine_pe(ago / longest, dim=width))

    def write(self, slots: Tensor, t: Tensor, first: bool, memory: Tensor, pointer: Tensor) -> None:
        """Store frames `t` (B,): `memory` (B, C, h, w), `pointer` (B, C); `first`: they are prompted ones."""
        memory = memory.flatten(2).transpose(1, 2).to(torch.bfloat16)
        pointer = pointer.float()
        if first:
            self.first_memory[slots], self.first_pointer[slots] = memory, pointer
        else:
            self.memory[slots, t % self.recent] = memory
            self.pointer[slots, t % self.pointers] = pointer
