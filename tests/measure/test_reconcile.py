"""Reported dollars: every field that reports them, amounts worked by hand, and recorded episodes of a benchmark."""

from __future__ import annotations

import collections
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure_builders import DATE

from potstill.measure.ledger import price_usage
from potstill.measure.prices import PriceTable
from potstill.measure.reconcile import Reconciliation, Verdict, Why, compare, reconcile, reported_cost
from potstill.types import Usage
from potstill.wire.usage import normalise_usage

TABLE = PriceTable.load(date=DATE)


@pytest.mark.parametrize(
    ("payload", "usd", "field"),
    [
        # xAI's own example: 37,756,000 ticks are $0.0038
        ({"usage": {"prompt_tokens": 9, "cost_in_usd_ticks": 37_756_000}}, 0.0037756, "usage.cost_in_usd_ticks"),
        ({"cost_in_usd_ticks": 200_000_000}, 0.02, "cost_in_usd_ticks"),
        ({"usage": {"cost": 0.00014, "cost_details": {"upstream_inference_cost": None}}}, 0.00014, "usage.cost"),
        # OpenRouter with one's own key: its fee is 5 % of what the provider charged
        (
            {"usage": {"cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}},
            19.95,
            "usage.cost + cost_details.upstream_inference_cost",
        ),
        ({"usage": {"cost": {"input_tokens_cost": 0.1, "total_cost": 0.3}}}, 0.3, "usage.cost.total_cost"),
        ({"_hidden_params": {"response_cost": 0.002}, "usage": {"prompt_tokens": 3}}, 0.002, None),
        ({"response_cost": 0.003, "usage": None}, 0.003, "response_cost"),
        ({"spend": 0.0, "model": "x"}, 0.0, "spend"),
        ({"role": "assistant", "cost": 0.0004508, "usage": {"in": 3595}}, 0.0004508, "cost"),
        ({"agent_cost": 1, "cost": None}, 1.0, "agent_cost"),
    ],
)
def test_where_dollars_are_reported(payload: dict[str, Any], usd: float, field: str | None) -> None:
    found = reported_cost(payload)
    assert found is not None
    assert found.usd == pytest.approx(usd, rel=1e-12)
    assert found.field == (field or "_hidden_params.response_cost")


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"cost": "0.1"}, {"cost": True}, {"cost": -1}, {"spend": float("nan")}]
)
def test_what_is_no_amount_is_unknown(payload: Any) -> None:
    assert reported_cost(payload) is None


def test_grok_by_hand() -> None:
    """grok-4.7: 1,000 fresh x $2 + 9,000 read x $0.5 + (200 spoken + 300 thought) x $6, in ticks."""
    payload = {
        "prompt_tokens": 10_000,
        "completion_tokens": 200,
        "total_tokens": 10_500,
        "prompt_tokens_details": {"cached_tokens": 9_000},
        "completion_tokens_details": {"reasoning_tokens": 300},
        "cost_in_usd_ticks": 95_000_000,
    }
    reported = reported_cost(payload)
    assert reported is not None
    found = reconcile(normalise_usage(payload), "grok-4.7", TABLE, reported.usd)
    assert (found.computed_usd, found.verdict) == (pytest.approx(0.0095), Verdict.AGREES)


CACHED = Usage(
    input_tokens=10_000, cache_read_tokens=8_000, output_tokens=500, reasoning_tokens=400, cache_reported=True
)


@pytest.mark.parametrize(
    ("reported", "verdict", "why"),
    [
        # gpt-5-mini: 2,000 x $0.25 + 8,000 x $0.025 + 500 x $2 = $0.0017
        (0.0017, Verdict.AGREES, None),
        (0.001716, Verdict.AGREES, None),
        (0.0035, Verdict.DIFFERS, Why.NO_CACHE_DISCOUNT),
        (0.0009, Verdict.DIFFERS, Why.NO_REASONING),
        (0.0025, Verdict.DIFFERS, Why.REASONING_ON_TOP),
        (0.00085, Verdict.DIFFERS, Why.BATCH),
        (0.0, Verdict.DIFFERS, None),
        (9.0, Verdict.DIFFERS, None),
        (None, Verdict.UNKNOWN, None),
    ],
)
def test_differences_and_what_explains_them(reported: float | None, verdict: Verdict, why: Why | None) -> None:
    found = reconcile(CACHED, "gpt-5-mini", TABLE, reported)
    assert (found.verdict, found.why) == (verdict, why)


def test_writes_and_tiers_as_explanations() -> None:
    written = Usage(input_tokens=5_000, cache_write_tokens=4_000, cache_reported=True)
    # claude-sonnet-5-5: 1,000 x $2 + 4,000 x $2.5 = $0.012; a harness that knows no writes says 5,000 x $2
    assert reconcile(written, "claude-sonnet-5-5", TABLE, 0.010).why is Why.NO_CACHE_DISCOUNT
    both = Usage(input_tokens=9_000, cache_read_tokens=4_000, cache_write_tokens=4_000, cache_reported=True)
    assert reconcile(both, "claude-sonnet-5-5", TABLE, 0.0104).why is Why.FREE_WRITES
    long = Usage(input_tokens=200_000, output_tokens=0)
    assert reconcile(long, "claude-haiku-5-5", TABLE, 0.02).why is Why.NO_TIER


def test_what_is_missing_is_unknown() -> None:
    assert reconcile(None, "gpt-5-mini", TABLE, 1.0).verdict is Verdict.UNKNOWN
    assert reconcile(CACHED, "no-such-model", TABLE, 1.0).verdict is Verdict.UNKNOWN
    assert compare(0.0, 0.0).verdict is Verdict.AGREES
    assert compare(0.0, 1.0) == (0.0, 1.0, None, Verdict.DIFFERS, None)


@given(st.floats(0, 1e3), st.floats(0, 1e3))
def test_agreement_does_not_depend_on_the_order(a: float, b: float) -> None:
    assert compare(a, b).verdict is compare(b, a).verdict
    assert compare(a, a).verdict is Verdict.AGREES


@given(
    st.sampled_from(["gpt-5-mini", "claude-haiku-5-5", "gemini-3.8-flash", "deepseek-flash"]), st.integers(0, 400_000)
)
def test_our_own_dollars_agree_with_themselves(model: str, tokens: int) -> None:
    usage = Usage(input_tokens=tokens, output_tokens=7)
    assert reconcile(usage, model, TABLE, price_usage(usage, model, TABLE).total_usd).verdict is Verdict.AGREES


def test_a_group_in_a_sentence() -> None:
    group = Reconciliation()
    assert (group.agreeing, group.ratio, group.sentence()) == (None, None, "")
    for reported in (0.0017, 0.0035, 0.0035, None):
        group.add(reconcile(CACHED, "gpt-5-mini", TABLE, reported))
    assert group.agreeing == pytest.approx(1 / 3)
    assert group.ratio == pytest.approx(0.0087 / 0.0051)
    assert group.sentence() == (
        "the log's dollars differ from the price table's for 2 of 3 requests; together the log's are 1.71 times ours; "
        "2 fit cached tokens at the full rate"
    )


def test_the_table_gives_the_recorded_dollars_of_tau2_bench(repository: Path) -> None:
    """Every call of 1,262 episodes with gpt-4.1-mini, gpt-4.1 and gpt-5-mini, some with cached and reasoning tokens."""
    folder = Path(os.environ.get("POTSTILL_TEST_DATA") or repository.parent / "shared" / "data")
    packed = folder / "tau2_retail" / "episodes.jsonl.zst"
    if not packed.is_file() or shutil.which("zstd") is None:
        pytest.skip(f"no recorded episodes at {packed}, or no program 'zstd' to unpack them")
    unpacked = subprocess.run(["zstd", "-dcq", str(packed)], capture_output=True, check=True).stdout
    groups: dict[str, Reconciliation] = collections.defaultdict(Reconciliation)
    for line in io.BytesIO(unpacked):
        row = json.loads(line)
        for message in row["messages"]:
            usage, model = message.get("usage"), row["agent_model" if message["role"] == "assistant" else "user_model"]
            if usage and model and message.get("cost") is not None:
                tokens = Usage(
                    input_tokens=usage["in"],
                    cache_read_tokens=usage["cached"],
                    output_tokens=usage["out"],
                    reasoning_tokens=usage["reasoning"],
                )
                groups[model].add(reconcile(tokens, model, TABLE, message["cost"]))
    assert {model: group.agreeing for model, group in groups.items()} == {
        "gpt-4.1-mini": 1.0,
        "gpt-4.1": 1.0,
        "gpt-5-mini": 1.0,
    }
    assert sum(sum(group.counts.values()) for group in groups.values()) > 20_000
