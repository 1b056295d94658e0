"""Where the object is on the first frame: what a user may write, and what SAM 2 gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from distractor_data import untrusted
from distractor_data.errors import DmaskError

KINDS = "simulator, motion, box=x0,y0,x1,y1, point=x,y or mask=FILE"
MOTION_FRAMES = 16  # frames over which `motion` looks for what moves


@dataclass(frozen=True)
class Prompt:
    """One of: a box (x0, y0, x1, y1), a point (x, y), both in pixels of the video, or a mask (H, W) bool."""

    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    mask: np.ndarray | None = None

    @property
    def kind(self) -> str:
        return "box" if self.box else "point" if self.point else "mask"

    def check(self, height: int, width: int, name: str, frame: int = 0) -> None:
        """Raises `DmaskError` where the prompt does not lie in a (height, width) image, or shows nothing."""
        if self.mask is not None:
            if self.mask.shape != (height, width):
                got = "×".join(map(str, self.mask.shape[::-1]))
                raise DmaskError(
                    f"the mask for {name} has {got} pixels, the video {width}×{height}; give one of its size"
                )
            if not self.mask.any():
                raise DmaskError(
                    f"the mask for {name} is empty on frame {frame}; give a mask, box or point that shows the object"
                )
            return
        corners = np.array(self.box or self.point, float).reshape(-1, 2)  # (x, y) each
        if not ((corners >= 0) & (corners <= (width, height))).all():
            raise DmaskError(f"{self} lies outside of {name}, which has {width}×{height} pixels; give pixels within")
        if self.box and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise DmaskError(f"{self} for {name} is empty; give box=x0,y0,x1,y1 with x0 < x1 and y0 < y1")

    def __str__(self) -> str:
        values = self.box or self.point
        return f"{self.kind}={','.join(f'{value:g}' for value in values)}" if values else "the mask"


def parse(text: str) -> str | Prompt:
    """`simulator` and `motion` stay words (they depend on the video), the rest becomes a `Prompt`."""
    if text in ("simulator", "motion"):
        return text
    kind, _, value = text.partition("=")
    if kind == "mask" and value:
        try:
            return Prompt(mask=untrusted.picture(untrusted.expanded(value), "L") > 127)
        except DmaskError as error:
            raise DmaskError(f"--prompt {text!r} is not an image that can be read; give a mask image") from error
    try:
        numbers = tuple(float(number) for number in value.split(","))
    except ValueError:
        numbers = ()
    if kind == "box" and len(numbers) == 4:
        return Prompt(box=numbers)
    if kind == "point" and len(numbers) == 2:
        return Prompt(point=numbers)
    raise DmaskError(f"--prompt {text!r} is not understood; give {KINDS}")


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """First and last column and row of a mask (H, W), as SAM 2 was trained with. `mask` is not empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def grown(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The box, at least one pixel wide and high."""
    x0, y0, x1, y1 = box
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def motion_box(frames: Sequence[np.ndarray], name: str) -> tuple[float, float, float, float]:
    """Box, on the first of `frames` (H, W, 3), of the largest part that moves from frame to frame throughout.

    The camera's own shift between two frames is found by phase correlation and taken out; a pixel counts by
    the median of its changes, so that what flickers once doesn't; Otsu's threshold parts moving from resting.
    Raises `DmaskError` where nothing moves.
    """
    import cv2

    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    changes = []
    for before, after in pairwise(grey):
        (dx, dy), response = cv2.phaseCorrelate(before, after)
        if response > 0.3:  # else there is no common shift
            size = before.shape[::-1]
            shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
            before = np.asarray(cv2.warpAffine(before, shift, size, borderMode=cv2.BORDER_REPLICATE), np.float32)
        changes.append(cv2.GaussianBlur(np.abs(after - before), (0, 0), max(1.0, min(before.shape) / 64)))
    change = np.median(changes, axis=0) if changes else np.zeros_like(grey[0])
    if change.max() < 1:
        raise DmaskError(f"nothing moves in the first frames of {name}; give --prompt box=x0,y0,x1,y1")
    scaled = (change / change.max() * 255).astype(np.uint8)
    _, moving = cv2.threshold(scaled, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
    x, y, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
    return grown((float(x), float(y), float(x + width - 1), float(y + height - 1)))


class Part(Sequence[np.ndarray]):
    """Frames `start` to `stop` of a video."""

    def __init__(self, frames: Sequence[np.ndarray], start: int, stop: int) -> None:
        self.frames, self.start, self.stop = frames, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, t: Any) -> Any:
        return self.frames[self.start + t]


def segments(
    images: Sequence[np.ndarray], prompt: str | Prompt, reprompt: int, sim: np.ndarray | None, name: str
) -> list[tuple[int, int, Prompt]]:
    """(start, stop, prompt) of each piece of a video that is tracked from a prompt of its own.

    With a simulator's masks `sim` the first piece begins where the object is first seen, and a later prompt on
    a frame without it is left out. None are left where it is never seen.
    """
    every = range(0, len(images), reprompt or len(images))
    if isinstance(prompt, Prompt):
        found = [(0, prompt)]
    elif prompt == "motion":
        clips = [[images[t] for t in range(start, min(start + MOTION_FRAMES, len(images)))] for start in every]
        clips = [clip for clip in clips if len(clip) > 1 or len(images) == 1]  # one frame left over shows no motion
        found = [(start, Prompt(box=motion_box(clip, name))) for start, clip in zip(every, clips, strict=False)]
    elif sim is None:
        raise DmaskError(f"{name} has no mask of a simulator to take a box from; give --prompt motion or box=…")
    else:
        seen = np.flatnonzero(sim.any((1, 2)))[:1].tolist()
        seen += [start for start in every if seen and start > seen[0] and sim[start].any()]
        found = [(start, Prompt(box=grown(box_of(sim[start])))) for start in seen]
    stops = [start for start, _ in found[1:]] + [len(images)]
    return [(start, stop, given) for (start, given), stop in zip(found, stops, strict=False)]


def model_inputs(
    prompts: Sequence[Prompt], sizes: Sequence[tuple[int, int]], image_size: int, device: Any
) -> tuple[dict[str, Any] | None, Any]:
    """`point_inputs` and `mask_inputs` of `SAM2Base.track_step` for prompts of one kind on videos of `sizes` (H, W).

    They are what `SAM2VideoPredictor.add_new_points_or_box` and `add_new_mask` make of them.
    """
    import torch
    import torch.nn.functional as F

    if prompts[0].mask is not None:
        masks = []
        for prompt in prompts:
            mask = torch.as_tensor(np.asarray(prompt.mask), device=device)[None, None].float()
            if mask.shape[-2:] != (image_size, image_size):
                size = (image_size, image_size)
                mask = F.interpolate(mask, size, mode="bilinear", align_corners=False, antialias=True)
                mask = (mask >= 0.5).float()
            masks.append(mask)
        return None, torch.cat(masks)
    labels = [2, 3] if prompts[0].box else [1]  # corners of a box; a point of the object
    points = torch.tensor([prompt.box or prompt.point for prompt in prompts]).view(len(prompts), -1, 2)
    scale = torch.tensor([[[width, height]] for height, width in sizes])
    coords = points / scale * image_size
    return {
        "point_coords": coords.to(device),
        "point_labels": torch.tensor([labels] * len(prompts), dtype=torch.int32, device=device),
    }, None
