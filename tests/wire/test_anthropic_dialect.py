"""The Anthropic messages dialect: requests, answers and errors, by hand, as properties, against the official SDK."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadRequest, BadResponse, Untranslatable
from potstill.types import FinishReason, Usage
from potstill.wire.anthropic import ANTHROPIC, holds_unsigned
from potstill.wire.anthropic_blocks import UNSIGNED, call_id
from potstill.wire.anthropic_request import DEFAULT_MAX_TOKENS
from potstill.wire.dialect import KINDS, Problem, dialect
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

EPHEMERAL = {"type": "ephemeral"}
PIXEL = "iVBORw0KGgoAAAANSUhEUg=="


def body(**fields: Any) -> bytes:
    whole = {"model": "claude", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]} | fields
    return json.dumps({key: value for key, value in whole.items() if value is not ...}).encode()


def read(**fields: Any) -> Prompt:
    return ANTHROPIC.decode_request(body(**fields))


def written(prompt: Prompt) -> dict[str, Any]:
    return json.loads(ANTHROPIC.encode_request(prompt))


def foreign(*turns: Turn, **fields: Any) -> Prompt:
    return Prompt(model="claude", turns=turns, dialect=fields.pop("dialect", "openai-chat"), **fields)


def says(role: Any, text: str, **fields: Any) -> Turn:
    return Turn(role=role, parts=(Text(text=text),), **fields)


# --- requests, read ---------------------------------------------------------------------------------------------------


def test_the_dialect_is_found_by_its_name() -> None:
    assert dialect("anthropic") is ANTHROPIC
    assert (ANTHROPIC.name, ANTHROPIC.path) == ("anthropic", "/messages")


def test_an_agents_request_is_read_part_by_part() -> None:
    prompt = read(
        system=[{"type": "text", "text": "Be brief.", "cache_control": EPHEMERAL}],
        messages=[
            {"role": "user", "content": "Look."},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "I should look.", "signature": "sig=="},
                    {"type": "redacted_thinking", "data": "enc=="},
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "tree", "n": 1.0}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "is_error": True,
                        "cache_control": EPHEMERAL,
                        "content": [
                            {"type": "text", "text": "no tree"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                            },
                        ],
                    },
                    {"type": "text", "text": "Try again."},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                ],
            },
        ],
    )
    assert prompt.turns == (
        Turn(role="system", parts=(Text(text="Be brief.", cache=EPHEMERAL),)),
        says("user", "Look."),
        Turn(
            role="assistant",
            parts=(
                Thinking(text="I should look.", signature="sig=="),
                Thinking(redacted="enc=="),
                Text(text="Looking."),
                ToolUse(id="toolu_1", name="look", arguments='{"at":"tree","n":1.0}'),
            ),
        ),
        Turn(
            role="tool",
            parts=(
                ToolOutput(
                    call_id="toolu_1",
                    is_error=True,
                    cache=EPHEMERAL,
                    parts=(Text(text="no tree"), Image(data=PIXEL, media_type="image/png")),
                ),
            ),
        ),
        Turn(role="user", parts=(Text(text="Try again."), Image(url="https://example.org/a.png"))),
    )


def test_every_option_is_read() -> None:
    prompt = read(
        max_tokens=0,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["END"],
        stream=True,
        metadata={"user_id": "u1"},
        service_tier="auto",
        tools=[
            {
                "name": "look",
                "description": "Looks.",
                "input_schema": {"type": "object"},
                "strict": True,
                "cache_control": EPHEMERAL,
                "input_examples": [{}],
            },
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "max"},
    )
    assert (prompt.max_tokens, prompt.temperature, prompt.top_p, prompt.stop) == (0, 0.5, 0.9, ("END",))
    assert (prompt.stream, prompt.stream_usage, prompt.user, prompt.metadata) == (True, True, "u1", {})
    assert prompt.extra == {"top_k": 5, "service_tier": "auto"}
    assert prompt.tools == (
        Tool(
            name="look",
            description="Looks.",
            parameters={"type": "object"},
            strict=True,
            cache=EPHEMERAL,
            extra={"input_examples": [{}]},
        ),
        OpaqueTool(dialect="anthropic", value={"type": "web_search_20250305", "name": "web_search"}),
    )
    assert prompt.tool_choice == ToolChoice(mode=ChoiceMode.TOOL, name="look")
    assert prompt.parallel_tool_calls is False
    assert prompt.format == Format(kind="json_schema", schema={"type": "object"})
    assert prompt.thought is not None
    assert prompt.thought.effort == "max"


def test_a_body_of_count_tokens_has_no_max_tokens() -> None:
    prompt = read(max_tokens=..., system="S")
    assert prompt.max_tokens is None
    assert json.loads(ANTHROPIC.encode_count(prompt)) == {
        "model": "claude",
        "system": "S",
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert json.loads(ANTHROPIC.encode_token_count(7)) == {"input_tokens": 7}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}, "document"),
        ({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}, "server_tool_use"),
        ({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}, "web_search_tool_result"),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "image"),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "code"}}, "tool_use"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "search_result", "content": []}]},
            "tool_result",
        ),
        ({"type": "of_next_year", "what": 1}, "of_next_year"),
    ],
)
def test_a_block_that_only_anthropic_knows_survives_and_is_not_translated(content: dict[str, Any], kind: str) -> None:
    prompt = read(messages=[{"role": "user", "content": [content]}])
    assert prompt.turns[0].parts == (Opaque(dialect="anthropic", kind=kind, value=content),)
    assert written(prompt)["messages"] == [{"role": "user", "content": [content]}]


def test_citations_are_a_hint_behind_their_text() -> None:
    block = {"type": "text", "text": "Grass is green.", "citations": [{"type": "char_location", "cited_text": "g"}]}
    prompt = read(messages=[{"role": "assistant", "content": [block, {"type": "text", "text": "So."}]}])
    text, cited, rest = prompt.turns[0].parts
    assert text == Text(text="Grass is green.")
    assert isinstance(cited, Opaque)
    assert cited.hint
    assert rest == Text(text="So.")
    assert written(prompt)["messages"][0]["content"][0] == block


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": ...}, "'model' is missing"),
        ({"messages": ...}, "'messages' is missing"),
        ({"messages": [{"role": "user"}]}, "'messages.0.content' is missing"),
        ({"messages": [{"role": "owner", "content": "x"}]}, "'messages.0.role' is 'owner'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "'messages.0.content.0.text' is missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "'messages.0.content' must be a text or a list of blocks"),
        ({"max_tokens": "many"}, "'max_tokens' must be a whole number, not 'many'"),
        ({"max_tokens": True}, "'max_tokens' must be a whole number"),
        ({"max_tokens": -1}, "'max_tokens' is -1"),
        ({"stop_sequences": ["a", 1]}, "'stop_sequences.1' must be a text"),
        ({"tools": [{"input_schema": {}}]}, "'tools.0.name' is missing"),
        ({"tool_choice": {"type": "some"}}, "allowed: auto, any, tool, none"),
        ({"tool_choice": {"type": "tool"}}, "'tool_choice.name' is missing"),
        ({"output_config": {"format": {"type": "grammar"}}}, "allowed: json_schema"),
    ],
)
def test_a_wrong_request_names_the_field(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told.replace(".", r"\.")):
        read(**fields)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"a":1e999}', b"[" * 100_000, b'{"a":"\\ud800"}'])
def test_what_is_no_json_object_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        ANTHROPIC.decode_request(raw)
    with pytest.raises(BadResponse):
        ANTHROPIC.decode_answer(raw)


def test_nested_results_of_tools_do_not_exhaust_the_stack() -> None:
    block: Any = "x"
    for _ in range(300):
        block = [{"type": "tool_result", "tool_use_id": "t", "content": block}]
    prompt = read(messages=[{"role": "user", "content": block}])
    assert isinstance(prompt.turns[0].parts[0], Opaque)


# --- requests, written from another dialect's history -----------------------------------------------------------------


def test_an_openai_history_becomes_alternating_messages() -> None:
    prompt = foreign(
        says("system", "Be brief."),
        says("system", "Use tools."),
        says("user", "Look twice."),
        Turn(role="assistant", parts=(Text(text=""), ToolUse(id="c1", name="look", arguments=""))),
        Turn(role="assistant", parts=(ToolUse(id="c2", name="look", arguments='{"far": true}'),)),
        Turn(role="tool", parts=(ToolOutput(call_id="c1", parts=(Text(text="tree"),)),)),
        Turn(role="tool", parts=(ToolOutput(call_id="c2"),)),
        says("user", "And?"),
        max_tokens=5,
    )
    assert written(prompt) == {
        "model": "claude",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Use tools."}],
        "messages": [
            {"role": "user", "content": "Look twice."},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
                    {"type": "tool_use", "id": "c2", "name": "look", "input": {"far": True}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "tree"},
                    {"type": "tool_result", "tool_use_id": "c2"},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    }


def test_a_system_turn_in_the_middle_stays_there_and_results_come_first() -> None:
    prompt = foreign(
        says("user", "Go."),
        Turn(role="assistant", parts=(ToolUse(id="c1", name="f"),)),
        says("system", "Hurry."),
        Turn(role="tool", parts=(ToolOutput(call_id="c1", parts=(Text(text="ok"),)),)),
    )
    assert written(prompt)["messages"][-1] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "ok"},
            {"type": "text", "text": "<system>\nHurry.\n</system>"},
        ],
    }


def test_a_system_message_of_anthropics_own_keeps_its_role() -> None:
    messages = [{"role": "user", "content": "Go."}, {"role": "system", "content": "Hurry."}]
    assert written(read(messages=messages))["messages"] == messages


def test_a_prompt_of_system_turns_alone_is_sent_as_the_users_message() -> None:
    sent = written(foreign(says("system", "Write a poem.")))
    assert sent["messages"] == [{"role": "user", "content": "Write a poem."}]
    assert "system" not in sent


def test_max_tokens_is_required_so_a_default_is_written() -> None:
    assert written(foreign(says("user", "hi")))["max_tokens"] == DEFAULT_MAX_TOKENS


def test_the_name_of_a_user_is_said_in_the_text() -> None:
    prompt = foreign(says("user", "hi", name="ana"), says("user", "ho", name="bo"))
    assert written(prompt)["messages"][0]["content"] == [
        {"type": "text", "text": "ana: hi"},
        {"type": "text", "text": "bo: ho"},
    ]


def test_ids_that_anthropic_refuses_are_written_alike_in_call_and_result() -> None:
    prompt = foreign(
        says("user", "x"),
        Turn(role="assistant", parts=(ToolUse(id="functions.f:0", name="f"), ToolUse(id="functions.f.0", name="f"))),
        Turn(role="tool", parts=(ToolOutput(call_id="functions.f:0"), ToolOutput(call_id="functions.f.0"))),
    )
    _, assistant, user = written(prompt)["messages"]
    ids = [block["id"] for block in assistant["content"]]
    assert ids == [block["tool_use_id"] for block in user["content"]]
    assert len(set(ids)) == 2
    assert call_id("toolu_01-x") == "toolu_01-x"


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"x"', "[" * 50_000, '{"a":1e999}'])
def test_arguments_that_are_no_object_are_wrapped(arguments: str) -> None:
    prompt = foreign(Turn(role="assistant", parts=(ToolUse(id="c", name="f", arguments=arguments),)))
    assert written(prompt)["messages"][0]["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_arguments_are_sent_as_the_model_wrote_them() -> None:
    prompt = foreign(Turn(role="assistant", parts=(ToolUse(id="c", name="f", arguments='{"b": 1.50, "a":2}'),)))
    assert b'"input":{"b": 1.50, "a":2}' in ANTHROPIC.encode_request(prompt)


def test_thoughts_that_anthropic_did_not_sign_are_left_out_of_a_request() -> None:
    thoughts = (Thinking(text="hm"), Thinking(text="hm", signature="other"), Thinking(redacted="x", id="rs_1"))
    prompt = foreign(says("user", "x"), Turn(role="assistant", parts=(*thoughts, Text(text="y"))))
    assert written(prompt)["messages"][1]["content"] == "y"


def test_images_are_said_by_data_or_address() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    prompt = foreign(
        Turn(
            role="user",
            parts=(
                Image(data=PIXEL),
                Image(url=f"data:image/png;base64,{PIXEL}", detail="low"),
                Image(url="https://example.org/a.png"),
            ),
        )
    )
    sources = [block["source"] for block in written(prompt)["messages"][0]["content"]]
    assert sources == [image, image, {"type": "url", "url": "https://example.org/a.png"}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"n": 2}, "n is 2"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 1.2}, "takes 0 to 1"),
        ({"format": Format(kind="json_object")}, "json_schema"),
        ({"extra": {"logit_bias": {"50": 1}}}, "logit_bias"),
        ({"extra": {"frequency_penalty": 0.5}}, "frequency_penalty"),
        ({"thought": Thought(effort="huge")}, "huge"),
        ({"tools": (OpaqueTool(dialect="openai-responses", value={"type": "file_search"}),)}, "file_search"),
    ],
)
def test_what_anthropic_cannot_say_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(Untranslatable, match=told):
        ANTHROPIC.encode_request(foreign(says("user", "hi"), **fields))


def test_another_dialects_part_is_refused_unless_it_is_a_hint() -> None:
    audio = Opaque(dialect="openai-chat", kind="input_audio", value={"data": "x"})
    with pytest.raises(Untranslatable, match="input_audio"):
        ANTHROPIC.encode_request(foreign(Turn(role="user", parts=(audio,))))
    hint = msgspec.structs.replace(audio, hint=True)
    assert written(foreign(Turn(role="user", parts=(hint, Text(text="x")))))["messages"][0]["content"] == "x"


def test_harmless_fields_of_other_dialects_are_left_out_and_top_k_is_kept() -> None:
    extra = {"store": True, "prompt_cache_key": "k", "logit_bias": None, "presence_penalty": 0, "top_k": 3}
    sent = written(foreign(says("user", "hi"), extra=extra, seed=1, metadata={"team": "a"}, user="u"))
    assert sent["top_k"] == 3
    assert sent["metadata"] == {"user_id": "u"}
    assert not {"store", "prompt_cache_key", "logit_bias", "seed"} & sent.keys()


def test_sampling_at_its_default_is_left_out_because_newer_models_refuse_it() -> None:
    sent = written(foreign(says("user", "hi"), temperature=1.0, top_p=1.0))
    assert not {"temperature", "top_p"} & sent.keys()
    assert written(foreign(says("user", "hi"), temperature=0.0))["temperature"] == 0
    assert written(read(temperature=1.0))["temperature"] == 1


@pytest.mark.parametrize(
    ("choice", "parallel", "tools", "expected"),
    [
        (None, None, True, None),
        (None, True, True, None),
        (None, False, True, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, False, False, None),
        (ToolChoice(mode=ChoiceMode.NONE), False, True, {"type": "none"}),
        (ToolChoice(mode=ChoiceMode.NONE), None, False, None),
        (ToolChoice(mode=ChoiceMode.REQUIRED), True, True, {"type": "any", "disable_parallel_tool_use": False}),
        (ToolChoice(mode=ChoiceMode.TOOL, name="f"), None, True, {"type": "tool", "name": "f"}),
    ],
)
def test_choice_of_tools(choice: Any, parallel: bool | None, tools: bool, expected: Any) -> None:
    given_tools = (Tool(name="f", parameters={"properties": {}}),) if tools else ()
    sent = written(foreign(says("user", "hi"), tools=given_tools, tool_choice=choice, parallel_tool_calls=parallel))
    assert sent.get("tool_choice") == expected
    if tools:
        assert sent["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    ("thinking", "effort", "neutral"),
    [
        ({"type": "enabled", "budget_tokens": 4096}, None, "low"),
        ({"type": "enabled", "budget_tokens": 4097}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 31_999}, None, "high"),
        ({"type": "enabled", "budget_tokens": 31_999}, "low", "low"),
        ({"type": "adaptive", "display": "summarized"}, None, None),
        ({"type": "adaptive"}, "xhigh", "xhigh"),
        ({"type": "disabled"}, "high", "none"),
        ({"type": "between_tools"}, None, "minimal"),
        (None, "max", "max"),
    ],
)
def test_thinking_is_read_as_effort_and_said_again_unchanged(thinking: Any, effort: Any, neutral: Any) -> None:
    fields = {"thinking": thinking or ..., "output_config": {"effort": effort, "task_budget": 3} if effort else ...}
    prompt = read(**fields)
    assert prompt.thought is not None
    assert prompt.thought.effort == neutral
    sent = written(prompt)
    assert sent.get("thinking", ...) == fields["thinking"]
    assert sent.get("output_config", ...) == fields["output_config"]


@pytest.mark.parametrize(
    ("thought", "thinking", "output"),
    [
        (Thought(effort="minimal"), {"type": "adaptive"}, {"effort": "low"}),
        (Thought(effort="high", summary="auto"), {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
        (Thought(effort="none"), {"type": "disabled"}, None),
        (Thought(budget_tokens=8000), {"type": "adaptive"}, {"effort": "medium"}),
        (Thought(), None, None),
    ],
)
def test_effort_of_another_dialect_is_written_as_adaptive_thinking(
    thought: Thought, thinking: Any, output: Any
) -> None:
    sent = written(foreign(says("user", "hi"), thought=thought))
    assert (sent.get("thinking"), sent.get("output_config")) == (thinking, output)


# --- answers ----------------------------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "text", "text": "Look:"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 90,
        "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 40},
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
        "service_tier": "standard",
    },
}
ASKED = Prompt(model="claude", turns=(), dialect="anthropic")


def test_an_answer_is_read_with_all_its_input_counted() -> None:
    answer = ANTHROPIC.decode_answer(json.dumps(ANSWER).encode())
    assert answer.usage == Usage(
        input_tokens=1000,
        cache_read_tokens=900,
        cache_write_tokens=90,
        cache_write_1h_tokens=40,
        output_tokens=20,
        reasoning_tokens=5,
        cache_reported=True,
    )
    assert answer.choices == (
        Choice(
            parts=(
                Thinking(text="hm", signature="sig"),
                Text(text="Look:"),
                ToolUse(id="toolu_1", name="look", arguments="{}"),
            ),
            finish=FinishReason.TOOL_CALLS,
        ),
    )
    assert json.loads(ANTHROPIC.encode_answer(answer, ASKED)) == ANSWER


def test_usage_of_another_dialect_is_written_as_anthropic_counts() -> None:
    usage = Usage(input_tokens=1000, cache_read_tokens=900, output_tokens=20, reasoning_tokens=5, cache_reported=True)
    answer = Answer(id="c", model="m", choices=(Choice(),), usage=usage, raw_usage={"prompt_tokens": 1000})
    shown = json.loads(ANTHROPIC.encode_answer(answer, ASKED))["usage"]
    assert (shown["input_tokens"], shown["cache_read_input_tokens"], shown["output_tokens"]) == (100, 900, 20)
    assert "prompt_tokens" not in shown
    assert ANTHROPIC.decode_answer(ANTHROPIC.encode_answer(answer, ASKED)).usage == usage
    silent = msgspec.structs.replace(answer, usage=Usage(input_tokens=3, output_tokens=1))
    assert "cache_read_input_tokens" not in json.loads(ANTHROPIC.encode_answer(silent, ASKED))["usage"]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("stop_sequence", FinishReason.STOP),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("pause_turn", FinishReason.OTHER),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("of_next_year", FinishReason.OTHER),
    ],
)
def test_stop_reasons_both_ways(word: str, finish: FinishReason) -> None:
    raw = ANSWER | {"stop_reason": word, "content": ANSWER["content"][: 3 if word == "tool_use" else 2]}
    answer = ANTHROPIC.decode_answer(json.dumps(raw).encode())
    assert answer.choices[0].finish is finish
    if word != "of_next_year":
        assert json.loads(ANTHROPIC.encode_answer(answer, ASKED))["stop_reason"] == word


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        (Choice(finish=FinishReason.STOP), "end_turn"),
        (Choice(finish=FinishReason.STOP, stop_sequence="END"), "stop_sequence"),
        (Choice(parts=(ToolUse(id="c", name="f"),), finish=FinishReason.STOP), "tool_use"),
        (Choice(parts=(ToolUse(id="c", name="f"),), finish=FinishReason.LENGTH), "max_tokens"),
        (Choice(finish=FinishReason.TOOL_CALLS), "end_turn"),
        (Choice(parts=(Refusal(text="no"),), finish=FinishReason.CONTENT_FILTER), "refusal"),
        (Choice(finish=FinishReason.OTHER, finish_raw="function_call"), "end_turn"),
    ],
)
def test_the_stop_reason_says_tool_use_exactly_where_there_are_calls(choice: Choice, word: str) -> None:
    answer = Answer(id="c", model="m", choices=(choice,), dialect="openai-chat")
    assert json.loads(ANTHROPIC.encode_answer(answer, ASKED))["stop_reason"] == word


def test_a_students_thought_is_marked_and_never_sent_to_anthropic() -> None:
    parts = (Thinking(text="hm", signature="theirs"), Thinking(redacted="enc", id="rs_1"), Text(text="Done."))
    answer = Answer(id="c", model="m", choices=(Choice(parts=parts),), dialect="openai-chat")
    shown = json.loads(ANTHROPIC.encode_answer(answer, ASKED))["content"]
    assert shown[0] == {"type": "thinking", "thinking": "hm", "signature": UNSIGNED}
    assert len(shown) == 2
    history = [{"role": "user", "content": "x"}, {"role": "assistant", "content": shown}]
    request = body(messages=history)
    assert holds_unsigned(request)
    prompt = ANTHROPIC.decode_request(request)
    assert prompt.turns[1].parts[0] == Thinking(text="hm")
    assert written(prompt)["messages"][1] == {"role": "assistant", "content": "Done."}


def test_details_of_a_refusal_survive() -> None:
    raw = ANSWER | {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio"}}
    answer = ANTHROPIC.decode_answer(json.dumps(raw).encode())
    assert json.loads(ANTHROPIC.encode_answer(answer, ASKED)) == raw


def test_answers_that_cannot_be_given() -> None:
    with pytest.raises(Untranslatable, match="2 choices"):
        ANTHROPIC.encode_answer(Answer(id="c", model="m", choices=(Choice(), Choice())), ASKED)
    with pytest.raises(BadResponse, match="no choices"):
        ANTHROPIC.encode_answer(Answer(id="c", model="m", choices=()), ASKED)
    with pytest.raises(BadResponse, match="is an error: Overloaded"):
        ANTHROPIC.decode_answer(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')


def test_servers_that_copy_the_dialect_may_write_arguments_as_text() -> None:
    raw = {"content": [{"type": "tool_use", "name": "f", "input": '{"a":1}'}, {"type": "tool_use", "name": "g"}]}
    parts = ANTHROPIC.decode_answer(json.dumps(raw).encode()).choices[0].parts
    assert [part.arguments for part in parts if isinstance(part, ToolUse)] == ['{"a":1}', "{}"]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_comes_back(kind: str) -> None:
    problem = Problem(status=418, kind=kind, message="so", code="c1")
    shown = ANTHROPIC.encode_problem(problem)
    assert json.loads(shown)["type"] == "error"
    again = ANTHROPIC.decode_problem(418 if kind not in ("upstream", "internal") else 500, shown)
    assert again.message == "so"
    assert again.code == "c1"
    assert again.kind == ("upstream" if kind == "internal" else kind)


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "overloaded"),
        (503, b"<html>busy</html>", "overloaded"),
        (500, b'{"type":"error","error":{"type":"api_error","message":"oops"}}', "upstream"),
        (409, b'{"type":"error","error":{"type":"conflict_error","message":"oops"}}', "invalid_request"),
        (422, b"", "invalid_request"),
        (400, b'{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}', "quota"),
        (
            429,
            b'{"error":{"type":"rate_limit_error","message":"x","details":{"error_code":"ramp_limit_exceeded"}}}',
            "rate_limit",
        ),
        (
            400,
            b'{"error":{"type":"invalid_request_error","message":"x",'
            b'"details":{"error_code":"enforced_spend_limit_reached"}}}',
            "quota",
        ),
        (502, b"[" * 50_000, "upstream"),
    ],
)
def test_errors_of_upstreams_are_read(status: int, raw: bytes, kind: str) -> None:
    problem = ANTHROPIC.decode_problem(status, raw)
    assert (problem.status, problem.kind) == (status, kind)
    assert problem.message


# --- properties -------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
ids = st.from_regex(r"toolu_[a-z0-9]{1,4}", fullmatch=True)
objects = st.dictionaries(names, st.integers() | texts | st.booleans() | st.none() | st.lists(texts), max_size=3)
caches = st.just({}) | st.just({"cache_control": EPHEMERAL})


def block(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    fixed = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in fields.items()}
    return st.builds(lambda held, cache: held | cache, st.fixed_dictionaries(fixed), caches)


text_blocks = block(type="text", text=texts)
images = block(
    type="image",
    source=st.sampled_from(
        [{"type": "url", "url": "https://x"}, {"type": "base64", "media_type": "image/png", "data": PIXEL}]
    ),
)
results = block(
    type="tool_result",
    tool_use_id=ids,
    content=texts | st.lists(text_blocks | images, min_size=1),
    is_error=st.booleans(),
)
user_content = texts | st.lists(text_blocks | images | results | block(type="document", title=texts), min_size=1)
assistant_content = texts | st.lists(
    text_blocks
    | block(type="tool_use", id=ids, name=names, input=objects)
    | st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": texts})
    | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": texts})
    | block(type="server_tool_use", id=ids, name=names, input=objects),
    min_size=1,
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": user_content})
    | st.fixed_dictionaries({"role": st.just("assistant"), "content": assistant_content}),
    min_size=1,
    max_size=5,
)
requests = st.fixed_dictionaries(
    {"model": names, "messages": messages, "max_tokens": st.integers(0, 10**6)},
    optional={
        "system": texts | st.lists(text_blocks, min_size=1),
        "tools": st.lists(
            block(name=names, description=texts, input_schema=st.just({"type": "object"}), strict=st.booleans())
            | block(type="bash_20250124", name="bash"),
            min_size=1,
        ),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 99),
        "stop_sequences": st.lists(texts, min_size=1),
        "stream": st.just(True),
        "metadata": st.fixed_dictionaries({"user_id": texts}),
        "thinking": st.sampled_from([{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}]),
        "output_config": st.fixed_dictionaries(
            {"effort": st.sampled_from(["low", "max"])},
            optional={"format": st.just({"type": "json_schema", "schema": {"type": "object"}})},
        ),
    },
)


def blocks(content: Any) -> list[dict[str, Any]]:
    """Content as blocks, with what says nothing (``is_error`` false) left out: two bodies that mean the same."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    held = []
    for one in content:
        one = {key: value for key, value in one.items() if (key, value) != ("is_error", False)}
        if one["type"] == "tool_result":
            one["content"] = blocks(one["content"])
        held.append(one)
    return held


def meaning(request: dict[str, Any]) -> dict[str, Any]:
    merged: list[dict[str, Any]] = []
    for message in request["messages"]:
        if merged and merged[-1]["role"] == message["role"]:
            merged[-1]["content"].extend(blocks(message["content"]))
        else:
            merged.append({"role": message["role"], "content": blocks(message["content"])})
    system = {"system": blocks(request["system"])} if "system" in request else {}
    return request | {"messages": merged} | system


@given(requests)
def test_a_request_means_the_same_after_a_round_trip(request: dict[str, Any]) -> None:
    prompt = ANTHROPIC.decode_request(json.dumps(request).encode())
    again = ANTHROPIC.encode_request(prompt)
    assert meaning(json.loads(again)) == meaning(request)


answers = st.fixed_dictionaries(
    {
        "id": texts,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": names,
        "content": assistant_content.filter(lambda content: isinstance(content, list)),
        "stop_reason": st.sampled_from(["max_tokens", "refusal", "pause_turn", "stop_sequence"]),
        "stop_sequence": st.none() | texts,
        "usage": st.fixed_dictionaries({"input_tokens": st.integers(0, 99), "output_tokens": st.integers(0, 99)}),
    }
)


@given(answers)
def test_an_answer_is_the_same_after_a_round_trip(raw: dict[str, Any]) -> None:
    answer = ANTHROPIC.decode_answer(json.dumps(raw).encode())
    assert json.loads(ANTHROPIC.encode_answer(answer, ASKED)) == raw


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | texts
    | st.sampled_from(["text", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "content", "role", "text", "source", "input", "name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
FIELDS = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "metadata",
    "content",
    "usage",
]


@given(
    requests,
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
    st.integers(0, 400),
    st.binary(max_size=2),
)
def test_broken_bodies_raise_only_what_the_contract_says(
    request: dict[str, Any], wrong: dict[str, Any], at: int, noise: bytes
) -> None:
    whole = json.dumps(request | wrong).encode()
    for raw in (whole, whole[:at] + noise + whole[at + len(noise) :]):
        with suppress(BadRequest):
            ANTHROPIC.encode_request(ANTHROPIC.decode_request(raw))
        with suppress(BadResponse, Untranslatable):
            ANTHROPIC.encode_answer(ANTHROPIC.decode_answer(raw), ASKED)
        ANTHROPIC.decode_problem(400, raw)


# --- the official SDK -------------------------------------------------------------------------------------------------

SDK = "needs the official SDK: pip install 'anthropic>=2'"


@given(answers)
def test_the_sdk_reads_our_answers(raw: dict[str, Any]) -> None:
    types = pytest.importorskip("anthropic.types", reason=SDK)
    raw["content"] = [one for one in raw["content"] if one["type"] != "server_tool_use"]
    shown = ANTHROPIC.encode_answer(ANTHROPIC.decode_answer(json.dumps(raw).encode()), ASKED)
    message = types.Message.model_validate_json(shown, strict=True)
    assert [block.type for block in message.content] == [block["type"] for block in raw["content"]]


def test_the_sdk_reads_an_answer_that_came_from_another_dialect() -> None:
    types = pytest.importorskip("anthropic.types", reason=SDK)
    parts = (Thinking(text="hm"), Text(text="Look:"), ToolUse(id="call:1", name="look", arguments='{"at": "x"}'))
    usage = Usage(input_tokens=9, cache_read_tokens=4, cache_reported=True, output_tokens=3, reasoning_tokens=1)
    answer = Answer(
        id="chatcmpl-1",
        model="student",
        choices=(Choice(parts=parts, finish=FinishReason.TOOL_CALLS),),
        usage=usage,
        dialect="openai-chat",
    )
    message = types.Message.model_validate_json(ANTHROPIC.encode_answer(answer, ASKED), strict=True)
    assert message.content[2].input == {"at": "x"}
    assert message.usage.cache_read_input_tokens == 4
    assert message.usage.output_tokens_details.thinking_tokens == 1


def test_the_sdk_accepts_our_requests() -> None:
    params = pytest.importorskip("anthropic.types.message_create_params", reason=SDK)
    adapter = pytest.importorskip("pydantic").TypeAdapter(params.MessageCreateParamsNonStreaming)
    prompt = foreign(
        says("system", "Be brief."),
        Turn(role="user", parts=(Text(text="Look.", cache=EPHEMERAL), Image(data=PIXEL))),
        Turn(role="assistant", parts=(Thinking(text="hm"), ToolUse(id="a.b", name="look"))),
        Turn(role="tool", parts=(ToolOutput(call_id="a.b", parts=(Text(text="ok"),)),)),
        tools=(Tool(name="look", strict=True),),
        tool_choice=ToolChoice(mode=ChoiceMode.REQUIRED),
        parallel_tool_calls=False,
        thought=Thought(effort="minimal", summary="auto"),
        format=Format(kind="json_schema", name="x", schema={"type": "object"}, strict=True),
        stop=("END",),
        user="u",
    )
    sent = written(prompt)
    checked = adapter.validate_python(sent, strict=False)
    assert checked.keys() == sent.keys()
    for message in checked["messages"]:
        if not isinstance(message["content"], str):
            list(message["content"])
    list(checked["tools"])
