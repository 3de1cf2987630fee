"""What gateways on one store tell each other: episodes without a name, demonstrations, whose turn it is to fold."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deciding_builders import FakeAsk, Rig, call, prompt, route, turn_call, turn_output, turn_user

from potstill.distill.context.config import ContextConfig
from potstill.distill.context.library import DemonstrationLibrary
from potstill.errors import StoreError
from potstill.record.live import LiveEpisodes
from potstill.serve.deciding.learning import Learning
from potstill.serve.recording.closing import FOLDING, Closer
from potstill.serve.recording.meeting import PAUSE_S, WAITING, Meeting
from potstill.serve.settings import Cascade
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.store import Store
from potstill.trajectories.traces import Trace
from potstill.types import Action, Answerer, Observation, Outcome, Reason, Step, Task, Trajectory, TrajectoryKind

CHAT = "openai-chat"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
async def pair(store: Store) -> AsyncIterator[tuple[Meeting, Meeting]]:
    both = Meeting(store, 100.0), Meeting(store, 100.0)
    yield both
    for one in both:
        await one.aclose()


async def told(meeting: Meeting) -> None:
    while (writing := meeting._writing) is not None:
        await writing


def body(*messages: Any) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages)}).encode()


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


async def step(live: LiveEpisodes, history: list[Any], answer: str, at: float, asked: Meeting | None = None) -> str:
    """One request; with ``asked``, what it tells is in the store before its answer comes."""
    await live.ready("t", {}, body(*history), at)
    placement = live.place("t", {}, CHAT, body(*history), at)
    if asked is not None:
        await told(asked)
    message = said("assistant", answer)
    response = json.dumps({"id": "r", "choices": [{"message": message}]}).encode()
    live.answered("t", placement, CHAT, response, streamed=False, now=at)
    history.append(message)
    return placement.episode_id


async def test_an_episode_goes_on_at_another_gateway(pair: tuple[Meeting, Meeting]) -> None:
    lives = [LiveEpisodes(shared=meeting) for meeting in pair]
    histories = [[said("user", "the same start")] for _ in range(3)]
    ids: list[set[str]] = [set() for _ in histories]
    for turn in range(5):
        for number, history in enumerate(histories):
            ids[number].add(await step(lives[(turn + number) % 2], history, f"{number} at {turn}", float(turn)))
            history.append(said("user", f"go on {number}"))
            for meeting in pair:
                await told(meeting)
    assert [len(one) for one in ids] == [1, 1, 1]
    assert len(set.union(*ids)) == 3


async def test_the_next_request_may_come_before_the_answer_is_told(pair: tuple[Meeting, Meeting]) -> None:
    """Two episodes that began alike: which of them goes on is known as soon as the answer's trace is there."""
    first, second = (LiveEpisodes(shared=meeting) for meeting in pair)
    histories = [[said("user", "start")] for _ in range(2)]
    ids = [await step(first, one, f"answer {number}", 0.0, pair[0]) for number, one in enumerate(histories)]
    assert len(set(ids)) == 2
    histories[1].append(said("user", "more"))
    assert pair[0]._writing is not None
    assert await step(second, histories[1], "x", 1.0) == ids[1]


class Slow:
    """A store that hangs until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0
        self.kept: list[Trace] = []

    def follow_traces(self, namespace: str, hashes: Sequence[int]) -> tuple[int, str | None] | None:
        self.asked += 1
        self.go.wait(60)
        return (hashes[0], "e")

    def leave_traces(self, traces: Sequence[Trace]) -> None:
        self.go.wait(60)
        self.kept += traces

    def forget_traces(self, before: float) -> int:
        raise StoreError("away")


async def test_a_store_that_hangs_is_not_waited_for_and_not_asked_again_at_once(monkeypatch: Any) -> None:
    from potstill.serve.recording import meeting as module

    monkeypatch.setattr(module, "PATIENCE_S", 0.02)
    now, slow = [0.0], Slow()
    meeting = Meeting(slow, 100.0, clock=lambda: now[0])
    await meeting.fetch("t", [1])
    assert (meeting.failures, meeting.find("t", [1]), slow.asked) == (1, None, 1)
    await meeting.fetch("t", [1])
    assert slow.asked == 1
    slow.go.set()
    now[0] += PAUSE_S
    await meeting.fetch("t", [1])
    assert (slow.asked, meeting.find("t", [2, 1]), meeting.find("u", [1])) == (2, "e", None)
    await meeting.aclose()


async def test_what_waits_for_a_store_that_hangs_is_bounded() -> None:
    slow = Slow()
    meeting = Meeting(slow, 100.0)
    meeting.publish("t", "e", [0], 0.0)
    await asyncio.sleep(0.01)
    for at in range(WAITING + 10):
        meeting.publish("t", "e", [at], 0.0)
    assert len(meeting._waiting) == WAITING
    slow.go.set()
    await meeting.aclose()
    assert len(slow.kept) == WAITING + 1


# --- folding and learning ---------------------------------------------------------------------------------------------


def exchange(episode: str) -> Exchange:
    response = json.dumps({"id": "r", "choices": [{"message": said("assistant", "done")}]}).encode()
    return Exchange(
        namespace="default",
        episode_id=episode,
        route="m",
        dialect=CHAT,
        started_at=100.0,
        request=body(said("user", "hi")),
        response=response,
    )


def test_one_process_folds_at_a_time(store: Store) -> None:
    store.record([exchange("e")])
    looked: list[str] = []
    closer = Closer(store, 10.0, None, lambda: looked.append("looked"), clock=lambda: 1000.0)
    with store.alone(FOLDING) as mine:
        assert mine
        assert closer.close_idle() == 0
        closer._look_now()
    assert looked == ["looked"]
    assert closer.close_idle() == 1
    assert store.ids(namespace=None) == ["default/e"]


def test_episodes_of_one_name_of_two_tenants_never_meet(store: Store) -> None:
    """The store's ids are unique over tenants: the gateway's say whose they are."""
    for namespace in ("north", "south", "north/same", "nor"):
        told = msgspec.structs.replace(exchange("same"), namespace=namespace, request=body(said("user", namespace)))
        store.record([told, msgspec.structs.replace(told, episode_id="th/same")])
    store.set_episode_outcome("north", "same", Outcome(success=True))
    closer = Closer(store, 10.0, clock=lambda: 1000.0)
    assert closer.close_idle() == 8
    for namespace in ("north", "south", "north/same", "nor"):
        found = list(store.select(namespace=namespace))
        assert [one.steps[0].observation.text for one in found] == [namespace] * 2
        own = store.episode(namespace, "same").trajectory_id
        assert own is not None
        assert store.get(own, namespace=namespace).succeeded is (namespace == "north")
    store.prune(1e12, namespace="north")
    assert store.ids(namespace="north") == []
    assert len(store.ids(namespace=None)) == 6


def trajectory(id: str, namespace: str, success: bool | None) -> Trajectory:
    action = Action(text="turn the lamp on")
    return Trajectory(
        id=id,
        task=Task(id=id, environment="messages", goal="a goal"),
        kind=TrajectoryKind.TEACHER,
        namespace=namespace,
        goal="a goal",
        steps=(Step(index=0, observation=Observation(text="dark"), action=action, answerer=Answerer.TEACHER),),
        outcome=None if success is None else Outcome(success=success),
    )


def test_what_others_folded_and_outcomes_that_came_late_become_demonstrations(store: Store) -> None:
    learning = Learning(store, DemonstrationLibrary(ContextConfig()))
    for id, namespace, success in (("a", "default", True), ("b", "acme", None), ("c", "default", False)):
        store.append(trajectory(id, namespace, success))
    assert learning.catch_up() == 1
    assert len(learning.library) == 1
    assert learning.catch_up() == 0
    store.set_outcome("b", Outcome(success=True))
    assert learning.catch_up() == 1
    assert len(learning.library) == 2
    store.append(trajectory("d", "new-tenant", True))
    assert learning.catch_up() == 1


async def test_the_steps_that_a_teacher_keeps_are_counted_over_gateways() -> None:
    differing = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    here = Rig(differing, route(cascade=Cascade(mode="sticky", keep_steps=2)))
    there = Rig(FakeAsk(call("look")), here.route, store=here.store)
    turns, reasons = [turn_user("go")], []
    for step in range(3):
        rig = (here, there)[step % 2]
        if step == 2:
            rig.ask = rig.decider._ask = FakeAsk(call("look"))
        decided = await rig.decide(prompt(*turns))
        await rig.decider.kept.written()
        assert decided.decision is not None
        reasons.append(decided.decision.reason)
        turns += [turn_call("look", identity=f"c{step}"), turn_output(f"room {step}", identity=f"c{step}")]
    assert reasons == [Reason.DISAGREED, Reason.TEACHER_KEEPS, Reason.AGREED]
