"""Turns a provider's usage object into ``types.Usage``, so that ``uncached + cache_read + cache_write == input``.

What it knows: how OpenAI (chat, responses), Anthropic, Gemini, DeepSeek and Bedrock count, and where reasoning hides.
What it does not do: prices, or guessing. Counts that cannot be partitioned give None; the caller keeps the raw object.

How the dialects differ (vendors' API references, read in 2026-11):

============  ==========================================  =====================================================
dialect       input tokens                                output tokens
============  ==========================================  =====================================================
OpenAI        ``prompt_tokens`` include cache reads       include reasoning; xAI and Gemini's compatible endpoint
              and writes                                  leave reasoning out of them but not of the total
Anthropic     ``input_tokens`` exclude reads and writes   include thinking
Gemini        ``promptTokenCount`` includes cache reads,  ``candidatesTokenCount`` excludes thoughts
              excludes results of built-in tools
              (the Python SDK writes the same names with underscores)
DeepSeek      ``prompt_tokens`` = hit + miss              include reasoning
Bedrock       ``inputTokens`` exclude reads and writes    include thinking
============  ==========================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.types import Usage


class _Malformed(Exception):
    """A count that is no whole number, or parts that do not fit into their whole."""


def normalise_usage(raw: Mapping[str, Any] | None) -> Usage | None:
    """The tokens that a usage object bills, whichever provider wrote it; None if it does not say or contradicts itself.

    >>> usage = normalise_usage({"prompt_tokens": 30_000, "completion_tokens": 50, "prompt_cache_hit_tokens": 28_000})
    >>> usage.uncached_input_tokens, usage.cache_read_tokens, usage.output_tokens
    (2000, 28000, 50)
    """
    if not raw or not _is_mapping(raw):
        return None
    try:
        if "promptTokenCount" in raw:
            return _gemini(raw)
        if "prompt_token_count" in raw:
            return _gemini({_camel(key): value for key, value in raw.items() if isinstance(key, str)})
        if "inputTokens" in raw:
            return _bedrock(raw)
        if "prompt_tokens" in raw:
            return _openai_chat(raw)
        if "input_tokens" in raw:
            return _responses(raw) if "input_tokens_details" in raw else _anthropic(raw)
    except (_Malformed, ValueError):
        return None
    return None


def _openai_chat(raw: Mapping[str, Any]) -> Usage:
    """OpenAI chat completions and everything that copies them; DeepSeek's and Moonshot's own cache fields too."""
    prompt = _required(raw, "prompt_tokens")
    completion = _count(raw, "completion_tokens") or 0
    details = _object(raw, "prompt_tokens_details")
    read = _first(
        _count(details, "cached_tokens"),
        _count(raw, "prompt_cache_hit_tokens"),
        _count(raw, "cached_tokens"),
        _count(raw, "cache_read_input_tokens"),
    )
    write = _first(_count(details, "cache_write_tokens"), _count(raw, "cache_creation_input_tokens"))
    write_1h = _one_hour_writes(raw)
    reasoning = _count(_object(raw, "completion_tokens_details"), "reasoning_tokens")
    prompt = _inclusive_prompt(prompt, completion, read or 0, write or 0, _count(raw, "total_tokens"))
    output, reasoning = _with_hidden_reasoning(prompt, completion, reasoning, _count(raw, "total_tokens"))
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=read or 0,
        cache_write_tokens=write or 0,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_reported=read is not None,
    )


def _responses(raw: Mapping[str, Any]) -> Usage:
    """OpenAI responses: as chat completions, under other names."""
    inputs, outputs = _object(raw, "input_tokens_details"), _object(raw, "output_tokens_details")
    read = _count(inputs, "cached_tokens")
    return Usage(
        input_tokens=_required(raw, "input_tokens"),
        cache_read_tokens=read or 0,
        cache_write_tokens=_count(inputs, "cache_write_tokens") or 0,
        output_tokens=_count(raw, "output_tokens") or 0,
        reasoning_tokens=_count(outputs, "reasoning_tokens") or 0,
        cache_reported=read is not None,
    )


def _anthropic(raw: Mapping[str, Any]) -> Usage:
    """Anthropic messages: three disjoint kinds of input, writes split by time to live."""
    read = _count(raw, "cache_read_input_tokens")
    write = _count(raw, "cache_creation_input_tokens")
    by_ttl = _object(raw, "cache_creation")
    write_1h = _one_hour_writes(raw)
    if write is None and by_ttl:
        write = (_count(by_ttl, "ephemeral_5m_input_tokens") or 0) + write_1h
    return Usage(
        input_tokens=_required(raw, "input_tokens") + (read or 0) + (write or 0),
        cache_read_tokens=read or 0,
        cache_write_tokens=write or 0,
        cache_write_1h_tokens=write_1h,
        output_tokens=_count(raw, "output_tokens") or 0,
        reasoning_tokens=_count(_object(raw, "output_tokens_details"), "thinking_tokens") or 0,
        cache_reported=read is not None,
    )


def _gemini(raw: Mapping[str, Any]) -> Usage:
    """Gemini's own ``usageMetadata``. A cache hit of zero is left out of it, so an absent count is a reported zero."""
    thoughts = _count(raw, "thoughtsTokenCount") or 0
    return Usage(
        input_tokens=_required(raw, "promptTokenCount") + (_count(raw, "toolUsePromptTokenCount") or 0),
        cache_read_tokens=_count(raw, "cachedContentTokenCount") or 0,
        output_tokens=(_count(raw, "candidatesTokenCount") or 0) + thoughts,
        reasoning_tokens=thoughts,
        cache_reported=True,
    )


def _bedrock(raw: Mapping[str, Any]) -> Usage:
    """Amazon Bedrock's Converse: as Anthropic, other names; writes by time to live stand in a list."""
    read, write = _count(raw, "cacheReadInputTokens"), _count(raw, "cacheWriteInputTokens")
    details = raw.get("cacheDetails")
    by_ttl = [one for one in details if isinstance(one, Mapping)] if isinstance(details, list) else []
    return Usage(
        input_tokens=_required(raw, "inputTokens") + (read or 0) + (write or 0),
        cache_read_tokens=read or 0,
        cache_write_tokens=write or 0,
        cache_write_1h_tokens=sum(_count(one, "inputTokens") or 0 for one in by_ttl if one.get("ttl") == "1h"),
        output_tokens=_count(raw, "outputTokens") or 0,
        cache_reported=read is not None,
    )


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _one_hour_writes(raw: Mapping[str, Any]) -> int:
    return _count(_object(raw, "cache_creation"), "ephemeral_1h_input_tokens") or 0


def _inclusive_prompt(prompt: int, completion: int, read: int, write: int, total: int | None) -> int:
    """The prompt with its cached parts. A translating proxy may leave them out; only the total can prove that."""
    if read + write <= prompt:
        return prompt
    if total == prompt + read + write + completion:
        return prompt + read + write
    raise _Malformed(f"cached parts {read} + {write} exceed a prompt of {prompt} tokens")


def _with_hidden_reasoning(prompt: int, completion: int, reasoning: int | None, total: int | None) -> tuple[int, int]:
    """(output, reasoning). What the total holds beyond prompt and completion is reasoning that is billed as output."""
    hidden = (total or 0) - prompt - completion
    if hidden > 0 and (reasoning is None or reasoning in (0, hidden)):
        return completion + hidden, hidden
    if reasoning is not None and reasoning > completion:
        return completion + reasoning, reasoning
    return completion, reasoning or 0


def _object(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return {} if value is None or not _is_mapping(value) else value


def _is_mapping(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _count(raw: Mapping[str, Any], key: str) -> int | None:
    value = raw.get(key)
    if value is None or (type(value) is int and value >= 0):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Malformed(f"{key} is {value!r}")
    return value


def _required(raw: Mapping[str, Any], key: str) -> int:
    value = _count(raw, key)
    if value is None:
        raise _Malformed(f"{key} is missing")
    return value


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
