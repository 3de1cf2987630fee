"""Events to a whole answer and back: nothing is lost, order does not matter where it must not, cuts are seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadResponse
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Refusal, Text, Thinking, ToolOutput, ToolUse


def assembled(*events: Event) -> Assembler:
    assembler = Assembler()
    assembler.extend(events)
    return assembler


BEGIN = Begin(id="a", model="m", created=7.0, dialect="anthropic", extra={"x": 1})


def test_parts_of_two_choices_interleave() -> None:
    usage = Usage(input_tokens=3, output_tokens=2)
    answer = assembled(
        BEGIN,
        PartBegin(kind="thinking", index=0, id="rs_1"),
        PartBegin(kind="text", choice=1, index=0),
        Delta(index=0, text="h"),
        Delta(choice=1, index=0, text="n"),
        Ping(),
        Delta(index=0, text="m", signature="sig", redacted="cipher"),
        Delta(choice=1, index=0, text="o", logprobs=(TokenLogprob(token="o", logprob=-1.0),)),
        PartEnd(index=0),
        PartBegin(kind="tool_use", index=1, id="c", name="look"),
        Delta(index=1, text='{"at"'),
        Delta(index=1, text=":1}"),
        PartEnd(index=1),
        PartEnd(choice=1, index=0),
        Finish(choice=1, reason=FinishReason.LENGTH),
        Finish(reason=FinishReason.STOP, raw="stop_sequence", stop_sequence="."),
        Spent(usage=usage, raw_usage={"input_tokens": 3}),
        Done(),
    ).answer()
    assert answer == Answer(
        id="a",
        model="m",
        created=7.0,
        choices=(
            Choice(
                parts=(
                    Thinking(text="hm", signature="sig", redacted="cipher", id="rs_1"),
                    ToolUse(id="c", name="look", arguments='{"at":1}'),
                ),
                finish_raw="stop_sequence",
                stop_sequence=".",
            ),
            Choice(
                parts=(Text(text="no"),),
                finish=FinishReason.LENGTH,
                logprobs=(TokenLogprob(token="o", logprob=-1.0),),
            ),
        ),
        usage=usage,
        raw_usage={"input_tokens": 3},
        dialect="anthropic",
        extra={"x": 1},
    )


def test_arguments_that_never_came_are_an_empty_object() -> None:
    answer = assembled(BEGIN, PartBegin(kind="tool_use", index=0, id="c", name="go"), Finish(), Done()).answer()
    assert answer.choices[0].parts == (ToolUse(id="c", name="go", arguments="{}"),)


def test_an_opaque_part_is_of_the_streams_dialect_unless_it_says_otherwise() -> None:
    answer = assembled(
        BEGIN,
        PartBegin(kind="opaque", index=0, name="k", value={"v": 1}),
        PartBegin(kind="opaque", index=1, name="k", value={}, dialect="openai-chat", hint=True),
        Finish(),
        Done(),
    ).answer()
    assert answer.choices[0].parts == (
        Opaque(dialect="anthropic", kind="k", value={"v": 1}),
        Opaque(dialect="openai-chat", kind="k", value={}, hint=True),
    )


def test_usage_of_the_start_holds_where_the_end_tells_none() -> None:
    early = Begin(id="a", model="m", usage=Usage(input_tokens=3), raw_usage={"input_tokens": 3})
    late = Usage(input_tokens=3, output_tokens=9)
    assert assembled(early, Finish(), Done()).answer().usage == Usage(input_tokens=3)
    assert assembled(early, Finish(), Spent(usage=late), Done()).answer().usage == late


def test_a_stream_that_broke_or_was_cut_is_no_answer() -> None:
    begun: list[Event] = [BEGIN, PartBegin(kind="text", index=0), Delta(index=0, text="hal")]
    with pytest.raises(BadResponse, match="before its answer was complete"):
        assembled(*begun).answer()
    broken = assembled(*begun, Broken(message="went away"), Delta(index=0, text="f"))
    with pytest.raises(BadResponse, match="broke off its answer: went away"):
        broken.answer()
    assert broken.broken == Broken(message="went away")
    for cut in (assembled(*begun), broken):
        (choice,) = cut.answer(partial=True).choices
        assert choice == Choice(parts=(Text(text="hal"),), finish=FinishReason.OTHER)
    with pytest.raises(BadResponse):
        assembled(Done()).answer()
    assert assembled().answer(partial=True) == Answer(id="", model="", choices=())


def test_what_has_no_place_is_left_out() -> None:
    answer = assembled(
        BEGIN,
        Delta(index=4, text="lost"),
        PartBegin(kind="text", index=0),
        PartBegin(kind="refusal", index=0),
        Delta(index=0, text="a"),
        Finish(),
        Begin(id="other", model="other"),
        Done(),
        Delta(index=0, text="late"),
    ).answer()
    assert (answer.id, answer.choices[0].parts) == ("a", (Text(text="a"),))


def test_log_probabilities_without_a_part_to_carry_them_are_kept() -> None:
    tokens = (TokenLogprob(token="x", logprob=-1.0),)
    answer = Answer(id="a", model="m", choices=(Choice(logprobs=tokens),))
    assert assembled(*events_of(answer)).answer().choices == (Choice(parts=(Text(text=""),), logprobs=tokens),)


def test_an_answer_cannot_hold_a_tools_output() -> None:
    answer = Answer(id="a", model="m", choices=(Choice(parts=(ToolOutput(call_id="c"),)),))
    with pytest.raises(BadResponse, match="ToolOutput"):
        events_of(answer)


WORDS = st.text(max_size=6)
OBJECTS = st.dictionaries(WORDS, WORDS, max_size=2)
PARTS = st.one_of(
    st.builds(Text, text=WORDS),
    st.builds(Refusal, text=WORDS),
    st.builds(Thinking, text=WORDS, signature=st.none() | WORDS, redacted=st.none() | WORDS, id=st.none() | WORDS),
    st.builds(ToolUse, id=WORDS, name=WORDS, arguments=st.text(min_size=1, max_size=6)),
    st.builds(Opaque, dialect=st.sampled_from(["anthropic", "openai-chat"]), kind=WORDS, value=OBJECTS),
)
TOKENS = st.builds(TokenLogprob, token=WORDS, logprob=st.floats(-9, 0))


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts = tuple(draw(st.lists(PARTS, max_size=4)))
    speaks = any(not isinstance(part, Opaque) for part in parts)
    return Choice(
        parts=parts,
        finish=draw(st.sampled_from(FinishReason)),
        finish_raw=draw(st.none() | WORDS),
        stop_sequence=draw(st.none() | WORDS),
        logprobs=tuple(draw(st.lists(TOKENS, max_size=2))) if speaks else (),
    )


@given(
    st.builds(
        Answer,
        id=WORDS,
        model=WORDS,
        choices=st.lists(choices(), max_size=3).map(tuple),
        created=st.none() | st.floats(0, 1e9),
        usage=st.none() | st.just(Usage(input_tokens=2, output_tokens=1)),
        raw_usage=st.none() | st.just({"a": 1}),
        dialect=st.sampled_from(["", "anthropic"]),
        extra=OBJECTS,
    )
)
def test_events_of_an_answer_make_that_answer(answer: Answer) -> None:
    events = events_of(answer)
    assert isinstance(events[0], Begin)
    assert isinstance(events[-1], Done)
    assert assembled(*events).answer() == answer
    assert events_of(assembled(*events).answer()) == events


EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(Begin, id=WORDS, model=WORDS),
    st.builds(
        PartBegin,
        kind=st.sampled_from(["text", "thinking", "refusal", "tool_use", "opaque"]),
        choice=st.integers(0, 2),
        index=st.integers(0, 2),
    ),
    st.builds(Delta, choice=st.integers(0, 2), index=st.integers(0, 2), text=WORDS),
    st.builds(PartEnd, choice=st.integers(0, 2), index=st.integers(0, 2)),
    st.builds(Finish, choice=st.integers(0, 2), reason=st.sampled_from(FinishReason)),
    st.builds(Spent, usage=st.none()),
    st.builds(Broken, message=WORDS),
    st.just(Ping()),
    st.just(Done()),
)


@given(st.lists(EVENTS, max_size=12))
def test_any_events_give_an_answer_or_say_that_there_is_none(events: list[Event]) -> None:
    assembler = assembled(*events)
    partial = assembler.answer(partial=True)
    try:
        assert assembler.answer() == partial
    except BadResponse:
        end = next((place for place, one in enumerate(events) if isinstance(one, Done | Broken)), len(events))
        ended = end < len(events) and isinstance(events[end], Done)
        assert not (ended and any(isinstance(one, Begin) for one in events[:end]))
