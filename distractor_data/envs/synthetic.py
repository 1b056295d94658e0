"""Moving clutter made on the spot: several layers of textured shapes, each drifting, turning and breathing."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from distractor_data.envs.videos import Backgrounds

COUNTS = {"train": 60, "test": 30}  # as many as DAVIS 2017 has
LENGTH = 60  # frames
_CANVAS = 256  # pixels, the edge of a layer; it wraps around
_SEED = 20170101  # of the videos themselves; which one an episode sees follows from the dataset's seed


class SyntheticVideos(Backgrounds):
    """Sixty videos for training and thirty others for testing, the same on every machine."""

    def videos(self, split: str) -> list[str]:
        return [f"synthetic-{split}-{index:03d}" for index in range(COUNTS[split])]

    def length(self, split: str, video: str) -> int:
        return LENGTH

    def frames(
        self, split: str, video: str, first: int, last: int, size: int, rounded_up: bool = False
    ) -> np.ndarray:
        layers = _layers(split, int(video.rsplit("-", 1)[1]))
        return np.stack([_compose(layers, index, size) for index in range(first, last + 1)])


class _Layer:
    """A wrapping RGBA picture and its motion; far layers are large, slow and opaque, near ones small and fast."""

    def __init__(self, rng: np.random.Generator, depth: int, palette: np.ndarray) -> None:
        self.picture = _ground(rng, palette) if depth == 0 else _shapes(rng, depth, palette)
        heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.6) * (1 + depth)
        self.velocity = speed * np.array([np.cos(heading), np.sin(heading)])  # pixels a frame
        self.spin = rng.normal(0, 0.006) * depth  # radians a frame
        self.zoom = rng.uniform(0.05, 0.25), rng.uniform(0.02, 0.08), rng.uniform(0, 2 * np.pi)

    def at(self, frame: int, size: int) -> np.ndarray:
        """The layer as it stands at a frame: (size, size, 4) uint8."""
        depth, rate, phase = self.zoom
        scale = _CANVAS / size * (1 + depth * np.sin(rate * frame + phase))
        angle = self.spin * frame
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        offset = self.velocity * frame - np.array([cosine - sine, sine + cosine]) * size / 2
        matrix = np.array([[cosine, -sine, offset[0]], [sine, cosine, offset[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP)


def _layers(split: str, index: int) -> list[_Layer]:
    rng = np.random.default_rng([_SEED, sorted(COUNTS).index(split), index])
    hue, spread = rng.uniform(), rng.uniform(0.08, 0.5)
    hues = (hue + spread * rng.uniform(-1, 1, 12)) % 1
    values = zip(hues, rng.uniform(0.2, 0.9, 12), rng.uniform(0.25, 1, 12), strict=True)
    palette = np.array([colorsys.hsv_to_rgb(*color) for color in values]) * 255
    return [_Layer(rng, depth, palette) for depth in range(4)]


def _compose(layers: list[_Layer], frame: int, size: int) -> np.ndarray:
    image = layers[0].at(frame, size)
    for layer in layers[1:]:
        above = layer.at(frame, size)
        alpha = above[..., 3].astype(np.float32) / 255
        image = cv2.blendLinear(above, image, alpha, 1 - alpha)
    return image[..., :3]


def _wrapping_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1] that wraps around: (canvas, canvas) float32."""
    tile = np.tile(rng.uniform(0, 1, (cells, cells)).astype(np.float32), (3, 3))
    noise = cv2.resize(tile, (3 * _CANVAS, 3 * _CANVAS), interpolation=cv2.INTER_CUBIC)
    return np.clip(noise[_CANVAS : 2 * _CANVAS, _CANVAS : 2 * _CANVAS], 0, 1)


def _ground(rng: np.random.Generator, palette: np.ndarray) -> np.ndarray:
    """The farthest layer: broad patches of colour with a finer grain."""
    picture = np.empty((_CANVAS, _CANVAS, 4), np.float32)
    blend = 0.7 * _wrapping_noise(rng, int(rng.integers(3, 6))) + 0.3 * _wrapping_noise(rng, 24)
    low, high = palette[rng.integers(len(palette), size=2)]
    picture[..., :3] = low + (high - low) * blend[..., None]
    picture[..., 3] = 255
    return picture.astype(np.uint8)


def _shapes(rng: np.random.Generator, depth: int, palette: np.ndarray) -> np.ndarray:
    """Ellipses, polygons and bars, each with a light side, a border and a texture of its own."""
    canvas = np.zeros((_CANVAS, _CANVAS, 4), np.uint8)
    for _ in range(int(rng.integers(5, 10)) * depth):
        radius = rng.uniform(14, 46) / np.sqrt(depth)
        color = palette[rng.integers(len(palette))] * rng.uniform(0.6, 1.15)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        kind = rng.integers(3)
        if kind == 0:
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = radius * (rng.uniform(0.6, 1.2, len(angles)) if kind == 1 else np.ones(len(angles)))
        stretch = np.array([1.0, rng.uniform(0.15, 0.35) if kind == 2 else rng.uniform(0.6, 1.0)])
        turn = rng.uniform(0, 2 * np.pi)
        outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] * stretch
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        center = rng.uniform(0, _CANVAS, 2)
        stripes = rng.uniform(0.15, 0.9) if rng.uniform() < 0.4 else 0.0
        _stamp(canvas, outline @ rotation.T + center, color, stripes, turn)
    return canvas


def _stamp(canvas: np.ndarray, outline: np.ndarray, color: np.ndarray, stripes: float, direction: float) -> None:
    """Draw one shape at all nine places where the wrapping canvas shows a part of it."""
    for shift in np.ndindex(3, 3):
        points = np.rint(outline + (np.array(shift) - 1) * _CANVAS).astype(np.int32)
        (left, top), (right, bottom) = (np.clip(edge, 0, _CANVAS) for edge in (points.min(0), points.max(0) + 1))
        if left >= right or top >= bottom:
            continue
        rows, columns = np.mgrid[top:bottom, left:right]
        along = columns * np.cos(direction) + rows * np.sin(direction)
        shade = 0.85 + 0.15 * np.sin(along * 2 * np.pi / _CANVAS)
        if stripes:
            shade *= np.where(np.sin(along * stripes) > 0, 1.0, 0.55)
        fill = np.clip(shade[..., None] * color, 0, 255)
        cover = np.zeros(rows.shape, np.uint8)
        cv2.fillPoly(cover, [points - (left, top)], 255, lineType=cv2.LINE_AA)
        alpha = cover[..., None] / 255
        part = canvas[top:bottom, left:right]
        part[..., :3] = (part[..., :3] * (1 - alpha) + fill * alpha).astype(np.uint8)
        part[..., 3] = np.maximum(part[..., 3], cover)
