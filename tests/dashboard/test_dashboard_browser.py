"""The dashboard in a real Chromium before a real gateway: what an operator clicks, types and sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dashboard_tab import PHONE, Tab
from dashboard_world import ADMIN_KEY, World, decision, exchange, shown

from potstill.trajectories.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.full]
if TYPE_CHECKING:
    from playwright.sync_api import Page

NOTE = "retrieval took too long: the student was asked without demonstrations"
TABLE = "main table"
WRITTEN = ('{"a": 1, "b": [2]}', '{"order":12345678901234567890}', "{not json")
NUMBERS = [
    {"id": f"n{at}", "type": "function", "function": {"name": "count", "arguments": text}}
    for at, text in enumerate(WRITTEN)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    past = [
        exchange(
            "call-me-back",
            "Where is my parcel?",
            "It comes tomorrow.",
            decision=decision('{"order": "A-1"}', '{"order": "A-1"}', ""),
            demonstrations=(shown("traj-17"),),
            notes=(NOTE,),
            stage="live/cascade",
        ),
        exchange("numbers", "Count.", "", message={"role": "assistant", "content": None, "tool_calls": NUMBERS}),
        *(exchange("long", f"question {at}", f"answer {at}", messages=_talk(at)) for at in range(60)),
    ]
    world = World(tmp_path_factory.mktemp("dashboard"), past)
    for at in range(4):
        name = world.episode("Cancel my order" if at % 2 else "hard: two vouchers, which counts?")
        world.outcome(name, at != 0)
    world.outcome(
        world.episode("Open on Sunday?", model="gpt-6-sol", token=world.other_token), True, token=world.other_token
    )
    world.episode("A table for two", model="booking/shadowed")
    yield world
    world.close()


def _talk(turns: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = [{"role": "user", "content": "question 0"}]
    for at in range(turns):
        said += [{"role": "assistant", "content": f"answer {at}"}, {"role": "user", "content": f"question {at + 1}"}]
    return said


def rows(page: Page) -> list[str]:
    return page.locator(f"{TABLE} tbody tr").all_inner_texts()


# --- who gets in ------------------------------------------------------------------------------------------------------


def test_the_key_opens_it_and_lies_in_no_cookie(tab: Tab) -> None:
    page = tab.open("tenants")
    assert page.locator("#nav").is_hidden()
    page.get_by_label("Admin key").fill("wrong-horse-battery-1234-staple")
    page.get_by_role("button", name="Log in").click()
    assert "not this gateway's" in page.get_by_role("alert").inner_text(timeout=60_000)
    assert page.get_by_label("Admin key").input_value() == ""
    page.get_by_label("Admin key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="team-a").wait_for()  # the page that was asked for
    assert page.context.cookies() == []
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    page.reload()
    page.get_by_role("heading", name="team-a").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Admin key").wait_for()
    assert page.evaluate("JSON.stringify(sessionStorage)") == "{}"
    page.reload()
    page.get_by_label("Admin key").wait_for()


def test_another_sites_page_can_do_nothing_with_a_browser_that_is_logged_in(tab: Tab) -> None:
    tab.log_in()
    other = tab.page.context.new_page()
    other.goto(f"{tab.world.url}/healthz")  # any page of another tab: it has no key, and a form carries none
    body = json.dumps({"killed": True})
    sent = """(body) => fetch("/v1/potstill/kill-switch", {method: "POST", body}).then((answer) => answer.status)"""
    assert other.evaluate(sent, body) == 401
    assert tab.world.admin("GET", "status")["kill_switch"]["killed"] is False


# --- the overview -----------------------------------------------------------------------------------------------------


def test_the_overview_shows_what_the_admin_api_says(tab: Tab) -> None:
    page = tab.log_in()
    page.wait_for_selector("#spent")
    figures = tab.world.admin("GET", "figures")
    said = float(page.locator("#spent").inner_text().replace("$", ""))
    assert said == pytest.approx(figures["spend"]["usd"], rel=0.01)
    cards = page.locator("dl.cards").inner_text()
    assert re.search(r"95 %: −?\$[\d.]+ to \$[\d.]+", cards)
    escalation = figures["escalation"]
    assert f"{escalation['of']} of {escalation['n']} decisions went to the teacher" in cards
    assert page.locator("figure svg.wide").is_visible()
    label = page.locator("figure svg.wide").get_attribute("aria-label") or ""
    assert "support/auto, cascade: 75 % at $" in label
    text = " ".join(rows(page))
    assert "support/auto" in text
    assert "booking/shadowed" in text


def test_freeze_kill_and_release_a_route(tab: Tab) -> None:
    page = tab.log_in()
    row = page.locator(f"{TABLE} tr", has_text="search/rolled").first
    row.locator(".stage", has_text="shadow").wait_for()
    row.get_by_role("button", name="Freeze").click()
    page.locator("#confirm-no").click()
    assert _stage(tab, "search/rolled") == "shadow"
    row.get_by_role("button", name="Freeze").click()
    page.locator("#confirm-yes").click()
    row.locator(".stage", has_text="frozen").wait_for()
    assert _stage(tab, "search/rolled") == "frozen"
    row.get_by_role("button", name="Kill").click()
    page.locator("#confirm-yes").click()
    row.locator(".stage", has_text="killed").wait_for()
    assert _stage(tab, "search/rolled") == "killed"
    row.get_by_role("button", name="Release").click()
    page.locator("#confirm-yes").click()
    row.locator(".stage", has_text="shadow").wait_for()
    row.get_by_text("History").click()
    assert "kill" in row.inner_text()


def test_a_route_without_a_rollout_can_only_be_killed(tab: Tab) -> None:
    page = tab.log_in()
    row = page.locator(f"{TABLE} tr", has_text="support/auto").first
    row.locator(".stage", has_text="live").wait_for()
    assert row.get_by_role("button").all_inner_texts() == ["Kill"]


def _stage(tab: Tab, name: str) -> str:
    (found,) = [one for one in tab.world.admin("GET", "routes")["routes"] if one["name"] == name]
    return str(found["rollout"]["stage"])


def test_the_kill_switch_sends_everything_to_the_teacher_until_it_is_released(tab: Tab) -> None:
    page = tab.log_in()
    page.locator("#kill-switch").click()
    page.locator("#confirm-yes").click()
    page.get_by_text("The kill switch is on.").wait_for()
    try:
        assert page.get_by_text("kill switch: the teacher answers").count() == 3
        assert tab.world.admin("GET", "status")["kill_switch"]["killed"] is True
        name = tab.world.episode("Where is my order, again?")
        answered = tab.world.admin("GET", f"figures/episodes/team-a/{name}")["answered"]
        assert answered == {"teacher": 3}
    finally:
        page.locator("#kill-switch").click()
        page.locator("#confirm-yes").click()
    page.get_by_text("The kill switch is off.").wait_for()
    assert tab.world.admin("GET", "status")["kill_switch"]["killed"] is False


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_search_and_filter_episodes(tab: Tab) -> None:
    page = tab.log_in("episodes")
    page.get_by_role("searchbox").fill("VOUCHERS")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=VOUCHERS*")
    tab.settled()
    assert len(found := rows(page)) == 2
    assert all("two vouchers" in one for one in found)
    page.get_by_role("searchbox").fill("")
    page.locator("select[name=tenant]").select_option("team-b")
    page.wait_for_url("**tenant=team-b*")
    tab.settled()
    assert ["Open on Sunday?" in one for one in rows(page)] == [True]
    page.locator("select[name=tenant]").select_option("")
    page.locator("select[name=outcome]").select_option("failure")
    page.wait_for_url("**outcome=failure*")
    tab.settled()
    assert ["failed" in one for one in rows(page)] == [True]
    page.locator("select[name=answerer]").select_option("student")
    page.wait_for_url("**answerer=student*")
    tab.settled()
    assert "No episode matches." in page.locator("#found").inner_text()
    page.go_back()
    tab.settled()
    assert page.locator("select[name=outcome]").input_value() == "failure"
    assert len(rows(page)) == 1


def test_an_episode_step_by_step(tab: Tab) -> None:
    page = tab.log_in("episodes?text=call-me-back")
    page.get_by_role("link", name="Where is my parcel?").click()
    step = page.locator("li.step")
    step.wait_for()
    text = step.inner_text()
    for said in (
        "Where is my parcel?",
        "It comes tomorrow.",
        "disagreed",
        "33 % of 3 votes agree",
        "2 of 3",
        "no valid action",
    ):
        assert said in text
    assert "gpt-6-sol" in text
    assert "traj-17" in text
    assert NOTE in page.get_by_role("list", name="Notes").inner_text()
    call = step.locator("tbody tr").inner_text()
    assert "900" in call
    assert "$0.0021" in call  # 900 tokens at $2 and 30 at $10 a million
    assert page.locator("#episode-cost").inner_text() == "$0.0021"
    step.get_by_role("button", name="Show prompts").click()
    step.get_by_text("Prompt of call 1, 1 message").wait_for()
    assert step.locator(".tool", has_text="user").inner_text().count("Where is my parcel?") == 1


def test_a_long_episode_comes_in_parts(tab: Tab) -> None:
    page = tab.log_in("episode/team-a/long")
    page.locator("li.step").first.wait_for()
    assert page.locator("li.step").count() == 50
    page.locator("#more").click()
    page.get_by_role("heading", name="Step 60").wait_for()
    assert page.locator("li.step").count() == 60
    assert page.locator("#more").count() == 0


def test_label_an_outcome_with_one_click(tab: Tab) -> None:
    page = tab.log_in("episode/team-a/call-me-back")
    page.get_by_role("button", name="Failed").click()
    page.locator("#outcome-said", has_text="a person: failed").wait_for()
    assert page.get_by_role("button", name="Failed").get_attribute("aria-pressed") == "true"
    assert _outcome(tab, "call-me-back") == (False, "human", "")
    page.get_by_label("Comment").fill("it came on Tuesday")
    page.get_by_role("button", name="Succeeded").click()
    page.locator("#outcome-said", has_text="it came on Tuesday").wait_for()
    assert page.locator(".chips .outcome").inner_text() == "succeeded"
    assert _outcome(tab, "call-me-back") == (True, "human", "it came on Tuesday")
    page.reload()
    page.locator("#outcome-said", has_text="it came on Tuesday").wait_for()


def _outcome(tab: Tab, episode: str) -> tuple[bool | None, str, str]:
    """As the store has it: with the episode while that goes on, in the trajectory once it was folded."""
    with Store.read(tab.world.db) as store:
        known = store.episode("team-a", episode)
        found = known.outcome
        if found is None and known.trajectory_id is not None:
            found = store.get(known.trajectory_id, namespace="team-a").outcome
    assert found is not None
    return found.success, found.source.value, found.detail


def test_an_episode_that_is_not_there_says_so(tab: Tab) -> None:
    page = tab.log_in("episode/team-a/nobody")
    assert "There is no such episode of this tenant." in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("alert").wait_for()


def test_arguments_are_shown_as_they_were_written_where_reading_would_change_them(tab: Tab) -> None:
    page = tab.log_in("episode/team-a/numbers")
    tools = page.locator("li.step .tool pre")
    tools.first.wait_for()
    assert tools.all_inner_texts()[:3] == ['{ "a": 1, "b": [ 2 ] }', '{"order":12345678901234567890}', "{not json"]


def test_a_gateway_that_does_not_answer_is_told_and_asked_again(tab: Tab) -> None:
    page = tab.log_in("live")
    page.locator("#live-state", has_text="listening").wait_for()
    page.route("**/v1/potstill/**", lambda route: route.abort())
    tab.go("overview")
    assert "cannot be reached" in page.get_by_role("alert").inner_text()
    tab.go("live")
    page.locator("#live-state", has_text="not connected").wait_for()
    page.unroute_all()
    page.locator("#live-state", has_text="listening").wait_for()
    page.locator(f"{TABLE} tbody tr").first.wait_for()
    tab.go("overview")
    page.wait_for_selector("#spent")


# --- tenants, the tail ------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_at_once(tab: Tab) -> None:
    made = tab.world.admin("POST", "keys", {"tenant": "team-c", "name": "to go", "budget_usd_per_day": 3})
    assert tab.world.chat("gpt-6-sol", [{"role": "user", "content": "hi"}], token=made["text"])[0] == 200
    page = tab.log_in("tenants")
    panel = page.locator("section.tenant", has_text="team-c")
    panel.wait_for()
    assert "$3.00" in panel.inner_text()
    panel.get_by_role("button", name="Revoke").click()
    assert "to go" in page.locator("#confirm-text").inner_text()
    page.locator("#confirm-yes").click()
    panel.get_by_text("revoked", exact=True).wait_for()
    assert tab.world.chat("gpt-6-sol", [{"role": "user", "content": "hi"}], token=made["text"])[0] == 401
    assert made["text"] not in page.content()


def test_the_tail_shows_a_call_as_it_is_recorded_and_pauses(tab: Tab) -> None:
    page = tab.log_in("live")
    page.locator(f"{TABLE} tbody tr").first.wait_for()
    name = tab.world.episode("Is my order lost?")
    page.get_by_role("link", name=name).first.wait_for()
    assert page.get_by_role("link", name=name).count() == 3
    page.get_by_role("button", name="Pause").click()
    page.locator("#live-state", has_text="paused").wait_for()
    later = tab.world.episode("And now?")
    page.wait_for_timeout(1200)
    assert page.get_by_role("link", name=later).count() == 0
    page.keyboard.press("p")
    page.get_by_role("link", name=later).first.wait_for()
    page.get_by_role("link", name=later).first.click()
    page.get_by_role("heading", name="And now?").wait_for()


# --- how it looks and is reached --------------------------------------------------------------------------------------

SMALL = """[...document.querySelectorAll("main button, main select, main input, header a, header button")]
  .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"""
"""Less than WCAG 2.5.8 asks of what is tapped."""
PLACES = ("overview", "episodes", "live", "playbooks", "tenants", "episode/team-a/call-me-back", "episode/team-a/long")


def test_nothing_is_wider_than_a_phone(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(viewport=PHONE, is_mobile=True, has_touch=True)
    for page in _pages(tab):
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], page.url
        assert page.evaluate(SMALL) == []


def _pages(tab: Tab) -> Iterator[Page]:
    """Every page of the dashboard, read."""
    tab.log_in()
    for place in PLACES:
        tab.go(place)
        tab.page.locator("main h1").wait_for()
        yield tab.page


def test_dark_follows_the_system_until_one_is_chosen(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(color_scheme="dark")
    page = tab.log_in()
    assert _lightness(page) < 60
    theme = page.locator("#theme")
    theme.click()
    assert theme.inner_text() == "Theme: light"
    assert _lightness(page) > 200
    page.reload()
    page.wait_for_selector("#spent")
    assert _lightness(page) > 200
    page.keyboard.press("d")
    assert theme.inner_text() == "Theme: dark"
    page.emulate_media(color_scheme="light")
    assert _lightness(page) < 60


def _lightness(page: Page) -> int:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(re.findall(r"\d+", colour)[0])


def test_without_a_mouse(tab: Tab) -> None:
    page = tab.open()
    page.get_by_label("Admin key").wait_for()
    page.keyboard.type(ADMIN_KEY)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#spent")
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keyboard").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.wait_for_selector("input[type=search]:focus")
    page.keyboard.type("call-me-back")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=call-me-back*")
    tab.settled()
    page.keyboard.press("j")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator("li.step").wait_for()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Step 1, teacher"
    page.get_by_role("button", name="Not known").focus()
    page.keyboard.press("Space")
    page.locator("#outcome-said", has_text="not known").wait_for()
    page.keyboard.press("u")
    page.wait_for_url("**#/episodes")
    page.keyboard.press("t")
    page.get_by_role("heading", name="team-a").wait_for()


def test_letters_do_nothing_where_shortcuts_are_off(tab: Tab) -> None:
    page = tab.log_in()
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Single letters are shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.wait_for_timeout(200)
    assert "#/episodes" not in page.url
    page.get_by_role("link", name="Live").click()
    page.locator("#live-state").wait_for()


NAMELESS = """[...document.querySelectorAll("button, a, input, select")].filter((one) => {
  if (!one.offsetParent) return false;
  const labels = [...(one.labels ?? [])].map((label) => label.textContent).join("");
  return !(one.getAttribute("aria-label") || one.textContent.trim() || labels);
}).map((one) => one.outerHTML)"""
LEVELS = "[...document.querySelectorAll('main :is(h1, h2, h3, h4)')].map((one) => Number(one.tagName[1]))"


def test_everything_that_is_pressed_has_a_name_and_headings_do_not_skip(tab: Tab) -> None:
    for page in _pages(tab):
        assert page.evaluate(NAMELESS) == []
        levels = page.evaluate(LEVELS)
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels)), page.url


def test_screenshots_of_every_page(open_tab: Callable[..., Tab], tmp_path: Path) -> None:
    """They differ between light and dark, and none is blank."""
    for scheme in ("light", "dark"):
        tab = open_tab(color_scheme=scheme)
        page = tab.log_in()
        page.wait_for_selector("#spent")
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    sizes = [(tmp_path / f"{scheme}.png").read_bytes() for scheme in ("light", "dark")]
    assert sizes[0] != sizes[1]
    assert min(len(one) for one in sizes) > 20_000
