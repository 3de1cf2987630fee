"""The report in a real Chromium, from disk: no errors, no requests, usable by keyboard, on a phone and in the dark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from terminal import potstill

from browser import Page, browser_page
from html_builders import COMMAND, audit
from potstill.measure.html import write

pytestmark = [pytest.mark.browser, pytest.mark.full]

OPEN_STEPS = (
    "[...document.querySelectorAll('.steps details')].map((step, at) => step.open ? at + 1 : 0).filter(Boolean)"
)
FOCUSED = "document.activeElement.parentElement.querySelector('.body')?.id"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report that was written to disk."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    hostile = "<img src=https://example.com/x.png onerror=alert(1)>"
    write(audit(prices_date="2026-11-01"), path, command=f"{COMMAND} {hostile}")
    return path.as_uri()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser_page() as opened:
        yield opened
        assert opened.messages == []


async def test_it_opens_from_disk_without_errors_and_asks_for_nothing_else(page: Page, report: str) -> None:
    await page.open(report)
    assert await page.evaluate("document.querySelector('h1').textContent") == "What the agent spent"
    assert await page.evaluate("document.images.length") == 0
    await page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.requests == [report]


async def test_the_page_itself_may_run_and_load_nothing_more(page: Page, report: str) -> None:
    await page.open(report)
    tried = """new Promise(done => {
      const script = document.createElement('script');
      script.textContent = 'window.escaped = true';
      document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
      document.body.append(script);
    })"""
    assert (await page.evaluate(tried)).startswith("script-src")
    assert await page.evaluate("window.escaped") is None
    assert len(page.messages) == 1
    assert "Content Security Policy" in page.messages.pop()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_the_page_is_never_wider_than_the_window(page: Page, report: str, width: int) -> None:
    await page.look(width=width)
    await page.open(report)
    await page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert await page.evaluate("window.innerWidth") == width
    shown = await page.evaluate(
        "[...document.querySelectorAll('#frontier-chart svg')].filter(svg => svg.getBoundingClientRect().width).length"
    )
    assert shown == 1
    smallest = await page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
        ".filter(Boolean))"
    )
    assert smallest >= 10


async def test_tables_scroll_inside_their_box_by_keyboard(page: Page, report: str) -> None:
    await page.look(width=390)
    await page.open(report)
    wide = "[...document.querySelectorAll('.scroll')].find(box => box.scrollWidth > box.clientWidth)"
    await page.evaluate(f"{wide}.focus()")
    for _ in range(3):
        await page.press("ArrowRight")
    await page.until(f"{wide}.scrollLeft > 0")


async def test_dark_mode_turns_page_and_charts(page: Page, report: str) -> None:
    seen = {}
    axis = "getComputedStyle(document.querySelector('svg .f-quiet')).fill"
    line = "getComputedStyle(document.querySelector('svg .s-c1')).stroke"
    for dark in (False, True):
        await page.look(width=1280, dark=dark)
        await page.open(report)
        seen[dark] = [await page.evaluate(expression) for expression in (PAPER, axis, line)]
    assert seen[False] == ["rgb(255, 255, 255)", "rgb(86, 91, 102)", "rgb(179, 71, 0)"]
    assert seen[True] == ["rgb(20, 22, 26)", "rgb(169, 175, 187)", "rgb(240, 147, 90)"]


async def test_steps_are_walked_through_by_keyboard(page: Page, report: str) -> None:
    await page.open(report)
    await page.evaluate("document.querySelector('.episode > summary').focus()")
    await page.press("Enter")
    assert await page.evaluate("document.querySelector('.episode').open") is True
    walked = []
    for key in ("j", "ArrowDown", "j", "j", "k", "ArrowUp", "Home", "End"):
        await page.press(key)
        walked.append(await page.evaluate(FOCUSED))
        # Only the step in focus is open.
        assert await page.evaluate(OPEN_STEPS) == [int(walked[-1].rsplit("-", 1)[1])]
    assert walked == [f"episode-1-step-{step}" for step in (1, 2, 3, 4, 3, 2, 1, 4)]
    await page.press("Enter")
    assert await page.evaluate(OPEN_STEPS) == []
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"


async def test_the_tab_key_reaches_the_skip_link_first_then_the_contents(page: Page, report: str) -> None:
    await page.open(report)
    reached = []
    for _ in range(3):
        await page.press("Tab")
        reached.append(await page.evaluate("document.activeElement.textContent"))
    assert reached == ["Skip to the figures", "Success and cost", "Spending"]


@pytest.mark.parametrize("script", [True, False])
async def test_a_link_from_a_figure_opens_the_step_it_is_about(page: Page, report: str, script: bool) -> None:
    await page.look(width=1280, script=script)
    await page.open(report)
    link = "document.querySelector('#waste a[href=\"#episode-1-step-3\"]')"
    x, y = await page.evaluate(
        f"{link}.scrollIntoView({{block: 'center'}}), (box => [box.x + 3, box.y + 3])({link}.getBoundingClientRect())"
    )
    await page.click(x, y)
    await page.until("location.hash === '#episode-1-step-3' && document.querySelector('.episode').open")
    assert await page.evaluate(OPEN_STEPS) == [3]
    top = "document.getElementById('episode-1-step-3').getBoundingClientRect().top"
    await page.until(f"0 <= {top} && {top} < 900")
    if script:
        await page.until(f"{FOCUSED} === 'episode-1-step-3'")


async def test_a_point_of_a_chart_leads_to_the_row_of_its_group(page: Page, report: str) -> None:
    await page.look(width=1280)
    await page.open(report)
    link = "document.querySelector('#frontier-chart svg.wide a[href=\"#group-2\"]:not([tabindex])')"
    x, y = await page.evaluate(
        f"{link}.scrollIntoView({{block: 'center'}}), (box => [box.x + box.width / 2, box.y + box.height / 2])"
        f"({link}.getBoundingClientRect())"
    )
    await page.click(x, y)
    await page.until("location.hash === '#group-2'")
    marked = "getComputedStyle(document.getElementById('group-2').closest('tr').firstElementChild).backgroundColor"
    await page.until(f"{marked} === 'rgb(253, 234, 223)'")


async def test_a_link_with_a_step_in_it_can_be_sent(page: Page, report: str) -> None:
    await page.open(f"{report}#episode-1-step-2")
    assert await page.evaluate(OPEN_STEPS) == [2]


async def test_every_control_and_chart_has_a_name(page: Page, report: str) -> None:
    await page.open(report)
    await page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    nodes = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    shown = [node for node in nodes if not node["ignored"]]
    roles = {node["role"]["value"] for node in shown}
    assert {"heading", "table", "columnheader", "rowheader", "region", "navigation", "main"} <= roles
    named = {node["name"]["value"] for node in shown if node["role"]["value"] == "group"}
    for title in ("Success over cost per episode ", "Success within a budget ", "Shares of dollars "):
        assert any(found.startswith(title) for found in named), title
    links = {node["name"]["value"] for node in shown if node["role"]["value"] == "link"}
    assert "gpt-4.1-mini #1: to its row" in links
    for node in shown:
        if node["role"]["value"] in ("image", "link", "region", "heading", "DisclosureTriangle", "navigation"):
            assert node["name"]["value"].strip(), node


async def test_the_command_writes_a_report_of_real_logs(page: Page, tmp_path: Path) -> None:
    rows = [
        {"task_id": f"t{task}", "model": model, "run": "a", "success": task % 10 < good, "cost_usd": cost,
         "input_tokens": 900, "cached_input_tokens": 300, "output_tokens": 40, "answer": "yes"}
        for model, good, cost in (("large", 9, 0.05), ("<b>small</b>", 7, 0.01))
        for task in range(30)
    ]  # fmt: skip
    log, target = tmp_path / "attempts.jsonl", tmp_path / "report.html"
    log.write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken\n")
    done = potstill("audit", str(log), "--html", str(target), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    await page.open(target.as_uri())
    text = await page.evaluate("document.body.innerText.replaceAll('\\u00a0', ' ')")
    for group in found["groups"]:
        assert group["model"] in text
        assert f"{100 * group['success']:.1f} %" in text
    # 27 of 30 successes for $1.50, and 21 of 30 for $0.30.
    assert "$0.0556" in text
    assert "$0.0143" in text
    assert "No break-even is drawn" in text
    assert "20.0 points less than large" in text
    assert f"potstill audit {log} --html {target} --json" in text
    assert "Skipped rows" in text


async def test_a_picture_of_it_is_not_empty(page: Page, report: str, tmp_path: Path) -> None:
    """Kept where ``--basetemp`` says, to be looked at."""
    for width in (390, 1280):
        for dark in (False, True):
            await page.look(width=width, dark=dark)
            await page.open(report)
            picture = await page.screenshot()
            (tmp_path / f"report-{width}-{'dark' if dark else 'light'}.png").write_bytes(picture)
            assert len(picture) > 50_000
