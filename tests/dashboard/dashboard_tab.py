"""A tab of Chromium before the dashboard, and what must never happen in it.

What it knows: how to log in, and which events a page must not cause. What it does not do: start
anything (``conftest``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboard_world import ADMIN_KEY, World

if TYPE_CHECKING:
    from playwright.sync_api import Page

WATCH = """
window.violations = [];
window.turned = location.hash;
addEventListener("hashchange", () => { turned = location.hash; });
document.addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""
TURN = """(place) => new Promise((done) => {
  if (location.hash === place) done();
  addEventListener("hashchange", done, { once: true });
  location.hash = place;
})"""
SETTLED = """turned === location.hash && document.querySelector("main .page:not([aria-busy])") !== null"""
PHONE = {"width": 375, "height": 812}
WINDOW = {"width": 1280, "height": 900}


class Tab:
    """A tab of its own profile. What must never happen is collected: dialogs, calls of ``hit``, errors, other hosts."""

    def __init__(self, page: Page, world: World) -> None:
        self.page, self.world = page, world
        self.wrong: list[str] = []
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("request", self._request)
        page.expose_function("hit", lambda *told: self.wrong.append(f"hit: {told}"))
        page.add_init_script(WATCH)

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self.world.url):
            self.wrong.append(f"asked elsewhere: {request.url}")

    def open(self, place: str = "") -> Page:
        """The dashboard at a place such as ``episodes``, whoever is logged in."""
        self.page.goto(f"{self.world.url}/{place and '#/' + place}")
        return self.page

    def log_in(self, place: str = "") -> Page:
        page = self.open(place)
        page.get_by_label("Admin key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#nav:not([hidden])")
        return page

    def go(self, place: str) -> None:
        """To another place of the dashboard by its address."""
        self.page.evaluate(TURN, f"#/{place}")
        self.settled()

    def settled(self) -> None:
        """Until the page of the address is there and has what it asked for."""
        for _ in range(1000):
            if self.page.evaluate(SETTLED):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"not read: {self.page.url}")

    def calm(self) -> None:
        """Nothing happened that must not."""
        assert self.page.evaluate("window.violations") == []
        assert self.wrong == []
