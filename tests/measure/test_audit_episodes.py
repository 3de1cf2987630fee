"""Figures of episodes add up, name examples that exist, and stay within bounded memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from potstill.logs.conversation import Thread
from potstill.logs.records import Attempt, LogCall, Source
from potstill.measure.audit.episodes import Episodes, step_type_of
from potstill.measure.audit.waste import CacheRates, Cost
from potstill.types import Usage

LOOK = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": "{}"}}]}


def price(call: LogCall) -> Cost:
    return Cost(None if call.usage is None else float(call.usage.input_tokens))


def rates(model: str, tokens: int) -> CacheRates | None:
    return CacheRates(1.0, 0.1, 1.0, 0) if model != "unpriced" else None


def calls(looks: int, tokens: int = 100, **more: Any) -> list[LogCall]:
    """An agent that looks so many times, is shown the same, and answers."""
    thread = Thread()
    thread.add({"role": "user", "content": "task"})
    usage = Usage(input_tokens=tokens, cache_read_tokens=10, output_tokens=5, cache_reported=True)
    made = []
    for n in range(looks + 1):
        answer: Any = LOOK if n < looks else "done"
        fields = {"model": "m", "usage": usage, "source": Source("log.jsonl", n + 1)} | more
        made.append(LogCall(**thread.call(answer)._asdict(), **fields))
        thread.add(LOOK)
        thread.add({"role": "tool", "tool_call_id": "1", "content": "nothing"})
    return made


def taken(*lengths: int, **options: Any) -> Episodes:
    episodes = Episodes(price, rates, **options)
    for number, looks in enumerate(lengths):
        for call in calls(looks):
            episodes.add(f"e{number}", call)
    episodes.finish()
    return episodes


def test_slices_add_up_and_count_episodes_once() -> None:
    episodes = taken(1, 4)
    (model,) = episodes.by_model()
    assert (model.name, model.usd, model.calls, model.episodes) == ("m", 700.0, 7, 2)
    assert (model.input_tokens, model.cached_input_tokens, model.output_tokens) == (700, 70, 35)
    by_type = {spend.name: spend for spend in episodes.by_step_type()}
    assert {name: (spend.calls, spend.usd, spend.episodes) for name, spend in by_type.items()} == {
        "look": (5, 500.0, 2),
        "answer": (2, 200.0, 2),
    }
    assert model.examples == ("e1", "e0")
    cache = episodes.cache()
    assert cache is not None
    assert (cache.input_tokens, cache.cached_tokens, cache.hit_rate) == (700, 70, pytest.approx(0.1))


def test_the_models_of_one_episode_are_told_apart() -> None:
    episodes = Episodes(price, rates)
    for number, call in enumerate(calls(3)):
        episodes.add("e", msgspec.structs.replace(call, model="st"[number % 2]))
    episodes.finish()
    found = [(spend.name, spend.calls, spend.usd, spend.output_tokens) for spend in episodes.by_model()]
    assert found == [("s", 2, 200.0, 10), ("t", 2, 200.0, 10)]
    assert [call.model for call in episodes.examples()[0].calls] == ["s", "t", "s", "t"]
    assert episodes.examples()[0].model == "s+t"


def test_waste_names_its_dearest_episodes_and_their_calls_are_marked() -> None:
    episodes = taken(1, 2, 5, 4, 3)
    waste = {one.kind: one for one in episodes.waste()}
    assert list(waste) == ["redundant_calls", "loops", "bloated_observations", "calls_after_last_useful_step"]
    redundant = waste["redundant_calls"]
    assert (redundant.count, redundant.episodes, redundant.usd) == (10, 4, 1000.0)
    assert redundant.share == pytest.approx(10 / 20)
    assert redundant.examples == ("e2", "e3", "e4")
    example = next(one for one in episodes.examples() if one.id == "e2")
    assert [bool(call.marks) for call in example.calls] == [False, True, True, True, True, False]
    assert (example.usd, example.file, example.line) == (600.0, "log.jsonl", 1)


def test_every_example_that_is_named_is_there_and_no_other() -> None:
    episodes = taken(*(n % 7 for n in range(1500)))
    figures = [*episodes.by_model(), *episodes.by_step_type(), *episodes.by_outcome(), *episodes.waste()]
    cache = episodes.cache()
    assert cache is not None
    named = {name for figure in [*figures, cache] for name in figure.examples}
    assert {example.id for example in episodes.examples()} == named
    assert len(named) < 40


def test_whole_attempts_bring_their_outcome() -> None:
    episodes = Episodes(price, rates)
    outcomes = [(True, None), (False, None), (None, "crashed"), (None, None)]
    for number, (success, error) in enumerate(outcomes):
        attempt = Attempt(task_id="t", model="m", success=success, error=error, calls=tuple(calls(number)))
        episodes.attempt(f"a{number}", attempt)
    episodes.finish()
    assert {one.name: one.calls for one in episodes.by_outcome()} == {
        "success": 1,
        "failure": 2,
        "error": 3,
        "unknown": 4,
    }
    example = next(one for one in episodes.examples() if one.id == "a0")
    assert (example.task_id, example.success) == ("t", True)


def test_unknown_dollars_and_tokens_are_unknown_and_not_zero() -> None:
    episodes = Episodes(price, rates)
    for call in calls(1, usage=None):
        episodes.add("e", call)
    episodes.finish()
    (model,) = episodes.by_model()
    assert (model.usd, model.input_tokens, model.share) == (None, None, None)
    assert episodes.cache() is None


def test_previews_are_bounded_and_unwatched_episodes_still_count() -> None:
    episodes = Episodes(price, rates, watched_calls=10)
    for number in range(50):
        for call in calls(2):
            episodes.add(f"e{number}", call)
    assert episodes._watched_calls <= 12
    episodes.finish()
    assert episodes.episodes == 50
    assert {example.id for example in episodes.examples()} <= {f"e{number}" for number in range(40, 50)}


def test_step_types() -> None:
    assert [step_type_of(call) for call in calls(1)] == ["look", "answer"]
    assert step_type_of(LogCall(model="m", error="RateLimited")) == "error"


def test_too_many_step_types_become_one() -> None:
    episodes = Episodes(price, rates)
    for number in range(700):
        episodes.add("e", LogCall(model="m", tool_calls=((f"tool {number}", 1),)))
    episodes.finish()
    by_type = {spend.name: spend.calls for spend in episodes.by_step_type()}
    assert len(by_type) == 501
    assert by_type["other tools"] == 200
