"""The tables that the caster's functions share, as numpy records: one pointer each for the compiled code to pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from distractor_data.envs.renderers.grid import MAX_LINES

Record = Any  # one element of a table, its fields as attributes; numba knows them from the table's dtype

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX = 0, 2, 3, 4, 5, 6  # mjtGeom
SHAPES = frozenset({PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX})
# Views: the camera's own, and through the mirror that a reflecting plane is. numpy's, since numba compiles a function
# anew for every Python integer that is a constant.
DIRECT, MIRRORED = np.int64(0), np.int64(1)
EYE, AHEAD, RIGHT, UP = 0, 1, 2, 3  # a view: where from, the ray of the picture's middle, what a pixel adds to it
EMISSION, SPECULARITY, SHININESS, REFLECTANCE = 0, 1, 2, 3  # what a material does with light
AMBIENT, DIFFUSE, SPECULAR = 0, 1, 2  # what a light consists of
NOTHING = -1  # instead of a shape's index
MAX_LAYERS = 3  # of colour (light.py): so many lights less one may cast shadows
MAX_SLICES, MAX_STACKS = 64, 64  # of round shapes (facets.py)

FRAME = np.dtype(
    [
        ("number", np.int64),  # counts the frames
        ("shapes", np.int64),  # how many of the table show
        ("mirror", np.int64),  # index of the reflecting plane, or NOTHING
        ("size", np.int64),  # edge of the picture in pixels
        ("height", np.float64),  # half the picture's at distance 1
        ("near", np.float64),
        ("far", np.float64),  # radius of the skybox, which hides what is farther away
        ("views", np.float64, (2, 4, 3)),
        ("layers", np.int64),
        ("middle", np.float64, (3,)),  # of a sphere around all that casts shadows,
        ("radius", np.float64),  # and its radius
        ("quads", np.int64),  # how finely a box's edge,
        ("slices", np.int64),  # a turn
        ("rises", np.int64),  # and a quarter turn upwards are divided
        ("around", np.float64, (MAX_SLICES + 1, 2)),  # cosine and sine of each slice's edge
        ("rise", np.float64, (MAX_STACKS // 2 + 1, 2)),  # cosine and sine of each elevation, equator to pole
    ],
    align=True,
)

SHAPE = np.dtype(
    [
        ("kind", np.int64),
        ("index", np.int64),  # of the geom, or of the site past the last geom
        ("transparent", np.int64),
        ("material", np.int64),  # or -1
        ("size", np.float64, (3,)),
        ("radius", np.float64),  # of the sphere around it
        ("position", np.float64, (3,)),
        ("rotation", np.float64, (3, 3)),
        ("rgba", np.float64, (4,)),
        ("shine", np.float64, (4,)),  # EMISSION … REFLECTANCE
        ("ray", np.float64, (2, 4, 3)),  # the views in its own frame; spheres and ellipsoids stretched to radius 1
    ],
    align=True,
)

LIGHT = np.dtype(
    [
        ("position", np.float64, (3,)),
        ("direction", np.float64, (3,)),
        ("sides", np.float64, (2, 3)),  # of its shadow map
        ("on", np.int64),
        ("layer", np.int64),
        ("shadows", np.int64),
        ("directional", np.int64),
        ("colour", np.float64, (3, 3)),  # AMBIENT … SPECULAR
        ("attenuation", np.float64, (3,)),
        ("exponent", np.float64),
        ("cutoff", np.float64),  # its cosine
        ("reach", np.float64),  # half the shadow map's width, at distance 1 or, of a directional light, anywhere
    ],
    align=True,
)

VERTEX = np.dtype(
    [
        ("frame", np.int64, (2,)),  # the number of the frame that lit it last, for each view
        ("colour", np.float64, (2, MAX_LAYERS + 1, 3)),  # in each layer; last, of all together
    ],
    align=True,
)

PART = np.dtype(  # of the model: a geom, or a site
    [
        ("agent", np.int64),
        ("first", np.int64),  # of its vertices
        ("columns", np.int64),  # of its vertices in a row
        ("cells", np.int64, (2,)),  # of a plane's grid
        ("density", np.float64, (2,)),  # its inner cells to a metre
        ("lines", np.float64, (2, MAX_LINES)),  # of a plane's grid, in x and y
    ],
    align=True,
)

LEVEL = np.dtype(
    [("first", np.int64), ("width", np.int64), ("height", np.int64)], align=True
)  # of a texture's mipmaps

PATTERN = np.dtype(  # of a material: the texture that it gives to planes
    [("first", np.int64), ("levels", np.int64), ("repeat", np.float64, (2,))],  # none if it has no levels
    align=True,
)


class Tables(NamedTuple):
    """All that a picture is made of; of tables whose length changes, the frame says how much counts."""

    frame: Record  # FRAME
    shapes: np.ndarray  # SHAPE
    order: np.ndarray  # the transparent shapes from the nearest to the farthest, then NOTHING
    lights: np.ndarray  # LIGHT, the headlight first
    parts: np.ndarray  # PART
    vertices: np.ndarray  # VERTEX
    patterns: np.ndarray  # PATTERN
    pixels: np.ndarray  # (…,) int64, colours of the patterns' textures
    levels: np.ndarray  # LEVEL, of the patterns' textures


class Buffers(NamedTuple):
    """What is known of each sample of a picture of H×W pixels, the lowest row first."""

    hit: np.ndarray  # (H, W, 5) int16: the shape at each sample and at the pixel's centre, or NOTHING
    depths: np.ndarray  # (H, W, 5): how far that is along the camera's axis
    mirrored: np.ndarray  # (H, W, 4) int16: the shape that the mirror shows, or NOTHING
    behind: np.ndarray  # (H, W, 4): how far that is along the mirrored camera's axis
    colour: np.ndarray  # (H, W, 4) int64 (colours.py)
    reflection: np.ndarray  # (H, W, 4) int64: what the mirror adds to it
    scratch: np.ndarray  # (4,) int64: of the samples of the pixel at hand
