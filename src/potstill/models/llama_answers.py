"""What llama.cpp's stream of events means: samples, tokens with log-probabilities, tool calls, cache reads.

Pure functions from events to ``Reply`` and ``Usage``. Does no I/O and knows nothing of how requests are made, except
for the body of its chat endpoint, which is asked only for models whose own template knows tools.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.errors import BadResponse
from potstill.types import FinishReason, Reply, Request, Struct, TokenLogprob, ToolCall, Usage
from potstill.wire import openai_chat

Event = dict[str, Any]


class Answer(Struct, frozen=True, kw_only=True):
    """One sample as it came: its text, its tokens without the end-of-generation token, and the last event."""

    text: str
    tokens: tuple[Event, ...]
    final: Event

    @property
    def complete(self) -> bool:
        return self.final.get("stop_type") != "limit"


def gather(events: Iterable[Event], n: int) -> list[Answer]:
    """Join the events of a completion with ``n`` samples. Raises ``BadResponse`` if one of them never ended."""
    texts = [""] * n
    tokens: list[list[Event]] = [[] for _ in range(n)]
    finals: list[Event | None] = [None] * n
    for event in events:
        index = event.get("index", 0)
        texts[index] += event.get("content", "")
        tokens[index] += event.get("completion_probabilities", ())
        if event.get("stop"):
            finals[index] = event
    answers = []
    for text, parts, final in zip(texts, tokens, finals, strict=True):
        if final is None:
            raise BadResponse("llama.cpp ended its answer before all samples were complete. Try again.")
        if final.get("stop_type") == "eos" and len(parts) >= final.get("tokens_predicted", 0):
            parts = parts[:-1]
        answers.append(Answer(text=text, tokens=tuple(parts), final=final))
    return answers


def usage(answers: Sequence[Answer]) -> tuple[Usage, Event]:
    """Tokens of one request: the prompt once, what llama.cpp itself says it took from its cache, every sample."""
    first = answers[0].final
    total = int(first["tokens_evaluated"])
    # Samples are forked from the one that read the prompt: the one that evaluated most tells what was not cached.
    evaluated = max(int(answer.final["timings"]["prompt_n"]) for answer in answers)
    output = sum(int(answer.final["tokens_predicted"]) for answer in answers)
    counted = Usage(
        input_tokens=total,
        cache_read_tokens=max(0, total - evaluated),
        output_tokens=output,
        cache_reported=True,
    )
    return counted, {"timings": [answer.final["timings"] for answer in answers]}


def text_reply(answer: Answer, text: str, top: int) -> Reply:
    return Reply(
        text=text,
        finish_reason=FinishReason.STOP if answer.complete else FinishReason.LENGTH,
        logprob=total_logprob(answer),
        token_logprobs=token_logprobs(answer) if top else (),
    )


def tool_reply(answer: Answer, top: int) -> Reply | None:
    """The reply if the answer is one ``{"name": ..., "arguments": {...}}``, else None."""
    try:
        parsed = json.loads(answer.text)
        name, arguments = parsed["name"], parsed["arguments"]
    except (ValueError, TypeError, KeyError):
        return None
    call = ToolCall(id="call-0", name=str(name), arguments=json.dumps(arguments))
    return Reply(
        tool_calls=(call,),
        finish_reason=FinishReason.TOOL_CALLS,
        logprob=total_logprob(answer),
        token_logprobs=token_logprobs(answer) if top else (),
    )


def total_logprob(answer: Answer) -> float:
    """Sum of the tokens' log-probabilities before sampling and grammar."""
    return float(sum(token["logprob"] for token in answer.tokens))


def token_logprobs(answer: Answer) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=token["token"],
            logprob=token["logprob"],
            top=tuple((other["token"], other["logprob"]) for other in token.get("top_logprobs", ())),
        )
        for token in answer.tokens
    )


def chat_body(request: Request, n: int, seed: int) -> Event:
    """The body for llama.cpp's chat endpoint, which applies the model's own notation for tools and reads it back."""
    body: Event = json.loads(openai_chat.encode_request(request, "local", n))
    return body | {"seed": seed % 2**32, "samplers": ["temperature"], "cache_prompt": True, "timings_per_token": True}


def chat(events: Iterable[Event], n: int) -> tuple[tuple[Reply, ...], Usage, Event]:
    """Join the events of a streamed chat completion into replies. Raises ``BadResponse``."""
    choices: list[Event] = [
        {"index": index, "finish_reason": None, "message": {"content": "", "reasoning_content": "", "tool_calls": []}}
        for index in range(n)
    ]
    timings: dict[int, Event] = {}
    for event in events:
        for delta in event.get("choices", ()):
            _merge(choices[delta["index"]], delta)
            if "timings" in event:
                timings[delta["index"]] = event["timings"]
    if any(choice["finish_reason"] is None for choice in choices):
        raise BadResponse("llama.cpp ended its answer before all samples were complete. Try again.")
    replies = openai_chat.decode_response(json.dumps({"choices": choices}).encode()).replies
    counted = _chat_usage(list(timings.values()))
    return replies, counted, {"timings": list(timings.values())}


def _chat_usage(timings: Sequence[Event]) -> Usage:
    total = max((int(one["cache_n"]) + int(one["prompt_n"]) for one in timings), default=0)
    evaluated = max((int(one["prompt_n"]) for one in timings), default=0)
    return Usage(
        input_tokens=total,
        cache_read_tokens=total - evaluated,
        output_tokens=sum(int(one["predicted_n"]) for one in timings),
        cache_reported=True,
    )


def _merge(choice: Event, delta: Event) -> None:
    message, part = choice["message"], delta.get("delta", {})
    for key in ("content", "reasoning_content"):
        message[key] += part.get(key) or ""
    for call in part.get("tool_calls", ()):
        calls = message["tool_calls"]
        while len(calls) <= call["index"]:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        calls[call["index"]]["id"] += call.get("id") or ""
        for key in ("name", "arguments"):
            calls[call["index"]]["function"][key] += call.get("function", {}).get(key) or ""
    if delta.get("logprobs"):
        choice.setdefault("logprobs", {"content": []})["content"] += delta["logprobs"].get("content") or []
    choice["finish_reason"] = delta.get("finish_reason") or choice["finish_reason"]
