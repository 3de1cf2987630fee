"""The student beside the teacher: what is compared, recorded and counted, and what is dropped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest
from deciding_builders import FakeAsk, Rig, answered, call, prompt, route, text, turn_call, turn_output, turn_user

from potstill.errors import ModelTimeout
from potstill.serve.deciding.shadow import Job, ShadowQueue, teachers_reply
from potstill.serve.seams import Asked, Decided
from potstill.serve.settings import Mode, Model
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, FinishReason
from potstill.wire.assemble import events_of
from potstill.wire.dialect import NAMES, dialect
from potstill.wire.neutral import Answer, Choice, Prompt, Text, ToolUse

SHADOW = route(Mode.SHADOW, shadow_share=1.0)


async def shadowed(ask: FakeAsk, teacher: Choice) -> Rig:
    rig = Rig(ask, SHADOW)
    rig.finish(await rig.decide(), prompt(), teacher)
    await rig.decider.aclose()
    return rig


async def test_agreement_with_the_teacher_is_recorded_beside_the_exchange() -> None:
    rig = await shadowed(FakeAsk(call(city="Oslo")), call(city="Oslo", identity="call_77"))
    (record,) = rig.recorded
    assert record.metadata == {"shadow_of": "r1", "acted": True, "agreed": True}
    assert (record.episode_id, record.route, record.request, record.response) == ("e1", "auto", b"", b"")
    assert [(called.answerer, called.shadow) for called in record.calls] == [(Answerer.STUDENT, True)]
    assert record.decision is not None
    assert len(record.decision.votes) == 3
    assert rig.decider.shadowing.seen == {("auto", "acted", "agreed"): 1}
    assert (rig.decider.stages.row("auto").acted, rig.decider.stages.row("auto").disagreed) == (1, 0)


async def test_a_student_that_would_have_acted_otherwise_is_a_loss() -> None:
    rig = await shadowed(FakeAsk(call(city="Rome")), call(city="Oslo"))
    row = rig.decider.stages.row("auto")
    assert (row.acted, row.disagreed, row.counts.shadow_units, row.counts.shadow_losses) == (1, 1, 1, 1)


async def test_a_student_that_would_not_have_acted_loses_nothing() -> None:
    rig = await shadowed(FakeAsk(call(city="Rome"), call("look"), call(city="Rome")), call(city="Oslo"))
    row = rig.decider.stages.row("auto")
    assert rig.recorded[0].metadata["acted"] is False
    assert (row.acted, row.counts.shadow_units, row.counts.shadow_losses) == (0, 1, 0)


async def test_a_student_that_fails_is_recorded_and_says_nothing_about_agreement() -> None:
    rig = await shadowed(FakeAsk(ModelTimeout("slow")), call(city="Oslo"))
    (record,) = rig.recorded
    assert record.metadata == {"shadow_of": "r1"}
    assert record.calls[0].error is not None
    assert rig.decider.stages.row("auto").counts.shadow_units == 0


class Endless(FakeAsk):
    """Answers never; who stops waiting is told what it may be billed for."""

    async def ask(
        self, model: Model, prompt: Prompt, *, n: int = 1, told: Callable[[Upstream], None] = lambda call: None
    ) -> list[Asked]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told(self._asked(model, (call("look"),) * n).call)
        return []


async def test_what_was_asked_when_the_gateway_stops_is_recorded_and_so_paid_for() -> None:
    rig = Rig(Endless(call("look")), SHADOW)
    rig.finish(await rig.decide(), prompt(), call("look"))
    await rig.ask.begun.wait()
    await rig.decider.shadowing.queue.aclose(0.0)
    (record,) = rig.recorded
    assert [(called.answerer, called.shadow) for called in record.calls] == [(Answerer.STUDENT, True)]
    assert record.metadata == {"shadow_of": "r1"}
    assert rig.decider.stages.row("auto").counts.shadow_units == 0


async def test_only_a_share_of_exchanges_is_shadowed_and_the_same_one_everywhere() -> None:
    drawn: list[set[str]] = []
    for _ in range(2):
        rig = Rig(FakeAsk(call("look")), route(Mode.SHADOW, shadow_share=0.25))
        decided = await rig.decide()
        for number in range(400):
            rig.finish(decided, prompt(), call("look"), request_id=f"r{number}")
        await rig.decider.aclose()
        drawn.append({record.metadata["shadow_of"] for record in rig.recorded})
    assert drawn[0] == drawn[1]
    assert 60 <= len(drawn[0]) <= 140


async def test_an_answer_that_was_cut_off_or_failed_is_not_compared() -> None:
    rig = Rig(FakeAsk(call("look")), SHADOW)
    decided = await rig.decide()
    rig.finish(decided, prompt(), call("look"), complete=False)
    rig.finish(decided, prompt(), call("look"), status=500)
    rig.finish(decided, prompt(), text("It is", finish=FinishReason.LENGTH))
    await rig.decider.aclose()
    assert rig.decider.stages.row("auto").counts.shadow_units == 0


async def test_what_cannot_be_sampled_is_not_shadowed() -> None:
    rig = Rig(FakeAsk(call("look")), SHADOW)
    rig.finish(await rig.decide(), prompt(n=2), call("look"))
    await rig.decider.aclose()
    assert rig.ask.asked == []


async def test_a_route_that_clients_ask_for_under_another_name_is_shadowed_too() -> None:
    rig = Rig(FakeAsk(call("look")), SHADOW)
    decided = await rig.decide()
    rig.decider.finished(rig.route, prompt(), msgspec.structs.replace(answered(decided, call("look")), route="gpt-x"))
    await rig.decider.aclose()
    assert [record.route for record in rig.recorded] == ["gpt-x"]
    assert rig.decider.stages.row("auto").counts.shadow_units == 1


async def test_a_repeat_of_the_student_is_no_act_of_the_cascade() -> None:
    asked = prompt(turn_user("go"), turn_call("look"), turn_output("wall"), turn_call("look"), turn_output("wall"))
    rig = Rig(FakeAsk(call("look")), SHADOW)
    rig.finish(await rig.decide(asked), asked, call("look"))
    await rig.decider.aclose()
    assert rig.recorded[0].metadata == {"shadow_of": "r1", "acted": False, "agreed": True}


# --- the queue --------------------------------------------------------------------------------------------------------


def job(size: int = 1000) -> Job:
    return Job("auto", prompt(), answered(Decided(), call("look"), request=b"x" * size))


async def test_too_much_waiting_is_dropped_and_counted() -> None:
    gate = asyncio.Event()
    running = 0

    async def run(_: Job) -> None:
        nonlocal running
        running += 1
        await gate.wait()

    one = job()
    queue = ShadowQueue(run, workers=2, most_bytes=one.size * 3)
    taken = [queue.offer(one)]
    await asyncio.sleep(0)
    taken += [queue.offer(one)]
    await asyncio.sleep(0)
    taken += [queue.offer(one) for _ in range(5)]
    assert taken == [True] * 5 + [False] * 2
    assert running == 2
    gate.set()
    await queue.aclose(5.0)
    assert queue.counts == {"offered": 7, "dropped": 2, "done": 5}
    assert not queue.offer(one)


async def test_closing_drops_what_does_not_end_in_time() -> None:
    async def run(_: Job) -> None:
        await asyncio.sleep(60)

    queue = ShadowQueue(run, workers=1)
    queue.offer(job())
    queue.offer(job())
    await queue.aclose(0.01)
    assert queue.counts["dropped"] == 2


async def test_a_broken_job_does_not_end_the_others() -> None:
    done = []

    async def run(one: Job) -> None:
        if not done:
            done.append(one)
            raise RuntimeError("broken")
        done.append(one)

    queue = ShadowQueue(run, workers=1)
    queue.offer(job())
    queue.offer(job())
    await queue.aclose(5.0)
    assert (queue.counts["failed"], queue.counts["done"]) == (1, 1)


# --- the teacher's bytes ----------------------------------------------------------------------------------------------

ANSWER = Answer(
    id="a",
    model="m",
    created=1.0,
    choices=(
        Choice(
            parts=(Text(text="I look."), ToolUse(id="c1", name="look", arguments='{"at": "door"}')),
            finish=FinishReason.TOOL_CALLS,
        ),
    ),
)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_teachers_answer_is_read_in_every_dialect(name: str, streamed: bool) -> None:
    spoken, asked = dialect(name), Prompt(model="m", turns=(), stream=streamed)
    if streamed:
        encoder = spoken.stream_encoder(asked)
        body = b"".join(encoder.encode(event) for event in events_of(ANSWER))
    else:
        body = spoken.encode_answer(ANSWER, asked)
    exchange = Exchange(
        namespace="n", episode_id="e", route="r", dialect=name, started_at=0.0, streamed=streamed, response=body
    )
    reply = teachers_reply(exchange)
    assert reply is not None
    assert (reply.text, reply.tool_calls[0].name) == ("I look.", "look")
    assert json.loads(reply.tool_calls[0].arguments) == {"at": "door"}
    half = body[: len(body) // 2]
    assert teachers_reply(msgspec.structs.replace(exchange, response=half)) is None
