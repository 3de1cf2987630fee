"""Requests of chat completions: what is read, what comes back, and what comes from other dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_junk import JUNK, LEAVES, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BadRequest, Untranslatable
from potstill.wire.chat_server import CHAT, Chat
from potstill.wire.neutral import (
    ChoiceMode,
    Format,
    Image,
    Opaque,
    OpaqueTool,
    Prompt,
    Refusal,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolChoice,
    ToolOutput,
    ToolUse,
    Turn,
)

Json = dict[str, Any]
HI: list[Json] = [{"role": "user", "content": "hi"}]


def decoded(messages: list[Any] | None = None, **fields: Any) -> Prompt:
    return CHAT.decode_request(
        json.dumps({"model": "m", "messages": HI if messages is None else messages} | fields).encode()
    )


def encoded(prompt: Prompt) -> Json:
    body: Json = json.loads(CHAT.encode_request(prompt))
    return body


def again(messages: list[Any] | None = None, **fields: Any) -> Json:
    return encoded(decoded(messages, **fields))


def foreign(*turns: Turn, by: str = "anthropic", **fields: Any) -> Prompt:
    return Prompt(model="m", turns=turns or (Turn(role="user", parts=(Text(text="hi"),)),), dialect=by, **fields)


# --- requests: what is read -------------------------------------------------------------------------------------------


def test_an_agents_history_in_full() -> None:
    prompt = decoded(
        [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "f"}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "reasoning_content": "hm",
                "refusal": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "go", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "gone"}]},
            {"role": "assistant", "content": None, "refusal": "I will not."},
        ]
    )
    assert prompt.turns == (
        Turn(role="system", parts=(Text(text="Be brief."),)),
        Turn(
            role="user",
            name="ann",
            parts=(
                Text(text="What is this?", cache={"type": "ephemeral"}),
                Image(data="aGk=", media_type="image/png", detail="low"),
                Image(url="https://example.com/a.png"),
                Opaque(
                    dialect="openai-chat",
                    kind="input_audio",
                    value={"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                ),
                Opaque(dialect="openai-chat", kind="file", value={"type": "file", "file": {"file_id": "f"}}),
            ),
        ),
        Turn(
            role="assistant",
            parts=(
                Thinking(text="hm"),
                Text(text="Let me look."),
                ToolUse(id="c1", name="look", arguments='{"at":1}'),
                ToolUse(id="c2", name="go", arguments="{}"),
            ),
        ),
        Turn(role="tool", parts=(ToolOutput(call_id="c1", parts=(Text(text="a cat"),)),)),
        Turn(role="tool", parts=(ToolOutput(call_id="c2", parts=(Text(text="gone"),)),)),
        Turn(role="assistant", parts=(Refusal(text="I will not."),)),
    )
    assert prompt.spelling == {"system": "developer"}


def test_every_parameter() -> None:
    prompt = decoded(
        tools=[
            {"type": "function", "function": {
                "name": "a", "description": "d", "parameters": {"type": "object"}, "strict": True}},
            {"type": "custom", "custom": {"name": "sh"}},
        ],
        tool_choice={"type": "function", "function": {"name": "a"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": 1}, "strict": True}},
        reasoning_effort="high",
        max_completion_tokens=7,
        temperature=1,
        top_p=0.5,
        stop="end",
        seed=3,
        n=2,
        logprobs=True,
        top_logprobs=4,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        user="u",
        metadata={"k": "v"},
        logit_bias={"1": 2},
        frequency_penalty=None,
    )  # fmt: skip
    assert prompt == Prompt(
        model="m",
        turns=(Turn(role="user", parts=(Text(text="hi"),)),),
        tools=(
            Tool(name="a", description="d", parameters={"type": "object"}, strict=True),
            OpaqueTool(dialect="openai-chat", value={"type": "custom", "custom": {"name": "sh"}}),
        ),
        tool_choice=ToolChoice(mode=ChoiceMode.TOOL, name="a"),
        parallel_tool_calls=False,
        format=Format(kind="json_schema", name="n", schema={"x": 1}, strict=True),
        thought=Thought(effort="high"),
        max_tokens=7,
        temperature=1.0,
        top_p=0.5,
        stop=("end",),
        seed=3,
        n=2,
        logprobs=True,
        top_logprobs=4,
        stream=True,
        stream_usage=True,
        user="u",
        metadata={"k": "v"},
        dialect="openai-chat",
        spelling={"max_tokens": "max_completion_tokens"},
        extra={"logit_bias": {"1": 2}, "stream_options": {"include_obfuscation": False}},
    )


def test_deprecated_functions_are_tools_called_one_at_a_time() -> None:
    prompt = decoded(
        [
            *HI,
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "a cat"},
        ],
        functions=[{"name": "look", "parameters": {"type": "object"}}],
        function_call={"name": "look"},
    )
    assert prompt.tools == (Tool(name="look", parameters={"type": "object"}),)
    assert prompt.tool_choice == ToolChoice(mode=ChoiceMode.TOOL, name="look")
    assert prompt.parallel_tool_calls is False
    use, output = prompt.turns[1].parts[0], prompt.turns[2].parts[0]
    assert isinstance(use, ToolUse)
    assert isinstance(output, ToolOutput)
    assert use.id == output.call_id
    body = encoded(prompt)
    assert body["tools"] == [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    assert "functions" not in body
    assert body["messages"][2] == {"role": "tool", "tool_call_id": use.id, "content": "a cat"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'"\xff"', "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "The body must be a JSON object, not a list"),
        (b"{}", "'model' is missing"),
        (b'{"model":"m"}', "'messages' is missing"),
        (b'{"model":"m","messages":[]}', "'messages' is missing"),
        (b'{"model":5,"messages":[{}]}', "'model' must be a text, not 5"),
        (b'{"model":"m","messages":{}}', "'messages' must be a list, not an object"),
        (b'{"model":"m","messages":["x"]}', r"'messages\[0\]' must be an object, not 'x'"),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        CHAT.decode_request(body)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"content": "x"}, r"'messages\[0\].role' is missing"),
        ({"role": "boss"}, "one of system, developer, user, assistant, tool, function, not 'boss'"),
        ({"role": "user", "content": 5}, r"'messages\[0\].content' must be a text or a list of parts, not 5"),
        ({"role": "user", "content": [5]}, r"'messages\[0\].content\[0\]' must be an object"),
        ({"role": "user", "content": [{"text": "x"}]}, r"content\[0\].type' is missing"),
        ({"role": "user", "content": [{"type": "text"}]}, r"content\[0\].text' is missing"),
        ({"role": "user", "content": [{"type": "image_url"}]}, r"content\[0\].image_url' must be an object, not null"),
        ({"role": "tool", "content": "x"}, r"'messages\[0\].tool_call_id' is missing"),
        ({"role": "function", "content": "x"}, r"'messages\[0\].name' is missing"),
        ({"role": "assistant", "tool_calls": {}}, r"'messages\[0\].tool_calls' must be a list"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, r"tool_calls\[0\].function' must be an object"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, r"tool_calls\[0\].id' is missing"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": 5}}]}, "holds JSON"),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(message: Json, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        decoded([message])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in ("1", True, [], 10**400)],
        *[("max_tokens", value) for value in ("1", 1.5, True)],
        *[("n", value) for value in (0, -1, "2")],
        *[("stop", value) for value in (5, [5], {})],
        *[("stream", value) for value in (1, "true")],
        *[("tools", value) for value in ({}, [5], [{}], [{"type": "function", "function": {"name": 5}}])],
        *[("tool_choice", value) for value in (5, [], True)],
        *[("response_format", value) for value in ("json", {}, {"type": "json_schema", "json_schema": {"schema": 5}})],
        *[("stream_options", value) for value in (5, {"include_usage": "yes"})],
        *[("metadata", 5), ("logprobs", 5), ("seed", "x"), ("user", 5), ("reasoning_effort", 3), ("functions", [5])],
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=field):
        decoded(**{field: value})


# --- requests: there and back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5},
        {"max_completion_tokens": 5},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"stop": ["a", "b"]},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        {"tool_choice": "any"},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
        {"response_format": {"type": "grammar", "grammar": "root ::= x"}},
        {"reasoning": {"effort": "low", "exclude": True}},
        {"reasoning": {"max_tokens": 2000}},
        {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        {"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}},
        {
            "tools": [{"type": "function", "function": {"name": "a", "returns": {}}, "x": 1}],
            "parallel_tool_calls": True,
        },
        {"seed": 2**70, "vendor": {"deep": [1, 2.5, None, "x"]}},
        {"prediction": {"type": "content", "content": "x"}, "service_tier": "flex", "web_search_options": {"x": 1}},
    ],
)
def test_fields_come_back_as_they_were(fields: Json) -> None:
    assert again(**fields) == {"model": "m", "messages": HI} | fields


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/plain,hi"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b", "x": 1}, "y": 2}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]},
        {"role": "assistant", "content": "x", "audio": {"id": "a1"}},
        {"role": "assistant", "content": "x", "prefix": True},
        {"role": "assistant", "content": "x", "reasoning_content": "hm"},
        {"role": "assistant", "content": "x", "reasoning": "hm"},
        {"role": "assistant", "content": "x", "reasoning": "hm", "reasoning_content": "other"},
        {"role": "assistant", "content": "x", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{broken"},
             "extra_content": {"google": {"thought_signature": "x"}}},
            {"id": "d", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
        ]},
        {"role": "tool", "tool_call_id": "c", "content": "x", "name": "f"},
        {"role": "tool", "tool_call_id": "c", "content": [
            {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://a/b"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "user", "content": "x", "vendor_field": {"a": 1}},
    ],
)  # fmt: skip
def test_messages_come_back_as_they_were(message: Json) -> None:
    assert again([*HI, message])["messages"] == [*HI, message]


FULL = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FULL, inner, max_size=2), max_leaves=4
)
OBJECTS = st.dictionaries(FULL, VALUES, max_size=2)


def record(required: Json, optional: Json | None = None) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional or {})


TEXT_PART = record({"type": st.just("text"), "text": FULL}, {"cache_control": OBJECTS})
IMAGE_PART = record(
    {
        "type": st.just("image_url"),
        "image_url": record(
            {"url": st.sampled_from(["https://a/b.png", "data:image/png;base64,aGk=", "data:,x"])},
            {"detail": st.sampled_from(["low", "high"])},
        ),
    }
)
OTHER_PART = record({"type": st.sampled_from(["input_audio", "file", "video_url"]), "x": VALUES})
PARTS = st.lists(TEXT_PART | IMAGE_PART | OTHER_PART, min_size=2, max_size=4)
CALLS = st.lists(
    record({"id": FULL, "type": st.just("function"), "function": record({"name": FULL, "arguments": FULL})})
    | record({"id": FULL, "type": st.just("custom"), "custom": OBJECTS}),
    min_size=1,
    max_size=3,
)
MESSAGE = st.one_of(
    record({"role": st.sampled_from(["system", "user"]), "content": TEXTS | PARTS}, {"name": FULL}),
    record(
        {"role": st.just("assistant"), "content": FULL | PARTS},
        {
            "tool_calls": CALLS,
            "reasoning_content": FULL,
            "refusal": FULL,
            "x_vendor": FULL,
            "audio": record({"id": FULL}),
        },
    ),
    record({"role": st.just("assistant"), "content": st.none(), "tool_calls": CALLS}),
    record(
        {"role": st.just("tool"), "tool_call_id": FULL, "content": TEXTS | st.lists(TEXT_PART, min_size=2, max_size=3)}
    ),
)
TOOLS = st.lists(
    record(
        {
            "type": st.just("function"),
            "function": record({"name": FULL}, {"description": TEXTS, "parameters": OBJECTS, "strict": st.booleans()}),
        }
    )
    | record({"type": st.just("custom"), "custom": OBJECTS}),
    min_size=1,
    max_size=3,
)
BODY = record(
    {"model": FULL, "messages": st.lists(MESSAGE, min_size=1, max_size=4)},
    {
        "tools": TOOLS,
        "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "a"}}]),
        "parallel_tool_calls": st.booleans(),
        "response_format": record(
            {"type": st.just("json_schema"), "json_schema": record({"name": FULL}, {"schema": OBJECTS})}
        ),
        "reasoning_effort": FULL,
        "max_tokens": st.integers(0),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.lists(TEXTS, min_size=1, max_size=3),
        "seed": st.integers(),
        "n": st.integers(2, 9),
        "logprobs": st.just(True),
        "top_logprobs": st.integers(0, 20),
        "stream": st.just(True),
        "user": TEXTS,
        "metadata": st.dictionaries(FULL, FULL, min_size=1, max_size=2),
        "presence_penalty": st.floats(-2, 2),
        "vendor_field": VALUES.filter(lambda value: value is not None),
    },
)


def meant(body: Json) -> Json:
    """What two bodies must share: nulls and empty fields of messages, and empty texts among parts, say nothing."""
    return body | {"messages": [{k: v for k, v in one.items() if v is not None} for one in body["messages"]]}


@given(BODY)
@settings(max_examples=200, deadline=None)
def test_any_request_comes_back_with_its_meaning(body: Json) -> None:
    prompt = CHAT.decode_request(json.dumps(body).encode())
    sent = CHAT.encode_request(prompt)
    assert meant(json.loads(sent)) == meant(body)
    assert CHAT.decode_request(sent) == prompt


FIELDS = [
    "tools",
    "functions",
    "function_call",
    "tool_choice",
    "response_format",
    "reasoning",
    "stream_options",
    "stop",
    "n",
    "max_tokens",
]


@given(st.lists(JUNK, max_size=3), st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3))
@settings(max_examples=300, deadline=None)
def test_junk_is_read_or_refused_and_what_is_read_can_be_written(messages: list[Any], fields: Json) -> None:
    try:
        prompt = decoded(messages, **fields)
        sent = CHAT.encode_request(prompt)
    except BadRequest:
        return
    assert CHAT.encode_request(CHAT.decode_request(sent)) == sent


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        CHAT.decode_request(body)


# --- requests of other dialects ---------------------------------------------------------------------------------------


def test_a_turn_of_several_outputs_becomes_several_messages_and_images_follow() -> None:
    body = encoded(
        foreign(
            Turn(
                role="assistant",
                parts=(
                    Thinking(text="hm", signature="sig"),
                    Text(text="Looking."),
                    ToolUse(id="a", name="look", arguments="{}", cache={"type": "ephemeral"}),
                    ToolUse(id="b", name="look", arguments="{}"),
                ),
            ),
            Turn(
                role="tool",
                parts=(
                    ToolOutput(call_id="a", parts=(Text(text="seen"), Image(data="aGk=", media_type="image/png"))),
                    ToolOutput(call_id="b", parts=(Text(text="no such place"),), is_error=True),
                ),
            ),
            Turn(role="user", parts=(Text(text="and?", cache={"type": "ephemeral"}),)),
            max_tokens=9,
        )
    )
    calls = [{"id": i, "type": "function", "function": {"name": "look", "arguments": "{}"}} for i in "ab"]
    assert body == {
        "model": "m",
        "max_completion_tokens": 9,
        "messages": [
            {"role": "assistant", "content": "Looking.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "a", "content": "seen"},
            {"role": "tool", "tool_call_id": "b", "content": "Error: no such place"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Images that the tool call a gave:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {"role": "user", "content": "and?"},
        ],
    }


def test_plain_thoughts_travel_and_signed_ones_stay() -> None:
    turn = Turn(role="assistant", parts=(Thinking(text="a"), Thinking(text="b", redacted="x"), Text(text="c")))
    assert encoded(foreign(turn))["messages"] == [{"role": "assistant", "content": "c", "reasoning_content": "a"}]


def test_the_name_of_the_limit_can_be_chosen_for_an_upstream() -> None:
    assert json.loads(Chat(max_tokens_field="max_tokens").encode_request(foreign(max_tokens=3)))["max_tokens"] == 3
    assert encoded(decoded(max_tokens=3))["max_tokens"] == 3


@pytest.mark.parametrize(
    ("budget", "effort", "written"),
    [(1024, None, "low"), (8000, None, "medium"), (32000, None, "high"), (1024, "max", "xhigh"), (None, None, None)],
)
def test_budgets_of_thinking_become_efforts(budget: int | None, effort: str | None, written: str | None) -> None:
    prompt = foreign(thought=Thought(effort=effort, budget_tokens=budget, extra={"thinking": {}}))
    assert encoded(prompt).get("reasoning_effort") == written


def test_what_only_another_dialect_can_say_is_refused_by_name() -> None:
    document = Opaque(dialect="anthropic", kind="document", value={})
    search = OpaqueTool(dialect="anthropic", value={"type": "web_search_20260209", "name": "web_search"})
    for prompt, what in (
        (foreign(Turn(role="user", parts=(document,))), "'document'"),
        (foreign(tools=(search,)), "web_search_20260209"),
        (foreign(extra={"mcp_servers": [{}]}), "mcp_servers"),
        (foreign(extra={"previous_response_id": "r"}, by="openai-responses"), "previous_response_id"),
        (foreign(Turn(role="tool", parts=(ToolOutput(call_id="c"), document))), "'document'"),
        (foreign(Turn(role="user", parts=(Image(),))), "image"),
    ):
        with pytest.raises(Untranslatable, match=what):
            CHAT.encode_request(prompt)


def test_what_changes_no_answer_is_left_out() -> None:
    citations = Opaque(dialect="anthropic", kind="citations", value={}, hint=True)
    prompt = foreign(
        Turn(role="assistant", parts=(Text(text="a"), citations)),
        tools=(Tool(name="t", cache={"type": "ephemeral"}, extra={"input_examples": []}),),
        extra={"context_management": {"edits": []}, "betas": ["x"], "mcp_servers": []},
        metadata={"k": "v"},
        user="u",
    )
    assert encoded(prompt) == {
        "model": "m",
        "messages": [{"role": "assistant", "content": "a"}],
        "tools": [{"type": "function", "function": {"name": "t"}}],
        "user": "u",
    }
    shared = foreign(by="openai-responses", extra={"verbosity": "low", "store": True}, metadata={"k": "v"})
    assert encoded(shared) == {"model": "m", "messages": HI, "verbosity": "low", "metadata": {"k": "v"}}


def test_choices_of_tools_are_left_out_where_there_are_none() -> None:
    bare = foreign(tool_choice=ToolChoice(mode=ChoiceMode.NONE), parallel_tool_calls=True)
    assert encoded(bare) == {"model": "m", "messages": HI}


# --- the official SDK -------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_the_official_sdk_sends() -> None:
    """Its parameters' types read every message, part, tool and option that we write for a prompt of another dialect."""
    params = pytest.importorskip(
        "openai.types.chat.completion_create_params", reason="needs the SDK: pip install openai"
    )
    pydantic = pytest.importorskip("pydantic", reason="comes with the official SDK")
    body = encoded(
        foreign(
            Turn(role="system", parts=(Text(text="a"), Text(text="b"))),
            Turn(role="user", parts=(Text(text="a"), Image(data="aGk=", media_type="image/png"))),
            Turn(role="assistant", parts=(ToolUse(id="c", name="f"), ToolUse(id="d", name="f"))),
            Turn(
                role="tool",
                parts=(
                    ToolOutput(call_id="c", parts=(Text(text="x"), Image(url="https://a/b"))),
                    ToolOutput(call_id="d", parts=(Text(text="x"), Text(text="y")), is_error=True),
                ),
            ),
            Turn(role="assistant", parts=(Refusal(text="no"),)),
            tools=(Tool(name="f", description="d", parameters={"type": "object"}, strict=True),),
            tool_choice=ToolChoice(mode=ChoiceMode.TOOL, name="f"),
            parallel_tool_calls=True,
            format=Format(kind="json_schema", schema={"type": "object"}),
            thought=Thought(budget_tokens=9000),
            max_tokens=5,
            stop=("x",),
            stream=True,
            stream_usage=True,
        )
    )
    types = pydantic.TypeAdapter(params.CompletionCreateParamsStreaming)
    assert read_all(types.validate_python(body)) == body


def read_all(value: Any) -> Any:
    """The SDK's types read lists only when somebody walks them."""
    if isinstance(value, dict):
        return {key: read_all(one) for key, one in value.items()}
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return value
    return [read_all(one) for one in value]
