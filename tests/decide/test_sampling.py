"""Expected cost of sampling: hand-worked numbers."""

import pytest

from potstill.decide.policy import Sampling
from potstill.decide.sampling import TokenPrice, sampling_cost, teacher_is_cheaper

PRICE = TokenPrice(uncached=1.0, cache_read=0.1, output=5.0)


def cost(**options: object):
    defaults = {"samples": 3, "input_tokens": 100, "cached_tokens": 0, "output_tokens": 2, "disagreement": 0.5}
    return sampling_cost(PRICE, **{**defaults, "shares_prompt": True, **options})  # type: ignore[arg-type]


def test_one_shared_prompt_by_hand() -> None:
    # together: 100 + 3 * 2 * 5 = 130; sequential: 100 + 20 + .5 * (100 * .1 + 10) = 130
    assert cost().together_usd == pytest.approx(130.0)
    assert cost().sequential_usd == pytest.approx(130.0)
    # more disagreement makes stopping early pay: 120 + .2 * 20 = 124
    assert cost(disagreement=0.8).sequential_usd == pytest.approx(124.0)
    assert cost(disagreement=0.8).cheaper is Sampling.SEQUENTIAL
    assert cost(disagreement=0.1).cheaper is Sampling.TOGETHER


def test_separate_prompts_by_hand() -> None:
    # together: 100 + 2 * 10 + 30 = 150; sequential: (100 + 10 + 20) + .5 * (10 + 10) = 140
    separate = cost(shares_prompt=False)
    assert separate.together_usd == pytest.approx(150.0)
    assert separate.sequential_usd == pytest.approx(140.0)


def test_without_a_cache_every_request_pays_its_prompt() -> None:
    price = TokenPrice(uncached=1.0, cache_read=1.0, output=0.0)
    result = sampling_cost(
        price, samples=3, input_tokens=100, cached_tokens=0, output_tokens=0, disagreement=0.0, shares_prompt=False
    )
    assert (result.together_usd, result.sequential_usd) == (300.0, 300.0)


def test_a_cascade_that_always_escalates_loses_money() -> None:
    assert teacher_is_cheaper(1.0, 10.0, escalation=0.95)
    assert not teacher_is_cheaper(1.0, 10.0, escalation=0.85)
