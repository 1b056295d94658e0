"""What a stranger may have written, validated once, where it is read: files, JSON, tables, images, videos, weights.

Nothing is decoded before what it says of its own size was compared with what is expected, and every function raises
`DmaskError`, one line that names the file and what is wrong with it.
"""

from distractor_data.untrusted.containers import video
from distractor_data.untrusted.files import damage, expanded, folder, inside, opened, plain, splits
from distractor_data.untrusted.images import picture, turned
from distractor_data.untrusted.records import Layout, checksums, dmask, info, layout, mask_source, released, shard_of
from distractor_data.untrusted.tables import episodes, frames, frames_table, in_order, parquet, part
from distractor_data.untrusted.tensors import check_checkpoint, shapes
from distractor_data.untrusted.values import anything, parse, read_json

__all__ = [
    "Layout",
    "anything",
    "check_checkpoint",
    "checksums",
    "damage",
    "dmask",
    "episodes",
    "expanded",
    "folder",
    "frames",
    "frames_table",
    "in_order",
    "info",
    "inside",
    "layout",
    "mask_source",
    "opened",
    "parquet",
    "parse",
    "part",
    "picture",
    "plain",
    "read_json",
    "released",
    "shapes",
    "shard_of",
    "splits",
    "turned",
    "video",
]
