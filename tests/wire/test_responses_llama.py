"""The responses dialect against a real server of it: llama.cpp on loopback, asked in the words of every dialect."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from pair_samples import NAMES
from test_pairs_requests import REQUESTS

from potstill.types import FinishReason
from potstill.wire.assemble import Assembler
from potstill.wire.dialect import dialect
from potstill.wire.neutral import Answer, Image, Prompt, Text
from potstill.wire.openai_responses import Responses

pytestmark = pytest.mark.llm
LLAMA = Responses(reasoning="content")
Post = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def post(smollm2: Path) -> Iterator[Post]:
    from potstill.models.llama_server import LlamaServer

    server = LlamaServer(smollm2, threads=2, context_tokens=1024, slots=1)

    def send(body: bytes) -> bytes:
        headers = {"content-type": "application/json", **server.headers}
        request = urllib.request.Request(f"{server.url}/v1/responses", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())

    yield send
    server.close()


def asked(client: str, *, stream: bool) -> Prompt:
    """The history with two calls of tools and reasoning; without images, which this model cannot see."""
    prompt = dialect(client).decode_request(json.dumps(REQUESTS[client]).encode())
    turns = tuple(
        msgspec.structs.replace(turn, parts=tuple(part for part in turn.parts if not isinstance(part, Image)))
        for turn in prompt.turns
    )
    return msgspec.structs.replace(
        prompt, turns=turns, tool_choice=None, parallel_tool_calls=None, max_tokens=6, stream=stream, temperature=0.0
    )


@pytest.mark.parametrize("client", NAMES)
def test_a_history_with_tools_is_answered_streaming_and_not(client: str, post: Post) -> None:
    answers: list[Answer] = [LLAMA.decode_answer(post(LLAMA.encode_request(asked(client, stream=False))))]
    decoder, assembler = LLAMA.stream_decoder(), Assembler()
    assembler.extend(decoder.feed(post(LLAMA.encode_request(asked(client, stream=True)))))
    assembler.extend(decoder.close())
    answers.append(assembler.answer())
    for answer in answers:
        (choice,) = answer.choices
        assert choice.finish is FinishReason.STOP
        assert "".join(part.text for part in choice.parts if isinstance(part, Text))
        assert answer.usage is not None
        assert 0 < answer.usage.output_tokens <= 6
