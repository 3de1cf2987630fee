"""A running gateway and a real Chromium before its dashboard, driven by Playwright with clicks and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from dashboard_tab import WINDOW, Tab
from dashboard_world import World

from browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def launched() -> Iterator[Browser]:
    """Module by module: Playwright's loop must not run on while other modules run theirs."""
    program = chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_tab(launched: Browser, world: World) -> Iterator[Callable[..., Tab]]:
    """``open_tab(viewport=PHONE, color_scheme="dark")``; afterwards nothing bad may have happened in any."""
    contexts, tabs = [], []

    def opened(**options: Any) -> Tab:
        contexts.append(launched.new_context(**{"viewport": WINDOW, "reduced_motion": "reduce", **options}))
        contexts[-1].set_default_timeout(60_000)
        tabs.append(Tab(contexts[-1].new_page(), world))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.calm()
    for context in contexts:
        context.close()


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()
