"""The dashboard's figures against numbers worked out by hand, and that no answer reads for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_world import STUDENT, decision, exchange, shown

from potstill.measure.prices.table import PriceTable
from potstill.measure.statistics import wilson
from potstill.record.folding import fold_episode
from potstill.serve.admin import episode_steps
from potstill.serve.admin import figures_api as admin_figures
from potstill.serve.admin.figures_api import Figures
from potstill.serve.clients.json_http import Call, Refusal
from potstill.serve.settings import Gateway, Model, Route
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.trajectories.opening import open_store
from potstill.trajectories.store import Store
from potstill.types import Answerer, Decision, Outcome, Reason, Vote

TEACHER_USD = 900 * 2e-6 + 30 * 10e-6
"""gpt-6-sol: $2 and $10 a million tokens; 900 tokens are too few for its cache."""
STUDENT_USD = 900 * 0.1e-6 + 30 * 0.5e-6
PRICES = PriceTable.load()
SETTINGS = Gateway(
    models=(Model(name="big", upstream="cloud", model="gpt-6-sol"),),
    routes=(Route(name="support/auto", teacher="big"),),
)
NOON = 20_000 * 86_400 + 43_200.0


async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    file = tmp_path / "s.db"
    with open_store(
        request.getfixturevalue("postgres").url_for(file) if request.param == "postgres" else file
    ) as store:
        yield store


def figures(store: Store) -> Figures:
    return Figures(SETTINGS, store, at_once, lambda: NOON, PRICES)  # type: ignore[arg-type]


async def asked(handler: Any, *place: str, **query: str) -> Any:
    call = Call(method="GET", path="", query=query, headers={}, address="")
    named = dict(zip(("tenant", "episode"), place, strict=False))
    status, value = await handler(call, b"", None, **named)
    assert status == 200
    return value


def by_teacher(episode: str, goal: str, **fields: Any) -> Exchange:
    return exchange(episode, goal, "done", started_at=NOON - 60, **fields)


def by_student(episode: str, goal: str) -> Exchange:
    usage = {"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930}
    call = Upstream(
        model=STUDENT, upstream="near", answerer=Answerer.STUDENT, dialect="openai-chat", status=200, raw_usage=usage
    )
    agreed = Decision(answerer=Answerer.STUDENT, reason=Reason.AGREED, samples=3, votes=(Vote(key="a"),), agreement=1.0)
    return exchange(
        episode,
        goal,
        "done",
        model=STUDENT,
        started_at=NOON - 60,
        answerer=Answerer.STUDENT,
        decision=agreed,
        calls=(call,),
    )


def shadow(of: str, episode: str, *, acted: bool, agreed: bool) -> Exchange:
    """What the student would have done beside a request."""
    call = Upstream(
        model=STUDENT, upstream="near", answerer=Answerer.STUDENT, dialect="openai-chat", status=200, shadow=True,
        raw_usage={"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930},
    )  # fmt: skip
    return Exchange(
        namespace="team-a",
        episode_id=episode,
        route="support/auto",
        dialect="openai-chat",
        started_at=NOON - 59,
        calls=(call,),
        metadata={"shadow_of": of, "acted": acted, "agreed": agreed},
    )


async def test_spend_saving_and_rates_are_those_that_a_person_works_out(store: Store) -> None:
    store.record(
        [
            by_student("s1", "one"),
            by_student("s2", "two"),
            by_teacher("t1", "three", decision=decision("a", "b", "c")),
            by_teacher("t2", "four", request_id="r"),
            shadow("r", "t2", acted=True, agreed=True),
        ]
    )
    for episode, success in (("s1", True), ("s2", False), ("t1", True)):
        store.set_episode_outcome("team-a", episode, Outcome(success=success))
    told = await asked(figures(store).overview)
    assert told["episodes"] == 4
    assert told["spend"]["usd"] == pytest.approx(3 * STUDENT_USD + 2 * TEACHER_USD)
    assert {(row["asked"], row["calls"]) for row in told["spend"]["by"]} == {
        ("student", 2), ("teacher", 2), ("shadow", 1),
    }  # fmt: skip
    saving = told["saving"]
    assert saving["always_teacher_usd"] == pytest.approx(4 * TEACHER_USD)
    assert saving["usd"] == pytest.approx(2 * TEACHER_USD - 3 * STUDENT_USD)
    assert saving["usd_low"] <= saving["usd"] <= saving["usd_high"]
    assert (told["escalation"]["of"], told["escalation"]["n"]) == (1, 3)
    low, high = wilson(1, 3) or (0, 0)
    assert (told["escalation"]["low"], told["escalation"]["high"]) == (low, high)
    assert (told["agreement"]["of"], told["agreement"]["n"]) == (1, 1)
    points = {point["kind"]: point for point in told["points"]}
    assert points["cascade"]["known"] == 3
    assert points["cascade"]["success"] == pytest.approx(2 / 3)
    assert points["cascade"]["cost_of_pass_usd"] == pytest.approx((2 * STUDENT_USD + TEACHER_USD) / 2)
    assert points["teacher"]["cost_usd"] is None  # nobody said how it ended


async def test_yesterday_is_not_today_and_what_was_folded_counts_once(store: Store) -> None:
    store.record([by_teacher("old", "q", **{}), by_teacher("new", "q")])
    store.record([exchange("before", "q", "a", started_at=NOON - 90_000)])
    fold_episode(store, "team-a", "old")
    told = await asked(figures(store).overview)
    assert told["episodes"] == 2
    assert told["spend"]["calls"] == 2


async def test_a_call_without_a_price_is_told_and_never_a_zero(store: Store) -> None:
    store.record([by_teacher("x", "q", model="nobody-prices-this")])
    told = await asked(figures(store).overview)
    assert told["spend"]["unpriced"] == 1
    assert told["saving"]["usd"] is None
    assert told["saving"]["left_out"] == 1
    (row,) = (await asked(figures(store).episodes))["episodes"]
    assert row["usd"] is None


async def test_an_answer_stops_reading_and_the_next_one_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record([by_teacher(f"e{at}", f"goal {at}") for at in range(5)])
    monkeypatch.setattr(admin_figures, "FRESH_S", 0.0)
    monkeypatch.setattr(admin_figures, "REST", 0.0)
    monkeypatch.setattr(admin_figures, "READ_S", -1.0)
    held = figures(store)
    told = await asked(held.overview)
    assert (told["episodes"], told["unread"]) == (0, 5)
    assert len((await asked(held.episodes, limit="2"))["episodes"]) == 2
    monkeypatch.setattr(admin_figures, "READ_S", 60.0)
    told = await asked(held.overview)
    assert (told["episodes"], told["unread"]) == (5, 0)
    monkeypatch.setattr(admin_figures, "READ_S", -1.0)
    assert (await asked(held.overview))["unread"] == 0  # what was read is kept


async def test_no_more_than_so_many_episodes_are_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_figures, "EPISODES", 3)
    store.record([by_teacher(f"e{at}", f"goal {at}") for at in range(5)])
    told = await asked(figures(store).overview)
    assert (told["episodes"], told["all"]) == (3, False)


async def test_several_pages_cost_no_more_than_one(store: Store) -> None:
    store.record([by_teacher("e", "goal")])
    held, reads = figures(store), []
    held._figures = lambda *told: reads.append(told) or Figures._figures(held, *told)  # type: ignore[method-assign,func-returns-value]
    one, other = await asyncio.gather(asked(held.overview), asked(held.overview))
    assert one == other
    assert len(reads) == 1


async def test_a_search_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_figures, "LOOKED_AT", 4)
    monkeypatch.setattr(admin_figures, "PAGE", 2)
    store.record([by_teacher(f"e{at}", "needle" if at == 0 else f"hay {at}") for at in range(9)])
    for at in (1, 3, 5):
        fold_episode(store, "team-a", f"e{at}")
    held, cursor, found, pages = figures(store), None, [], 0
    while True:
        page = await asked(held.episodes, text="NEEDLE", limit="2", **({} if cursor is None else {"cursor": cursor}))
        found += [row["episode"] for row in page["episodes"]]
        pages += 1
        assert page["looked_at"] <= 4
        if (cursor := page["next"]) is None:
            break
    assert found == ["e0"]
    assert pages >= 3


async def test_a_step_tells_votes_demonstrations_and_each_calls_bill(store: Store) -> None:
    key = json.dumps([["find_order", '{"order": "A-1"}']])
    one = by_teacher("e", "goal", decision=decision(key, "[[", ""), demonstrations=(shown("t-9"),))
    store.record([one])
    told = await asked(figures(store).episode, "team-a", "e")
    (step,) = told["steps"]
    assert [vote["tool_calls"] for vote in step["decision"]["votes"]] == [
        [{"name": "find_order", "arguments": '{"order": "A-1"}'}], [], [],
    ]  # fmt: skip
    assert step["demonstrations"][0]["trajectory_id"] == "t-9"
    assert step["usd"] == told["usd"] == pytest.approx(TEACHER_USD)
    (call,) = step["calls"]
    assert (call["side"], call["usage"]["input_tokens"], call["prompt_messages"]) == ("teacher", 900, 1)
    assert "prompt" not in call
    whole = await asked(figures(store).episode, "team-a", "e", prompts_of="0")
    assert whole["step"]["calls"][0]["prompt"] == [{"role": "user", "content": "goal"}]
    for place, query in ((("team-b", "e"), {}), (("team-a", "e"), {"prompts_of": "1"})):
        with pytest.raises(Refusal, match=r"no such episode|has 1 steps"):
            await asked(figures(store).episode, *place, **query)


def test_a_long_text_is_cut_with_its_length() -> None:
    text = "x" * (episode_steps.MAX_CHARACTERS + 1)
    assert episode_steps.cut({"a": [text, "short", 1]})["a"][1:] == ["short", 1]
    assert episode_steps.cut(text).endswith(f"[cut: {len(text)} characters in all]")


async def test_a_search_for_nonsense_is_refused(store: Store) -> None:
    for query in ({"answerer": "x"}, {"limit": "0"}, {"limit": "1000"}, {"nobody": "1"}, {"cursor": "zzz"}):
        with pytest.raises(Refusal) as refused:
            await asked(figures(store).episodes, **query)
        assert refused.value.status == 400
