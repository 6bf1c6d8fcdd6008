"""A browser for the page and reports to draw. A missing tool fails in CI and skips elsewhere, naming the remedy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from page_driver import Opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def missing(what: str, remedy: str) -> None:
    """Fails in CI, skips elsewhere."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{what} is missing: {remedy}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        missing("chromium", "apt-get install chromium")
    with playwright.sync_playwright() as session:
        chromium = session.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    pages: list[Page] = []

    def open_(html: str, **options: Any) -> Opened:
        options.setdefault("viewport", {"width": 1440, "height": 900})
        page = browser.new_page(**options)
        pages.append(page)
        result = Opened(page, tmp_path)
        result.open(html)
        return result

    yield open_
    for page in pages:
        page.close()
