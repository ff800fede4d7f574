"""A real browser for tests of what is clicked: Chromium, found by name or by CHROMIUM, driven by Playwright.

Without one such a test is skipped, and fails in CI. On Debian and Ubuntu: `apt-get install --no-install-recommends
chromium fonts-dejavu-core`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")

#: It asks nobody but the page that is tested; as root it runs without its sandbox, or not at all.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """Path of the browser: what CHROMIUM names, else the first of the usual names."""
    names = [given] if (given := os.environ.get("CHROMIUM")) else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser with a fresh profile, in English, in UTC."""
    path = find_browser()
    if path is None:
        wanted = os.environ.get("CHROMIUM") or ", ".join(NAMES)
        pytest.skip(f"no browser found ({wanted}): install chromium, or name one by CHROMIUM=/path/to/it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        # The UI asks for a width at which its buttons have their words.
        yield browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US", timezone_id="UTC")
        browser.close()
