"""Videos that a stranger may have made: only the file itself is read, whatever it or its name refers to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distractor_data.untrusted.files import damage, opened
from distractor_data.untrusted.images import PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers by their content: FFmpeg would read a playlist, whatever its name, and then what that lists.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,m4v"


@contextmanager
def video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file, open, and its stream of pictures. What goes wrong inside is told as the file's damage."""
    import av

    opened(path).close()
    # An absolute path: `http:host?x=.mp4` alone is an address.
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    with damage(path, "it is no video or a damaged one; give another"):
        try:
            with av.open(str(path.absolute()), options=options) as container:
                stream = next(iter(container.streams.video), None)
                if stream is None or stream.codec_context is None:
                    raise ValueError("there are no pictures in it")
                stream.codec_context.options = {"max_pixels": str(PIXELS)}
                yield container, stream
        except av.error.FFmpegError as error:
            raise ValueError(str(error)) from error
