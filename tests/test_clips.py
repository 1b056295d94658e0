"""Videos as people have them: each kind is made here, and shows the pictures that were put into it."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import bare
import numpy as np
import pytest
from PIL import Image

from distractor_data import clips
from distractor_data.envs.backgrounds import open_backgrounds
from distractor_data.envs.survey import survey
from distractor_data.errors import DmaskError

HEIGHT, WIDTH, COUNT, GOP = 32, 48, 30, 10


def picture(t: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frame `t`: its upper left quarter is red, the rest grey, brighter from frame to frame."""
    image = np.full((height, width, 3), 20 + 5 * (t % 40), np.uint8)
    image[: height // 2, : width // 2] = 200, 0, 0
    return image


def write_video(
    path: Path, count: int = COUNT, codec: str = "libx264", size: tuple[int, int] = (HEIGHT, WIDTH)
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": str(GOP), "sc_threshold": "0"})
        stream.height, stream.width = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for t in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(t, *size), format="rgb24")))
        container.mux(stream.encode())
    return path


def shown(clip: clips.Clip) -> list[int]:
    """Which frames a clip has, told by the grey of the lower right quarter."""
    grey = [int(frame[-4:, -4:].mean()) for frame in clip.read(0, len(clip) - 1)]
    return [round((value - 20) / 5) for value in grey]


def write_pictures(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for t, name in enumerate(names):
        Image.fromarray(picture(t)).save(folder / name, format="PNG")
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"{t:05d}.jpg" for t in range(12)],
        [f"{t}.png" for t in range(12)],
        [f"frame_{t}.PNG" for t in range(12)],
        [f"clip 3 ({t}).Jpeg" for t in range(12)],
        [f"кадр{t}.png" for t in range(12)],
        [f"帧-{t}.png" for t in range(12)],
        [f"{t}.png".translate({ord("0") + digit: ord("٠") + digit for digit in range(10)}) for t in range(12)],
    ],
)
def test_pictures_come_in_the_order_of_their_numbers(names: list[str], tmp_path: Path) -> None:
    clip = clips.clip(write_pictures(tmp_path / "video", names))
    assert shown(clip) == list(range(12))
    assert [int(frame[-1, -1, 0]) for frame in clip.frames()] == [20 + 5 * t for t in range(12)]


def test_hidden_files_are_no_frames_and_no_videos(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "video", ["0.png", "1.png"])
    write_pictures(tmp_path / "__MACOSX", ["0.png"])
    for name in ("._0.png", ".DS_Store", ".hidden.png", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "._clip.mp4").write_bytes(b"\0\5\x16\7")
    assert shown(clips.clip(folder)) == [0, 1]
    assert open_backgrounds(str(tmp_path)).videos("train") == ["video"]


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a player's matrix into the track header of an MP4, as a phone does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44  # of the matrix, in a header of version 0
    a, b, c, d = (value << 16 for value in matrix)
    numbers = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4")
    content[place : place + 36] = numbers.tobytes()
    path.write_bytes(content)
    return path


TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "upside down": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "as it is": ((1, 0, 0, 1), lambda image: image),
}


@pytest.mark.parametrize("how", TURNS)
def test_a_video_is_upright(how: str, tmp_path: Path) -> None:
    matrix, expected = TURNS[how]
    path = write_video(tmp_path / "clip.mp4", 3)
    (stored,) = clips.clip(path).read(1, 1)
    digest = open_backgrounds(str(tmp_path)).digest()
    clip = clips.clip(turn(path, matrix))
    np.testing.assert_array_equal(next(iter(clip.read(1, 1))), expected(stored))
    with av.open(str(path)) as container:  # FFmpeg's own reading of the matrix
        rotation = next(container.decode(video=0)).rotation
    assert how == "mirrored" or np.array_equal(np.rot90(stored, rotation // 90), expected(stored))
    assert (open_backgrounds(str(tmp_path)).digest() != digest) == (how != "as it is")


@pytest.mark.parametrize("way", ["read", "on", "back"])
def test_a_frame_that_was_read_is_forgotten(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for Python to look for cycles: one frame of a film is megabytes, which it doesn't count."""
    monkeypatch.setattr(clips, "_KEPT_BYTES", 0)
    monkeypatch.setattr(clips, "_KEPT_LEAST", 4)
    clip = clips.clip(write_video(tmp_path / "clip.mp4"))
    most, frames = 0, clip.frames()
    gc.collect()
    gc.disable()
    try:
        for t, _ in enumerate(clip.read(0, COUNT - 1) if way == "read" else range(COUNT)):
            if way != "read":
                frames[t if way == "on" else COUNT - 1 - t]
            most = max(most, sum(isinstance(one, av.VideoFrame) for one in gc.get_objects()))
    finally:
        gc.enable()
    assert most < 4 + 6  # those that are kept, those that were asked how they lie, and the one at hand


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(0)).save(tmp_path / "0.png", exif=exif)
    clip = clips.clip(tmp_path)
    assert clip.turned == (orientation != 1)
    (image,) = clip.read(0, 0)
    assert image.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    rows, columns = np.nonzero(image[..., 1] == 0)
    corner = {1: "00", 2: "01", 3: "11", 4: "10", 5: "00", 6: "01", 7: "11", 8: "10"}[orientation]
    assert f"{int(rows.min() > 0)}{int(columns.min() > 0)}" == corner  # where the red quarter belongs


def test_sixteen_bits_and_alpha_become_what_is_seen(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    Image.fromarray(grey.astype(np.uint16)).save(tmp_path / "0.png")
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 4] = 0
    Image.fromarray(np.dstack([picture(0), alpha])).save(tmp_path / "1.png")
    sixteen, clear = clips.clip(tmp_path).read(0, 1)
    np.testing.assert_allclose(sixteen[..., 0], grey / 257, atol=1)
    assert not clear[:, : WIDTH // 4].any()
    np.testing.assert_array_equal(clear[:, WIDTH // 4 :], picture(0)[:, WIDTH // 4 :])


def test_opaque_pictures_keep_a_dataset_s_digest(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "a", ["0.png"])
    Image.fromarray(picture(0)).convert("RGBA").save(folder / "0.png")
    assert not clips.clip(folder).turned


CODECS = [("libx264", "mp4"), ("libx264", "mkv"), ("libx264", "ts"), ("mpeg4", "avi"), ("mpeg2video", "mpg")]


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
def test_any_frame_is_the_one_that_decoding_from_the_beginning_gives(codec: str, suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"clip.{suffix.upper()}", codec=codec)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    clip = clips.clip(path)
    assert len(clip) == COUNT
    assert shown(clip) == list(range(COUNT))
    reader = clip.frames()
    for t in (17, 18, 3, 2, 29, 0, 11, 10, 9):
        np.testing.assert_array_equal(reader[t], expected[t])
        np.testing.assert_array_equal(next(iter(clip.read(t, t))), expected[t])


def test_a_long_video_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clips.clip(write_video(tmp_path / "clip.mp4", 200, size=(16, 16)))
    assert len(clip) == 200
    decoded = []
    real = clips._decode
    monkeypatch.setattr(clips, "_decode", lambda *opened: (decoded.append(1) or frame for frame in real(*opened)))
    list(clip.read(195, 199))
    reader = clip.frames()
    assert len(decoded) <= 2 * GOP
    for t in reversed(range(100, 200)):  # backwards, each group of pictures is decoded once
        reader[t]
    assert len(decoded) <= 2 * GOP + 200


def cut(path: Path, first: int) -> Path:
    """Copy a video's packets from number `first` on, as tools do that cut without decoding."""
    result = path.with_name(f"cut{path.suffix}")
    with av.open(str(path)) as source, av.open(str(result), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][first:]:
            packet.stream = stream
            target.mux(packet)
    path.unlink()
    return result


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
def test_a_clip_cut_between_key_frames_is_what_decodes(codec: str, suffix: str, tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / f"clip.{suffix}", codec=codec), 4)
    clip = clips.clip(path)
    assert shown(clip)[-1] == COUNT - 1
    assert len(clip) <= COUNT - 4
    assert shown(clip) == list(range(COUNT - len(clip), COUNT))
    assert len(clip) >= COUNT - GOP - 2  # key frames come every GOP frames


def trimmed(path: Path, lead: int) -> Path:
    """Copy a video so that players begin at frame `lead`, as phones do: what comes before is kept, not shown."""
    result = path.with_name(f"trimmed{path.suffix}")
    with av.open(str(path)) as source, av.open(str(result), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        shift = sorted(int(packet.pts or 0) for packet in packets)[lead]
        for packet in packets:
            packet.pts, packet.dts, packet.stream = int(packet.pts or 0) - shift, int(packet.dts or 0) - shift, stream
            target.mux(packet)
    path.unlink()
    return result


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("libx264", "mov"), ("mpeg4", "mp4")])
@pytest.mark.parametrize("lead", [1, 7, 13])
def test_a_trimmed_clip_is_what_players_show(codec: str, suffix: str, lead: int, tmp_path: Path) -> None:
    clip = clips.clip(trimmed(write_video(tmp_path / f"clip.{suffix}", codec=codec), lead))
    assert shown(clip) == list(range(lead, COUNT))
    reader = clip.frames()
    for t in (11, 12, 0, 3, len(clip) - 1, 1):
        np.testing.assert_array_equal(reader[t], next(iter(clip.read(t, t))))
        assert round((int(reader[t][-4:, -4:].mean()) - 20) / 5) == lead + t


def test_a_size_that_changes_in_mid_stream(tmp_path: Path) -> None:
    for name, size in (("a", (HEIGHT, WIDTH)), ("b", (HEIGHT * 2, WIDTH))):
        write_video(tmp_path / f"{name}.ts", codec="mpeg2video", size=size)
    path = tmp_path / "clip.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    clip = clips.clip(path)
    sizes = [frame.shape[0] for frame in clip.read(0, len(clip) - 1)]
    assert sizes[0] == HEIGHT
    assert sizes[-1] == HEIGHT * 2
    for name in "ab":
        (tmp_path / f"{name}.ts").unlink()
    assert open_backgrounds(str(tmp_path)).frames("train", "clip.ts", 0, len(clip) - 1, 16).shape[0] == len(clip)


def test_a_video_without_key_frames_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Intra refresh: a column of each picture is renewed, no picture as a whole."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        options = {"x264-params": f"keyint={GOP}:intra-refresh=1:bframes=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 4_000_000
        for t in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(t), format="rgb24")))
        container.mux(stream.encode())
    for one in (path, cut(shutil.copy(path, tmp_path / "copy.mp4"), 3)):
        with av.open(str(one)) as container:
            expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        clip = clips.clip(one)
        assert len(clip) == len(expected) > 0
        reader = clip.frames()
        for t in (len(clip) - 1, len(clip) // 2, 0):
            np.testing.assert_array_equal(reader[t], expected[t])


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv")
    with av.open(str(path)) as container:
        broken = [packet for packet in container.demux(video=0) if packet.size][12]
        content = bytearray(path.read_bytes())
        place = content.index(bytes(broken))
        content[place : place + broken.size] = bytes(broken.size)
    path.write_bytes(content)
    with pytest.raises(DmaskError, match=r"clip\.mkv is damaged: frame \d+ can't be decoded"):
        shown(clips.clip(path))


def test_one_name_of_davis_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("camel", "bear", *(f"mine{index}" for index in range(5))):
        write_pictures(tmp_path / name, ["0.png"])
    backgrounds = open_backgrounds(str(tmp_path))
    assert backgrounds.videos("train") == ["bear", "mine0", "mine1", "mine2", "mine3"]
    assert backgrounds.videos("test") == ["camel", "mine4"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (".", r"give \S*480p$"),
        ("JPEGImages", r"give \S*480p$"),
        ("JPEGImages/480p/bear", "one video's frames.*give .*480p$"),
    ],
)
def test_a_folder_too_high_or_too_low_is_told_of(given: str, words: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "JPEGImages" / "480p" / "bear", ["00000.jpg"])
    with pytest.raises(DmaskError, match=words):
        open_backgrounds(str(tmp_path / given))
    assert open_backgrounds(str(tmp_path / "JPEGImages" / "480p")).videos("train") == ["bear"]


def test_a_folder_above_the_splits_is_told_of(tmp_path: Path) -> None:
    write_pictures(tmp_path / "videos" / "train" / "a", ["0.png"])
    with pytest.raises(DmaskError, match=r"give \S*videos$"):
        open_backgrounds(str(tmp_path))


@pytest.mark.parametrize("name", ["Видео 1.MP4", "動画.mp4", "فيديو.mov", "🎬 é.mkv"])
def test_names_in_any_script(name: str, tmp_path: Path) -> None:
    shutil.move(write_video(tmp_path / f"x{Path(name).suffix.lower()}", 3), tmp_path / name)
    backgrounds = open_backgrounds(os.fspath(tmp_path))
    assert backgrounds.videos("train") == [name]
    assert backgrounds.length("train", name) == 3


def test_a_folder_is_looked_through(tmp_path: Path) -> None:
    """What is used, what is skipped and why; every file is checked, whatever is wrong with the others."""
    for name in ("a", "b", "c"):
        write_pictures(tmp_path / name, ["0.png", "1.png"])
    (tmp_path / "a" / "._0.png").touch()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "b" / "1.png").write_bytes(b"x")
    Image.fromarray(picture(0)[: HEIGHT // 2]).save(tmp_path / "c" / "1.png")
    turn(write_video(tmp_path / "turned.mp4", 3), (0, 1, -1, 0))
    (tmp_path / "broken.mp4").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.md").touch()
    (tmp_path / "loose.jpg").touch()
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    used, skipped = survey(str(tmp_path))
    found = {one.name: one for one in used}
    assert set(found) == {"a", "b", "c", "turned.mp4", "broken.mp4"}
    assert {name for name, one in found.items() if one.error} == {"b", "broken.mp4"}
    assert "1.png" in found["b"].error
    assert found["a"].frames == 2
    assert found["a"].sizes == [f"{WIDTH}×{HEIGHT}"]
    assert found["turned.mp4"].sizes == [f"{HEIGHT}×{WIDTH}"]
    assert "upright" in found["turned.mp4"].notes[0]
    assert "differ in size" in found["c"].notes[0]
    assert {one.name: one.why.split()[0] for one in skipped} == {
        "a/._0.png": "hidden,",
        "a/notes.txt": "no",
        "empty": "no",
        "gone.mp4": "no",
        "loose.jpg": "a",
        "readme.md": "not",
    }


def test_what_lies_beside_the_splits_is_told_of(tmp_path: Path) -> None:
    for name in ("train/a", "val/b", "more"):
        write_pictures(tmp_path / name, ["0.png"])
    used, skipped = survey(str(tmp_path))
    assert [(one.split, one.name) for one in used] == [("train", "a"), ("test", "b")]
    assert [(one.name, one.why) for one in skipped] == [("more", "beside train/ and val/")]


def test_the_command_lists_them_and_fails_where_one_is_broken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", ["0.png"])
    assert json.loads(bare.run("dmask", "backgrounds", str(tmp_path), "--json").stdout)["used"][0]["name"] == "a"
    (tmp_path / "a" / "0.png").write_bytes(b"x")
    done = bare.run("dmask", "backgrounds", str(tmp_path))
    assert done.returncode == 2
    assert "1 of 1 videos can't be used" in done.stderr
    assert "0.png can't be read" in done.stdout
