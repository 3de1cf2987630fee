"""Every ordered pair of dialects, read by the official SDKs over a local socket: their parsers and accumulators judge.

The same answers as in ``test_pairs``; skipped where ``openai`` or ``anthropic`` is not installed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pair_samples import ANTHROPIC, BODIES, CASES, CHAT, ERRORS, QUESTIONS, RESPONSES, STREAMS, Says
from test_pairs import (
    cases,
    chat_tokens,
    expected,
    first_half,
    pairs,
    read_message,
    read_response,
    translate,
    translate_stream,
)
from test_pairs_requests import REQUESTS
from test_pairs_requests import translate as translate_request

WHY = "{} is not installed: pip install 'potstill[test]'"


class _Handler(BaseHTTPRequestHandler):
    reply = b""
    kind = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", self.kind)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def serve(reply: bytes, kind: str = "application/json") -> Iterator[str]:
    """The address of a server that answers everything with ``reply`` and closes the connection."""
    handler = type("Handler", (_Handler,), {"reply": reply, "kind": kind})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def openai_client(address: str) -> Any:
    openai = pytest.importorskip("openai", reason=WHY.format("openai"))
    return openai.OpenAI(api_key="none", base_url=f"{address}/v1", max_retries=0)


def anthropic_client(address: str) -> Any:
    anthropic = pytest.importorskip("anthropic", reason=WHY.format("anthropic"))
    return anthropic.Anthropic(api_key="none", base_url=address, max_retries=0)


def asked(client: str) -> dict[str, Any]:
    return {key: value for key, value in QUESTIONS[client].items() if key != "stream_options"}


def chat_says(completion: Any) -> Says:
    (choice,) = completion.choices
    message = choice.message
    return Says(
        text=message.content or "",
        thinking=getattr(message, "reasoning_content", None) or "",
        refusal=message.refusal or "",
        calls=tuple(
            (call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()
        ),
        finish=choice.finish_reason,
        usage=chat_tokens(completion.usage.model_dump()),
    )


def read_whole(client: str, address: str) -> Says:
    if client == CHAT:
        return chat_says(openai_client(address).chat.completions.create(**asked(client)))
    if client == RESPONSES:
        response = openai_client(address).responses.create(**asked(client))
        says = read_response(response.model_dump())
        assert response.output_text == says.text
        return says
    message = anthropic_client(address).messages.create(**asked(client))
    return read_message(message.model_dump())


def read_streamed(client: str, address: str) -> tuple[Says, str]:
    """(what the SDK's accumulator made of the stream, the text that its deltas gave)."""
    if client == CHAT:
        options = {"stream_options": {"include_usage": True}}
        with openai_client(address).chat.completions.stream(**asked(client), **options) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            # Not get_final_completion: that raises for an answer that was cut off at its limit, as it should.
            return chat_says(stream.current_completion_snapshot), text
    if client == RESPONSES:
        with openai_client(address).responses.stream(**asked(client)) as stream:
            events = list(stream)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert events[-1].type in ("response.completed", "response.incomplete")
        return read_response(events[-1].response.model_dump()), text
    with anthropic_client(address).messages.stream(**asked(client)) as stream:
        text = "".join(stream.text_stream)
        return read_message(stream.get_final_message().model_dump()), text


@pairs
@cases
def test_the_clients_sdk_reads_a_translated_answer(upstream: str, client: str, case: str) -> None:
    says = CASES[case]
    with serve(translate(upstream, client, BODIES[upstream](says))) as address:
        assert read_whole(client, address) == expected(says, upstream, client)


@pairs
@cases
def test_the_clients_sdk_accumulates_a_translated_stream(upstream: str, client: str, case: str) -> None:
    says = CASES[case]
    with serve(translate_stream(upstream, client, STREAMS[upstream](says)), "text/event-stream") as address:
        read, text = read_streamed(client, address)
    assert read == expected(says, upstream, client)
    assert text == expected(says, upstream, client).text


@pairs
@pytest.mark.parametrize("fault", ["error", "cut"])
def test_the_clients_sdk_tells_of_a_stream_that_broke(upstream: str, client: str, fault: str) -> None:
    half = first_half(upstream)
    chunks = [*half, ERRORS[upstream]] if fault == "error" else half
    with serve(translate_stream(upstream, client, chunks), "text/event-stream") as address:
        if client == RESPONSES:
            with openai_client(address).responses.create(**asked(client), stream=True) as stream:
                events = list(stream)
            assert events[-1].type == "response.failed"
            assert events[-1].response.error.message
            assert events[-1].response.output_text == "Half an "
            return
        seen: list[Any] = []
        with pytest.raises(_api_error(client), match="fell over" if fault == "error" else "closed"):
            collect(client, address, seen)
        assert len(seen) >= 2


def _api_error(client: str) -> type[Exception]:
    error: type[Exception] = pytest.importorskip("openai" if client == CHAT else "anthropic").APIError
    return error


def collect(client: str, address: str, seen: list[Any]) -> None:
    sdk = openai_client(address) if client == CHAT else anthropic_client(address)
    create = sdk.chat.completions.create if client == CHAT else sdk.messages.create
    seen.extend(create(**asked(client), stream=True))


def _drained(value: Any) -> Any:
    """Everything that a validator left for later is validated now."""
    if isinstance(value, dict):
        return {key: _drained(held) for key, held in value.items()}
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    return [_drained(held) for held in value]


def _parameters(upstream: str) -> Any:
    if upstream == ANTHROPIC:
        pytest.importorskip("anthropic", reason=WHY.format("anthropic"))
        from anthropic.types.message_create_params import MessageCreateParamsStreaming

        return MessageCreateParamsStreaming
    pytest.importorskip("openai", reason=WHY.format("openai"))
    if upstream == CHAT:
        from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

        return CompletionCreateParamsStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    return ResponseCreateParamsStreaming


@pairs
def test_a_translated_request_is_one_that_the_upstreams_sdk_could_send(upstream: str, client: str) -> None:
    parameters = _parameters(upstream)
    from pydantic import TypeAdapter

    body = translate_request(client, upstream, REQUESTS[client])
    for item in body.get("input", ()):
        # The SDK's type insists on an id; the endpoint refuses one that it did not give, and takes the item without.
        if item["type"] == "reasoning":
            item.setdefault("id", "rs_1")
    for message in body.get("messages", ()):
        message.pop("reasoning_content", None)  # DeepSeek's field and others', not OpenAI's.
    adapter = TypeAdapter(parameters)  # Must outlive what it left for later.
    read = _drained(adapter.validate_python(body))
    for field in ("messages", "input", "tools", "tool_choice"):
        assert read.get(field) == body.get(field)
