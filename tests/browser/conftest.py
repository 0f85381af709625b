"""A real browser: Chromium, wherever it is installed."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

_PATIENCE_MS = 20_000  # of a machine that does much else
expect.set_options(timeout=_PATIENCE_MS)

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ["--headless", "--no-sandbox", "--disable-background-networking", "--disable-gpu"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """While it is open an event loop runs in this thread: what starts one needs another."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


# As few windows on a page as show all its parts: reading thousands of tokens by axe's rules takes
# a browser ten times as long.
FEW = ["--top-windows", "5", "--sample-windows", "5", "--negative-windows", "2"]
FEW += ["--detection-windows", "4", "--simulation-windows", "2", "--fuzzing-windows", "4"]
FEW += ["--corpus-windows", "200"]


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A page that must end without an error on its console, or a dialog."""
    yield from watched(browser)


def watched(browser: Browser, **options: object) -> Iterator[Page]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: _only_here(asked.url, wrong))
    yield page
    context.close()
    assert not wrong


def _only_here(url: str, wrong: list[str]) -> None:
    if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
        wrong.append(f"asked for {url}")
