"""The dataset's page in a real browser: play, scrub, overlay, sort, link, keyboard; a stranger's words stay text."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import small_dataset
from browser import faults, painted, pixels, wider

import distractor_data
from distractor_data import schema
from distractor_data.dataset import meta, storage
from distractor_data.viewer import page as pages
from distractor_data.viewer.library import Library
from distractor_data.viewer.server import Server

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!--<script>{{ 7 * 7 }}"


def file_page(source: Path, out: Path, episodes: list[int] | None = None) -> str:
    """The address of a page in one file."""
    library = Library(source)
    held = library.chosen(episodes or [])
    pages.write(out, "dataset.html", ["dataset.js"], library.name, library.overview([], held), library.attached(held))
    return out.as_uri()


@pytest.fixture(scope="session")
def shown(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return file_page(made_once, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture
def served(made_once: Path) -> Iterator[Server]:
    with Server(Library(made_once), []) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_link_leads_to_an_episode_and_a_frame_and_the_address_follows(page, shown):
    page.goto(f"{shown}#walker-run/train/2/7")
    painted(page, 7)
    assert page.locator("#split").input_value() == "walker-run/train"
    assert page.locator("tr[aria-current] td").first.inner_text() == "2"
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**#walker-run/train/2/8")
    page.goto(f"{shown}#cheetah-run/test/1/3")
    painted(page, 3)
    assert page.locator("#split").input_value() == "cheetah-run/test"


def test_the_frames_are_those_of_the_dataset_and_the_mask_lies_where_it_is(page, shown, made_once):
    episode = distractor_data.load(made_once, "walker-run")[1]
    page.goto(f"{shown}#walker-run/train/1/5")
    painted(page, 5)
    page.locator("#opacity").fill("100")
    page.locator("#colour").fill("#00ff00")
    page.wait_for_function("!player.drawing")
    seen = np.array(pixels(page), np.uint8).reshape(16, 16, 4)[..., :3]
    assert (seen[episode.mask[5]] == [0, 255, 0]).all()
    np.testing.assert_array_equal(seen[~episode.mask[5]], episode.image[5][~episode.mask[5]])
    page.locator("#masked").uncheck()
    page.wait_for_function("!player.drawing")
    np.testing.assert_array_equal(np.array(pixels(page), np.uint8).reshape(16, 16, 4)[..., :3], episode.image[5])


def test_the_keyboard_alone_plays_steps_and_jumps(page, shown):
    page.goto(f"{shown}#walker-run/train/0/0")
    painted(page, 0)
    last = small_dataset.STEPS - 1
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last), ("Home", 0)):
        page.keyboard.press(key)
        painted(page, frame)
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Pause"
    painted(page, last)  # 12 frames at 40 a second
    page.wait_for_function("find('#play').textContent === 'Play'")
    page.keyboard.press("n")
    painted(page, 0)
    assert page.locator("tr[aria-current] td").first.inner_text() == "1"


def test_play_can_be_stopped_and_slowed(page, shown):
    page.goto(f"{shown}#walker-run/train/0/0")
    painted(page, 0)
    page.locator("#speed").select_option("0.1")  # 4 frames a second
    page.locator("#play").click()
    painted(page, 1)
    page.locator("#play").click()
    stopped = page.evaluate("player.t")
    page.wait_for_timeout(400)
    assert 1 <= stopped == page.evaluate("player.t") < small_dataset.STEPS - 1


def test_scrubbing_and_a_press_on_a_plot_seek(page, shown, made_once):
    episode = distractor_data.load(made_once, "walker-run")[0]
    page.goto(f"{shown}#walker-run/train/0/0")
    painted(page, 0)
    page.locator("#scrub").fill("9")
    painted(page, 9)
    assert f"{episode.reward[9]:.3f}" in page.locator(".plot", has_text="Reward").inner_text()
    box = page.locator(".plot svg").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 4 / 11, box["y"] + 10)
    painted(page, 4)
    assert f"{episode.mask[4].mean():.3f}" in page.locator(".plot", has_text="Mask coverage").inner_text()


def test_a_column_sorts_both_ways(page, shown, made_once):
    returns = [record["return"] for record in distractor_data.load(made_once, "walker-run").records]
    page.goto(f"{shown}#walker-run/train/0/0")
    for direction in ("descending", "ascending"):
        page.locator("th button", has_text="Return").click()
        assert page.locator("th", has_text="Return").get_attribute("aria-sort") == direction
        found = [int(text) for text in page.locator("#episodes tbody td:first-child").all_inner_texts()]
        assert found == sorted(range(len(returns)), key=lambda k: returns[k], reverse=direction == "descending")


@pytest.mark.parametrize("way", ["shown", "served"])
def test_axe_finds_nothing_serious(page, way, request):
    found = request.getfixturevalue(way)
    page.goto(found if isinstance(found, str) else found.url)
    painted(page, 0)
    page.wait_for_selector(".plot")
    assert not faults(page)


def test_nothing_is_wider_than_the_screen(page, shown):
    assert not wider(page, shown)


def test_a_page_in_a_file_asks_nobody(page, shown):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shown)
    painted(page, 0)
    page.wait_for_selector(".plot")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [shown]


def test_a_file_says_which_episodes_it_holds(page, made_once, tmp_path):
    page.goto(file_page(made_once, tmp_path / "page.html", [1]) + "#walker-run/train/3/0")
    note = page.locator("#player-note")
    note.wait_for()
    assert "1 of 4 episodes" in note.inner_text()
    assert "--serve" in note.inner_text()
    page.locator("#episodes a").click()  # the only one
    painted(page, 0)
    assert not note.is_visible()


@pytest.mark.parametrize("place", ["background", "folder"])
def test_what_a_stranger_wrote_is_text(page, made_once, tmp_path, monkeypatch, place):
    folder = tmp_path / ("data" if place == "background" else HOSTILE.replace("/", "⁄"))
    if place == "background":
        made = small_dataset.episode

        def episode(*arguments: Any) -> Any:
            one = made(*arguments)
            one.info["background"] = HOSTILE
            return one

        monkeypatch.setattr(small_dataset, "episode", episode)
        small_dataset.write(folder, "walker-run", shards=1)
    else:
        shutil.copytree(made_once, folder)
    page.goto(file_page(folder, tmp_path / "page.html"))
    painted(page, 0)
    assert page.locator("img").count() == 0
    assert page.title() == folder.name
    if place == "background":
        assert page.locator("td.text").first.inner_text().strip() == HOSTILE


def test_served_frames_are_read_when_they_are_looked_at(page, served, made_once):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.url}#walker-run/train/3/4")
    painted(page, 4)
    page.wait_for_selector(".plot")
    assert {url.partition("episode=")[2].partition("&")[0] for url in asked if "episode=" in url} == {"3"}
    episode = distractor_data.load(made_once, "walker-run")[3]
    page.locator("#masked").uncheck()
    page.wait_for_function("!player.drawing")
    np.testing.assert_array_equal(np.array(pixels(page), np.uint8).reshape(16, 16, 4)[..., :3], episode.image[4])


def many(folder: Path, episodes: int) -> None:
    """A split of one shard, of an episode that comes again and again."""
    root = small_dataset.write(folder, "walker-run", shards=1)
    rows = storage.read_frames(root, 0).slice(0, small_dataset.STEPS)
    frames = pa.concat_tables([rows] * episodes).to_pydict()
    records = pa.Table.from_pylist(storage.read_episodes(root, 0).to_pylist()[:1] * episodes).to_pydict()
    numbers = np.arange(episodes)
    records |= {schema.EPISODE: numbers, schema.FROM_INDEX: numbers * small_dataset.STEPS}
    records[schema.TO_INDEX] = (numbers + 1) * small_dataset.STEPS
    frames |= {
        schema.INDEX: np.arange(len(frames[schema.INDEX])),
        schema.EPISODE: numbers.repeat(small_dataset.STEPS),
    }
    storage.write_shard(root, 0, pa.table(frames, rows.schema), pa.table(records))
    storage.remove(root / storage.TOTALS)
    meta.refresh(root)


def test_a_thousand_episodes_open_at_once_and_any_frame_is_near(page, tmp_path):
    many(tmp_path / "data", 1000)
    with Server(Library(tmp_path / "data"), []) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(server.url)
        painted(page, 0)
        first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        assert page.locator("#episodes tbody tr").count() == 200  # and more when they are scrolled to
        page.goto(f"{server.url}#walker-run/train/900/1")
        painted(page, 1)
        assert page.locator("tr[aria-current] td").first.inner_text() == "900"
        jump = page.evaluate(JUMP)
        server.shutdown()
    assert first < 1000  # ms
    assert jump < 200


JUMP = """async () => {
  const began = performance.now();
  player.seek(8);
  while (find("#views").dataset.painted !== "8") await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
