"""Ledger rows: hand-worked bills for four providers, and what holds for all of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure_builders import DATE, call, usage

from potstill.errors import UnknownPrice
from potstill.measure.ledger import Pricing, cost_of
from potstill.measure.prices import PriceTable
from potstill.measure.prices.cache_rules import cache_rule
from potstill.models.providers import provider_named
from potstill.types import Answerer, Call, ErrorRecord, Usage
from potstill.wire.usage import normalise_usage

TABLE = PriceTable.load(date=DATE)
MODELS = ["claude-haiku-5-5", "claude-sonnet-5-5", "gpt-5.6-sol", "gpt-4.1-mini", "gemini-3.8-flash", "deepseek-flash"]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    parts = [draw(st.integers(0, 400_000)) for _ in range(3)]
    output = draw(st.integers(0, 20_000))
    return Usage(
        input_tokens=sum(parts),
        cache_read_tokens=parts[1],
        cache_write_tokens=parts[2],
        cache_write_1h_tokens=draw(st.integers(0, parts[2])),
        output_tokens=output,
        reasoning_tokens=draw(st.integers(0, output)),
        cache_reported=True,
    )


@pytest.mark.parametrize(
    ("model", "payload", "parts"),
    [
        # gpt-5.6-sol: 1,000 fresh x $4 + 8,000 read x $0.4 + 1,000 written x $5 + 150 out x $20, per million
        (
            "gpt-5.6-sol",
            {
                "prompt_tokens": 10_000,
                "completion_tokens": 150,
                "total_tokens": 10_150,
                "prompt_tokens_details": {"cached_tokens": 8_000, "cache_write_tokens": 1_000},
            },
            (0.004, 0.0032, 0.005, 0.003),
        ),
        # claude-sonnet-5-5: 500 x $2 + 20,000 x $0.1 + (2,000 x $2.5 + 1,000 x $4) + 300 x $10
        (
            "claude-sonnet-5-5",
            {
                "input_tokens": 500,
                "cache_read_input_tokens": 20_000,
                "cache_creation_input_tokens": 3_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 2_000, "ephemeral_1h_input_tokens": 1_000},
                "output_tokens": 300,
            },
            (0.001, 0.002, 0.009, 0.003),
        ),
        # gemini-3.8-flash: 2,000 x $0.75 + 6,000 x $0.075 + (100 spoken + 200 thought) x $3.75
        (
            "gemini-3.8-flash",
            {
                "promptTokenCount": 8_000,
                "cachedContentTokenCount": 6_000,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 200,
                "totalTokenCount": 8_300,
            },
            (0.0015, 0.00045, 0.0, 0.001125),
        ),
        # deepseek-flash, the provider's own cache fields: 2,000 x $0.3 + 28,000 x $0.006 + 50 x $1.2
        (
            "deepseek-flash",
            {
                "prompt_tokens": 30_000,
                "completion_tokens": 50,
                "prompt_cache_hit_tokens": 28_000,
                "prompt_cache_miss_tokens": 2_000,
                "total_tokens": 30_050,
            },
            (0.0006, 0.000168, 0.0, 0.00006),
        ),
        # claude-haiku-5-5 above 100,000 tokens: every token of the request at the higher rate
        ("claude-haiku-5-5", {"input_tokens": 100_001, "output_tokens": 10}, (0.0500005, 0.0, 0.0, 0.000025)),
    ],
)
def test_hand_worked_bills(model: str, payload: dict[str, Any], parts: tuple[float, ...]) -> None:
    row = cost_of(call(model, tokens=normalise_usage(payload)), TABLE)
    billed = (row.uncached_usd, row.read_usd, row.write_usd, row.output_usd)
    assert billed == pytest.approx(parts, rel=1e-12)
    assert row.total_usd == pytest.approx(sum(parts), rel=1e-12)


@given(usages(), st.sampled_from(MODELS))
def test_parts_add_up_to_the_whole(tokens: Usage, model: str) -> None:
    row = cost_of(call(model, tokens=tokens), TABLE)
    assert row.usage is not None
    assert row.total_usd == row.uncached_usd + row.read_usd + row.write_usd + row.output_usd + row.compute_usd  # type: ignore[operator]
    assert row.usage.uncached_input_tokens + row.usage.cache_read_tokens + row.usage.cache_write_tokens == (
        tokens.input_tokens
    )


@given(usages(), st.sampled_from(MODELS), st.data())
def test_more_cache_hits_never_cost_more(tokens: Usage, model: str, data: st.DataObject) -> None:
    moved = data.draw(st.integers(0, tokens.uncached_input_tokens))
    warmer = msgspec.structs.replace(tokens, cache_read_tokens=tokens.cache_read_tokens + moved)
    cold, warm = (cost_of(call(model, tokens=t), TABLE).total_usd for t in (tokens, warmer))
    assert cold is not None
    assert warm is not None
    assert warm <= cold * (1 + 1e-12)


@given(usages(), st.sampled_from(MODELS))
def test_without_a_cache_every_input_token_is_fresh(tokens: Usage, model: str) -> None:
    row = cost_of(call(model, tokens=tokens), TABLE, cache="none")
    assert (row.read_usd, row.write_usd) == (0, 0)
    assert row.usage is not None
    assert row.usage.uncached_input_tokens == tokens.input_tokens


def test_unknown_tokens_are_an_unknown_cost_and_never_zero() -> None:
    row = cost_of(call("gpt-4.1-mini", tokens=None), TABLE)
    assert row.total_usd is None
    assert row.uncached_usd is None


def test_unknown_models_are_an_error() -> None:
    with pytest.raises(UnknownPrice, match=r"potstill-prices\.toml"):
        cost_of(call("no-such-model", tokens=usage()), TABLE)


def test_an_expert_is_priced_as_a_named_model_and_says_so() -> None:
    row = cost_of(call("expert:rooms", tokens=usage(1000, 100), priced_as="claude-sonnet-5-5"), TABLE)
    assert row.total_usd == pytest.approx(0.003)
    assert (row.priced_as, row.price_row) == ("claude-sonnet-5-5", "anthropic/claude-sonnet-5-5")


def test_the_users_choice_beats_the_recorded_one() -> None:
    expert = call("expert:rooms", tokens=usage(1000, 100), priced_as="claude-sonnet-5-5")
    student = call("local:small", Answerer.STUDENT, usage(1000, 100))
    pricing = Pricing(teacher_as="claude-opus-5-5", student_as="claude-haiku-5-5")
    assert cost_of(expert, TABLE, pricing=pricing).total_usd == pytest.approx(0.006)
    assert cost_of(student, TABLE, pricing=pricing).total_usd == pytest.approx(0.00015)


def test_a_local_model_by_cpu_time() -> None:
    table = PriceTable.load(date=DATE, cpu_hour_usd=0.036)
    timed = call("local:small", Answerer.STUDENT, usage(), cpu_s=100.0)
    row = cost_of(timed, table)
    assert row.total_usd == pytest.approx(0.001)
    assert (row.compute_usd, row.priced_as) == (row.total_usd, "cpu")
    assert cost_of(call("local:small", Answerer.STUDENT, usage()), table).total_usd is None
    assert cost_of(call("gpt-4.1-mini", tokens=usage(1000, 0)), table).total_usd == pytest.approx(0.0004)


def test_a_refused_request_is_not_billed_but_a_timeout_may_have_been() -> None:
    def failed(kind: str) -> Call:
        error = ErrorRecord(kind=kind, message="")
        return Call(model="gpt-4.1-mini", answerer=Answerer.STUDENT, error=error)

    assert cost_of(failed("RateLimited"), TABLE).total_usd == 0
    assert cost_of(failed("ModelTimeout"), TABLE).total_usd is None


def test_reasoning_with_its_own_rate() -> None:
    # openrouter's perplexity/sonar-deep-research: $2 in, $8 out, $3 reasoning
    tokens = usage(1000, 300, reasoning_tokens=200)
    row = cost_of(call("openrouter/perplexity/sonar-deep-research", tokens=tokens), TABLE)
    assert row.output_usd == pytest.approx((100 * 8 + 200 * 3) / 1e6)


def samples(n: int, tokens: Usage, priced_as: str) -> Call:
    """``n`` samples of a local model that read the prompt once."""
    made = call("local:small", Answerer.STUDENT, tokens, priced_as=priced_as)
    return msgspec.structs.replace(made, replies=made.replies * n)


def test_samples_that_the_priced_provider_bills_apart_pay_for_the_prompt_each_time() -> None:
    five = samples(5, usage(1000, 50), "claude-haiku-5-5")
    row = cost_of(five, TABLE)
    # 5 x 1,000 in x $0.1 + 50 out x $0.5, per million
    assert row.total_usd == pytest.approx(5 * 1000 * 0.1e-6 + 50 * 0.5e-6)
    assert row.usage is not None
    assert row.usage.input_tokens == 5000


def test_samples_of_a_provider_that_bills_one_prompt_pay_for_it_once() -> None:
    row = cost_of(samples(5, usage(1000, 50), "gpt-4.1-mini"), TABLE)
    assert row.total_usd == pytest.approx(1000 * 0.4e-6 + 50 * 1.6e-6)


def test_many_samples_of_a_short_prompt_stay_in_the_tier_of_short_prompts() -> None:
    row = cost_of(samples(5, usage(30_000, 50), "claude-haiku-5-5"), TABLE)
    assert row.tier_above_tokens is None, "each request has 30,000 tokens; the tier begins above 100,000"


def test_both_tables_agree_on_who_bills_one_prompt_for_n_samples() -> None:
    for name, model in (("openai", "gpt-4.1-mini"), ("mistral", "mistral-small-latest"), ("anthropic", "claude-x")):
        assert cache_rule(name, model).n_shares_prompt == provider_named(name).n_shares_prompt
