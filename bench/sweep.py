"""What makes a cascade's student worth trusting: demonstrations, samples N, temperature, retrieval, and their price.

One table over recorded teacher states (those of ``agreement.py``, whose kept answers it uses). The student weighs every
admissible action once; what N samples at a temperature would do follows from these probabilities exactly, without
drawing: all N agree on an action of probability p with p^N (arXiv 2512.02543, section 3.3: act if they agree).

    python bench/sweep.py --db alf.db --cell zero-shot,retrieved:k=1,retrieved:k=3,retrieved:k=3+mode=per-task

A disagreement asks the teacher, which is right by definition here. ``gain_over_random`` is the cascade's agreement
minus that of a student (at temperature 0) from which the teacher takes the same share of steps at random: paired by
state, clustered by game. Prices are for a student's step and the teacher's share of it; cached: the prompt of the step
before is in the provider's cache, where it is long enough for one.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import _results
from _states import Answer, Bench, Cell, State, agrees, paired, parser, probabilities
from potstill.measure.cache import ledger
from potstill.measure.ledger import CachePolicy, Pricing
from potstill.measure.prices import PriceTable
from potstill.run.arms import Agent
from potstill.types import Answerer, Call, Message, Reply, Usage

THOUSAND = 1000


class Gate(NamedTuple):
    """When the student is trusted: all of ``samples`` agree, or its best action is likely enough."""

    samples: int
    temperature: float
    threshold: float | None = None

    @property
    def name(self) -> str:
        return "votes" if self.threshold is None else f"likelihood >= {self.threshold:g}"


GATES = (
    *(Gate(samples, temperature) for samples in (1, 2, 3, 5) for temperature in (0.3, 0.7, 1.0)),
    *(Gate(1, 0.0, threshold) for threshold in (0.5, 0.7, 0.9)),
)


class Outcome(NamedTuple):
    """What a gate does in one state, as probabilities."""

    trusted: float
    right: float
    """Trusted, and what the teacher does."""


def outcome(gate: Gate, answer: Answer, teachers: str) -> Outcome:
    """Exact, by the student's probabilities.

    >>> answer = {"candidates": [["a", math.log(0.5)], ["b", math.log(0.5)]], "action": "a"}
    >>> outcome(Gate(2, 1.0), answer, "a")
    Outcome(trusted=0.5, right=0.25)
    """
    if gate.threshold is not None:
        trusted = float(probabilities(answer)[answer["action"]] >= gate.threshold)
        return Outcome(trusted, trusted * (answer["action"] == teachers))
    chances = probabilities(answer, gate.temperature)
    agreed = {action: chance**gate.samples for action, chance in chances.items()}
    return Outcome(math.fsum(agreed.values()), agreed.get(teachers, 0.0))


def row(gate: Gate, states: Sequence[State], answers: Sequence[Answer]) -> dict[str, Any]:
    outcomes = [outcome(gate, answer, state.teachers) for answer, state in zip(answers, states, strict=True)]
    trusted = sum(one.trusted for one in outcomes) / len(outcomes)
    alone = [float(agrees(answer, state)) for answer, state in zip(answers, states, strict=True)]
    cascade = [one.right + 1.0 - one.trusted for one in outcomes]
    random_mix = [trusted * good + 1.0 - trusted for good in alone]
    gain = paired(states, cascade, random_mix)
    return {
        "trust": gate.name,
        "samples": gate.samples,
        "temperature": gate.temperature,
        "student_steps": trusted,
        "right_when_trusted": sum(one.right for one in outcomes) / (trusted * len(outcomes)) if trusted else None,
        "cascade_agreement": sum(cascade) / len(cascade),
        "gain_over_random": gain.difference if gain else None,
        "gain_over_random_ci": gain.difference_ci if gain else None,
    }


class Prices:
    """What a step costs: the student's N samples always, the teacher's answer where it is asked."""

    def __init__(self, bench: Bench, options: Any) -> None:
        self._bench = bench
        self._table = PriceTable.load()
        self._pricing = Pricing(student_as=options.price_student_as, teacher_as=options.price_teacher_as)
        self.date = self._table.date
        self._teacher = Cell(name="teacher", kind=bench.cell("zero-shot").kind, agent=Agent(list_admissible=False))

    async def teacher_usd(self, cache: CachePolicy) -> float:
        """Mean of the teacher's step, with its whole history and no demonstrations."""
        return await self._mean(self._teacher, Answerer.TEACHER, 1, cache)

    async def student_usd(self, cell: Cell, samples: int, cache: CachePolicy) -> float:
        return await self._mean(cell, Answerer.STUDENT, samples, cache)

    async def _mean(self, cell: Cell, who: Answerer, samples: int, cache: CachePolicy) -> float:
        return sum([await self._step(cell, state, who, samples, cache) for state in self._bench.states]) / len(
            self._bench.states
        )

    async def _step(self, cell: Cell, state: State, who: Answerer, samples: int, cache: CachePolicy) -> float:
        steps = (state.index - 1, state.index) if state.index else (0,)
        calls = [await self._call(cell, state._replace(index=step), who, samples) for step in steps]
        usd = ledger(calls, self._table, cache=cache, pricing=self._pricing)[-1].total_usd
        if usd is None:
            raise SystemExit(f"What a call of {self._bench.model.name} costs is not known.")
        return usd

    async def _call(self, cell: Cell, state: State, who: Answerer, samples: int) -> Call:
        messages = await self._bench.prompt(cell, state)
        written = self._bench.count(state.teachers)
        return Call(
            model=self._bench.model.name,
            answerer=who,
            prompt=messages,
            replies=(Reply(text=state.teachers),) * samples,
            usage=Usage(input_tokens=self._tokens(messages), output_tokens=written * samples),
        )

    def _tokens(self, messages: Sequence[Message]) -> int:
        return self._bench.count("\n".join(message.content for message in messages))


async def main() -> None:
    frozen = ",".join(f"retrieved:k={k}+mode=per-task" for k in (1, 3, 6))
    each_step = ",".join(f"retrieved:k={k}+w=1" for k in (1, 3, 6))
    options_parser = parser(__doc__, "sweep", f"zero-shot,{each_step},{frozen}")
    options_parser.add_argument("--price-teacher-as", default="claude-sonnet-5-5")
    options_parser.add_argument("--price-student-as", default="gpt-4.1-mini")
    options = options_parser.parse_args()
    bench = Bench(options)
    prices = Prices(bench, options)
    teacher = {cache: await prices.teacher_usd(cache) for cache in ("none", "simulated")}
    rows = [{"shown": "teacher alone", "cascade_agreement": 1.0, **_usd(teacher["none"], teacher["simulated"])}]
    for cell in map(bench.cell, options.cell.split(",")):
        answers = await bench.answers(cell)
        for gate in GATES:
            made = {"shown": cell.name, **row(gate, bench.states, answers)}
            asked = 1.0 - made["student_steps"]
            costs = [
                await prices.student_usd(cell, gate.samples, cache) + asked * teacher[cache]
                for cache in ("none", "simulated")
            ]
            rows.append({**made, **_usd(*costs)})
        print(f"{cell.name}: done", file=sys.stderr, flush=True)
    await bench.model.aclose()
    extra = {
        "model": options.model,
        "priced_as": {"teacher": options.price_teacher_as, "student": options.price_student_as},
        "split": options.split,
        "demonstration_games": len(bench.library),
    }
    _results.write(options.name, rows, n=len(bench.states), seeds=bench.seeds, prices_date=prices.date, extra=extra)


def _usd(uncached: float, cached: float) -> dict[str, float]:
    return {"usd_per_1000_steps_uncached": uncached * THOUSAND, "usd_per_1000_steps_cached": cached * THOUSAND}


if __name__ == "__main__":
    asyncio.run(main())
