"""Many videos at once through SAM 2's video model, with the masks that its own predictor gives for one.

`SAM2VideoPredictor` follows one video and keeps every frame's state. Here `batch` slots each follow a video in
lockstep; where one ends the next takes its slot. A slot keeps only what the memory attention can still reach
(`MemoryBank`), so memory is constant in the length of the videos. Frames are resized by threads, uploaded and
encoded in large batches on a stream of their own, and masks downloaded, while others are tracked.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from distractor_data.device import uses_bf16
from distractor_data.engines import cores
from distractor_data.errors import DmaskError
from distractor_data.masks.encoder import encode_image
from distractor_data.masks.memory import MemoryBank
from distractor_data.masks.prompts import model_inputs
from distractor_data.masks.schedule import Item, Run, Schedule, Track, Video

log = logging.getLogger(__name__)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, with which SAM 2 was trained
# Frames in one pass of the image encoder, videos in one of the tracker: on CUDA, and elsewhere, where more than fits
# a cache hurts.
_ENCODE_BATCH, _TRACK_BATCH = (64, 4), (1 << 30, 8)
S = TypeVar("S")
T = TypeVar("T")


@dataclass
class _Chunk:
    """Some steps of all slots: items (a list per step) on their way through the stages."""

    steps: list[list[Item]]
    resized: list[Future[np.ndarray]] = field(default_factory=list)
    levels: list[Tensor] = field(default_factory=list)  # features, rows in the order of the items
    results: list[tuple[list[Item], Tensor]] = field(default_factory=list)
    ready: Any = None  # CUDA event: the last stage is done


class MaskTracker:
    """Tracks one object in each of many videos with a predictor of `masks.model.build`.

    `bf16`: autocast, by default where the device multiplies it faster. `compiled`: `predictor` was built so;
    batches are then padded to powers of two, so that few shapes are compiled.
    """

    def __init__(self, predictor: Any, batch: int = 8, bf16: bool | None = None, compiled: bool = False) -> None:
        if batch < 1:
            raise DmaskError(f"--batch is {batch}; give a number of at least 1")
        self.predictor, self.batch, self.compiled = predictor, batch, compiled
        self.device = next(predictor.parameters()).device
        self.cuda = self.device.type == "cuda"
        self.bf16 = uses_bf16("auto", self.device.type) if bf16 is None else bf16
        self.encode_batch = _ENCODE_BATCH[not self.cuda]
        self.track_batch = _TRACK_BATCH[not self.cuda]
        self.encode: Callable[..., list[Tensor]] = encode_image
        if compiled:
            torch._dynamo.config.cache_size_limit = 64  # the shapes of 16 first frames and 8 batch sizes
            self.encode = torch.compile(encode_image, mode="max-autotune", dynamic=False)
        if self.cuda:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            self.side = torch.cuda.Stream(self.device)
        self.mean = torch.tensor(_MEAN, device=self.device)[:, None, None]
        self.std = torch.tensor(_STD, device=self.device)[:, None, None]
        self.bank: MemoryBank | None = None
        self.compute: ThreadPoolExecutor | None = None
        self.workers = 1

    def track(self, videos: Iterable[Video], keep_logits: bool = False) -> Iterator[Track]:
        """Yield each video's `Track` when it is complete.

        Where the device's memory runs out the batch is halved and unfinished videos start again. Raises
        `DmaskError` for a prompt outside of its video and for a video whose frames differ in size.
        """
        waiting = iter(videos)
        while True:
            runs: list[Run] = []
            try:
                yield from self._run(Schedule(waiting, self.batch, runs, keep_logits), runs, keep_logits)
                return
            except torch.OutOfMemoryError as error:
                if self.batch == 1:
                    size = self.predictor.image_size
                    raise DmaskError(
                        f"no memory on {self.device} for one video at --image-size {size}; give less"
                    ) from error
                waiting = chain([run.video for run in runs], waiting)
            self.bank = None
            self.batch //= 2
            log.warning("out of memory on %s: going on with --batch %d", self.device, self.batch)
            if self.cuda:
                torch.cuda.empty_cache()

    def _run(self, schedule: Schedule, runs: list[Run], keep_logits: bool) -> Iterator[Track]:
        with torch.inference_mode():
            self.bank = MemoryBank(self.predictor, self.batch)
        # One pass on each core, in a thread of its own, scales better than one pass on all cores.
        threads = torch.get_num_threads()
        self.workers = workers = threads if not self.cuda and self.batch > 1 else 1
        steps = max(1, self.encode_batch * workers // self.batch)
        pool = ThreadPoolExecutor(max(2, cores()))
        self.compute = ThreadPoolExecutor(workers) if workers > 1 else None
        torch.set_num_threads(threads // workers)
        try:
            chunks = iter(lambda: schedule.take(steps), [])
            resized = _ahead(self._resize(pool, _Chunk(items)) for items in chunks)
            encoded = _ahead(self._encode(chunk) for chunk in resized)
            for chunk in _ahead(self._track(chunk, keep_logits) for chunk in encoded):
                yield from self._finish(chunk, runs, keep_logits)
        finally:
            torch.set_num_threads(threads)
            for executor in (pool, self.compute):
                if executor:
                    executor.shutdown(cancel_futures=True)

    def _resize(self, pool: ThreadPoolExecutor, chunk: _Chunk) -> _Chunk:
        size = self.predictor.image_size
        chunk.resized = [pool.submit(_resized, item.run, item.t, size) for item in chain(*chunk.steps)]
        return chunk

    @torch.inference_mode()
    def _encode(self, chunk: _Chunk) -> _Chunk:
        """Upload and encode a chunk's frames, on the side stream where there is one."""
        frames = torch.from_numpy(np.stack([future.result() for future in chunk.resized]))  # (N, S, S, 3)
        chunk.resized = []
        if self.compiled:
            frames = F.pad(frames, (0, 0, 0, 0, 0, 0, 0, -len(frames) % self.encode_batch))
        frames = frames.pin_memory() if self.cuda else frames
        with torch.cuda.stream(self.side if self.cuda else None):
            frames = frames.to(self.device, non_blocking=True)
            parts = self._map(self._encode_part, frames.split(self._share(len(frames), self.encode_batch)))
            levels = list(zip(*parts, strict=True))
            chunk.levels = [torch.cat(level) if len(parts) > 1 else level[0] for level in levels]
            chunk.ready = self._event()
        return chunk

    def _encode_part(self, frames: Tensor) -> list[Tensor]:
        """(B, S, S, 3) uint8 → features of three levels."""
        with torch.inference_mode(), self._autocast():
            images = (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
            levels = self.encode(self.predictor, images)
            # A CUDA graph's next replay would overwrite its output.
            return [level.clone() for level in levels] if self.compiled else levels

    @torch.inference_mode()
    def _track(self, chunk: _Chunk, keep_logits: bool) -> _Chunk:
        """Track a chunk, one step after the other, and start the download of its masks."""
        if self.cuda:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(chunk.ready)
            for level in chunk.levels:
                level.record_stream(stream)

        def track_part(part: tuple[list[int], list[Item]]) -> list[tuple[list[Item], Tensor]]:
            rows, items = part
            index = _index(rows, self.device)
            with torch.inference_mode(), self._autocast():
                logits = self._step([level[index] for level in chunk.levels], items)  # (B, 1, S/4, S/4)
                return list(self._masks(logits, items, keep_logits))

        row = 0
        for items in chunk.steps:
            for results in self._map(track_part, list(self._groups(row, items))):
                chunk.results += results
            row += len(items)
        chunk.levels = []
        chunk.ready = self._event()
        return chunk

    def _groups(self, row: int, items: list[Item]) -> Iterator[tuple[list[int], list[Item]]]:
        """Parts of a step that can share a batch, (rows, items) each; `row` is the first item's."""
        assert self.bank is not None
        groups: dict[Any, list[int]] = {}
        for index, item in enumerate(items):
            kind = self.bank.signature(item.t) if item.t else item.run.video.prompt.kind
            groups.setdefault(kind, []).append(index)
        for indices in groups.values():
            size = self._share(len(indices), self.track_batch)
            for start in range(0, len(indices), size):
                part = indices[start : start + size]
                yield [row + index for index in part], [items[index] for index in part]

    def _share(self, count: int, most: int) -> int:
        """Into batches of which size to part `count`: at most `most`, and as many for each core."""
        rounds = -(-count // (most * self.workers))
        return -(-count // (rounds * self.workers))

    def _map(self, function: Callable[[S], T], parts: Sequence[S]) -> list[T]:
        return list(self.compute.map(function, parts) if self.compute else map(function, parts))

    def _step(self, levels: list[Tensor], items: list[Item]) -> Tensor:
        """Track one frame of each video: features (B, C, h, w) per level → mask logits (B, 1, S/4, S/4)."""
        model, bank, real = self.predictor, self.bank, len(items)
        assert bank is not None
        if self.compiled:
            padding = (1 << (real - 1).bit_length()) - real
            items = items + items[-1:] * padding
            levels = [torch.cat([level, level[-1:].expand(padding, -1, -1, -1)]) for level in levels]
        first = items[0].t == 0
        numbers = [
            [item.slot for item in items],
            [item.t for item in items],
            [item.run.track.masks.shape[0] for item in items],
        ]
        slots, t, lengths = _to_device(torch.tensor(numbers), self.device)
        features = {
            "current_vision_feats": [level.flatten(2).permute(2, 0, 1) for level in levels],
            "feat_sizes": [tuple(level.shape[-2:]) for level in levels],
        }
        points, masks = None, None
        if first:
            prompts = [item.run.video.prompt for item in items]
            sizes = [item.run.size for item in items]
            points, masks = model_inputs(prompts, sizes, model.image_size, self.device)
        position = model.image_encoder.neck.position_encoding(levels[-1][:1]).to(levels[-1].dtype)
        out = model.track_step(
            frame_idx=0 if first else 1,
            is_init_cond_frame=first,
            current_vision_pos_embeds=[position.flatten(2).permute(2, 0, 1).expand(-1, len(items), -1)],
            point_inputs=points,
            mask_inputs=masks,
            output_dict={} if first else bank.read(slots, t, lengths, bank.signature(items[0].t)),
            num_frames=None,
            run_mem_encoder=not first,
            **features,
        )
        logits, memory = self._fill_holes(out["pred_masks"]), out["maskmem_features"]
        if first:  # the predictor encodes a prompted frame from the mask that it shows
            size = (model.image_size, model.image_size)
            memory, _ = model._encode_new_memory(
                pred_masks_high_res=F.interpolate(logits, size, mode="bilinear", align_corners=False),
                object_score_logits=out["object_score_logits"],
                is_mask_from_pts=True,
                **features,
            )
        bank.write(slots[:real], t[:real], first, memory[:real], out["obj_ptr"][:real])
        return logits[:real]

    def _fill_holes(self, logits: Tensor) -> Tensor:
        """sam2's filling of small holes, where its CUDA extension was built; elsewhere sam2 leaves it out too."""
        if not self.cuda or self.predictor.fill_hole_area <= 0:
            return logits
        from sam2.utils.misc import fill_holes_in_mask_scores

        return fill_holes_in_mask_scores(logits, self.predictor.fill_hole_area)

    def _masks(self, logits: Tensor, items: list[Item], keep_logits: bool) -> Iterator[tuple[list[Item], Tensor]]:
        """Logits at the videos' own sizes, thresholded and on their way to the host."""
        for size in dict.fromkeys(item.run.size for item in items):
            rows = [row for row, item in enumerate(items) if item.run.size == size]
            own = F.interpolate(logits[_index(rows, self.device)], size, mode="bilinear", align_corners=False)[:, 0]
            own = own if keep_logits else own > 0
            if self.cuda:
                host = torch.empty(own.shape, dtype=own.dtype, pin_memory=True)
                own = host.copy_(own, non_blocking=True)
            yield [items[row] for row in rows], own

    def _finish(self, chunk: _Chunk, runs: list[Run], keep_logits: bool) -> Iterator[Track]:
        if self.cuda:
            chunk.ready.synchronize()
        for items, result in chunk.results:
            for item, value in zip(items, result.numpy(), strict=True):
                track = item.run.track
                track.masks[item.t] = value > 0
                if track.logits is not None:
                    track.logits[item.t] = value
                item.run.missing -= 1
                if not item.run.missing:
                    runs.remove(item.run)
                    yield track

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _event(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event() if self.cuda else None


def _resized(run: Run, t: int, size: int) -> np.ndarray:
    """Frame t as the official predictor's loader resizes it: (size, size, 3) uint8."""
    frame = run.video.frames[t]
    if frame.shape[:2] != run.size:
        raise DmaskError(f"frame {t} of {run.video.name} has another size than frame 0; give frames of one size")
    return np.asarray(Image.fromarray(frame).resize((size, size)))


def _ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each given out only when the next one is already under way."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _index(rows: list[int], device: torch.device) -> slice | Tensor:
    """Rows as a slice (a view, no copy) where they are consecutive."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return _to_device(torch.tensor(rows), device)


def _to_device(x: Tensor, device: torch.device) -> Tensor:
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x
