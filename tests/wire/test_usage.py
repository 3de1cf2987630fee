"""Token counts of every dialect: hand-worked payloads, and the partition for all payloads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.types import Usage
from potstill.wire.usage import normalise_usage

tokens = st.integers(0, 10_000_000)

HAND_WORKED: dict[str, tuple[dict[str, Any], Usage]] = {
    "openai-chat": (
        # 2006 prompt tokens, 1920 of them read, 64 written: 22 at the full price.
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 128},
        },
        Usage(
            input_tokens=2006,
            cache_read_tokens=1920,
            cache_write_tokens=64,
            output_tokens=300,
            reasoning_tokens=128,
            cache_reported=True,
        ),
    ),
    "openai-responses": (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": 107,
        },
        Usage(input_tokens=100, cache_read_tokens=40, output_tokens=7, reasoning_tokens=3, cache_reported=True),
    ),
    "anthropic": (
        # input_tokens excludes the 1800 read and 248 written: 2060 in all, 12 uncached.
        {
            "input_tokens": 12,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
        },
        Usage(
            input_tokens=2060,
            cache_read_tokens=1800,
            cache_write_tokens=248,
            cache_write_1h_tokens=100,
            output_tokens=503,
            cache_reported=True,
        ),
    ),
    "anthropic-without-cache": (
        {"input_tokens": 12, "output_tokens": 5, "cache_creation": None},
        Usage(input_tokens=12, output_tokens=5),
    ),
    "anthropic-writes-by-lifetime-only": (
        {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 4}},
        Usage(input_tokens=7, cache_write_tokens=6, cache_write_1h_tokens=4),
    ),
    "gemini-native": (
        # Thoughts are billed as output beside the candidates; results of built-in tools are input beside the prompt.
        {
            "promptTokenCount": 5000,
            "cachedContentTokenCount": 4096,
            "toolUsePromptTokenCount": 30,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 80,
            "totalTokenCount": 5130,
        },
        Usage(input_tokens=5030, cache_read_tokens=4096, output_tokens=100, reasoning_tokens=80, cache_reported=True),
    ),
    "gemini-python-sdk": (
        {
            "prompt_token_count": 5000,
            "cached_content_token_count": 4096,
            "tool_use_prompt_token_count": None,
            "candidates_token_count": 20,
            "thoughts_token_count": 80,
            "total_token_count": 5100,
        },
        Usage(input_tokens=5000, cache_read_tokens=4096, output_tokens=100, reasoning_tokens=80, cache_reported=True),
    ),
    "bedrock-converse": (
        # As Anthropic: 40 beside 3,000 read and 500 written, 200 of these for an hour.
        {
            "inputTokens": 40,
            "outputTokens": 9,
            "totalTokens": 3549,
            "cacheReadInputTokens": 3000,
            "cacheWriteInputTokens": 500,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 200}, {"ttl": "5m", "inputTokens": 300}],
        },
        Usage(
            input_tokens=3540,
            cache_read_tokens=3000,
            cache_write_tokens=500,
            cache_write_1h_tokens=200,
            output_tokens=9,
            cache_reported=True,
        ),
    ),
    "bedrock-without-cache": ({"inputTokens": 4, "outputTokens": 2}, Usage(input_tokens=4, output_tokens=2)),
    "gemini-compatible-hides-thoughts-in-the-total": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 95},
        Usage(input_tokens=10, output_tokens=85, reasoning_tokens=80),
    ),
    "xai-leaves-reasoning-out-of-the-completion": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 95,
            "completion_tokens_details": {"reasoning_tokens": 80},
        },
        Usage(input_tokens=10, output_tokens=85, reasoning_tokens=80),
    ),
    "deepseek-native": (
        # genai-prices 0.2.3 misses these fields and prices 28k cached tokens 5.8 times too high.
        {
            "prompt_tokens": 30_000,
            "completion_tokens": 100,
            "prompt_cache_hit_tokens": 28_000,
            "prompt_cache_miss_tokens": 2_000,
        },
        Usage(input_tokens=30_000, cache_read_tokens=28_000, output_tokens=100, cache_reported=True),
    ),
    "moonshot-top-level-cached": (
        {"prompt_tokens": 50, "completion_tokens": 1, "cached_tokens": 32},
        Usage(input_tokens=50, cache_read_tokens=32, output_tokens=1, cache_reported=True),
    ),
    "a-proxy-that-leaves-cached-tokens-out-of-the-prompt": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 1015,
            "prompt_tokens_details": {"cached_tokens": 1000},
        },
        Usage(input_tokens=1010, cache_read_tokens=1000, output_tokens=5, cache_reported=True),
    ),
    "vllm-null-details": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": None},
        Usage(input_tokens=10, output_tokens=5),
    ),
    "a-reported-zero-is-not-unknown": (
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}},
        Usage(input_tokens=10, output_tokens=5, cache_reported=True),
    ),
}


@pytest.mark.parametrize("case", HAND_WORKED)
def test_hand_worked_payloads(case: str) -> None:
    raw, usage = HAND_WORKED[case]
    assert normalise_usage(raw) == usage


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        [],
        {"total_tokens": 5},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": "12", "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": None},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}},
        {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 11}},
        {"promptTokenCount": 3, "cachedContentTokenCount": 4},
        {"input_tokens": 1, "cache_creation_input_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 3}},
    ],
)
def test_contradictions_are_unknown_never_zero(raw: Any) -> None:
    assert normalise_usage(raw) is None


@given(uncached=tokens, read=tokens, write=tokens, output=tokens)
def test_openai_parts_add_up(uncached: int, read: int, write: int, output: int) -> None:
    raw = {
        "prompt_tokens": uncached + read + write,
        "completion_tokens": output,
        "total_tokens": uncached + read + write + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
    }
    usage = normalise_usage(raw)
    assert usage is not None
    assert (usage.uncached_input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (uncached, read, write)
    assert usage.output_tokens == output


@given(uncached=tokens, read=tokens, write_5m=tokens, write_1h=tokens, output=tokens)
def test_anthropic_parts_add_up(uncached: int, read: int, write_5m: int, write_1h: int, output: int) -> None:
    raw = {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
    }
    usage = normalise_usage(raw)
    assert usage is not None
    assert usage.input_tokens == uncached + read + write_5m + write_1h
    assert usage.uncached_input_tokens == uncached
    assert usage.cache_write_1h_tokens == write_1h


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
fields = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "input_tokens",
        "output_tokens",
        "input_tokens_details",
        "cache_creation",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "promptTokenCount",
        "thoughtsTokenCount",
        "prompt_token_count",
        "thoughts_token_count",
        "inputTokens",
        "cacheDetails",
        "cacheWriteInputTokens",
    ]
)


@given(st.dictionaries(fields, junk | tokens, max_size=8))
def test_any_payload_gives_a_partition_or_none(raw: dict[str, Any]) -> None:
    usage = normalise_usage(raw)
    if usage is not None:
        assert usage.uncached_input_tokens + usage.cache_read_tokens + usage.cache_write_tokens == usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens
