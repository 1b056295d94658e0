"""Videos, frames and masks that a user got from a stranger: no program is started and nobody is asked for them."""

from __future__ import annotations

import io
import os
import socket
import zlib
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image
from test_hostile_memory import png

from distractor_data.masks import prompts

Capture = pytest.CaptureFixture[str]


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, form)
    return buffer.getvalue()


FILES: dict[str, bytes] = {
    "PostScript": encoded("EPS"),
    "GIF": encoded("GIF"),
    "TIFF": encoded("TIFF"),
    "nothing": b"",
    "text": b"a picture",
    "cut": encoded("PNG")[:40],
    "more pixels than any": png(60_000, 60_000),
    "many pixels": png(12_000, 12_000),
    "comments": encoded("PNG")[:33] + b"\0\0\0\4zTXt" + zlib.compress(bytes(10**7)),
}


def as_prompt(path: Path) -> Callable[[], object]:
    return lambda: prompts.parse(f"mask={path}")


def as_frame(path: Path) -> Callable[[], object]:
    pytest.importorskip("sam2")
    from distractor_data.masks.video import open_clip

    return lambda: open_clip(path.parent).frames()[0]


@pytest.mark.parametrize("use", [as_prompt, as_frame])
@pytest.mark.parametrize("case", [*FILES, "a pipe"])
def test_pictures(case: str, use: Callable, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "00000.png"
    os.mkfifo(path) if case == "a pipe" else path.write_bytes(FILES[case])
    hostile.refused(capfd, tmp_path, use(path))


@pytest.mark.parametrize(
    "name", ["http:127.0.0.1:{port}?x=.mp4", "tcp:127.0.0.1:{port}?.mp4", "list.m3u8", "list.mp4"]
)
def test_no_request_is_made(name: str, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sam2")
    from distractor_data.masks.video import open_clip

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (path := Path(name.format(port=port))).write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\n")
        hostile.refused(capfd, tmp_path, lambda: len(open_clip(path)))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
