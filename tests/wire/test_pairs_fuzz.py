"""Bad input in any dialect: only ``BadRequest``, ``BadResponse`` and ``Untranslatable`` may come out, or ``Broken``.

Real requests, answers and streams are damaged at random places and then decoded and written in every dialect.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_samples import BODIES, CASES, NAMES, STREAMS, Says
from test_pairs import question
from test_pairs_requests import REQUESTS

from potstill.errors import BadRequest, BadResponse
from potstill.types import FinishReason, Usage
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.dialect import dialect
from potstill.wire.events import Begin, Broken, Delta, Done, Event, PartBegin, PartEnd
from potstill.wire.neutral import Answer, Choice, Refusal, Text, Thinking, ToolUse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(NAMES)
fuzz = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
RICH = Says(
    text="Half an answer", thinking="hm", calls=CASES["parallel tool calls"].calls, refusal="no", finish="tool_calls"
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        found += places(held, (*path, key))
    return found


@st.composite
def damaged(draw: st.DrawFn, original: Any) -> Any:
    """``original`` with up to three values replaced or taken out."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        found = places(value)
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        holder = value
        for key in path:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(json_values)
        else:
            del holder[last]
    return value


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
@given(data=st.data())
@fuzz
def test_a_damaged_request_is_read_or_refused(client: str, upstream: str, data: st.DataObject) -> None:
    request = data.draw(damaged(REQUESTS[client]))
    with suppress(BadRequest):
        json.loads(dialect(upstream).encode_request(dialect(client).decode_request(json.dumps(request).encode())))


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
@given(data=st.data())
@fuzz
def test_a_damaged_answer_is_read_or_refused(client: str, upstream: str, data: st.DataObject) -> None:
    answer = data.draw(damaged(json.loads(BODIES[upstream](RICH))))
    prompt = dialect(client).decode_request(question(client, stream=False))
    with suppress(BadRequest, BadResponse):
        read = dialect(upstream).decode_answer(json.dumps(answer).encode())
        json.loads(dialect(client).encode_answer(read, prompt))


def payload(frame: bytes) -> Any:
    return json.loads(frame.decode().partition("data: ")[2])


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
@given(data=st.data())
@fuzz
def test_a_damaged_stream_ends_in_done_or_broken(client: str, upstream: str, data: st.DataObject) -> None:
    frames = [frame for frame in STREAMS[upstream](RICH) if b"[DONE]" not in frame]
    for _ in range(data.draw(st.integers(1, 2))):
        number = data.draw(st.integers(0, len(frames) - 1))
        kind = data.draw(st.sampled_from(["value", "drop", "bytes", "twice"]))
        if kind == "value":
            frames[number] = (
                b"data: " + json.dumps(data.draw(damaged(payload(STREAMS[upstream](RICH)[number])))).encode()
            )
            frames[number] += b"\n\n"
        elif kind == "drop":
            frames[number] = b""
        elif kind == "twice":
            frames[number] *= 2
        else:
            frames[number] = frames[number][: data.draw(st.integers(0, len(frames[number])))] + data.draw(st.binary())
    prompt = dialect(client).decode_request(question(client, stream=True))
    decoder, encoder = dialect(upstream).stream_decoder(), dialect(client).stream_encoder(prompt)
    events = [event for frame in frames for event in decoder.feed(frame)]
    events += decoder.close()
    check_order(events)
    assembler = Assembler()
    assembler.extend(events)
    assembler.answer(partial=True)
    for event in events:
        encoder.encode(event)


def check_order(events: list[Event]) -> None:
    """The order that ``wire.events`` promises."""
    assert isinstance(events[-1], Done | Broken)
    assert not any(isinstance(event, Done | Broken) for event in events[:-1])
    begun: set[tuple[int, int]] = set()
    ended: set[tuple[int, int]] = set()
    for event in events:
        if isinstance(event, PartBegin):
            assert (event.choice, event.index) not in begun
            begun.add((event.choice, event.index))
        elif isinstance(event, Delta | PartEnd):
            place = (event.choice, event.index)
            assert place in begun - ended
            if isinstance(event, PartEnd):
                ended.add(place)
    if isinstance(events[-1], Done):
        assert begun == ended
        assert sum(isinstance(event, Begin) for event in events) == 1


texts = st.text(max_size=9)
answers = st.builds(
    Answer,
    id=st.just("id_1"),
    model=st.just("m"),
    dialect=names,
    usage=st.just(Usage(input_tokens=9, cache_read_tokens=4, output_tokens=3, reasoning_tokens=1, cache_reported=True)),
    choices=st.tuples(
        st.builds(
            Choice,
            parts=st.lists(
                st.builds(Text, text=texts)
                | st.builds(Refusal, text=texts)
                | st.builds(Thinking, text=texts, signature=st.none() | st.just("sig"))
                | st.builds(
                    ToolUse,
                    id=st.integers(0, 99).map(lambda number: f"call_{number}"),
                    name=st.sampled_from(["f", "g"]),
                    arguments=st.dictionaries(texts, texts | st.integers(-9, 9), max_size=2).map(json.dumps),
                ),
                max_size=6,
                unique_by=lambda part: part.id if isinstance(part, ToolUse) else object(),
            ).map(tuple),
            finish=st.sampled_from([FinishReason.LENGTH, FinishReason.STOP]),
        )
    ),
)


def content(answer: Answer) -> tuple[Any, ...]:
    """All that was said, whatever part it stood in; a dialect without refusals says them as text."""
    (choice,) = answer.choices
    said = "".join(part.text for part in choice.parts if isinstance(part, Text))
    refused = "".join(part.text for part in choice.parts if isinstance(part, Refusal))
    return (
        sorted(said + refused),
        "".join(part.text for part in choice.parts if isinstance(part, Thinking)),
        [(part.id, part.name, json.loads(part.arguments)) for part in choice.parts if isinstance(part, ToolUse)],
        choice.finish is FinishReason.LENGTH,
        answer.usage,
    )


@pytest.mark.parametrize("client", NAMES)
@given(answer=answers, size=st.integers(1, 60))
@fuzz
def test_any_answer_is_said_whole_streaming_and_not(client: str, answer: Answer, size: int) -> None:
    prompt = dialect(client).decode_request(question(client, stream=True))
    whole = dialect(client).decode_answer(dialect(client).encode_answer(answer, prompt))
    encoder, decoder = dialect(client).stream_encoder(prompt), dialect(client).stream_decoder()
    body = b"".join(encoder.encode(event) for event in events_of(answer))
    assembler = Assembler()
    for start in range(0, len(body), size):
        assembler.extend(decoder.feed(body[start : start + size]))
    assembler.extend(decoder.close())
    assert content(whole) == content(answer)
    assert content(assembler.answer()) == content(answer)


@pytest.mark.parametrize("name", NAMES)
@given(status=st.integers(400, 599), body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@fuzz
def test_any_body_of_an_error_is_readable(name: str, status: int, body: bytes) -> None:
    problem = dialect(name).decode_problem(status, body)
    assert problem.status == status
    assert problem.message
    for other in NAMES:
        json.loads(dialect(other).encode_problem(problem))


@pytest.mark.parametrize("name", NAMES)
@given(body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@fuzz
def test_any_bytes_are_an_answer_or_a_bad_response(name: str, body: bytes) -> None:
    with pytest.raises(BadResponse):
        dialect(name).decode_answer(body)
