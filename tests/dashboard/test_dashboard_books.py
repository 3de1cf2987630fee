"""The dashboard's playbooks in a real Chromium: found by route and tenant, read bullet by bullet, on any screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dashboard_tab import PHONE, Tab
from dashboard_world import SETTINGS, World

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Pin, Quarantine, Stage, Tag
from potstill.trajectories.opening import open_store
from potstill.types import Outcome, OutcomeSource, PlaybookUse, Task, Trajectory, TrajectoryKind

pytestmark = [pytest.mark.browser, pytest.mark.full]
TOLD = (
    "Ask for the order's number before you look anything up.",
    "Promise no day of delivery that the carrier has not named.",
    "A voucher counts once for each order; the larger one of two is taken.",
    "Refunds above 200 euros go to a person.",
)
ROUTE = '\n[routes."support/auto".playbook]\nname = "house rules"\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("books")
    _teach(folder / "gateway.db")
    world = World(folder, (), SETTINGS + ROUTE)
    yield world
    world.close()


def _teach(db: Path) -> None:
    """In 200 trials b-1 is proven to help and b-2 to harm; 130 bullets in all."""
    with open_store(db) as store:
        book = Playbook(store, "team-a", "house rules")
        more = [f"Shelf {n} holds parcels of row {n + 7}." for n in range(126)]
        adds = [Add(section="strategies", content=text, stage=Stage.LIVE) for text in (*TOLD, *more)]
        book.apply(Batch(operations=tuple(adds), actor="ana"))
        changes = (Tag(id="b-1", helpful=12, harmful=1), Pin(id="b-3"), Quarantine(id="b-4"))
        book.apply(Batch(operations=changes, actor="ana"))
        for number in range(200):
            shown = [id for bit, id in ((1, "b-1"), (2, "b-2")) if number & bit]
            withheld = tuple(sorted({"b-1", "b-2"} - set(shown)))
            use = PlaybookUse(name=book.name, revision=1, shown=tuple(shown), withheld=withheld, trial=True)
            done = Outcome(success="b-1" in shown or number % 8 == 0, source=OutcomeSource.ENVIRONMENT)
            task = Task(id=f"task-{number}", environment="gateway")
            kind = TrajectoryKind.STUDENT
            store.append(
                Trajectory(id=f"t-{number}", namespace="team-a", task=task, kind=kind, outcome=done, playbook=use)
            )


def opened(tab: Tab) -> None:
    """The book of team-a, its help measured."""
    tab.go("playbooks/team-a/house%20rules")
    tab.page.locator("main table", has_text="200 trials").wait_for()


def test_a_book_is_found_by_its_route_and_read(tab: Tab) -> None:
    page = tab.log_in()
    page.locator("#spent").wait_for()
    page.keyboard.press("b")
    page.get_by_role("heading", name="support/auto").wait_for()
    page.get_by_role("link", name="team-a").click()
    page.locator("main table", has_text="200 trials").wait_for()
    first, second, third, fourth = page.locator("main tbody tr").all_inner_texts()[:4]
    assert [part for part in (TOLD[0], "12 / 1", "live", "strategies", " to +") if part not in first] == []
    assert " to \u2212" in second, "its interval lies below zero"
    assert [part for part in ("pinned", "no trial") if part not in third] == []
    assert "quarantined" in fourth
    assert page.locator("main button").count() == 0, "nothing is changed here"
    page.get_by_role("link", name="Next").click()
    page.get_by_text("101 to 130 of 130").wait_for()
    assert "b-101" in page.locator("main tbody tr").first.inner_text()
    page.keyboard.press("u")
    page.get_by_role("heading", name="Playbooks").wait_for()


@pytest.mark.parametrize("place", ["playbooks", "playbooks/team-a/house%20rules"])
def test_no_page_of_it_is_wider_than_a_phone(open_tab: Callable[..., Tab], place: str) -> None:
    tab = open_tab(viewport=PHONE, is_mobile=True, has_touch=True)
    page = tab.log_in()
    tab.go(place)
    page.locator("main table").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_book_that_is_not_there_is_said(tab: Tab) -> None:
    page = tab.log_in()
    tab.go("playbooks/team-a/other")
    assert "no such playbook" in page.get_by_role("alert").first.inner_text()
