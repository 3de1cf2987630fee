"""Waste within one episode, by hand: what repeats, what loops, what comes after the last useful step."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.conversation import Thread, told
from potstill.logs.records import LogCall
from potstill.measure.audit.waste import (
    BLOATED,
    KINDS,
    LOOP,
    POSSIBLY,
    REDUNDANT,
    TRAILING,
    CacheRates,
    Cost,
    OpenEpisode,
)
from potstill.measure.ledger import Parts
from potstill.types import Usage

Message = dict[str, Any]
ONE = Cost(1.0)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def asks(tool: str, call_id: str = "c", **arguments: Any) -> Message:
    return {"role": "assistant", "tool_calls": [{"id": call_id, "function": {"name": tool, "arguments": arguments}}]}


def saw(text: str, call_id: str = "c") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def call(
    prompt: list[Message], answer: Any = None, tokens: int | None = 100, tools: Any = None, **more: Any
) -> LogCall:
    usage = None if tokens is None else Usage(input_tokens=tokens, output_tokens=10, cache_reported=True)
    fields = {"model": "m", "usage": usage, **more}
    return LogCall(**told(prompt, answer, tools=tools)._asdict(), **fields)


def episode(*turns: tuple[Message, str | None], final: str | None = "done") -> OpenEpisode:
    """An agent that calls a tool in each turn and is shown the text (None: the log ends), then a last answer."""
    state, thread = OpenEpisode(), Thread()
    thread.add(user("task"))
    for answer, shown in turns:
        state.add(LogCall(model="m", usage=Usage(input_tokens=100), **thread.call(answer)._asdict()), ONE, None)
        thread.add(answer)
        if shown is not None:
            thread.add(saw(shown))
    if final is not None:
        state.add(LogCall(model="m", usage=Usage(input_tokens=100), **thread.call(final)._asdict()), ONE, None)
    state.finish()
    return state


def marked(state: OpenEpisode, mark: int) -> list[int]:
    return [number for number, kind in enumerate(state.kinds) if kind & mark]


def test_a_call_is_redundant_only_if_it_was_shown_the_same_again() -> None:
    same = episode((asks("look", x=1), "rain"), (asks("go"), "ok"), (asks("look", x=1.0), "rain"))
    assert marked(same, REDUNDANT) == [2]
    assert same.wasted()[REDUNDANT] == (1, 100, 1.0)
    polled = episode((asks("look", x=1), "rain"), (asks("go"), "ok"), (asks("look", x=1), "sun"))
    assert not marked(polled, REDUNDANT | POSSIBLY)
    unseen = episode((asks("look", x=1), "rain"), (asks("look", x=1), None), final=None)
    assert marked(unseen, POSSIBLY) == [1]


def test_samples_of_one_step_are_no_repeats_and_only_the_one_acted_on_counts() -> None:
    state = OpenEpisode()
    start = [user("task")]
    for answer in (asks("a"), asks("b"), asks("a")):
        state.add(call(start, answer), ONE, None)
    then = [*start, asks("b"), saw("x")]
    state.add(call(then, asks("a")), ONE, None)
    state.add(call([*then, asks("a"), saw("y")], "done"), ONE, None)
    state.finish()
    assert state.wasted() == {}


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ("aaa", [1, 2]),
        ("aab", []),
        ("ababab", [2, 3, 4, 5]),
        ("abababa", [2, 3, 4, 5, 6]),
        ("ababa", []),
        ("abcdabcdabcd", [4, 5, 6, 7, 8, 9, 10, 11]),
        ("abcdeabcdeabcde", []),
    ],
)
def test_a_cycle_of_up_to_four_calls_three_times_in_a_row_is_a_loop(tools: str, expected: list[int]) -> None:
    state = episode(*((asks(tool), f"shown {n}") for n, tool in enumerate(tools)))
    assert marked(state, LOOP) == expected


def test_after_the_last_useful_step_one_final_answer_is_free() -> None:
    turns = [(asks("a"), "1"), (asks("b"), "2"), (asks("a"), "3"), (asks("b"), "4")]
    assert marked(episode(*turns), TRAILING) == [2, 3]
    assert marked(episode(*turns[:2]), TRAILING) == []
    assert marked(episode(), TRAILING) == []


def test_answers_to_a_user_who_writes_again_are_no_waste() -> None:
    state = OpenEpisode()
    history = [user("task"), asks("a"), saw("1")]
    state.add(call(history[:1], asks("a")), ONE, None)
    state.add(call(history, "done"), ONE, None)
    for text in ("and?", "thanks"):
        history = [*history, {"role": "assistant", "content": "done"}, user(text)]
        state.add(call(history, "done"), ONE, None)
    state.finish()
    assert state.wasted() == {}


def test_repeated_prefix_is_the_share_of_characters_that_was_sent_before() -> None:
    """10 + 12 characters, then 10 + 12 again behind them and an answer of 10: 22 of 66, so a third of 300 tokens."""
    first, state = user("x" * 10), OpenEpisode()
    state.add(call([first], "y" * 10), ONE, None)
    state.add(call([first, {"role": "assistant", "content": "y" * 10}, user("z" * 10)], tokens=300), ONE, None)
    assert state.repeated == pytest.approx(100)
    assert state.elsewhere == 0
    state.add(call([first], tokens=50, model="other"), ONE, None)
    assert state.repeated == pytest.approx(100)


def test_instructions_that_the_log_leaves_out_are_repeated_as_they_were_billed() -> None:
    """The log holds 22 characters of a prompt of 1,000 tokens: all of them come again in the next prompt."""
    first, state = user("x" * 10), OpenEpisode()
    state.add(call([first], "y" * 10, tokens=1000), ONE, None)
    state.add(call([first, {"role": "assistant", "content": "y" * 10}, user("z" * 10)], tokens=1050), ONE, None)
    assert state.repeated == pytest.approx(1000)


def test_what_stands_behind_a_change_is_repeated_elsewhere() -> None:
    state = OpenEpisode()
    state.add(call([user("at 10:01"), user("x" * 18)]), ONE, None)
    state.add(call([user("at 10:02"), user("x" * 18)], tokens=50), ONE, None)
    assert state.repeated == 0
    assert state.elsewhere == pytest.approx(50 * 30 / 50)


def test_other_tools_in_front_break_the_prefix() -> None:
    state = OpenEpisode()
    history = [user("x" * 100)]
    for name in "ab":
        state.add(call(history, tools=[{"name": name}]), ONE, None)
    assert state.repeated == 0
    assert state.elsewhere > 0


def test_the_saving_is_reading_less_writing_of_what_no_call_had_read() -> None:
    """Of 200 tokens half are repeated: 100 x (4 - 1) saved by reading, 100 x (5 - 4) paid to write them first."""
    rates = CacheRates(4.0, 1.0, 5.0, 64)
    state = OpenEpisode()
    prompt = [user("x" * 88)]
    state.add(call(prompt), ONE, rates)
    state.add(call([*prompt, user("y" * 88)], tokens=200), ONE, rates)
    assert state.saved_cached == pytest.approx(200)
    assert state.saved_laid_out == pytest.approx(200)
    short = OpenEpisode()
    for _ in range(2):
        short.add(call(prompt), ONE, CacheRates(4.0, 1.0, 5.0, 101))
    assert short.saved_cached == 0


def test_a_long_observation_costs_in_every_call_that_carries_it_at_the_rate_of_its_place() -> None:
    state = OpenEpisode(bloated=50)
    history = [user("u" * 28), asks("a"), saw("o" * 88)]
    parts = Parts(10.0, 1.0, 0.0, 0.0, None, "row")
    state.add(call(history[:1], asks("a")), Cost(1.0, parts), None)
    carrying = call(history, "and", tokens=None)
    total = sum(carrying.sizes) + 12 * 3
    for _ in range(2):
        usage = Usage(input_tokens=total, cache_read_tokens=total - 100, cache_reported=True)
        state.add(call(history, "and", usage=usage), Cost(1.0, parts), None)
    state.finish()
    found = state.wasted()[BLOATED]
    assert (found.times, found.tokens) == (1, pytest.approx(176))
    assert found.usd == pytest.approx(2 * 88 * 10.0 / 100)
    assert marked(state, BLOATED) == [1]


def test_what_is_unknown_stays_unknown() -> None:
    state = OpenEpisode()
    for _ in range(3):
        state.add(LogCall(model="m", tool_calls=(("a", 1),)), Cost(None), None)
    state.finish()
    assert marked(state, POSSIBLY) == [1, 2]
    assert math.isnan(state.wasted()[POSSIBLY].usd)
    assert math.isnan(state.wasted()[POSSIBLY].tokens)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=30), st.booleans())
def test_marks_never_count_a_call_twice_and_never_the_first(turns: list[tuple[str, str]], ends: bool) -> None:
    state = episode(*((asks(tool), shown) for tool, shown in turns), final="done" if ends else None)
    for mark in KINDS:
        calls = marked(state, mark)
        assert 0 not in calls
        if mark != BLOATED:
            wasted = state.wasted().get(mark)
            assert (wasted.times if wasted else 0) == len(calls)
            assert (wasted.usd if wasted else 0.0) == pytest.approx(len(calls))
    assert not set(marked(state, REDUNDANT)) & set(marked(state, POSSIBLY))
    assert state.repeated <= state.prompts
