"""Pricing bare token counts: bills worked by hand from payloads as providers send them, by service, tier and day."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure_builders import DATE, call

from potstill.errors import UnknownPrice
from potstill.measure.ledger import Pricing, cost_of, price_usage, rates_for
from potstill.measure.prices import ModelPrice, PriceTable, Rates
from potstill.types import Answerer, Usage
from potstill.wire.usage import normalise_usage

TABLE = PriceTable.load(date=DATE, prices={})
SIDES = (Answerer.STUDENT, Answerer.TEACHER)

OPENAI_CHAT = {
    "prompt_tokens": 20_000,
    "completion_tokens": 900,
    "total_tokens": 20_900,
    "prompt_tokens_details": {"cached_tokens": 17_920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 640, "accepted_prediction_tokens": 0},
}
OPENAI_RESPONSES = {
    "input_tokens": 12_000,
    "input_tokens_details": {"cached_tokens": 8_192},
    "output_tokens": 2_000,
    "output_tokens_details": {"reasoning_tokens": 1_500},
    "total_tokens": 14_000,
}
ANTHROPIC = {
    "input_tokens": 40,
    "cache_read_input_tokens": 30_000,
    "cache_creation_input_tokens": 5_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 4_000},
    "output_tokens": 500,
    "service_tier": "standard",
}
ANTHROPIC_LONG = {"input_tokens": 20_001, "cache_read_input_tokens": 80_000, "output_tokens": 100}
GEMINI_LONG = {
    "promptTokenCount": 250_000,
    "cachedContentTokenCount": 200_000,
    "candidatesTokenCount": 400,
    "thoughtsTokenCount": 600,
    "totalTokenCount": 251_000,
}
DEEPSEEK = {
    "prompt_tokens": 64_000,
    "completion_tokens": 1_000,
    "total_tokens": 65_000,
    "prompt_tokens_details": {"cached_tokens": 57_600},
    "completion_tokens_details": {"reasoning_tokens": 700},
    "prompt_cache_hit_tokens": 57_600,
    "prompt_cache_miss_tokens": 6_400,
}


@pytest.mark.parametrize(
    ("model", "service", "payload", "parts"),
    [
        # gpt-5-mini, $0.25 in, $0.025 read, $2 out per million: 2,080 fresh, 17,920 read, 900 out (640 of it thought)
        ("gpt-5-mini", "standard", OPENAI_CHAT, (0.00052, 0.000448, 0.0, 0.0018)),
        # gpt-5.6-sol, $4, $0.4, $20: 3,808 fresh, 8,192 read
        ("gpt-5.6-sol", "standard", OPENAI_RESPONSES, (0.015232, 0.0032768, 0.0, 0.04)),
        # claude-opus-5-5, $4, $0.2, writes $5 and $8 for an hour, $20: 40 fresh, 1,000 x $5 + 4,000 x $8
        ("claude-opus-5-5", "standard", ANTHROPIC, (0.00016, 0.006, 0.037, 0.01)),
        # batch of claude-haiku-5-5: $0.05, $0.005, writes $0.0625 and $0.1, $0.25; above 100,000 tokens times five
        ("claude-haiku-5-5", "batch", ANTHROPIC, (0.000002, 0.00015, 0.0004625, 0.000125)),
        ("claude-haiku-5-5", "batch", ANTHROPIC_LONG, (0.00500025, 0.002, 0.0, 0.000125)),
        ("claude-haiku-5-5", "standard", ANTHROPIC_LONG, (0.0100005, 0.004, 0.0, 0.00025)),
        # gemini-3.1-pro-preview above 200,000 tokens: $4, $0.4, $18 in place of $2, $0.2, $12; thoughts are output
        ("gemini-3.1-pro-preview", "standard", GEMINI_LONG, (0.2, 0.08, 0.0, 0.018)),
        # deepseek-flash, $0.3, $0.006, $1.2
        ("deepseek-flash", "standard", DEEPSEEK, (0.00192, 0.0003456, 0.0, 0.0012)),
    ],
)
def test_hand_worked_bills(model: str, service: str, payload: dict[str, Any], parts: tuple[float, ...]) -> None:
    usage = normalise_usage(payload)
    assert usage is not None
    bill = price_usage(usage, model, TABLE, service=service)
    assert bill[:4] == pytest.approx(parts, rel=1e-12)
    assert bill.total_usd == pytest.approx(sum(parts), rel=1e-12)


def test_the_tier_is_told() -> None:
    long, short = Usage(input_tokens=100_001), Usage(input_tokens=100_000)
    assert price_usage(long, "claude-haiku-5-5", TABLE).tier_above_tokens == 100_000
    assert price_usage(short, "claude-haiku-5-5", TABLE).tier_above_tokens is None
    assert rates_for("claude-haiku-5-5", 100_001, TABLE).input == 0.5
    assert rates_for("claude-haiku-5-5", 100_000, TABLE).input == 0.1


def test_a_day_has_its_own_prices() -> None:
    usage = Usage(input_tokens=1_000_000)
    days = {day: price_usage(usage, "gemini-3.8-flash", TABLE, date=day).total_usd for day in (DATE, "2027-01-01")}
    assert days == {DATE: 0.75, "2027-01-01": 1.5}
    assert TABLE.on("2027-01-01") is TABLE.on("2027-01-01")
    assert TABLE.on("2027-01-01").on(DATE) is TABLE


def all_rates(price: ModelPrice) -> list[Rates]:
    return [price.rates, *(tier.rates for tier in price.tiers)]


def test_cache_reads_are_nowhere_dearer_than_input_but_where_the_list_says_so() -> None:
    """What "more cache hits never cost more" rests on, for every model of the snapshot; an alias or two break it."""
    dearer = [
        (provider, model)
        for provider, model in TABLE.models()
        for rates in all_rates(TABLE.price(f"{provider}/{model}"))
        if rates.read_rate > rates.input
    ]
    assert len(TABLE.models()) > 2000
    assert len(dearer) <= 3
    assert {provider for provider, _ in dearer} <= {"openrouter"}


def test_an_unknown_model_or_service_says_so_each_time() -> None:
    for _ in range(2):
        with pytest.raises(UnknownPrice, match="No price for the model 'nobody'"):
            price_usage(Usage(input_tokens=1), "nobody", TABLE)
        with pytest.raises(UnknownPrice, match="No 'flex' price"):
            price_usage(Usage(input_tokens=1), "claude-haiku-5-5", TABLE, service="flex")


@pytest.mark.parametrize("model", ["policy:d.policy", "tuned:student-lm", "rules:r.json#policy:d.policy", "local:x"])
def test_a_model_of_this_machine_is_priced_by_cpu_time_or_as_another(model: str) -> None:
    with pytest.raises(
        UnknownPrice, match=r"this machine: .*--cpu-hour-usd 0\.05, .*--price-student-as free .*Or: Add"
    ):
        price_usage(Usage(input_tokens=1), model, TABLE)


def test_each_side_has_its_own_service_level_also_priced_as_another() -> None:
    pricing = Pricing(student_as="claude-haiku-5-5", teacher_as="claude-opus-5-5", student_service="batch")
    tokens = Usage(input_tokens=10_000)
    student, teacher = (cost_of(call("local:x", who, tokens), TABLE, pricing=pricing) for who in SIDES)
    assert (student.total_usd, teacher.total_usd) == (pytest.approx(0.0005), pytest.approx(0.04))
    cheap = Pricing(service="batch", teacher_service="standard")
    own = cost_of(call("claude-haiku-5-5", Answerer.NOBODY, tokens), TABLE, pricing=cheap)
    assert own.total_usd == pytest.approx(0.0005)


@given(st.integers(0, 300_000), st.integers(0, 300_000), st.integers(0, 9_000), st.integers(0, 9_000))
def test_a_bare_usage_costs_what_its_call_costs(fresh: int, read: int, spoken: int, thought: int) -> None:
    usage = Usage(
        input_tokens=fresh + read,
        cache_read_tokens=read,
        output_tokens=spoken + thought,
        reasoning_tokens=thought,
        cache_reported=True,
    )
    for model in ("claude-haiku-5-5", "gemini-3.1-pro-preview", "gpt-4.1-mini"):
        row = cost_of(call(model, tokens=usage), TABLE)
        assert row.total_usd == price_usage(usage, model, TABLE).total_usd
