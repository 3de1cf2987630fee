"""Chat completions, whole: answers, errors, and what the official SDK makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_junk import JUNK, LEAVES
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BadResponse, Untranslatable
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.chat_server import CHAT
from potstill.wire.dialect import KINDS, Problem, dialect
from potstill.wire.neutral import (
    Answer,
    Choice,
    Opaque,
    Prompt,
    Refusal,
    Text,
    Thinking,
    ToolUse,
)

Json = dict[str, Any]


def test_it_is_found_by_its_name() -> None:
    assert dialect("openai-chat") is CHAT
    assert (CHAT.name, CHAT.path) == ("openai-chat", "/chat/completions")


# --- answers ----------------------------------------------------------------------------------------------------------

ASKED = Prompt(model="m", turns=(), logprobs=True, top_logprobs=1, dialect="openai-chat")
PLAIN = Prompt(model="m", turns=(), dialect="openai-chat")
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def entry(token: str, logprob: float, **more: Any) -> Json:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())} | more


WHOLE: Json = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-x",
    "service_tier": "default",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello",
                "refusal": None,
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
                    }
                ],
            },
            "logprobs": {
                "content": [entry("Hel", -0.5, top_logprobs=[entry("Hel", -0.5)]), entry("lo", -1.0, top_logprobs=[])],
                "refusal": None,
            },
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "go", "arguments": "{}"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        },
        {
            "index": 2,
            "message": {"role": "assistant", "content": None, "refusal": "I cannot."},
            "logprobs": None,
            "finish_reason": "stop",
        },
    ],
    "usage": USAGE,
}


def test_a_whole_answer_is_read_and_written_back_the_same() -> None:
    answer = CHAT.decode_answer(json.dumps(WHOLE).encode())
    first, second, third = answer.choices
    assert first.parts[0] == Text(text="Hello")
    assert first.logprobs == (
        TokenLogprob(token="Hel", logprob=-0.5, top=(("Hel", -0.5),)),
        TokenLogprob(token="lo", logprob=-1.0),
    )
    assert second == Choice(
        parts=(ToolUse(id="c1", name="look", arguments='{"at":1}'), ToolUse(id="c2", name="go")),
        finish=FinishReason.TOOL_CALLS,
    )
    assert third == Choice(parts=(Refusal(text="I cannot."),))
    assert answer.usage == Usage(input_tokens=9, output_tokens=4)
    assert json.loads(CHAT.encode_answer(answer, ASKED)) == WHOLE


def test_log_probabilities_are_shown_only_to_who_asked() -> None:
    answer = CHAT.decode_answer(json.dumps(WHOLE).encode())
    assert json.loads(CHAT.encode_answer(answer, PLAIN))["choices"][0]["logprobs"] is None


def one(*parts: Any, **choice: Any) -> Answer:
    return Answer(id="a", model="m", choices=(Choice(parts=parts, **choice),), dialect="anthropic")


def message_of(answer: Answer, prompt: Prompt = PLAIN) -> Json:
    message: Json = json.loads(CHAT.encode_answer(answer, prompt))["choices"][0]["message"]
    return message


def test_an_answer_of_another_dialect() -> None:
    answer = Answer(
        id="msg_1",
        model="claude",
        created=None,
        choices=(
            Choice(
                parts=(
                    Thinking(text="hm", signature="s"),
                    Text(text="Look"),
                    Text(text="ing."),
                    ToolUse(id="t", name="f", arguments='{"a": 1}'),
                ),
                finish=FinishReason.TOOL_CALLS,
            ),
        ),
        usage=Usage(
            input_tokens=30, cache_read_tokens=20, cache_write_tokens=7, output_tokens=5, reasoning_tokens=2
        ),
        raw_usage={"input_tokens": 3},
        dialect="anthropic",
        extra={"container": {}},
    )  # fmt: skip
    body = json.loads(CHAT.encode_answer(answer, PLAIN))
    assert "container" not in body
    assert body["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Looking.",
                "refusal": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_a_client_of_functions_reads_a_function_call() -> None:
    prompt = Prompt(model="m", turns=(), dialect="openai-chat", spelling={"tools": "functions"})
    answer = one(ToolUse(id="c", name="f"), finish=FinishReason.TOOL_CALLS)
    body = json.loads(CHAT.encode_answer(answer, prompt))["choices"][0]
    assert body["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in body["message"]
    assert body["finish_reason"] == "function_call"


def test_an_empty_answer_has_an_empty_text() -> None:
    assert message_of(one())["content"] == ""


def test_only_hints_of_other_dialects_may_be_left_out_of_an_answer() -> None:
    hint = Opaque(dialect="anthropic", kind="citations", value={}, hint=True)
    assert message_of(one(Text(text="a"), hint)) == {"role": "assistant", "content": "a", "refusal": None}
    with pytest.raises(Untranslatable, match=r"server_tool_use.*anthropic"):
        CHAT.encode_answer(one(Opaque(dialect="anthropic", kind="server_tool_use", value={})), PLAIN)


@pytest.mark.parametrize(
    ("reason", "raw", "word"),
    [
        (FinishReason.STOP, "stop_sequence", "stop"),
        (FinishReason.OTHER, "pause_turn", "stop"),
        (FinishReason.LENGTH, None, "length"),
        (FinishReason.CONTENT_FILTER, "refusal", "content_filter"),
        (FinishReason.TOOL_CALLS, None, "tool_calls"),
    ],
)
def test_an_answer_ends_with_a_word_that_clients_know(reason: FinishReason, raw: str | None, word: str) -> None:
    body = json.loads(CHAT.encode_answer(one(finish=reason, finish_raw=raw), PLAIN))
    assert body["choices"][0]["finish_reason"] == word


def read(message: Json, **choice: Any) -> Choice:
    body = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice]}
    return CHAT.decode_answer(json.dumps(body).encode()).choices[0]


def test_servers_that_deviate() -> None:
    assert read({"content": "a", "reasoning": "hm"}).parts == (Thinking(text="hm"), Text(text="a"))
    forced = read({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]})
    (use,) = forced.parts
    assert isinstance(use, ToolUse)
    assert (use.arguments, use.id[:5], forced.finish, forced.finish_raw) == (
        *('{"a":1}', "call_"),
        *(FinishReason.TOOL_CALLS, "stop"),
    )
    assert read({"function_call": {"name": "f", "arguments": ""}}).parts[0].name == "f"  # type: ignore[union-attr]
    assert read({"content": "a"}, stop_reason="END").stop_sequence == "END"
    assert read({"content": "a"}, finish_reason=None).finish is FinishReason.STOP
    custom = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    assert read({"tool_calls": [custom]}).parts == (Opaque(dialect="openai-chat", kind="tool_call", value=custom),)


def test_calls_without_ids_get_others_in_every_answer() -> None:
    def ids(name: str) -> list[str]:
        calls = [{"function": {"name": "f", "arguments": "{}"}}] * 2
        body = {"id": name, "choices": [{"message": {"tool_calls": calls}}]}
        parts = CHAT.decode_answer(json.dumps(body).encode()).choices[0].parts
        return [part.id for part in parts if isinstance(part, ToolUse)]

    assert len({*ids("a"), *ids("b")}) == 4
    assert ids("a") == ids("a")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"error":{"message":"x"}}', b"[" * 100_000),
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"c","type":"odd"}]}}]}',
    ],
)
def test_what_is_no_answer_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        CHAT.decode_answer(body)


@given(st.lists(st.fixed_dictionaries({"message": JUNK}, optional={"logprobs": JUNK, "index": LEAVES}), max_size=2))
@settings(max_examples=200, deadline=None)
def test_any_answer_is_read_or_refused_and_what_is_read_can_be_written(choices: list[Json]) -> None:
    try:
        answer = CHAT.decode_answer(json.dumps({"choices": choices}).encode())
    except BadResponse:
        return
    assert json.loads(CHAT.encode_answer(answer, ASKED))["choices"]


# --- errors -----------------------------------------------------------------------------------------------------------


STATUS = dict(zip(KINDS, (400, 401, 403, 404, 413, 429, 429, 503, 504, 502, 500), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_written_is_read_again(kind: str) -> None:
    status = STATUS[kind]
    body = CHAT.encode_problem(Problem(status=status, kind=kind, message="why"))
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    for seen in (status, 200):
        problem = CHAT.decode_problem(seen, body)
        assert (problem.status, problem.kind, problem.message) == (status, kind, "why")


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (400, {"message": "bad", "type": "invalid_request_error"}, "invalid_request", None),
        (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, "authentication", "invalid_api_key"),
        (404, {"message": "no model", "code": "model_not_found"}, "not_found", "model_not_found"),
        (
            429,
            {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"},
            "rate_limit",
            "rate_limit_exceeded",
        ),
        (429, {"message": "pay", "type": "insufficient_quota"}, "quota", None),
        (402, {"message": "pay"}, "quota", None),
        (500, {"message": "oops"}, "upstream", None),
        (503, {"message": "busy"}, "overloaded", None),
        (
            400,
            {"message": "This model's maximum context length is 8192 tokens"},
            "invalid_request",
            "context_length_exceeded",
        ),
        (400, {"type": "exceed_context_size_error", "message": "x"}, "invalid_request", "context_length_exceeded"),
        (200, {"message": "Provider returned error", "code": 429}, "rate_limit", "429"),
        (200, {"message": "gone"}, "upstream", None),
    ],
)
def test_what_upstreams_errors_mean(status: int, error: Json, kind: str, code: str | None) -> None:
    problem = CHAT.decode_problem(status, json.dumps({"error": error}).encode())
    assert (problem.kind, problem.code) == (kind, code)
    assert problem.message == error["message"]
    assert 400 <= problem.status <= 599


@given(st.integers(100, 599), st.binary(max_size=50) | JUNK.map(lambda value: json.dumps({"error": value}).encode()))
def test_any_error_body_is_a_problem(status: int, body: bytes) -> None:
    problem = CHAT.decode_problem(status, body)
    assert problem.kind in KINDS
    assert problem.message
    assert 400 <= problem.status <= 599


def test_long_messages_of_upstreams_stay_whole_up_to_two_thousand_characters() -> None:
    body = json.dumps({"error": {"message": "why " * 400}}).encode()
    assert len(CHAT.decode_problem(400, body).message) == 1599
    assert len(CHAT.decode_problem(400, body.replace(b"why", b"reason why")).message) == 2000


# --- the official SDK -------------------------------------------------------------------------------------------------

SDK = "needs the official SDK: pip install openai"


def test_the_official_sdk_reads_answers() -> None:
    chat = pytest.importorskip("openai.types.chat", reason=SDK)
    answer = CHAT.decode_answer(json.dumps(WHOLE).encode())
    for written in (CHAT.encode_answer(answer, ASKED), CHAT.encode_answer(answer, PLAIN)):
        parsed = chat.ChatCompletion.model_validate_json(written, strict=True)
        assert parsed.to_dict() == json.loads(written)
        assert parsed.choices[1].message.tool_calls[0].function.arguments == '{"at":1}'
        assert parsed.choices[2].message.refusal == "I cannot."


@pytest.mark.parametrize("kind", KINDS)
def test_the_official_sdk_raises_our_errors(kind: str) -> None:
    openai = pytest.importorskip("openai", reason=SDK)
    body = json.loads(CHAT.encode_problem(Problem(status=400, kind=kind, message="why")))
    error = openai.APIError("x", request=None, body=body["error"])
    assert (error.code, error.type, error.param) == tuple(body["error"][key] for key in ("code", "type", "param"))
