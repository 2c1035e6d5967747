"""A headless Chromium for tests of pages: selenium with the system's chromium and chromedriver; none is downloaded."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from programs import require_program
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def chromium(profile: Path, *, dark: bool = False, size: str = "1360x1000") -> Iterator[Chrome]:
    """Ended when the block is left. profile: a directory of its own. size: of the window, in pixels."""
    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = ChromeOptions()
    options.binary_location = require_program("chromium")
    for switch in (*_SWITCHES, f"--user-data-dir={profile}", f"--window-size={size.replace('x', ',')}"):
        options.add_argument(switch)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(require_program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
