"""The cascade over messages: what the student is asked, when it answers, and what is handed to the teacher."""

from __future__ import annotations

import msgspec
import pytest
from deciding_builders import (
    LOOK,
    FakeAsk,
    Rig,
    call,
    prompt,
    raw_call,
    route,
    text,
    turn_call,
    turn_output,
    turn_user,
)

from potstill.serve.settings import Cascade, Mode
from potstill.types import Answerer, FinishReason, Reason, TokenLogprob
from potstill.wire.neutral import (
    Choice,
    ChoiceMode,
    Format,
    Image,
    Opaque,
    Refusal,
    Text,
    Thinking,
    Thought,
    ToolChoice,
    ToolUse,
    Turn,
)


async def test_three_equal_calls_are_the_students_answer() -> None:
    ask = FakeAsk(
        call(city="Oslo", unit="C"), raw_call("weather", ' {"unit":"C", "city":"Oslo "}'), call(city="Oslo", unit="C")
    )
    decided = await Rig(ask, route()).decide()
    assert decided.answer is not None
    assert decided.answer.choices[0].parts == (
        ToolUse(id="call_1", name="weather", arguments='{"city": "Oslo", "unit": "C"}'),
    )
    assert decided.decision is not None
    assert (decided.decision.answerer, decided.decision.reason) == (Answerer.STUDENT, Reason.AGREED)
    assert [len(decided.decision.votes), decided.decision.agreement] == [3, 1.0]
    assert [called.answerer for called in decided.calls] == [Answerer.STUDENT]
    assert decided.stage == "live/cascade"
    assert not decided.notes


async def test_one_other_call_hands_the_clients_own_request_to_the_teacher() -> None:
    ask = FakeAsk(call(city="Oslo"), call(city="Rome"), call(city="Oslo"))
    decided = await Rig(ask, route()).decide()
    assert decided.answer is None
    assert decided.prompt is None
    assert decided.decision is not None
    assert (decided.decision.answerer, decided.decision.reason) == (Answerer.TEACHER, Reason.DISAGREED)
    assert decided.decision.agreement == pytest.approx(2 / 3)
    assert len(decided.calls) == 1, "what the student cost is recorded all the same"


async def test_two_of_three_are_enough_at_a_lower_threshold_and_the_common_answer_is_given() -> None:
    ask = FakeAsk(call(city="Rome"), call(city="Oslo"), call(city="Oslo"), shares_prompt=False)
    decided = await Rig(ask, route(cascade=Cascade(threshold=0.6))).decide()
    assert decided.answer is not None
    assert isinstance(part := decided.answer.choices[0].parts[0], ToolUse)
    assert part.arguments == '{"city": "Oslo"}'
    assert len(decided.answer.choices) == 1
    assert len(decided.calls) == 3


async def test_texts_agree_when_normalised() -> None:
    decided = await Rig(FakeAsk(text("Oslo is cold."), text("oslo  is cold"), text("Oslo is cold!")), route()).decide()
    assert decided.answer is not None
    assert decided.answer.choices[0].parts == (Text(text="Oslo is cold."),)


async def test_structured_output_is_compared_as_json() -> None:
    ask = FakeAsk(text('{"a": 1, "b": 2}'), text('{"b":2,"a":1.0}'), text('{ "a": 1, "b": 2 }'))
    wanted = prompt(format=Format(kind="json_object"), tools=())
    decided = await Rig(ask, route()).decide(wanted)
    assert decided.answer is not None


SCHEMA = Format(kind="json_schema", schema={"type": "object", "required": ["a"]})


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (call("delete_all", city="Oslo"), {}),
        (raw_call("weather", "{city: Oslo}"), {}),
        (raw_call("weather", "[1]"), {}),
        (call(town="Oslo"), {}),
        (call(city=7), {}),
        (call(city="Oslo", unit="K"), {}),
        (text("   "), {}),
        (Choice(), {}),
        (text("It is", finish=FinishReason.LENGTH), {}),
        (text("hidden", finish=FinishReason.CONTENT_FILTER), {}),
        (Choice(parts=(Refusal(text="I cannot help."),)), {}),
        (Choice(parts=(Text(text="x"), Opaque(dialect="anthropic", kind="server_tool_use", value={}))), {}),
        (text("Sunny"), {"tool_choice": ToolChoice(mode=ChoiceMode.REQUIRED)}),
        (call("look"), {"tool_choice": ToolChoice(mode=ChoiceMode.TOOL, name="weather")}),
        (call("look"), {"tool_choice": ToolChoice(mode=ChoiceMode.NONE)}),
        (text("not json"), {"format": SCHEMA}),
        (text('{"b": 1}'), {"format": SCHEMA}),
        (text("[]"), {"format": Format(kind="json_object")}),
        (
            Choice(parts=(ToolUse(id="a", name="look"), ToolUse(id="b", name="look"))),
            {"parallel_tool_calls": False},
        ),
    ],
    ids=str,
)
async def test_unanimous_but_invalid_answers_go_to_the_teacher(answer: Choice, fields: dict[str, object]) -> None:
    decided = await Rig(FakeAsk(answer), route()).decide(prompt(**fields))
    assert decided.answer is None
    assert decided.decision is not None
    assert decided.decision.reason is Reason.INVALID
    assert decided.decision.agreement == 0.0


async def test_an_action_tried_on_the_same_observation_is_not_trusted_again() -> None:
    history = (
        turn_user("go"),
        turn_call("look"),
        turn_output("a wall"),
        turn_call("weather", city="Oslo"),
        turn_output("a wall"),
    )
    again = await Rig(FakeAsk(call(city="Oslo")), route()).decide(prompt(*history))
    assert again.decision is not None
    assert again.decision.reason is Reason.REPEATED
    other = await Rig(FakeAsk(call("look")), route()).decide(prompt(*history))
    assert other.answer is not None, "looking was tried after something else"


async def test_the_student_gets_the_clients_prompt_without_what_is_the_teachers() -> None:
    ask = FakeAsk(call("look"))
    hidden = Turn(role="assistant", parts=(Thinking(text="hm", signature="sig"), ToolUse(id="c0", name="look")))
    asked = prompt(
        turn_user("go"),
        hidden,
        turn_output("a door"),
        stream=True,
        stream_usage=True,
        seed=7,
        temperature=0.1,
        max_tokens=99,
        thought=Thought(effort="high"),
        tool_choice=ToolChoice(mode=ChoiceMode.REQUIRED),
        metadata={"user": "x"},
    )
    await Rig(ask, route(cascade=Cascade(temperature=0.9, samples=5))).decide(asked)
    model, sent, n = ask.asked[0]
    assert (model.name, n, sent.n, sent.stream, sent.seed) == ("small", 5, 1, False, None)
    assert (sent.temperature, sent.max_tokens, sent.tool_choice) == (0.9, 99, asked.tool_choice)
    assert sent.thought is None
    assert sent.tools == asked.tools
    assert sent.turns[2].parts == (ToolUse(id="c0", name="look"),)


async def test_log_probabilities_of_the_student_are_kept_in_the_votes_and_not_sent() -> None:
    scored = Choice(
        parts=(Text(text="yes"),),
        logprobs=(TokenLogprob(token="y", logprob=-0.25), TokenLogprob(token="es", logprob=-0.5)),
    )
    decided = await Rig(FakeAsk(scored), route()).decide()
    assert decided.decision is not None
    assert decided.decision.votes[0].logprob == -0.75
    assert decided.answer is not None
    assert decided.answer.choices[0].logprobs == ()


async def test_ids_of_calls_never_repeat_within_an_episode() -> None:
    history = (turn_user("go"), turn_call("look", identity="call_1"), turn_output("a door", identity="call_1"))
    both = Choice(parts=(ToolUse(id="call_1", name="look"), ToolUse(id="", name="look")))
    decided = await Rig(FakeAsk(both), route()).decide(prompt(*history))
    assert decided.answer is not None
    ids = [part.id for part in decided.answer.choices[0].parts if isinstance(part, ToolUse)]
    assert len({*ids, "call_1"}) == 3
    assert all(identity.startswith("call_") and len(identity) <= 40 for identity in ids)


async def test_the_students_answer_is_one_that_every_provider_takes_back() -> None:
    said = Choice(
        parts=(
            Thinking(text="secret thoughts"),
            Text(text=""),
            Opaque(dialect="openai-chat", kind="reasoning", value={}, hint=True),
            ToolUse(id="functions.look:0", name="look"),
            ToolUse(id="x" * 64, name="look"),
        )
    )
    decided = await Rig(FakeAsk(said), route()).decide()
    assert decided.answer is not None
    parts = decided.answer.choices[0].parts
    assert all(isinstance(part, ToolUse) and part.id.startswith("call_") for part in parts)
    assert len(parts) == 2


@pytest.mark.parametrize(
    ("turns", "extra", "asked"),
    [
        ((turn_user("go"),), {}, False),
        ((turn_user("go"),), {"store": False}, True),
        ((turn_user("go"), turn_call("look"), turn_output("x")), {}, True),
    ],
)
async def test_a_conversation_that_the_provider_may_keep_stays_with_the_teacher(
    turns: tuple[Turn, ...], extra: dict[str, object], asked: bool
) -> None:
    """The next request could name the student's answer by an id that the teacher's provider never gave."""
    sent = msgspec.structs.replace(prompt(*turns, extra=extra), dialect="openai-responses")
    decided = await Rig(FakeAsk(call(city="Oslo")), route()).decide(sent)
    assert (decided.answer is not None) is asked
    assert asked or "may keep the conversation" in decided.notes[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n": 2}, "2 choices"),
        ({"logprobs": True}, "log-probabilities"),
        ({"extra": {"previous_response_id": "resp_1"}}, "previous_response_id"),
        ({"extra": {"store": True}}, "the provider is to keep the answer"),
    ],
)
async def test_what_only_the_teacher_can_answer_is_never_sampled(fields: dict[str, object], said: str) -> None:
    ask = FakeAsk(call("look"))
    decided = await Rig(ask, route()).decide(prompt(**fields))
    assert decided.answer is None
    assert decided.calls == ()
    assert said in decided.notes[0]
    assert ask.asked == []


async def test_a_tool_that_runs_at_the_provider_is_never_sampled() -> None:
    from potstill.wire.neutral import OpaqueTool

    ask = FakeAsk(call("look"))
    server = OpaqueTool(dialect="anthropic", value={"type": "web_search_20250305"})
    decided = await Rig(ask, route()).decide(prompt(tools=(LOOK, server)))  # type: ignore[arg-type]
    assert decided.answer is None
    assert "web_search" in decided.notes[0]
    assert ask.asked == []


async def test_a_request_that_begins_the_answer_goes_to_the_teacher() -> None:
    begun = Turn(role="assistant", parts=(Text(text="{"),))
    decided = await Rig(FakeAsk(text("x")), route()).decide(prompt(turn_user("hi"), begun))
    assert decided.answer is None
    assert "begins the answer" in decided.notes[0]


# --- modes ------------------------------------------------------------------------------------------------------------


async def test_record_and_shadow_ask_nobody_on_the_path() -> None:
    for mode, stage in ((Mode.RECORD, "off/teacher"), (Mode.SHADOW, "shadow/shadow")):
        ask = FakeAsk(call("look"))
        decided = await Rig(ask, route(mode)).decide()
        assert (decided.answer, decided.stage, ask.asked) == (None, stage, [])


async def test_student_mode_keeps_the_clients_temperature_and_takes_one_answer() -> None:
    ask = FakeAsk(text("It is", finish=FinishReason.LENGTH))
    decided = await Rig(ask, route(Mode.STUDENT)).decide(prompt(temperature=0.3))
    assert decided.answer is not None, "a client that limits an answer gets the limited answer"
    assert (ask.asked[0][2], ask.asked[0][1].temperature) == (1, 0.3)


async def test_student_mode_hands_out_nothing_that_the_request_does_not_allow() -> None:
    asked = prompt(tool_choice=ToolChoice(mode=ChoiceMode.REQUIRED))
    decided = await Rig(FakeAsk(text("Sunny")), route(Mode.STUDENT)).decide(asked)
    assert decided.answer is None
    assert decided.decision is not None
    assert decided.decision.reason is Reason.INVALID
    assert "cannot be used" in decided.notes[0]


async def test_sticky_keeps_the_next_steps_with_the_teacher() -> None:
    ask = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    rig = Rig(ask, route(cascade=Cascade(mode="sticky", keep_steps=2)))
    turns = [turn_user("go")]
    reasons = []
    for step in range(3):
        decided = await rig.decide(prompt(*turns))
        assert decided.decision is not None
        reasons.append(decided.decision.reason)
        turns += [turn_call("look", identity=f"c{step}"), turn_output(f"room {step}", identity=f"c{step}")]
    assert reasons == [Reason.DISAGREED, Reason.TEACHER_KEEPS, Reason.AGREED]


async def test_a_request_that_is_sent_again_meets_the_same_state() -> None:
    ask = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    rig = Rig(ask, route(cascade=Cascade(mode="sticky", keep_steps=2)))
    await rig.decide(prompt(turn_user("go")))
    again = await rig.decide(prompt(turn_user("go")))
    assert again.decision is not None
    assert again.decision.reason is Reason.AGREED, "the retry of a failed request is no new step"


async def test_task_mode_survives_a_restart_and_a_broken_alone_answer() -> None:
    ask = FakeAsk(call("look"))
    rig = Rig(ask, route(cascade=Cascade(mode="task")))
    first = await rig.decide(prompt(turn_user("go")))
    assert first.decision is not None
    assert first.decision.reason is Reason.AGREED
    await rig.decider.aclose()
    longer = prompt(turn_user("go"), turn_call("look"), turn_output("a door"))
    restarted = Rig(FakeAsk(call("look")), rig.route, store=rig.store)
    second = await restarted.decide(longer)
    assert second.decision is not None
    assert (second.decision.reason, second.decision.samples) == (Reason.TASK_TRUSTED, 1)
    broken = Rig(FakeAsk(call("no_such_tool")), rig.route, store=rig.store)
    third = await broken.decide(longer)
    assert third.decision is not None
    assert (third.answer, third.decision.reason) == (None, Reason.INVALID)


async def test_compact_hands_over_goal_actions_and_last_observations() -> None:
    ask = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    asked = prompt(turn_user("Find the key."), turn_call("look"), turn_output("a drawer"), max_tokens=77)
    decided = await Rig(ask, route(cascade=Cascade(mode="compact"))).decide(asked)
    assert decided.prompt is not None
    assert (decided.prompt.max_tokens, decided.prompt.tools) == (77, asked.tools)
    said = [part.text for turn in decided.prompt.turns for part in turn.parts if isinstance(part, Text)]
    assert said[0] == "You are a helper."
    assert "Goal: Find the key." in said[1]
    assert "1. look({})" in said[1]
    assert "Now:\na drawer" in said[1]


async def test_compact_shows_everything_where_an_image_would_be_lost() -> None:
    seen = Turn(role="user", parts=(Text(text="this"), Image(url="https://a/b.png")))
    ask = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    asked = prompt(turn_user("Find it."), turn_call("look"), turn_output("x"), turn_call("look"), seen)
    decided = await Rig(ask, route(cascade=Cascade(mode="compact"))).decide(asked)
    assert decided.answer is None
    assert decided.prompt is None


async def test_two_processes_that_serve_one_episode_agree_on_who_holds_it() -> None:
    """The second step is served elsewhere; the third here again, where the first left its mark."""
    cascade = route(cascade=Cascade(mode="sticky", keep_steps=3))
    here = Rig(FakeAsk(call("look"), call(city="Oslo"), call("look")), cascade)
    there = Rig(FakeAsk(call("look")), cascade, store=here.store)
    turns = [turn_user("go")]
    reasons = []
    for step, rig in enumerate((here, there, here, there)):
        decided = await rig.decide(prompt(*turns))
        await rig.decider.kept.written()
        assert decided.decision is not None
        reasons.append(decided.decision.reason)
        turns += [turn_call("look", identity=f"c{step}"), turn_output(f"room {step}", identity=f"c{step}")]
    assert reasons == [Reason.DISAGREED, Reason.TEACHER_KEEPS, Reason.TEACHER_KEEPS, Reason.AGREED]


async def test_teacher_first_counts_steps_by_the_messages() -> None:
    cascade = route(cascade=Cascade(mode="teacher-first", keep_steps=1))
    first = await Rig(FakeAsk(call("look")), cascade).decide(prompt(turn_user("go")))
    assert first.decision is not None
    assert first.decision.reason is Reason.TEACHER_FIRST
    restarted = Rig(FakeAsk(call("look")), cascade)
    second = await restarted.decide(prompt(turn_user("go"), turn_call("look"), turn_output("a door")))
    assert second.decision is not None
    assert (second.decision.reason, second.decision.samples) == (Reason.TASK_TRUSTED, 1)
