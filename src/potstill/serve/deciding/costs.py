"""Running costs of both sides of a route, and what follows from them in the middle of an episode.

What it knows: how long answers are, how often the student's steps end with the teacher, which cache holds which
episode. What it does not do: prices and caches (``switching``, over ``measure``), decide: it tells what is cheaper.

Without prices for both models nothing here says anything, and the cascade does as its mode alone would.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from potstill.record.parsing import Situation
from potstill.serve.deciding.episodes_held import Held
from potstill.serve.deciding.handoff import compact_prompt
from potstill.serve.deciding.switching import (
    Lengths,
    Side,
    SwitchPrice,
    Warmth,
    conversation,
    prompt_usd,
    switch_price,
)
from potstill.serve.rollout.trust import Trust
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Trajectory, Usage
from potstill.wire.neutral import Prompt
from potstill.wire.usage import normalise_usage

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable

_MEMORY = 0.98
"""Weight of the past in the running share of escalations: about the last fifty decisions count."""


class Costs:
    """One per gateway process."""

    def __init__(self, prices: PriceTable | None, shares_prompt: dict[str, bool]) -> None:
        self._prices = prices
        self._shares_prompt = shares_prompt
        self._lengths: dict[tuple[str, Answerer], Lengths] = {}
        self._escalation: dict[str, float] = {}

    def escalation(self, trust: Trust) -> float:
        """Running share of the student's decisions on a route that the teacher answered after all."""
        return self._escalation.get(trust.route.name, trust.escalation)

    def spent(self, calls: Iterable[Upstream]) -> float | None:
        """What calls cost that were not shadow work; None where one of them cannot be priced."""
        return self._sum(
            (normalise_usage(call.raw_usage), call.price_as or call.model, call.error is not None)
            for call in calls
            if not call.shadow
        )

    def spent_on(self, trajectory: Trajectory) -> float | None:
        """The same of an episode that was folded: on a step that was shadowed the student's calls are shadow work."""
        shadowed = {one.get("step") for one in trajectory.metadata.get("shadow", ())}
        return self._sum(
            (call.usage, call.priced_as or call.model, call.error is not None)
            for step in trajectory.steps
            for call in step.calls
            if step.index not in shadowed or call.answerer is not Answerer.STUDENT
        )

    def _sum(self, billed: Iterable[tuple[Usage | None, str, bool]]) -> float | None:
        from potstill.measure.ledger import price_usage

        total = 0.0
        for usage, name, failed in billed:
            if usage is None and failed:
                continue
            if self._prices is None or usage is None or not self._prices.has(name):
                return None
            total += price_usage(usage, name, self._prices).total_usd
        return total

    def decided(self, trust: Trust, answerer: Answerer) -> None:
        """The student was asked, and ``answerer`` acts."""
        escalated = float(answerer is not Answerer.STUDENT)
        self._escalation[trust.route.name] = _MEMORY * self.escalation(trust) + (1.0 - _MEMORY) * escalated

    def switch(self, trust: Trust, held: Held, prompt: Prompt, now: float) -> SwitchPrice | None:
        """What this step costs on either side; None where that is not known, or the route does not want to know."""
        if self._prices is None or trust.student is None or not trust.route.cascade.cache_aware:
            return None
        return switch_price(
            conversation(prompt),
            self._side(trust, Answerer.TEACHER, held, prompt),
            self._side(trust, Answerer.STUDENT, held, prompt),
            self._prices,
            now=now,
            samples=trust.policy.samples,
            shares_prompt=self._shares_prompt.get(trust.student.upstream, False),
            escalation=self.escalation(trust),
        )

    def hand_off(
        self, trust: Trust, held: Held, prompt: Prompt, situation: Situation, now: float
    ) -> tuple[Prompt | None, str]:
        """The compact prompt for the teacher, or None and why it is shown everything."""
        compact = compact_prompt(prompt, situation)
        if compact is None:
            return None, ""
        if self._prices is None or not trust.route.cascade.cache_aware:
            return compact, ""
        whole = prompt_usd(conversation(prompt), self._side(trust, Answerer.TEACHER, held, prompt), self._prices, now)
        short = prompt_usd(conversation(compact), self._side(trust, Answerer.TEACHER, None, compact), self._prices, now)
        if whole is None or short is None or short < whole:
            return compact, ""
        return None, f"the hand-off is in full: ${whole:.6f} with the teacher's cache as it is, compact ${short:.6f}"

    def finished(self, trust: Trust, held: Held | None, prompt: Prompt, exchange: Exchange) -> None:
        """Learn from an answered exchange: what was read and written, and whose cache holds the conversation now."""
        sent = len(prompt.turns)
        for call in exchange.calls:
            self._learn(trust, call, prompt)
            seen = call.answerer is not Answerer.TEACHER or held is None or not held.compacted
            if held is not None and seen and call.error is None and not call.shadow:
                held.warmth[call.answerer] = Warmth(at=call.started_at or exchange.started_at, turns=sent)
        if held is not None and not exchange.calls and exchange.status == 200 and not held.compacted:
            held.warmth[exchange.answerer] = Warmth(at=exchange.started_at, turns=sent)

    def _learn(self, trust: Trust, call: Upstream, prompt: Prompt) -> None:
        usage = normalise_usage(call.raw_usage)
        if self._prices is None or usage is None or not usage.input_tokens:
            return
        key = trust.route.name, call.answerer
        said = conversation(prompt)
        size = said.input_bytes(len(said.messages))
        self._lengths[key] = self._lengths.get(key, Lengths()).after(usage, size, call.n)

    def _side(self, trust: Trust, answerer: Answerer, held: Held | None, prompt: Prompt) -> Side:
        model = trust.teacher if answerer is Answerer.TEACHER else trust.student
        assert model is not None
        warmth = held.warmth.get(answerer) if held is not None else None
        if warmth is not None and warmth.turns > len(prompt.turns):
            warmth = None  # the client shortened the conversation: what was cached is another one
        lengths = self._lengths.get((trust.route.name, answerer), Lengths())
        return Side(model=model, answerer=answerer, warmth=warmth, lengths=lengths)
