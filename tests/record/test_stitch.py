"""Calls without ids find their episode: by answer, by prefix, by root; equal beginnings are told apart."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.conversation import told
from potstill.logs.records import LogCall
from potstill.record.stitch import Placed, Stitcher

Message = dict[str, Any]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def call(*prompt: Message, answer: str | None = None, at: float | None = None, **more: Any) -> LogCall:
    conversation = told([{"role": "system", "content": "help"}, *prompt], None if answer is None else said(answer))
    return LogCall(model=more.pop("model", "m"), started_at=at, **conversation._asdict(), **more)


def test_a_named_episode_is_kept_apart_by_run() -> None:
    stitcher = Stitcher()
    calls = [call(user("a"), run=run, episode_id="7") for run in ("x", "y", "x")] + [call(user("a"), episode_id="7")]
    assert [stitcher.episode_of(one) for one in calls] == ["x/7", "y/7", "x/7", "7"]
    slashes = [call(run="a", episode_id="b/c"), call(run="a/b", episode_id="c")]
    assert len({stitcher.episode_of(one) for one in slashes}) == 2
    assert stitcher.placed[Placed.BY_ID] == 6


def test_equal_beginnings_are_told_apart_by_their_answers() -> None:
    stitcher = Stitcher()
    first = stitcher.episode_of(call(user("q"), answer="one"))
    second = stitcher.episode_of(call(user("q"), answer="two"))
    assert first != second
    assert stitcher.episode_of(call(user("q"), said("two"), user("go"), answer="x")) == second
    assert stitcher.episode_of(call(user("q"), said("one"), user("go"), answer="x")) == first


def test_equal_answers_are_continued_first_come_first_served() -> None:
    stitcher = Stitcher()
    keys = [stitcher.episode_of(call(user("q"), answer="same", at=float(n), latency_s=0.5)) for n in range(2)]
    then = [stitcher.episode_of(call(user("q"), said("same"), user("go"), answer="x", at=2.0 + n)) for n in range(2)]
    assert then == keys


def test_a_repeat_in_mid_episode_stays_and_the_first_prompt_again_is_new() -> None:
    stitcher = Stitcher()
    key = stitcher.episode_of(call(user("q"), answer="a", at=0.0))
    step = [user("q"), said("a"), user("go")]
    votes = [
        stitcher.episode_of(call(*step, answer=answer, at=1.0, model=m)) for answer, m in zip("xyz", "sst", strict=True)
    ]
    assert votes == [key] * 3
    assert stitcher.placed[Placed.REPEAT] == 2
    assert stitcher.episode_of(call(*step, said("y"), user("on"), answer="b", at=2.0)) == key
    assert stitcher.episode_of(call(user("q"), answer="a", at=3.0)) != key


def test_a_first_prompt_that_failed_is_tried_again_within_a_minute() -> None:
    stitcher = Stitcher()
    key = stitcher.episode_of(call(user("q"), error="RateLimited", at=0.0))
    assert stitcher.episode_of(call(user("q"), answer="a", at=30.0)) == key
    other = stitcher.episode_of(call(user("p"), error="RateLimited", at=0.0))
    assert stitcher.episode_of(call(user("p"), answer="a", at=90.0)) != other


def test_a_changed_answer_is_found_by_the_prompt_before_it_and_its_length() -> None:
    stitcher = Stitcher()
    short = stitcher.episode_of(call(user("q"), answer="no", at=0.0))
    long = stitcher.episode_of(call(user("q"), answer="a long answer with  two spaces", at=0.1))
    assert stitcher.episode_of(call(user("q"), said("a long answer with two spaces"), user("go"), at=1.0)) == long
    assert stitcher.episode_of(call(user("q"), said("No"), user("go"), at=1.1)) == short


def test_a_truncated_context_goes_to_the_episode_whose_last_message_it_holds() -> None:
    stitcher = Stitcher()
    keys = []
    for name in "ab":
        keys.append(stitcher.episode_of(call(user("q"), answer=name, at=0.0)))
        stitcher.episode_of(call(user("q"), said(name), user(f"see {name}"), answer=f"then {name}", at=1.0))
    cut = call(user("q"), said("..."), user("see a"), said("then a"), user("go"), at=2.0)
    assert stitcher.episode_of(cut) == keys[0]
    assert stitcher.placed[Placed.BY_ROOT] == 1


def test_another_system_prompt_is_another_episode_and_no_prompt_is_alone() -> None:
    stitcher = Stitcher()
    main = stitcher.episode_of(call(user("q"), answer="a"))
    agent = told([{"role": "system", "content": "search"}, user("q")], said("found"))
    assert stitcher.episode_of(LogCall(model="m", **agent._asdict())) != main
    assert stitcher.episode_of(LogCall(model="m")) != stitcher.episode_of(LogCall(model="m"))
    assert stitcher.placed == {Placed.NEW: 2, Placed.ALONE: 2}


def test_what_is_idle_is_forgotten_and_told_and_one_wild_clock_closes_nothing() -> None:
    dropped: list[str] = []
    stitcher = Stitcher(idle_s=100.0, on_drop=dropped.append)
    key = stitcher.episode_of(call(user("q"), answer="a", at=0.0))
    stitcher.episode_of(call(user("wild"), at=9e9))
    assert stitcher.episode_of(call(user("q"), said("a"), user("go"), answer="b", at=50.0)) == key
    for n in range(2):
        stitcher.episode_of(call(user(f"later {n}"), at=200.0))
    assert dropped == ["stitched-2", key]
    assert stitcher.episode_of(call(user("q"), said("a"), user("go"), said("b"), user("on"), at=201.0)) != key


def test_the_number_of_open_episodes_and_of_their_hashes_is_bounded() -> None:
    dropped: list[str] = []
    stitcher = Stitcher(max_episodes=10, on_drop=dropped.append)
    for n in range(100):
        stitcher.episode_of(call(user(f"q{n}"), answer="a"))
        stitcher.episode_of(call(user("same"), answer="a", episode_id=str(n)))
    assert len(dropped) == 180
    history = [user("long")]
    for n in range(200):
        assert stitcher.episode_of(call(*history, answer=str(n))) == "stitched-101"
        history += [said(str(n)), user("go")]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_interleaved_episodes_come_apart_where_their_answers_differ(order: list[int], beginnings: list[int]) -> None:
    """Four episodes, some with the same first prompt, their calls in any order."""
    stitcher = Stitcher()
    histories = [[user(f"task {start}")] for start in beginnings]
    keys: dict[int, str] = {}
    for number in order:
        history = histories[number]
        answer = f"{len(history)} of {number}"
        assert keys.setdefault(number, stitcher.episode_of(call(*history, answer=answer))) is not None
        history += [said(answer), user("go")]
    assert len(set(keys.values())) == len(set(order)) == stitcher.stitched
