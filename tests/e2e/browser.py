"""A real browser: Debian's Chromium, driven by Playwright. It reaches nothing but loopback.

    async with open_browser() as browser:
        page = await browser.page(color_scheme="dark", width=360)
        await page.goto(url)
        ...
        assert browser.complaints == []

`HOLDFAST_TEST_PICTURES=FOLDER` makes the tests that call `picture` write their screenshots there; docs/images/ is made
in that way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright

PICTURES = "HOLDFAST_TEST_PICTURES"
WITHIN = 15_000  # milliseconds for anything the page is waited for: the machine may be busy
ARGUMENTS = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
]


def chromium() -> str:
    """The program. Without one the test is skipped, or fails where CI=true."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium on the PATH: `scripts/test` installs it"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class RealBrowser:
    """One Chromium. `complaints` collects what pages wrote to the console as errors, exceptions included."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.complaints: list[str] = []

    async def page(
        self, *, width: int = 1280, height: int = 800, color_scheme: Literal["light", "dark"] = "light"
    ) -> Page:
        """A new page with cookies of its own."""
        context = await self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=color_scheme, locale="en-GB", timezone_id="UTC"
        )
        context.set_default_timeout(WITHIN)
        page = await context.new_page()
        page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page


@asynccontextmanager
async def open_browser() -> AsyncIterator[RealBrowser]:
    """Start one, and end it afterwards."""
    async with async_playwright() as playwright:
        # Chromium's own sandbox cannot be had as root; what it opens here is ours.
        sandbox = os.geteuid() != 0
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=ARGUMENTS, chromium_sandbox=sandbox, timeout=60_000
        )
        try:
            yield RealBrowser(browser)
        finally:
            await browser.close()


async def picture(page: Page, name: str, *, full_page: bool = False) -> None:
    """Keep what the page looks like as NAME.png, where that is asked for."""
    if folder := os.environ.get(PICTURES):
        Path(folder).mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=full_page)
