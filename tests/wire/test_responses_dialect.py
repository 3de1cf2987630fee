"""OpenAI's responses dialect: requests, answers and errors, read and written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadRequest, BadResponse, Untranslatable
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.dialect import KINDS, Problem
from potstill.wire.neutral import (
    Answer,
    Choice,
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
from potstill.wire.openai_responses import RESPONSES, Responses, needs_rewriting

NAME = "openai-responses"


def read(**fields: Any) -> Prompt:
    return RESPONSES.decode_request(json.dumps({"model": "m", "input": "hi"} | fields).encode())


def write(prompt: Prompt) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESPONSES.encode_request(prompt))
    return found


def again(**fields: Any) -> dict[str, Any]:
    return write(read(**fields))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_text_is_the_users_turn_and_instructions_are_the_systems() -> None:
    assert read(instructions="Be brief.").turns == (
        Turn(role="system", parts=(Text(text="Be brief."),)),
        Turn(role="user", parts=(Text(text="hi"),)),
    )


def test_items_of_the_assistant_are_one_turn_and_so_are_results() -> None:
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "enc"},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
    ]
    user, assistant, tool = read(input=items).turns
    assert assistant.parts == (
        Thinking(id="rs_1", redacted="enc"),
        Text(text="Let me look."),
        ToolUse(id="a", name="f"),
        ToolUse(id="b", name="g", arguments='{"x": 1}'),
    )
    assert tool.parts == (
        ToolOutput(call_id="a", parts=(Text(text="1"),)),
        ToolOutput(call_id="b", parts=(Text(text="2"),)),
    )
    assert [turn.role for turn in (user, assistant, tool)] == ["user", "assistant", "tool"]


def test_what_items_say_beside_their_text_comes_back() -> None:
    items = [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "file_path", "index": 0}]}],
        },
        {
            "type": "message",
            "id": "msg_2",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [
                {"type": "output_text", "text": "b", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "x"}, {"type": "summary_text", "text": "y"}],
            "content": [{"type": "reasoning_text", "text": "z"}],
            "encrypted_content": "enc",
            "status": "completed",
        },
        {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c", "name": "f", "arguments": "{"},
    ]
    assert again(input=items)["input"] == items
    thought = next(part for part in read(input=items).turns[0].parts if isinstance(part, Thinking))
    assert thought.text == "x\n\ny\n\nz"


def test_several_summaries_stay_away_once_the_text_was_changed() -> None:
    summary = [{"type": "summary_text", "text": "secret"}, {"type": "summary_text", "text": "y"}]
    prompt = read(input=[{"type": "reasoning", "id": "rs_1", "summary": summary}])
    hint, thought = prompt.turns[0].parts
    changed = Turn(role="assistant", parts=(hint, Thinking(text="***", id="rs_1")))
    (item,) = write(Prompt(model="m", turns=(changed,), dialect=NAME))["input"]
    assert item["summary"] == [{"type": "summary_text", "text": "***"}]
    assert isinstance(thought, Thinking)


def test_images_by_address_and_by_data() -> None:
    content = [
        {"type": "input_image", "image_url": "data:image/jpeg;base64,/9j/", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
    ]
    (turn,) = read(input=[{"role": "user", "content": content}]).turns
    assert turn.parts == (
        Image(data="/9j/", media_type="image/jpeg", detail="low"),
        Image(url="https://example.org/a.png"),
    )
    assert again(input=[{"role": "user", "content": content}])["input"][0]["content"] == content


def test_marks_for_the_cache_stay_within_the_dialect() -> None:
    contents = [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
        {"type": "input_text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    prompt = read(input=[{"role": "user", "content": contents}])
    assert prompt.turns[0].parts == (
        Text(text="a", cache={"type": "ephemeral", "ttl": "1h"}),
        Text(text="b", cache={"type": "ephemeral"}),
    )
    assert write(prompt)["input"][0]["content"] == contents
    foreign = Prompt(model="m", turns=prompt.turns, dialect="anthropic")
    assert "prompt_cache_breakpoint" not in RESPONSES.encode_request(foreign).decode()


def test_settings_have_their_neutral_place() -> None:
    prompt = read(
        tools=[{"type": "function", "name": "f", "strict": True}, {"type": "web_search"}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto", "context": "all_turns"},
        max_output_tokens=5,
        top_logprobs=2,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        user="u",
        metadata={"k": "v"},
        store=False,
        stream=True,
    )
    assert prompt.tools == (
        Tool(name="f", strict=True),
        OpaqueTool(dialect=NAME, value={"type": "web_search"}),
    )
    assert prompt.tool_choice == ToolChoice(mode=ChoiceMode.TOOL, name="f")
    assert prompt.format == Format(kind="json_schema", name="n", schema={}, strict=True)
    assert prompt.thought is not None
    assert (prompt.thought.effort, prompt.thought.summary) == ("high", "auto")
    assert (prompt.max_tokens, prompt.logprobs, prompt.top_logprobs) == (5, True, 2)
    assert (prompt.user, prompt.metadata, prompt.stream, prompt.stream_usage) == ("u", {"k": "v"}, True, True)
    assert prompt.extra == {"verbosity": "low", "include": ["reasoning.encrypted_content"], "store": False}


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
        {"tools": [{"type": "function", "name": "f", "parameters": {}, "defer_loading": True}]},
        {"tools": [{"type": "mcp", "server_label": "x"}]},
        {"text": {"format": {"type": "json_object"}, "verbosity": "high"}},
        {"reasoning": {"effort": "minimal", "mode": "pro"}},
        {"input": [{"type": "message", "role": "developer", "content": "d"}], "instructions": "i"},
        {"input": [{"type": "message", "role": "system", "content": "s"}]},
        {"previous_response_id": "resp_1", "truncation": "auto", "background": True, "stream": True},
        {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
        {"input": [{"type": "message", "role": "user", "content": []}]},
    ],
)
def test_a_request_is_the_same_when_written_again(fields: dict[str, Any]) -> None:
    body = again(**fields)
    assert {key: body[key] for key in fields} == fields


def test_a_call_of_a_tool_in_a_namespace_is_known_here_only() -> None:
    item = {"type": "function_call", "call_id": "c", "name": "f", "namespace": "n", "arguments": "{}"}
    (turn,) = read(input=[item]).turns
    assert turn.parts == (Opaque(dialect=NAME, kind="function_call", value=item),)


def test_a_prompt_of_ours_without_system_text_has_no_instructions() -> None:
    body = write(Prompt(model="m", turns=(Turn(role="user", parts=(Text(text="hi"),)),)))
    assert body == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "store": False,
    }


def test_another_dialects_failed_tool_says_so_in_words() -> None:
    outputs = (
        ToolOutput(call_id="a", parts=(Text(text="no file"),), is_error=True),
        ToolOutput(call_id="b", parts=(Text(text="Error: no file"),), is_error=True),
    )
    body = write(Prompt(model="m", turns=(Turn(role="tool", parts=outputs),), dialect="anthropic"))
    first, second = body["input"]
    assert [part["text"] for part in first["output"]] == ["Error:", "no file"]
    assert second["output"] == "Error: no file"


def test_a_users_name_in_a_conversation_of_several_stands_before_the_text() -> None:
    turn = Turn(role="user", name="Ann", parts=(Text(text="hi"),))
    assert write(Prompt(model="m", turns=(turn,)))["input"][0]["content"] == "Ann: hi"


def test_a_budget_of_thinking_becomes_an_effort() -> None:
    for budget, effort in ((1024, "low"), (4096, "low"), (16384, "medium"), (16385, "high")):
        body = write(Prompt(model="m", turns=(), thought=Thought(budget_tokens=budget)))
        assert body["reasoning"] == {"effort": effort}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": None}, "'model' is missing"),
        ({"input": 3}, "'input' must be"),
        ({"input": [3]}, r"'input\[0\]' must be an object, not 3"),
        ({"input": [{"role": "robot", "content": "x"}]}, r"'input\[0\].role' is 'robot'; allowed: user"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            r"'input\[0\].content\[0\].text' is missing",
        ),
        ({"input": [{"type": "function_call", "name": "f"}]}, r"'input\[0\].call_id' is missing"),
        ({"temperature": "hot"}, "'temperature' must be a number, not 'hot'"),
        ({"max_output_tokens": 1.5}, "'max_output_tokens' must be a whole number, not 1.5"),
        ({"stream": "yes"}, "'stream' must be true or false"),
        ({"tools": [{"name": "f"}]}, r"'tools\[0\].type' is missing"),
        ({"tool_choice": "any"}, "'tool_choice' is 'any'; allowed: auto, none, required"),
        ({"text": {"format": {"type": "xml"}}}, "'text.format.type' is 'xml'; allowed"),
    ],
)
def test_a_bad_request_names_the_field_at_fault(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(**fields)


def test_what_the_dialect_cannot_say() -> None:
    for prompt in (
        Prompt(model="m", turns=(), n=2),
        Prompt(model="m", turns=(), stop=("x",)),
        Prompt(model="m", turns=(), extra={"top_k": 3}, dialect="anthropic"),
        Prompt(model="m", turns=(), tools=(OpaqueTool(dialect="anthropic", value={"type": "bash"}),)),
        Prompt(model="m", turns=(Turn(role="assistant", parts=(Image(url="u"),)),)),
        Prompt(model="m", turns=(Turn(role="user", parts=(Opaque(dialect="anthropic", kind="document", value={}),)),)),
    ):
        with pytest.raises(Untranslatable):
            RESPONSES.encode_request(prompt)


# --- ids and proofs that are not OpenAI's -----------------------------------------------------------------------------


def test_another_providers_proof_travels_through_the_client_and_never_to_openai() -> None:
    answer = Answer(
        id="msg_01",
        model="claude",
        choices=(Choice(parts=(Thinking(text="hm", signature="sig"), Thinking(redacted="black"), Text(text="ok"))),),
        dialect="anthropic",
    )
    items = json.loads(RESPONSES.encode_answer(answer, read()))["output"]
    assert [item.get("encrypted_content") for item in items] == [
        "potstill:anthropic:signature:sig",
        "potstill:anthropic:redacted:black",
        None,
    ]
    body = json.dumps({"model": "m", "input": items}).encode()
    assert needs_rewriting(body)
    prompt = RESPONSES.decode_request(body)
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    redacted = {"type": "redacted_thinking", "data": "black"}
    assert prompt.turns[0].parts == (
        Opaque(dialect="anthropic", kind="thinking", value=signed, hint=True),
        Thinking(text="hm"),
        Opaque(dialect="anthropic", kind="redacted_thinking", value=redacted, hint=True),
        Text(text="ok"),
    )
    sent = RESPONSES.encode_request(prompt)
    assert not needs_rewriting(sent)
    assert json.loads(sent)["input"] == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": "ok"},
    ]


def test_openais_own_ids_and_proofs_are_no_reason_to_rewrite() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    bare = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    assert not needs_rewriting(json.dumps(item).encode())
    assert again(input=[item, bare])["input"] == [item, bare]


def test_open_servers_are_given_reasoning_as_raw_text() -> None:
    thoughts = (Thinking(text="a", signature="sig"), Thinking(redacted="black"), Thinking(text="b", id="rs_1"))
    prompt = Prompt(model="m", turns=(Turn(role="assistant", parts=thoughts),), dialect="anthropic")
    first, second = json.loads(Responses(reasoning="content").encode_request(prompt))["input"]
    assert [item["content"] for item in (first, second)] == [
        [{"type": "reasoning_text", "text": "a"}],
        [{"type": "reasoning_text", "text": "b"}],
    ]
    assert (first["summary"], second["id"]) == ([], "rs_1")
    assert "encrypted_content" not in first


# --- answers ----------------------------------------------------------------------------------------------------------


def answer_body(**fields: Any) -> bytes:
    body = {"id": "resp_1", "object": "response", "created_at": 5, "model": "m", "status": "completed", "output": []}
    return json.dumps(body | fields).encode()


@pytest.mark.parametrize(
    ("fields", "finish", "raw"),
    [
        ({}, FinishReason.STOP, None),
        ({"output": [{"type": "function_call", "call_id": "c", "name": "f"}]}, FinishReason.TOOL_CALLS, None),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, FinishReason.LENGTH, None),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            FinishReason.CONTENT_FILTER,
            None,
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, FinishReason.OTHER, "steered"),
        ({"status": "queued"}, FinishReason.OTHER, "queued"),
        ({"status": "incomplete"}, FinishReason.OTHER, "incomplete"),
    ],
)
def test_status_and_reason_are_the_finish(fields: dict[str, Any], finish: FinishReason, raw: str | None) -> None:
    answer = RESPONSES.decode_answer(answer_body(**fields))
    assert (answer.choices[0].finish, answer.choices[0].finish_raw) == (finish, raw)
    written = json.loads(RESPONSES.encode_answer(answer, read()))
    assert written["status"] == fields.get("status", "completed")
    assert written["incomplete_details"] == fields.get("incomplete_details")


def test_an_answer_repeats_what_was_asked() -> None:
    prompt = read(
        instructions="i", tools=[{"type": "function", "name": "f"}], temperature=0.5, metadata={"a": "b"}, user="u"
    )
    answer = Answer(id="chatcmpl-1", model="x", choices=(Choice(parts=(Text(text="ok"),)),), created=7.0)
    body = json.loads(RESPONSES.encode_answer(answer, prompt))
    assert body["id"] == "resp_chatcmpl-1"
    assert (body["object"], body["created_at"], body["model"], body["status"]) == ("response", 7, "x", "completed")
    assert (body["instructions"], body["temperature"], body["metadata"]) == ("i", 0.5, {"a": "b"})
    assert body["tools"] == [{"type": "function", "name": "f"}]
    assert (body["error"], body["usage"], body["store"], body["parallel_tool_calls"]) == (None, None, False, True)


def test_usage_is_written_from_the_counts_of_another_dialect() -> None:
    usage = Usage(
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_tokens=30,
        output_tokens=9,
        reasoning_tokens=4,
        cache_reported=True,
    )
    answer = Answer(
        id="1", model="x", choices=(Choice(),), usage=usage, raw_usage={"input_tokens": 10}, dialect="anthropic"
    )
    body = RESPONSES.encode_answer(answer, read())
    assert json.loads(body)["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 109,
    }
    assert RESPONSES.decode_answer(body).usage == usage


def test_log_probabilities_stand_at_the_text_if_they_were_asked_for() -> None:
    tokens = (TokenLogprob(token="ok", logprob=-0.5, top=(("ok", -0.5), ("no", -1.5))),)
    answer = Answer(id="1", model="x", choices=(Choice(parts=(Text(text="ok"),), logprobs=tokens),))
    body = RESPONSES.encode_answer(answer, read(include=["message.output_text.logprobs"]))
    assert RESPONSES.decode_answer(body).choices[0].logprobs == tokens
    assert json.loads(RESPONSES.encode_answer(answer, read()))["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "is not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"error": {"message": "no money"}}', "no money"),
        (b'{"id": "x"}', "no 'output'"),
        (answer_body(status="failed", error={"code": "server_error", "message": "boom"}), "failed: boom"),
        (answer_body(output=[3]), r"output\[0\]"),
        (answer_body(output=[{"id": "x"}]), r"output\[0\].type"),
    ],
)
def test_what_is_no_answer_says_why(body: bytes, message: str) -> None:
    with pytest.raises(BadResponse, match=message):
        RESPONSES.decode_answer(body)


def test_several_choices_and_none_cannot_be_written() -> None:
    with pytest.raises(Untranslatable):
        RESPONSES.encode_answer(Answer(id="1", model="x", choices=(Choice(), Choice())), read())
    with pytest.raises(BadResponse):
        RESPONSES.encode_answer(Answer(id="1", model="x", choices=()), read())


texts = st.text(max_size=12)
objects = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5), max_size=3)
answer_parts = st.lists(
    st.builds(Text, text=texts)
    | st.builds(Refusal, text=texts)
    | st.builds(Thinking, text=texts, id=st.just("rs_1"), redacted=st.none() | st.just("enc"))
    | st.builds(ToolUse, id=st.text(min_size=1, max_size=9), name=texts, arguments=objects.map(json.dumps)),
    max_size=6,
).map(tuple)


@given(parts=answer_parts, finish=st.sampled_from([FinishReason.LENGTH, FinishReason.CONTENT_FILTER]))
def test_an_answer_is_the_same_when_read_again(parts: tuple[Any, ...], finish: FinishReason) -> None:
    answer = Answer(id="resp_1", model="m", choices=(Choice(parts=parts, finish=finish),), created=3.0, dialect=NAME)
    read_again = RESPONSES.decode_answer(RESPONSES.encode_answer(answer, read()))
    assert read_again.choices == answer.choices
    assert (read_again.id, read_again.model, read_again.created) == ("resp_1", "m", 3.0)


user_parts = st.lists(
    st.builds(Text, text=texts) | st.builds(Image, url=st.just("https://e.org/x")), min_size=1, max_size=3
).map(tuple)
outputs = st.builds(
    ToolOutput,
    call_id=st.text(min_size=1, max_size=9),
    parts=st.lists(st.builds(Text, text=texts.filter(bool)), max_size=2).map(tuple),
    is_error=st.booleans(),
)
turns = st.lists(
    st.builds(Turn, role=st.just("user"), parts=user_parts)
    | st.builds(Turn, role=st.just("assistant"), parts=answer_parts)
    | st.builds(Turn, role=st.just("tool"), parts=st.lists(outputs, min_size=1, max_size=3).map(tuple))
    | st.builds(Turn, role=st.just("system"), parts=st.builds(Text, text=texts.filter(bool)).map(lambda one: (one,))),
    max_size=6,
).map(tuple)


def merged(given_turns: tuple[Turn, ...]) -> list[tuple[str, list[Any]]]:
    """Neighbouring turns of assistant or tools are one; a turn without parts is none."""
    found: list[tuple[str, list[Any]]] = []
    for turn in given_turns:
        if not turn.parts:
            continue
        if found and turn.role in ("assistant", "tool") and found[-1][0] == turn.role:
            found[-1][1].extend(turn.parts)
        else:
            found.append((turn.role, list(turn.parts)))
    return found


@given(given_turns=turns)
def test_a_history_is_the_same_when_read_again(given_turns: tuple[Turn, ...]) -> None:
    body = RESPONSES.encode_request(Prompt(model="m", turns=given_turns, dialect=NAME))
    assert merged(RESPONSES.decode_request(body).turns) == merged(given_turns)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_openais_error_objects(kind: str) -> None:
    body = json.loads(RESPONSES.encode_problem(Problem(status=400, kind=kind, message="'tools[0].type' is missing")))
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["param"] == ("tools[0].type" if kind == "invalid_request" else None)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "bad", "type": "invalid_request_error", "code": "x"}, "invalid_request"),
        (401, {"message": "bad", "type": "invalid_request_error", "code": "invalid_api_key"}, "authentication"),
        (429, {"message": "bad", "type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit"),
        (429, {"message": "bad", "type": "insufficient_quota", "code": "insufficient_quota"}, "quota"),
        (500, {"message": "bad", "type": "server_error"}, "upstream"),
        (503, {"message": "bad"}, "overloaded"),
        (422, {"message": "bad"}, "invalid_request"),
    ],
)
def test_the_kind_of_an_error_is_known(status: int, error: dict[str, Any], kind: str) -> None:
    problem = RESPONSES.decode_problem(status, json.dumps({"error": error}).encode())
    assert (problem.status, problem.kind, problem.message) == (status, kind, "bad")
