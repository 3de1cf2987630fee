"""What each way to use a student would cost on a workload, and which one may be recommended.

What it knows: made episodes of every way, priced and cached by the same engine as recorded ones, and which assumptions
the user vouches for. What it does not do: predict success. It says what each way assumes and what measures that.

Escalations are evenly spaced, shifted from episode to episode: the dearest case for a teacher's cache, since clustered
ones find it warm. A way is recommended only if it costs less than a teacher that also uses its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from potstill.errors import ConfigError
from potstill.measure.advice import Recording, certified_by, measured_by
from potstill.measure.cache import ledger
from potstill.measure.ledger import LedgerRow, Pricing
from potstill.measure.prices.rows import ModelPrice
from potstill.measure.prices.table import PriceTable
from potstill.measure.ways import Assumption, Episode, Sampling, Way, episodes, varies, ways
from potstill.measure.workload import Workload, spread
from potstill.types import Answerer, Struct

PHASES = 10
"""Made episodes of each way: where the escalations fall is averaged over so many shifts."""


def _to_call(name: str, price: ModelPrice) -> str:
    """A model's name as ``potstill run`` takes it: with the provider that its price is of."""
    return name if ":" in name else price.row.replace("/", ":", 1)


class Verdict(StrEnum):
    REFERENCE = "reference"
    SAVES = "saves"
    LOSES = "loses"
    """It costs as much as the cached teacher, or more."""


class WayCost(Struct, frozen=True, kw_only=True):
    """What one way costs per episode. Ratios are the cached teacher's cost over this one's: above 1 saves."""

    name: str
    says: str
    cost_usd: float
    teacher_usd: float
    student_usd: float
    ratio: float | None
    """``None``: this way costs nothing."""
    uncached_cost_usd: float
    uncached_ratio: float | None
    """The ratio that a comparison without caches on either side would show."""
    cache_hit_rate: float
    """Share of the input tokens that are read from a cache."""
    teacher_step_share: float
    verdict: Verdict
    assumes: tuple[Assumption, ...]
    unproven: tuple[Assumption, ...]
    """What it assumes and nobody vouched for."""


class Plan(Struct, frozen=True, kw_only=True):
    """All ways, and what to do."""

    teacher: str
    student: str
    teacher_row: str
    student_row: str
    prices_date: str
    prices_source: str
    workload: Workload
    """Where there are several, the one in the middle."""
    workloads: int
    sampling: Sampling
    ways: tuple[WayCost, ...]
    recommended: str | None
    reason: str
    alternative: str | None
    """A cheaper way than the recommended one, whose assumption nobody vouched for."""
    measure_with: str | None
    """The command that tests what the alternative assumes."""
    break_even_escalation: float | None
    """The share of escalated steps up to which ``cascade`` costs less than the cached teacher."""
    notes: tuple[str, ...]

    def way(self, name: str) -> WayCost:
        """One way by its name."""
        return next(way for way in self.ways if way.name == name)

    def to_json(self) -> dict[str, Any]:
        """As plain data for ``--json``."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built | {"workload": msgspec.structs.asdict(self.workload)}


class _Total(msgspec.Struct):
    """Sums over made episodes, each weighted."""

    teacher_usd: float = 0.0
    student_usd: float = 0.0
    uncached_usd: float = 0.0
    read: float = 0.0
    input: float = 0.0
    teacher_steps: float = 0.0
    steps: float = 0.0

    @property
    def usd(self) -> float:
        return self.teacher_usd + self.student_usd


def plan(
    workloads: Workload | Sequence[Workload],
    *,
    teacher: str,
    student: str,
    table: PriceTable,
    pricing: Pricing | None = None,
    sampling: Sampling | None = None,
    assume: Sequence[Assumption] = (Assumption.SIGNAL,),
    recording: Recording | None = None,
) -> Plan:
    """What every way costs per episode, averaged over ``workloads``.

    ``pricing``: service levels, other models' prices, how long caches are written for.
    ``sampling`` of the cascades (default: one billed prompt where the student's provider bills it once, otherwise two
    samples and the rest only if these agree). ``assume``: what the user vouches for. ``recording``: the file that the
    workloads are from, which the advice then names. Raises ``UnknownPrice`` for a
    model without a price, ``ConfigError`` for a sampling that the provider does not offer.

    >>> plan(Workload(), teacher="gpt-6.1-sol", student="gpt-6-luna", table=PriceTable.load()).recommended
    'cascade'
    """
    loads = [workloads] if isinstance(workloads, Workload) else spread(workloads, 5 * PHASES)
    if not loads:
        raise ConfigError("A plan needs at least one workload.")
    engine = _Engine(table, pricing or Pricing(), teacher, student)
    best = engine.sampling(sampling)
    offered = ways(best)
    totals = {way.name: engine.total(way, loads) for way in offered}
    costs = tuple(_cost(way, totals[way.name], totals["teacher"], assume) for way in offered)
    chosen, reason = _recommended(costs)
    other = _alternative(costs, chosen)
    return Plan(
        teacher=teacher,
        student=student,
        teacher_row=engine.teacher_price.row,
        student_row=engine.student_price.row,
        prices_date=table.date,
        prices_source=table.source,
        workload=loads[len(loads) // 2],
        workloads=len(loads),
        sampling=best,
        ways=costs,
        recommended=chosen.name if chosen is not None else None,
        reason=reason,
        alternative=other.name if other is not None else None,
        measure_with=measured_by(other.unproven[0], *engine.to_call, recording) if other is not None else None,
        break_even_escalation=engine.break_even(next(w for w in offered if w.name == "cascade"), loads),
        notes=_notes(loads, chosen, certified_by(recording)),
    )


class _Engine:
    """Prices made episodes."""

    def __init__(self, table: PriceTable, pricing: Pricing, teacher: str, student: str) -> None:
        self._table, self._pricing = table, pricing
        self._teacher, self._student = teacher, student
        self.teacher_price = table.price(pricing.teacher_as or teacher, pricing.teacher_service or pricing.service)
        self.student_price = table.price(pricing.student_as or student, pricing.student_service or pricing.service)

        self.to_call = _to_call(teacher, self.teacher_price), _to_call(student, self.student_price)

    def sampling(self, wanted: Sampling | None) -> Sampling:
        """The sampling that was asked for, or the cheapest that the student's provider allows."""
        shares = self.student_price.cache.n_shares_prompt
        if wanted is Sampling.TOGETHER and not shares:
            raise ConfigError(
                f"'{self._student}' bills the prompt for every sample, so 'together' is no choice. "
                "Allowed: separate, two-then-more, tie-break."
            )
        return wanted or (Sampling.TOGETHER if shares else Sampling.TWO_THEN_MORE)

    def total(self, way: Way, loads: Sequence[Workload]) -> _Total:
        """The mean of made episodes of ``way``."""
        each = max(1, PHASES // len(loads)) if varies(way) else 1
        total = _Total()
        for number, load in enumerate(loads):
            for shift in range(each):
                # One load: evenly spaced shifts. Several: the golden ratio spreads one or a few over each.
                phase = ((shift + 0.5) / each + number * 0.6180339887) % 1
                for episode in episodes(way, load, self._teacher, self._student, phase):
                    self._add(total, way, episode, episode.weight / (each * len(loads)))
        return total

    def _add(self, total: _Total, way: Way, episode: Episode, weight: float) -> None:
        uncached = ledger(episode.calls, self._table, cache="none", pricing=self._pricing)
        rows = uncached
        if way.cached:
            rows = ledger(episode.calls, self._table, cache="simulated", pricing=self._pricing)
        teacher = sum(_usd(row) for row in rows if row.answerer is Answerer.TEACHER)
        total.teacher_usd += weight * teacher
        total.student_usd += weight * (sum(_usd(row) for row in rows) - teacher)
        total.uncached_usd += weight * sum(_usd(row) for row in uncached)
        total.read += weight * sum(row.usage.cache_read_tokens for row in rows if row.usage is not None)
        total.input += weight * sum(row.usage.input_tokens for row in rows if row.usage is not None)
        total.teacher_steps += weight * episode.teacher_steps
        total.steps += weight * episode.steps

    def break_even(self, way: Way, loads: Sequence[Workload]) -> float | None:
        """The share of escalated steps up to which ``way`` costs less than the cached teacher; ``None``: never."""
        few = spread(loads, 5)
        teacher = self.total(ways(way.sampling)[0], few).usd

        def saves(share: float) -> bool:
            changed = [msgspec.structs.replace(load, escalation=share) for load in few]
            return self.total(way, changed).usd < teacher

        if not saves(0.0):
            return None
        low, high = 0.0, 1.0
        if saves(high):
            return high
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if saves(middle) else (low, middle)
        return round(low, 3)


def _usd(row: LedgerRow) -> float:
    """Made calls have tokens and listed prices, so their cost is known."""
    assert row.total_usd is not None
    return row.total_usd


def _cost(way: Way, total: _Total, teacher: _Total, assume: Sequence[Assumption]) -> WayCost:
    if way.name == "teacher":
        verdict = Verdict.REFERENCE
    else:
        verdict = Verdict.SAVES if total.usd < teacher.usd else Verdict.LOSES
    return WayCost(
        name=way.name,
        says=way.says,
        cost_usd=total.usd,
        teacher_usd=total.teacher_usd,
        student_usd=total.student_usd,
        ratio=teacher.usd / total.usd if total.usd else None,
        uncached_cost_usd=total.uncached_usd,
        uncached_ratio=teacher.uncached_usd / total.uncached_usd if total.uncached_usd else None,
        cache_hit_rate=total.read / total.input if total.input else 0.0,
        teacher_step_share=total.teacher_steps / total.steps,
        verdict=verdict,
        assumes=way.assumes,
        unproven=tuple(one for one in way.assumes if one not in assume),
    )


def _recommended(costs: Sequence[WayCost]) -> tuple[WayCost | None, str]:
    """The cheapest way that saves and whose assumptions are vouched for, and why it, or why none."""
    teacher = costs[0]
    vouched = [cost for cost in costs[1:] if not cost.unproven and cost.name != "cascade-uncached"]
    saving = [cost for cost in vouched if cost.verdict is Verdict.SAVES]
    if saving:
        best = min(saving, key=lambda cost: cost.cost_usd)
        share = 1 - best.cost_usd / teacher.cost_usd
        return best, f"'{best.name}' costs {share:.0%} less than the cached teacher"
    if not vouched:
        return None, "every way assumes something that nobody vouched for (--assume)"
    best = min(vouched, key=lambda cost: cost.cost_usd)
    return None, (
        f"every way that may be assumed to work loses money: the cheapest, '{best.name}', costs "
        f"${best.cost_usd:.4g} an episode and the cached teacher alone ${teacher.cost_usd:.4g}. Stay with the teacher"
    )


def _alternative(costs: Sequence[WayCost], chosen: WayCost | None) -> WayCost | None:
    """The cheapest way that would save more but assumes what nobody vouched for. The student alone comes last."""
    least = costs[0].cost_usd if chosen is None else chosen.cost_usd
    cheaper = [cost for cost in costs[1:] if cost.unproven and cost.cost_usd < least]
    return min(cheaper, key=lambda cost: (cost.name == "student", cost.cost_usd), default=None)


def _notes(loads: Sequence[Workload], chosen: WayCost | None, certified: str) -> tuple[str, ...]:
    seconds = max(load.step_seconds for load in loads)
    notes = [
        "success is not predicted: each way names what it assumes, and 'measured by' says what tests it",
        "escalations are evenly spaced, the dearest case for the teacher's cache; every way takes as many steps "
        "as the teacher",
    ]
    if not seconds:
        notes.append("caches do not expire within an episode (--step-seconds sets the pace)")
    if (full := sum(not load.hands_off(load.steps - 1) for load in loads)) > 0:
        which = "no prompt is" if full == len(loads) else f"in {full} of {len(loads)} episodes no prompt is"
        notes.append(
            f"{which} longer than a hand-off of {loads[0].handoff_tokens} tokens: 'handoff' sends the history itself "
            "(--handoff sets a shorter one)"
        )
    if chosen is not None and Assumption.SIGNAL in chosen.assumes:
        notes.append(f"that samples disagree where the student fails is assumed; certified by: {certified}")
    return tuple(notes)
