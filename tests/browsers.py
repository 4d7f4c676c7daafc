"""Debian's Chromium for tests of what has a page, driven by Playwright."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: A page may ask this machine and nobody else; and the browser itself asks nobody.
ARGUMENTS = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--disable-gpu")


# Not for the whole session: while Playwright's loop lives, no asyncio.run() of another module could begin one.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """One Chromium for the tests of a module; each makes a page of its own: ``browser.new_page()``."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if (program := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()
