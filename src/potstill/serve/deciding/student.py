"""A client's prompt as the student is asked it, and the student's choices as the replies that a cascade weighs.

What it knows: which requests a student may be asked at all, which fields are the teacher's alone. What it does not do:
send anything, decide, or execute tools.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator

import msgspec

from potstill.record.parsing import action_of, reasoning_of
from potstill.serve.seams import Asked
from potstill.types import FinishReason, Reply, Struct
from potstill.wire.neutral import (
    Answer,
    Choice,
    Image,
    Opaque,
    OpaqueTool,
    Part,
    Prompt,
    Refusal,
    Text,
    Thinking,
    ToolOutput,
    ToolUse,
    Turn,
)

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""Ids of calls that every provider takes."""
HELD_ELSEWHERE = frozenset(
    {
        "audio",
        "background",
        "container",
        "context_management",
        "conversation",
        "mcp_servers",
        "modalities",
        "prediction",
        "previous_response_id",
        "prompt",
        "web_search_options",
    }
)
"""Fields whose meaning lies at the teacher's provider: a conversation that it keeps, tools that it runs itself."""


FETCHED = frozenset({"audio_url", "document", "file", "image", "image_url", "video_url"})
"""Kinds of parts that may name an address."""


class Sample(Struct, frozen=True, kw_only=True):
    """One choice of the student: as it came, and as the cascade sees it."""

    reply: Reply
    choice: Choice
    answer: Answer


def images_of(prompt: Prompt) -> Iterator[Image]:
    """Of all messages and all outputs of tools."""
    for turn in prompt.turns:
        for part in turn.parts:
            if isinstance(part, Image):
                yield part
            elif isinstance(part, ToolOutput):
                yield from (inner for inner in part.parts if isinstance(inner, Image))


def not_for_student(prompt: Prompt) -> str | None:
    """Why only the teacher can answer this request; None if the student may be asked.

    A tool that runs at the provider would be run once for each sample: such requests are never sampled.
    """
    if prompt.n > 1:
        return f"the client wants {prompt.n} choices"
    if prompt.logprobs or prompt.top_logprobs:
        return "the client wants log-probabilities"
    for tool in prompt.tools:
        if isinstance(tool, OpaqueTool):
            return f"a tool of kind '{tool.value.get('type', 'unknown')}' may run at the provider"
    held = sorted(HELD_ELSEWHERE & {key for key, value in prompt.extra.items() if value is not None})
    if held:
        return f"'{held[0]}' is known to the teacher's provider only"
    if prompt.extra.get("store") is True:
        return "the provider is to keep the answer ('store' is true)"
    if _names_addresses(prompt):
        return (
            "an image or file may be given by its address, which the student's server would fetch from where it stands"
        )
    if not prompt.turns:
        return "the request has no messages"
    if prompt.turns[-1].role == "assistant":
        return "the request begins the answer itself"
    return _may_be_kept(prompt)


def _names_addresses(prompt: Prompt) -> bool:
    """A server on our own network would fetch what a client names: the teacher's provider fetches from elsewhere."""
    if any(image.url is not None and not image.url.startswith("data:") for image in images_of(prompt)):
        return True
    opaque = (part for turn in prompt.turns for part in turn.parts if isinstance(part, Opaque) and not part.hint)
    return any(part.kind in FETCHED or part.kind.startswith("content:") for part in opaque)


def _may_be_kept(prompt: Prompt) -> str | None:
    """A client of the responses dialect may go on with ``previous_response_id``, and the teacher's provider would not
    know a student's answer. One that sends its history, or says ``store: false``, does not."""
    if prompt.dialect != "openai-responses" or prompt.extra.get("store") is False:
        return None
    sent = any(turn.role == "assistant" for turn in prompt.turns)
    return None if sent else "the provider may keep the conversation: 'store' is not false, and no history is sent"


def student_prompt(prompt: Prompt, model: str, temperature: float | None) -> Prompt:
    """The same conversation and tools, without what is the teacher's own: its hidden reasoning and how much of it is
    wanted, the seed (samples with one seed would always agree), streaming. ``max_tokens``, ``tool_choice`` and
    structured output stay."""
    return msgspec.structs.replace(
        prompt,
        model=model,
        turns=tuple(shown for turn in prompt.turns if (shown := _without_thoughts(turn)) is not None),
        temperature=temperature,
        thought=None,
        seed=None,
        n=1,
        stream=False,
        stream_usage=False,
        user=None,
        metadata={},
    )


def _without_thoughts(turn: Turn) -> Turn | None:
    """The turn without hidden reasoning; None if nothing else was in it."""
    if turn.role != "assistant" or not any(isinstance(part, Thinking) for part in turn.parts):
        return turn
    parts = tuple(part for part in turn.parts if not isinstance(part, Thinking))
    return msgspec.structs.replace(turn, parts=parts) if parts else None


# --- answers ----------------------------------------------------------------------------------------------------------


def samples_of(asked: Iterable[Asked], prompt: Prompt) -> list[Sample]:
    """Every choice of every answer, in order, its calls of tools with ids that occur nowhere else in the episode."""
    taken = {part.id for turn in prompt.turns for part in turn.parts if isinstance(part, ToolUse)}
    found = []
    for index, one in enumerate(asked):
        for position, choice in enumerate(one.answer.choices):
            named = _named(choice, taken, f"{one.answer.id}-{index}-{position}")
            reply = msgspec.structs.replace(reply_of(named), candidates=one.candidates)
            found.append(Sample(reply=reply, choice=named, answer=one.answer))
    return found


def reply_of(choice: Choice) -> Reply:
    """A choice as the cascade's rules read it.

    A refusal ends as a filtered answer does; a part that only a provider understands makes the reply empty, for nobody
    can say what it does.
    """
    if any(isinstance(part, Opaque) and not part.hint for part in choice.parts):
        return Reply(finish_reason=FinishReason.OTHER)
    action = action_of(choice.parts)
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    return Reply(
        text=action.text,
        tool_calls=action.tool_calls,
        reasoning=reasoning_of(choice.parts),
        finish_reason=FinishReason.CONTENT_FILTER if refused else choice.finish,
        logprob=math.fsum(token.logprob for token in choice.logprobs) if choice.logprobs else None,
    )


def answer_of(sample: Sample) -> Answer:
    """What the client gets: that choice alone, as every provider would take it back in the next request's history.

    Reasoning is left out (a provider refuses reasoning that it did not sign), empty texts and log-probabilities too.
    """
    parts = tuple(part for part in sample.choice.parts if _goes_back(part))
    choice = msgspec.structs.replace(sample.choice, parts=parts, logprobs=())
    return msgspec.structs.replace(sample.answer, choices=(choice,))


def _goes_back(part: Part) -> bool:
    return isinstance(part, Refusal | ToolUse) or (isinstance(part, Text) and bool(part.text))


def _named(choice: Choice, taken: set[str], salt: str) -> Choice:
    """Small servers number calls afresh in every answer, or not at all, or in letters that others refuse; clients join
    results to calls by these ids."""
    own: set[str] = set()
    parts: list[Part] = []
    for index, part in enumerate(choice.parts):
        if isinstance(part, ToolUse):
            if not _ID.fullmatch(part.id) or part.id in taken | own:
                part = msgspec.structs.replace(part, id=_fresh(f"{salt}-{index}", taken | own))
            own.add(part.id)
        parts.append(part)
    return msgspec.structs.replace(choice, parts=tuple(parts))


def _fresh(salt: str, taken: set[str]) -> str:
    """An id in the alphabet and length that every provider takes, the same for the same answer."""
    number = 0
    while (name := f"call_{hashlib.blake2b(f'{salt}#{number}'.encode(), digest_size=10).hexdigest()}") in taken:
        number += 1
    return name
