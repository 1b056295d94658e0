"""A real Chromium for the tests of the pages, and axe-core, which says whom a page shuts out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; it is Debian's, so that no build of it is downloaded.

    It is closed before the next file of tests begins: Playwright's event loop runs as long as it is open, and in a
    process with a running loop nothing else can start one, a second browser neither.
    """
    sync = pytest.importorskip("playwright.sync_api", reason="needs Playwright, of the extra [dev]")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium; `make browser` installs it")
    with sync.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of its own at 1280 pixels. Whatever script fails or is stopped in it fails the test."""
    context = chromium.new_context(viewport=WIDTHS["desktop"])
    page = context.new_page()
    page.set_default_timeout(10_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not faults


def painted(page: Page, t: int) -> None:
    """Wait until frame `t` is on the screen."""
    page.wait_for_selector(f"#views[data-painted='{t}']")


def pixels(page: Page, view: int = 0) -> list[int]:
    """What a view of the player shows, as red, green, blue, alpha of one pixel after the other."""
    script = """(canvas) => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
    return page.locator("#views canvas").nth(view).evaluate(script)


def wider(page: Page, address: str) -> list[str]:
    """The screens that a page is too wide for, so that it must be moved sideways."""
    found = []
    for name, size in WIDTHS.items():
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.goto(address)
        painted(page, 0)
        if page.evaluate("document.documentElement.scrollWidth") > size["width"]:
            found.append(name)
    return found


def faults(page: Page) -> list[Any]:
    """What axe-core finds serious or critical: in light and dark, and on a phone."""
    if not AXE.exists():
        pytest.skip("needs axe-core; `make browser` installs it")
    page.evaluate(AXE.read_text())  # not as an element: the page's policy lets none run
    found = []
    for theme, width in (("light", "desktop"), ("dark", "desktop"), ("dark", "phone")):
        page.set_viewport_size(WIDTHS[width])  # type: ignore[arg-type]
        if page.locator("html").get_attribute("data-theme") != theme:
            page.locator("#theme").click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(200)  # colours change over a moment
        violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        found += [
            (theme, width, one["id"], [node["html"] for node in one["nodes"]])
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
    return found
