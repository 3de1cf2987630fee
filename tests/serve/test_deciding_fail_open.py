"""Whatever is not the teacher may fail: the teacher answers, and a note says why."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from deciding_builders import Clock, FakeAsk, Rig, call, prompt, route, turn_call, turn_output, turn_user

from potstill.errors import (
    ContextOverflow,
    KeyRefused,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    StoreError,
    Untranslatable,
)
from potstill.serve.rollout.stages import MemoryState
from potstill.serve.settings import Cascade, Context, Mode
from potstill.types import Reason

FAILURES = [
    ModelTimeout("slow"),
    ModelUnavailable("connection refused"),
    RateLimited("429"),
    KeyRefused("401"),
    ContextOverflow("too long"),
    Untranslatable("document at messages[2]"),
    RuntimeError("a bug"),
    KeyError("a bug too"),
]


@pytest.mark.parametrize("mode", [Mode.CASCADE, Mode.STUDENT])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: type(one).__name__)
async def test_a_student_that_fails_is_the_teachers_turn(failure: Exception, mode: Mode) -> None:
    failed: list[str] = []
    rig = Rig(FakeAsk(failure), route(mode), failed=failed.append)
    decided = await rig.decide()
    assert decided.answer is None
    assert decided.decision is not None
    assert decided.decision.reason is Reason.STUDENT_FAILED
    assert type(failure).__name__ in decided.notes[0]
    assert decided.calls[0].error is not None
    assert decided.calls[0].error.kind == type(failure).__name__
    assert (decided.calls[0].upstream, decided.calls[0].dialect) == ("near", "openai-chat")
    assert failed == ["student"]
    assert rig.decider.decided == {("auto", "teacher", "student-failed"): 1}
    assert rig.decider.asked == {("auto", "teacher"): 1}


async def test_a_slow_student_is_not_waited_for() -> None:
    rig = Rig(FakeAsk(call("look"), delay_s=30.0), route(cascade=Cascade(deadline_s=0.02)))
    decided = await rig.decide()
    assert decided.answer is None
    assert "no answer within 0.02 s" in decided.notes[0]


async def test_too_few_samples_are_no_vote() -> None:
    class Short(FakeAsk):
        async def ask(self, model: Any, prompt: Any, *, n: int = 1, **more: Any) -> Any:
            return await super().ask(model, prompt, n=n - 1, **more)

    decided = await Rig(Short(call("look")), route()).decide()
    assert decided.answer is None
    assert "2 of 3 samples" in decided.notes[0]
    assert len(decided.calls) == 1


async def test_a_client_that_leaves_cancels_the_students_work() -> None:
    ask = FakeAsk(call("look"), delay_s=30.0)
    task = asyncio.create_task(Rig(ask, route()).decide())
    await ask.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class BrokenState(MemoryState):
    """A store that can be taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def get_state(self, kind: str, key: str) -> tuple[int, Any] | None:
        if self.broken:
            raise StoreError("disk gone")
        return super().get_state(kind, key)

    def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool:
        if self.broken:
            raise StoreError("disk gone")
        return super().put_state(kind, key, value, expected_version)


async def test_without_the_store_the_teacher_answers_once_the_state_is_old() -> None:
    clock, store = Clock(), BrokenState()
    rig = Rig(FakeAsk(call("look")), route(), store=store, clock=clock)
    assert (await rig.decide()).answer is not None
    store.broken = True
    clock.now += 1.0
    assert (await rig.decide(episode="e2")).answer is not None, "a second without the store changes nothing"
    clock.now += 10.0
    decided = await rig.decide(episode="e3")
    assert decided.answer is None
    assert "could not be read" in decided.notes[0]
    assert await rig.decider.stages.tick() is False
    store.broken = False
    await rig.decider.stages.tick()
    assert (await rig.decide(episode="e3")).answer is not None


async def test_a_store_that_hangs_holds_up_one_attempt_and_not_every_request() -> None:
    released = threading.Event()

    class Hanging(MemoryState):
        reads = 0

        def get_state(self, kind: str, key: str) -> tuple[int, Any] | None:
            self.reads += 1
            released.wait(60)
            return super().get_state(kind, key)

    store = Hanging()
    rig = Rig(FakeAsk(call("look")), route(), store=store)
    first = await asyncio.gather(*(rig.decide(episode=f"e{number}", ready=False) for number in range(50)))
    assert {decided.answer for decided in first} == {None}
    assert store.reads == 1
    assert (await rig.decide(ready=False)).answer is None, "and the next second nobody waits at all"
    assert store.reads == 1
    released.set()
    assert await rig.decider.stages.refresh(within_s=60.0)
    assert (await rig.decide(episode="new")).answer is not None


async def test_an_error_that_no_store_should_raise_is_the_teachers_turn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryState()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("in a driver")

    monkeypatch.setattr(store, "get_state", broken)
    rig = Rig(FakeAsk(call("look")), route(), store=store)
    assert (await rig.decide()).answer is None
    assert rig.decider.stages.failures >= 1


async def test_a_store_that_was_never_there_does_not_stop_the_start() -> None:
    store = BrokenState()
    store.broken = True
    rig = Rig(FakeAsk(call("look")), route(), store=store)
    await rig.decider.start()
    assert (await rig.decide()).answer is None
    await rig.decider.aclose()


async def test_a_cascade_state_that_cannot_be_read_is_begun_again() -> None:
    store = BrokenState()
    rig = Rig(FakeAsk(call("look")), route(cascade=Cascade(mode="task")), store=store)
    await rig.decider.stages.refresh()
    store.broken = True
    decided = await rig.decide(prompt(turn_user("go"), turn_call("look"), turn_output("x")))
    assert decided.decision is not None
    assert decided.decision.reason is Reason.AGREED, "it votes anew, which is the careful thing"
    assert "cascade state" in decided.notes[0]


class BrokenLibrary:
    """What a library with a broken embedder does."""

    def __init__(self, problem: Exception) -> None:
        from potstill.distill.context.config import ContextConfig

        self.config = ContextConfig()
        self._problem = problem

    def checked(self, config: Any) -> Any:
        return config

    def retrieve(self, *_: Any, **__: Any) -> Any:
        raise self._problem


async def test_retrieval_that_fails_leaves_the_student_without_demonstrations() -> None:
    library: Any = BrokenLibrary(RuntimeError("no embedder"))
    ask = FakeAsk(call("look"))
    rig = Rig(ask, route(context=Context(k=2, deadline_s=60.0)), library=library)
    decided = await rig.decide()
    assert decided.answer is not None
    assert "no demonstrations: RuntimeError: no embedder" in decided.notes[0]
    assert ask.asked[0][1].turns == prompt().turns


async def test_a_bug_in_the_way_is_still_the_teachers_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(FakeAsk(call("look")), route())

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("in deciding")

    monkeypatch.setattr("potstill.serve.deciding.decider.parse", broken)
    decided = await rig.decide()
    assert decided.answer is None
    assert "ZeroDivisionError" in decided.notes[0]
    assert decided.stage == "live/cascade"


async def test_what_follows_an_answer_never_raises() -> None:
    rig = Rig(FakeAsk(call("look")), route(Mode.SHADOW, shadow_share=1.0))
    decided = await rig.decide()
    exchange = rig.finish(decided, prompt(), call("look"), dialect="no such dialect", streamed=True)
    assert exchange.stage == "shadow/shadow"
    await rig.decider.aclose()
    assert rig.decider.shadowing.queue.counts["failed"] == 1
