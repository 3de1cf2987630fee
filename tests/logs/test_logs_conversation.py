"""An answer and its repetition in the next request hash the same; whatever else a message says makes a difference."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs import conversation
from potstill.logs.conversation import Conversation, Thread, told
from potstill.logs.hashing import arguments_hash
from potstill.logs.records import PREVIEW, LogCall

USER = {"role": "user", "content": "What is in /etc?"}
PNG = base64.b64encode(b"\x89PNG not really").decode()


def call(arguments: Any, name: str = "bash", identity: str = "call_1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", **fields}


ANSWER = assistant(content=None, refusal=None, annotations=[], tool_calls=[call('{"cmd": "ls", "n": 1.0}')])
SAME = [
    assistant(content="", tool_calls=[call('{"n":1,"cmd":"ls"}')]),
    assistant(tool_calls=[call({"cmd": "ls", "n": 1})]),
    assistant(content=[], tool_calls=[call('{ "cmd" : "ls", "n" : 1 }')]),
    assistant(content=[{"type": "tool_use", "id": "call_1", "name": "bash", "input": {"cmd": "ls", "n": 1}}]),
    assistant(
        content=[
            {"type": "thinking", "thinking": "hmm", "signature": "x"},
            {"type": "tool_use", "id": "call_1", "name": "bash", "input": {"n": 1, "cmd": "ls"}, "cache_control": {}},
        ]
    ),
    assistant(content=None, reasoning_content="thinking aloud", tool_calls=ANSWER["tool_calls"], function_call=None),
    {"type": "function_call", "id": "fc_9", "call_id": "call_1", "name": "bash", "arguments": '{"cmd":"ls","n":1}'},
    assistant(parts=[{"type": "tool_call", "id": "call_1", "name": "bash", "arguments": {"cmd": "ls", "n": 1}}]),
    assistant(content=None, tool_calls=[{"id": "call_1", "name": "bash", "arguments": {"cmd": "ls", "n": 1}}]),
]
OTHER = [
    assistant(content="ls", tool_calls=ANSWER["tool_calls"]),
    assistant(tool_calls=[call('{"cmd":"ls","n":2}')]),
    assistant(tool_calls=[call('{"cmd":"ls","n":1}', name="sh")]),
    assistant(tool_calls=[call('{"cmd":"ls","n":1}', identity="call_2")]),
    assistant(tool_calls=[*ANSWER["tool_calls"], *ANSWER["tool_calls"]]),
    assistant(content=None),
    {**ANSWER, "role": "user"},
]


@pytest.mark.parametrize("repeated", SAME)
def test_an_answer_is_found_again_in_the_next_prompt_however_it_is_repeated(repeated: dict[str, Any]) -> None:
    first = told([USER], ANSWER)
    assert told([USER, repeated, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]).prefixes[1] == first.after
    assert told([USER], repeated).after == first.after
    assert told([USER], repeated).tool_calls == first.tool_calls == (("bash", arguments_hash({"cmd": "ls", "n": 1})),)


@pytest.mark.parametrize("other", OTHER)
def test_another_answer_hashes_otherwise(other: dict[str, Any]) -> None:
    assert told([USER], other).after != told([USER], ANSWER).after


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "a"}]}),
        ({"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "input_text", "text": "a\n"}]}),
        ({"role": "system", "content": "a"}, {"role": "developer", "content": "a"}),
        ({"role": "user", "content": "a"}, {"role": "user", "parts": [{"type": "text", "content": "a"}]}),
        ({"role": "user", "content": "a"}, {"role": "user", "parts": [{"text": "a"}]}),
        ({"role": "user", "content": "a"}, {"type": "human", "content": "a"}),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": PNG}}]},
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": "a"},
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": "4"},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "4"}]},
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": "4"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": "4"},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "4"}]},
        ),
    ],
)
def test_dialects_that_say_the_same_hash_the_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert told([one]).prefixes == told([two]).prefixes
    assert told([one]).roles == told([two]).roles


def test_images_count_by_their_bytes() -> None:
    other = base64.b64encode(b"another").decode()
    parts = [{"role": "user", "content": [{"type": "image", "source": {"data": data}}]} for data in (PNG, other)]
    assert told(parts[:1]).prefixes != told(parts[1:]).prefixes


def test_results_of_tools_inside_a_user_message_are_messages_of_their_own() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "12345"}]},
        {"type": "tool_result", "tool_use_id": "b", "content": "67"},
        {"type": "text", "text": "go on"},
    ]
    conversation = told([{"role": "user", "content": content}], system="be brief")
    assert conversation.roles == "sttu"
    assert conversation.sizes == (8, 5, 2, 5)
    assert conversation.prompt_preview == "go on"


def test_a_system_text_is_the_same_as_a_first_message() -> None:
    blocks = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]
    plain = told([{"role": "system", "content": "be brief"}, USER])
    assert told([USER], system=blocks).prefixes == told([USER], system="be brief").prefixes == plain.prefixes
    assert told([USER], system="").roles == "u"


def test_sizes_previews_and_the_answer() -> None:
    conversation = told([USER, {"role": "user", "content": "x" * 1000}], ANSWER, tools=[{"name": "bash"}])
    assert conversation.sizes == (16, 1000)
    assert conversation.prompt_preview == "x" * PREVIEW
    assert conversation.answer_preview == "bash(…)"
    assert conversation.answer_characters == len("bash") + len('{"cmd": "ls", "n": 1.0}')
    assert conversation.tools[1] == len('[{"name":"bash"}]')
    assert LogCall(model="m", **conversation._asdict()).roles == "uu"


def test_what_is_missing_stays_unknown() -> None:
    assert told(None) == Conversation()
    assert told([USER]).after is None
    assert told([USER], "").after is not None


def test_cache_marks_do_not_change_the_tools() -> None:
    plain = [{"name": "a", "input_schema": {"type": "object"}}]
    assert told([], tools=[{**plain[0], "cache_control": {"type": "ephemeral"}}]).tools == told([], tools=plain).tools


def test_a_text_cannot_pass_for_two_messages() -> None:
    two = told([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    for glued in ("ab", "au1:b", "a1:b", "a\x00b"):
        assert told([{"role": "user", "content": glued}]).prefixes[-1] != two.prefixes[-1]


def test_reasoning_items_of_the_responses_api_are_left_out() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]}
    with_reasoning = told([USER], [{"type": "reasoning", "id": "rs_1", "summary": []}, item])
    assert with_reasoning.after == told([USER], "4").after


def test_hashes_are_the_same_in_another_process() -> None:
    code = f"from potstill.logs.conversation import told; print(told([{USER!r}], {ANSWER!r}).after)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == told([USER], ANSWER).after


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
messages = st.builds(
    lambda role, content, calls: {"role": role, "content": content, **({"tool_calls": calls} if calls else {})},
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.none() | st.text() | st.lists(st.builds(lambda text: {"type": "text", "text": text}, st.text()), max_size=3),
    st.lists(st.builds(call, json_values.map(json.dumps), st.text(min_size=1, max_size=5)), max_size=2),
)


@given(st.lists(messages, max_size=6), messages)
def test_a_thread_tells_what_a_whole_prompt_tells(prompt: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    thread = Thread()
    for index, message in enumerate(prompt):
        assert thread.call(message) == told(prompt[:index], message)
        thread.add(message)
    whole = told(prompt, answer)
    assert thread.call(answer) == whole
    assert told([*prompt, answer]).prefixes == (*whole.prefixes, whole.after)


@given(json_values)
def test_arguments_hash_the_same_as_text_and_as_value(value: Any) -> None:
    if value not in (None, "") and not isinstance(value, str):
        assert arguments_hash(json.dumps(value, indent=2)) == arguments_hash(json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_nothing_that_stands_where_messages_should_be_raises(prompt: Any, answer: Any) -> None:
    conversation = told(prompt, answer, tools=answer)
    assert len(conversation.roles) == len(conversation.sizes) == len(conversation.prefixes)


@given(
    st.lists(st.dictionaries(st.sampled_from(["role", "type", "content", "tool_calls", "parts", "text"]), json_values))
)
def test_messages_of_any_content_do_not_raise(prompt: list[dict[str, Any]]) -> None:
    assert len(told(prompt, prompt).roles) <= len(prompt) * 12


def test_deep_and_odd_values_do_not_raise() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert told([{"role": "user", "content": "\ud800"}], assistant(tool_calls=[call(deep), call("{" * 9999)])).after
    assert arguments_hash('{"n": 123456789012345678901234567890}') == arguments_hash(
        {"n": 123456789012345678901234567890}
    )


def test_the_same_observation_is_the_same_content_behind_another_history_and_under_another_id() -> None:
    def asked(call_id: str, *before: dict[str, object]) -> list[dict[str, object]]:
        return [*before, {"role": "tool", "tool_call_id": call_id, "content": "sunny"}]

    first = told(asked("a"))
    second = told(asked("b", {"role": "user", "content": "hi"}))
    assert first.contents[-1] == second.contents[-1]
    assert first.prefixes[-1] != second.prefixes[-1]
    assert told([{"role": "user", "content": "sunny"}]).contents != first.contents


@given(st.lists(messages, min_size=1, max_size=6))
def test_a_message_that_was_met_before_says_the_same(prompt: list[dict[str, Any]]) -> None:
    """A message's hashes are remembered at its place; another process, which has met nothing, must find the same."""
    warm = [told(prompt), told(prompt)]
    conversation._seen = conversation._Seen()
    assert [told(prompt), told(prompt)] == warm
