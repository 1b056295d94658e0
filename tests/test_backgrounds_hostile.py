"""Backgrounds that a careless or hostile person laid: skipped or refused in one line, never waited for."""

from __future__ import annotations

import os
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.errors import DmaskError
from tests.test_backgrounds import write_frames, write_video

GHOSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\nshowpage\n"


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine and what was said to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(1000))

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def playlist(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def test_a_name_that_is_an_address_is_a_file(tmp_path, monkeypatch, listener):
    port, heard = listener
    name = f"http:127.0.0.1:{port}?x=.mp4"
    write_video(tmp_path / "clip.mp4", count=3)
    (tmp_path / "clip.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    backgrounds = open_backgrounds(".")
    assert backgrounds.length("train", name) == 3
    assert backgrounds.frames("train", name, 0, 2, 16).shape == (3, 16, 16, 3)
    assert heard == []


@pytest.mark.parametrize("form", ["playlist", "concat", "sdp"])
def test_what_a_video_refers_to_is_not_fetched(tmp_path, listener, form):
    port, heard = listener
    write_video(tmp_path / "other.mp4")
    address = f"http://127.0.0.1:{port}/x.mp4"
    content = {
        "playlist": playlist(address),
        "concat": f"ffconcat version 1.0\nfile {address}\nfile {tmp_path / 'other.mp4'}\n".encode(),
        "sdp": f"v=0\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n".encode(),
    }
    (tmp_path / "clip.mp4").write_bytes(content[form])
    with pytest.raises(DmaskError, match=r"clip\.mp4 can't be read"):
        open_backgrounds(str(tmp_path)).length("train", "clip.mp4")
    assert heard == []


def pipe(path: Path) -> None:
    os.mkfifo(path)


def nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def itself(path: Path) -> None:
    path.symlink_to(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("lay", [pipe, nowhere, itself, device, Path.mkdir])
def test_what_is_no_file_is_no_frame_and_no_video(tmp_path, lay):
    write_frames(tmp_path / "video", 3)
    lay(tmp_path / "video" / "00001x.png")
    lay(tmp_path / "clip.mp4")
    backgrounds = open_backgrounds(str(tmp_path))
    assert backgrounds.videos("train") == ["video"]
    assert backgrounds.length("train", "video") == 3
    assert backgrounds.frames("train", "video", 0, 2, 16).shape == (3, 16, 16, 3)
    assert backgrounds.digest()


def png(width: int, height: int) -> bytes:
    """A picture of zeros, packed a thousandfold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((width * 3 + 1) * 64), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(folder: Path) -> bytes:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "x.tiff")
    return (folder / "x.tiff").read_bytes()


FRAMES: dict[str, Callable[[Path], bytes]] = {
    "PostScript": lambda folder: GHOSTSCRIPT,
    "TIFF": tiff,
    "huge": lambda folder: png(30_000, 30_000),
    "large": lambda folder: png(9_000, 9_000),
    "cut": lambda folder: png(30, 20)[:50],
    "empty": lambda folder: b"",
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_that_are_not_what_their_name_says(tmp_path, kind):
    write_frames(tmp_path / "videos" / "video", 3)
    (tmp_path / "videos" / "video" / "00001.png").write_bytes(FRAMES[kind](tmp_path))
    with pytest.raises(DmaskError, match=r"00001\.png can't be read") as raised:
        open_backgrounds(str(tmp_path / "videos")).frames("train", "video", 0, 2, 16)
    assert len(str(raised.value).splitlines()) == 1


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut(path: Path) -> None:
    write_video(path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize("write", [sound, cut, Path.touch])
def test_videos_without_pictures(tmp_path, write):
    write(tmp_path / "clip.mp4")
    with pytest.raises(DmaskError, match=r"clip\.mp4 (can't be read|has no frames)") as raised:
        open_backgrounds(str(tmp_path)).length("train", "clip.mp4")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", os.fsdecode(b"a\xff")])
def test_a_name_that_cannot_be_recorded_is_refused(tmp_path, name):
    write_frames(tmp_path / name, 1)
    with pytest.raises(DmaskError, match="rename it") as raised:
        open_backgrounds(str(tmp_path))
    str(raised.value).encode()
    assert len(str(raised.value).splitlines()) == 1
