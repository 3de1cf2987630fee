"""How to ask for N samples: all at once, or two and the rest only if they agree, whichever costs less.

Prices come in as numbers (dollars per token), so that this layer knows no price table. The decisions are identical
under unanimity; only the bill differs.
"""

from __future__ import annotations

from potstill.decide.policy import Sampling
from potstill.types import Struct


class TokenPrice(Struct, frozen=True, kw_only=True):
    """Dollars per token of one model."""

    uncached: float
    cache_read: float
    output: float


class SamplingCost(Struct, frozen=True, kw_only=True):
    """Expected dollars of one step's samples under both ways."""

    together_usd: float
    sequential_usd: float

    @property
    def cheaper(self) -> Sampling:
        return Sampling.SEQUENTIAL if self.sequential_usd < self.together_usd else Sampling.TOGETHER


def sampling_cost(
    price: TokenPrice,
    *,
    samples: int,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: float,
    disagreement: float,
    shares_prompt: bool,
) -> SamplingCost:
    """Expected cost of a step.

    ``cached_tokens`` of the ``input_tokens`` are read from the cache at the first request; at later requests all but
    the last token are, if the provider caches at all (``cache_read < uncached``). ``disagreement`` is the chance that
    the first two samples differ. With ``shares_prompt`` a request of n samples bills its prompt once.
    """
    first = cached_tokens * price.cache_read + (input_tokens - cached_tokens) * price.uncached
    again = input_tokens * min(price.cache_read, price.uncached)
    answer = output_tokens * price.output

    def request(n: int, prompt: float) -> float:
        prompts = prompt if shares_prompt else prompt + (n - 1) * again
        return prompts + n * answer

    together = request(samples, first)
    if samples <= 2:
        return SamplingCost(together_usd=together, sequential_usd=together)
    sequential = request(2, first) + (1.0 - disagreement) * request(samples - 2, again)
    return SamplingCost(together_usd=together, sequential_usd=sequential)


def teacher_is_cheaper(student_step_usd: float, teacher_step_usd: float, escalation: float) -> bool:
    """True where the cascade loses money: samples plus expected escalation cost at least as much as the teacher."""
    return student_step_usd + escalation * teacher_step_usd >= teacher_step_usd
