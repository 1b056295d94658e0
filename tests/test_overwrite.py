"""`--overwrite`: every check comes first, and the old data goes when the new is complete, not before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import SPEC, contents, root_of, small
from hub_server import HubServer
from PIL import Image
from watch import watch

from distractor_data import schema, sources
from distractor_data.dataset import meta, read, storage
from distractor_data.dataset.folders import STAGING
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.publish import Destination
from distractor_data.spec import Spec
from tests.test_backgrounds import write_frames

OLD = replace(SPEC, episodes=3)
NEW = replace(SPEC, episodes=3, seed=7)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The bytes of the old data and of the new."""
    out = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        for spec in (OLD, NEW):
            generate(spec, out / str(spec.seed))
    old, new = (contents(root_of(out / str(spec.seed))) for spec in (OLD, NEW))
    assert old != new
    return old, new


@pytest.fixture
def data(both: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path) -> Path:
    """A folder with the old data."""
    out = tmp_path / "data"
    for name, content in both[0].items():
        path = root_of(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    meta.verify_all(out)
    return out


def masks(model: str) -> Any:
    annotate = pytest.importorskip("distractor_data.masks.annotate")
    pytest.importorskip("sam2")
    return annotate.Settings(model, image_size=64, device="cpu")


def no_token(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("HF_TOKEN")
    generate(NEW, data, overwrite=True, push=Destination("org/name"))


def no_license(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    write_frames(data.parent / "videos" / "train" / "v")
    generate(
        replace(NEW, backgrounds=str(data.parent / "videos")), data, overwrite=True, push=Destination("org/name")
    )


def hub_down(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.down_from(1)
    generate(NEW, data, overwrite=True, push=Destination("org/name"))


def unknown_model(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    generate(NEW, data, overwrite=True, masks=masks("facebook/sam9"))


def missing_weights(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    generate(NEW, data, overwrite=True, masks=masks("facebook/sam2.1-hiera-tiny"))


def damaged_weights(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    (data.parent / "sam2.1_hiera_tiny.pt").write_bytes(b"nothing")
    generate(NEW, data, overwrite=True, masks=masks(str(data.parent / "sam2.1_hiera_tiny.pt")))


def other_columns(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    (data / SPEC.env / "train").rename(data / SPEC.env / "aside")
    meta.write_record(schema.root(data, SPEC.env, "test"), replace(OLD, split="test"), 100)
    (data / SPEC.env / "aside").rename(data / SPEC.env / "train")
    generate(replace(NEW, clean=True), data, overwrite=True)


def no_policy(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    generate(replace(NEW, policy="gone.safetensors"), data, overwrite=True)


def no_backgrounds(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    generate(replace(NEW, backgrounds="no/such/folder"), data, overwrite=True)


def another_run(data: Path, hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    with storage.lock(root_of(data)):
        generate(NEW, data, overwrite=True)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (no_token, "token"),
        (no_license, "--license"),
        (hub_down, "org/name"),
        (unknown_model, "--model"),
        (missing_weights, "can't fetch"),
        (damaged_weights, "checkpoint"),
        (other_columns, "leave out --clean"),
        (no_policy, "gone.safetensors"),
        (no_backgrounds, "no/such/folder"),
        (another_run, "another run"),
    ],
)
def test_what_is_refused_loses_nothing(
    data: Path,
    hub: HubServer,
    impatient: list[float],
    monkeypatch: pytest.MonkeyPatch,
    both: tuple[dict[str, bytes], dict[str, bytes]],
    refused: Callable[[Path, HubServer, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    with pytest.raises(DmaskError, match=words):
        refused(data, hub, monkeypatch)
    assert contents(root_of(data)) == both[0]


def test_without_opengl_nothing_is_lost(data: Path, both: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    command = [sys.executable, "-m", "distractor_data.cli", "generate", "--env", SPEC.env, "--policy", "random"]
    none = {"__EGL_VENDOR_LIBRARY_DIRS": str(data.parent), "LIBGL_DRIVERS_PATH": str(data.parent)}
    options = ["--out", str(data), "--overwrite", "--episodes", "1"]
    done = subprocess.run([*command, *options], env=os.environ | none, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert contents(root_of(data)) == both[0]


@pytest.mark.parametrize("place", ["thesis.txt", "meta/notes.md", "data/chunk-000/mine.parquet", ".parts/draft"])
def test_a_file_that_is_not_ours_is_named_and_kept(data: Path, place: str) -> None:
    path = root_of(data) / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    before = contents(root_of(data))
    with pytest.raises(DmaskError, match=f"{path} is no file of ours"):
        generate(NEW, data, overwrite=True)
    assert contents(root_of(data)) == before


def test_a_folder_that_is_no_dataset_is_not_emptied(tmp_path: Path) -> None:
    path = root_of(tmp_path) / "thesis.txt"
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(DmaskError, match="holds no dataset"):
        generate(NEW, tmp_path, overwrite=True)
    assert contents(root_of(tmp_path)) == {"thesis.txt": b"precious"}


def stopped(spec: Spec, data: Path, after: int) -> None:
    """A run of `--overwrite` that is broken off after so many episodes."""
    count = 0

    def stop(frames: int, new: bool) -> None:
        nonlocal count
        count += 1
        if count == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(spec, data, overwrite=True, on_event=watch(stop))


def test_broken_off_the_old_data_is_whole_and_the_same_command_goes_on(
    data: Path, both: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    stopped(NEW, data, 2)
    assert contents(root_of(data)) == both[0]
    meta.verify_all(data)
    assert len(sources.load(data, SPEC.env)) == 3
    assert read.configs(data) == {SPEC.env: ["train"]}
    made: list[bool] = []
    generate(NEW, data, overwrite=True, on_event=watch(lambda frames, new: made.append(new)))
    assert sum(made) == 1
    assert contents(root_of(data)) == both[1]
    assert not (data / STAGING).exists()


def test_another_spec_begins_anew_beside_the_old_data(
    data: Path, both: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    stopped(replace(NEW, seed=9), data, 2)
    made: list[bool] = []
    generate(NEW, data, overwrite=True, on_event=watch(lambda frames, new: made.append(new)))
    assert made == [True] * 3
    assert contents(root_of(data)) == both[1]


@pytest.mark.parametrize("rename", [1, 2])
@pytest.mark.parametrize("then", ["overwrite", "go on with the old"])
def test_killed_while_the_one_takes_the_place_of_the_other(
    data: Path,
    both: tuple[dict[str, bytes], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    rename: int,
    then: str,
) -> None:
    real, calls = os.rename, 0

    def kill(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == rename:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", kill)
    with pytest.raises(KeyboardInterrupt):
        generate(NEW, data, overwrite=True)
    monkeypatch.setattr(os, "rename", real)
    assert root_of(data).exists() == (rename == 1)
    made: list[bool] = []
    if then == "overwrite":
        generate(NEW, data, overwrite=True, on_event=watch(lambda frames, new: made.append(new)))
    else:
        generate(OLD, data, on_event=watch(lambda frames, new: made.append(new)))
    assert made == [False] * 3
    assert contents(root_of(data)) == both[then == "overwrite"]
    assert sorted(path.name for path in root_of(data).parent.iterdir()) == ["train"]


def test_pushed_while_it_is_made_the_old_data_stays_until_the_new_is_complete(
    data: Path, hub: HubServer, both: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    seen = []
    generate(
        NEW,
        data,
        overwrite=True,
        push=Destination("org/name"),
        on_event=watch(lambda *_: seen.append(contents(root_of(data)) == both[0])),
    )
    assert seen == [True] * 3
    there = hub.files("org/name")
    for name in (schema.data_file(0), schema.data_file(1), schema.CHECKSUMS):
        assert there[f"{SPEC.env}/train/{name}"] == both[1][name]


# --- the masks of a video ----------------------------------------------------------------------------------------


def test_masks_of_a_video_take_the_place_of_others_when_they_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sam2")
    import sam2_weights

    from distractor_data.masks import video
    from distractor_data.masks.annotate import Settings

    write_frames(tmp_path / "clip", count=3)
    out = tmp_path / "out"
    model = sam2_weights.save(tmp_path / "sam2.1_hiera_tiny.pt")
    settings = Settings(str(model), image_size=64, device="cpu", prompt="box=4,4,20,15", precision="float32")
    (out / "masks").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(out / "masks" / "00000.png")
    mine = contents(out)
    with pytest.raises(DmaskError, match="holds masks already"):
        video.mask_video(tmp_path / "clip", out, settings)
    (out / "masks" / "notes.png").write_bytes(b"mine")
    with pytest.raises(DmaskError, match=r"notes.png is none of our masks"):
        video.mask_video(tmp_path / "clip", out, settings, overwrite=True)
    (out / "masks" / "notes.png").unlink()
    with pytest.raises(DmaskError, match="lies outside"):
        video.mask_video(tmp_path / "clip", out, Settings(str(model), prompt="box=0,0,99,9"), overwrite=True)

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(video._Work, "write_overlay", stop)
        with pytest.raises(KeyboardInterrupt):
            video.mask_video(tmp_path / "clip", out, settings, overwrite=True)
    assert {name: content for name, content in contents(out).items() if not name.startswith(".new/")} == mine
    video.mask_video(tmp_path / "clip", out, settings, overwrite=True)
    masks = [f"masks/{t:05d}.png" for t in range(3)]
    assert sorted(contents(out)) == ["flags.json", *masks, "overlay.mp4"]
    assert Image.open(out / "masks" / "00000.png").size == (30, 20)
