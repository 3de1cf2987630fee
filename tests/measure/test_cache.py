"""Simulated prompt caches: hand-worked reads and writes, lifetimes, and that warmth never costs more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure_builders import DATE, call, usage

from potstill.errors import ConfigError
from potstill.measure.cache import MESSAGE_CHARACTERS, PromptCache, ledger
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.types import Answerer, Call, Usage

TABLE = PriceTable.load(date=DATE)
TEXT = "x" * (10_000 - MESSAGE_CHARACTERS)
"""A message that counts 10,000 characters."""


def simulated(*calls: Call) -> list[Usage | None]:
    return [row.usage for row in ledger(calls, TABLE, cache="simulated")]


def counts(tokens: Usage | None) -> tuple[int, int, int]:
    assert tokens is not None
    return tokens.uncached_input_tokens, tokens.cache_read_tokens, tokens.cache_write_tokens


def grown(n: int, model: str = "claude-sonnet-5-5", **fields: object) -> Call:
    """A prompt of ``n`` equal messages, 2,000 tokens each."""
    texts = tuple(f"{i}{TEXT[1:]}" for i in range(n))
    return call(model, tokens=usage(2000 * n, 0), prompt=texts, **fields)


def test_anthropic_writes_all_but_the_last_message_and_reads_it_back() -> None:
    first, second = simulated(grown(2), grown(3))
    assert counts(first) == (2000, 0, 2000)
    assert counts(second) == (2000, 2000, 2000)


def test_openai_reads_in_blocks_of_128_and_pays_for_writes_where_they_are_listed() -> None:
    first, second = simulated(grown(2, "gpt-6-luna"), grown(3, "gpt-6-luna"))
    assert counts(first) == (4000 - 3968, 0, 3968)
    assert counts(second) == (6000 - 5888, 3968, 5888 - 3968)
    _, free = simulated(grown(2, "gpt-4.1-mini"), grown(3, "gpt-4.1-mini"))
    assert counts(free) == (6000 - 3968, 3968, 0)


def test_a_changed_message_ends_the_prefix_but_its_own_start_counts_by_tokens() -> None:
    prompt = ("a" * 9_988, "b" * 5_000 + "c" * 4_988)
    changed = ("a" * 9_988, "b" * 5_000 + "d" * 4_988)
    _, second = simulated(
        call("gpt-4.1-mini", tokens=usage(4000, 0), prompt=prompt),
        call("gpt-4.1-mini", tokens=usage(4000, 0), prompt=changed),
    )
    # 15,000 of 20,000 characters are shared: 3,000 tokens, of which 23 blocks of 128 are read
    assert counts(second)[1] == 2944


def test_short_prefixes_are_never_cached() -> None:
    small = call("gpt-4.1-mini", tokens=usage(1000, 0), prompt=("hello", "there"))
    assert [counts(tokens) for tokens in simulated(small, small)] == [(1000, 0, 0)] * 2


def test_entries_die_after_five_minutes_without_use_and_live_on_if_used() -> None:
    def at(*times: float) -> list[int]:
        return [counts(tokens)[1] for tokens in simulated(*(grown(2, started_at=1000 + t) for t in times))]

    assert at(0, 300) == [0, 2000]
    assert at(0, 301) == [0, 0]
    assert at(0, 250, 500, 750) == [0, 2000, 2000, 2000]


def test_samples_asked_for_at_once_do_not_read_each_others_prompt() -> None:
    together = [grown(2, started_at=1000.0, latency_s=2.0), grown(2, started_at=1000.0, latency_s=2.0)]
    after = grown(2, started_at=1002.0)
    assert [counts(tokens)[1] for tokens in simulated(*together, after)] == [0, 0, 2000]


def test_models_do_not_share_a_cache_but_the_names_of_one_model_do() -> None:
    other = simulated(grown(2), grown(2, "claude-opus-5-5"), grown(2, "anthropic/claude-sonnet-5-5"))
    assert [counts(tokens)[1] for tokens in other] == [0, 0, 2000]


def test_what_the_priced_model_reported_is_kept_and_what_another_reported_is_not() -> None:
    reported = usage(4000, 0, cache_read_tokens=1000, cache_reported=True)
    own = call("claude-sonnet-5-5", tokens=reported, prompt=(TEXT, TEXT))
    local = call("local:small", Answerer.STUDENT, reported, prompt=(TEXT, TEXT), priced_as="claude-sonnet-5-5")
    assert [counts(tokens) for tokens in simulated(own, local)] == [(3000, 1000, 0), (2000, 0, 2000)]


def test_samples_billed_apart_read_what_the_first_one_wrote() -> None:
    local = call("local:small", Answerer.STUDENT, usage(4000, 0), prompt=(TEXT, TEXT), priced_as="claude-sonnet-5-5")
    three = msgspec.structs.replace(local, replies=local.replies * 3)
    # 4,000 tokens in two messages: the first half is written once, then read twice; the second half is fresh each time
    assert [counts(tokens) for tokens in simulated(three)] == [(6000, 4000, 2000)]


def test_unknown_tokens_stay_unknown() -> None:
    assert simulated(call("gpt-4.1-mini", tokens=None, prompt=(TEXT,))) == [None]


@st.composite
def episodes(draw: st.DrawFn) -> list[Call]:
    model = draw(st.sampled_from(["claude-sonnet-5-5", "gpt-6-luna", "gpt-4.1-mini", "deepseek-flash"]))
    messages: list[str] = []
    calls, clock = [], 1000.0
    for i in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 5)) == 0:
            messages = messages[: draw(st.integers(0, len(messages)))]
        messages.append(f"{i}" + "y" * draw(st.integers(0, 20_000)))
        clock += draw(st.floats(0, 500))
        tokens = usage(sum(map(len, messages)) // 4 + 10, 20)
        calls.append(call(model, tokens=tokens, prompt=tuple(messages), started_at=clock, latency_s=1.0))
    return calls


@given(episodes())
def test_simulation_keeps_the_input_and_only_moves_it_between_parts(calls: list[Call]) -> None:
    for before, after in zip(calls, simulated(*calls), strict=True):
        assert before.usage is not None
        assert after is not None
        assert after.input_tokens == before.usage.input_tokens
        assert sum(counts(after)) == after.input_tokens


@given(episodes())
def test_entries_that_live_longer_never_cost_more(calls: list[Call]) -> None:
    def bill(ttl_s: float) -> float:
        table = PriceTable.load(date=DATE)
        price = table.price(calls[0].model)
        rule = msgspec.structs.replace(price.cache, ttl_s=ttl_s)
        table._resolved[(calls[0].model, "standard")] = msgspec.structs.replace(price, cache=rule)
        return sum(row.total_usd or 0.0 for row in ledger(calls, table, cache="simulated"))

    assert bill(600.0) <= bill(60.0) * (1 + 1e-12)


def test_a_long_episode_reads_nearly_all_of_its_history() -> None:
    cache = PromptCache()
    rows = [cache.usage(grown(n), TABLE) for n in range(2, 30)]
    read = sum(tokens.cache_read_tokens for tokens in rows if tokens is not None)
    total = sum(tokens.input_tokens for tokens in rows if tokens is not None)
    assert read / total == pytest.approx(0.87, abs=0.02)


def test_entries_written_for_an_hour_cost_more_and_live_longer() -> None:
    """2,000 tokens at $4 a million instead of $2.5 are read back after 50 minutes at $0.1, not $2."""
    calls = [grown(2, started_at=1000.0), grown(2, started_at=4000.0)]
    short, long = (
        [row.usage for row in ledger(calls, TABLE, cache="simulated", pricing=Pricing(cache_ttl=ttl))]
        for ttl in ("provider", "1h")
    )
    assert [counts(tokens) for tokens in short] == [(2000, 0, 2000), (2000, 0, 2000)]
    assert [counts(tokens) for tokens in long] == [(2000, 0, 2000), (2000, 2000, 0)]
    assert [tokens.cache_write_1h_tokens for tokens in long if tokens] == [2000, 0]
    bill = sum(row.total_usd or 0 for row in ledger(calls, TABLE, cache="simulated", pricing=Pricing(cache_ttl="1h")))
    assert bill == pytest.approx((2000 * 2 + 2000 * 4 + 2000 * 2 + 2000 * 0.1) / 1e6, rel=1e-12)


def test_an_hour_is_not_offered_by_providers_without_a_rate_for_it() -> None:
    calls = [grown(2, "gpt-6-luna", started_at=1000.0), grown(2, "gpt-6-luna", started_at=1301.0)]
    rows = [ledger(calls, TABLE, cache="simulated", pricing=Pricing(cache_ttl=ttl)) for ttl in ("provider", "1h")]
    assert rows[0] == rows[1]


def test_a_cache_that_loses_entries_reads_less_and_writes_them_again() -> None:
    half = Pricing(cache_reliability=0.5)
    for model, lost in (("claude-sonnet-5-5", (2000, 1000, 3000)), ("gpt-4.1-mini", (6000 - 1984, 1984, 0))):
        rows = ledger([grown(2, model), grown(3, model)], TABLE, cache="simulated", pricing=half)
        assert counts(rows[1].usage) == lost
    with pytest.raises(ConfigError, match="allowed: 0 to 1"):
        Pricing(cache_reliability=1.5)


@given(episodes(), st.floats(0, 1))
def test_an_unreliable_cache_never_costs_less(calls: list[Call], share: float) -> None:
    bills = [
        sum(row.total_usd or 0.0 for row in ledger(calls, TABLE, cache="simulated", pricing=pricing))
        for pricing in (Pricing(), Pricing(cache_reliability=share))
    ]
    assert bills[0] <= bills[1] * (1 + 1e-12)


@given(episodes())
def test_pricing_twice_with_the_same_table_changes_nothing(calls: list[Call]) -> None:
    first, second = (ledger(calls, TABLE.on(day), cache="simulated") for day in (DATE, TABLE.date))
    assert first == second
    reported = [
        msgspec.structs.replace(one, usage=msgspec.structs.replace(row.usage, cache_reported=True))
        for one, row in zip(calls, first, strict=True)
        if row.usage is not None
    ]
    again = ledger(reported, TABLE, cache="simulated")
    assert [row.total_usd for row in again] == [row.total_usd for row in first]


@given(episodes())
def test_the_parts_of_an_episode_sum_to_the_whole(calls: list[Call]) -> None:
    rows = ledger(calls, TABLE, cache="simulated")
    parts = [sum(getattr(row, f"{part}_usd") for row in rows) for part in ("uncached", "read", "write", "output")]
    assert sum(parts) == pytest.approx(sum(row.total_usd or 0.0 for row in rows), rel=1e-12)


@given(episodes())
def test_a_cache_costs_more_than_none_by_no_more_than_the_surcharge_of_its_writes(calls: list[Call]) -> None:
    """OpenAI's older models and DeepSeek write for free; Anthropic and gpt-6-luna ask 1.25 of the input rate."""
    rates = TABLE.price(calls[0].model).rates
    surcharge = max(0.0, rates.write_rate - rates.input) if rates.cache_write is not None else 0.0
    cached, uncached = (ledger(calls, TABLE, cache=how) for how in ("simulated", "none"))
    written = sum(row.usage.cache_write_tokens for row in cached if row.usage is not None)
    bound = sum(row.total_usd or 0.0 for row in uncached) + written * surcharge / 1e6
    assert sum(row.total_usd or 0.0 for row in cached) <= bound * (1 + 1e-12)
