"""The planner beside an independent simulation of the same trap: prompt caching eats the step cascade.

Twelve ways to use a student on one episode (20 steps, prompts from 6,000 to 28,800 tokens, 300 tokens an answer, 8,000
tokens of demonstrations, three samples, a fifth of the steps escalated), for five pairs of models. The independent
ratios are those that a simulation written apart from this one gave for the same episodes; what it assumed otherwise
stands in ``differs``. Costs nothing and takes seconds.

    python bench/plan_table.py
"""

from __future__ import annotations

from typing import Any

import _results
from potstill.measure.prices import PriceTable
from potstill.measure.ways import Sampling
from potstill.measure.whatif import Plan, plan
from potstill.measure.workload import Workload

DATE = "2026-11-21"
COLUMNS = ("naive", "cached", "frozen", "sampled", "handoff", "handoff at 10 %", "gate", "student")
INDEPENDENT: dict[tuple[str, str], tuple[float, ...]] = {
    ("claude-opus-5-5", "claude-haiku-5-5"): (0.328, 3.0, 1.35, 1.63, 1.69, 2.98, 4.97, 4.35, 26.6),
    ("claude-fable-5-2", "claude-haiku-5-5"): (0.592, 3.6, 1.46, 1.63, 1.66, 2.99, 5.38, 4.62, 48),
    ("claude-sonnet-5-5", "claude-haiku-5-5"): (0.164, 2.3, 1.05, 1.43, 1.52, 2.48, 3.72, 3.84, 13.3),
    ("gpt-6.1-sol", "gpt-6-luna"): (0.164, 2.3, 1.05, 1.43, 1.52, 2.48, 3.72, 3.84, 13.3),
    ("gpt-6-astra", "gpt-6.1-terra"): (0.979, 1.5, 0.88, 1.47, 1.58, 2.54, 3.55, 3.55, 9.8),
}
"""Dollars of the cached teacher, then its ratio to each way of ``COLUMNS``."""
DIFFERS = {
    "naive": "its numbers fit escalations on steps 5, 10, 15, 20 only; here all shifts of such a spacing count",
    "cached": "its numbers fit demonstrations that are written at the input rate; here they cost the write rate",
    "handoff": "a summary is billed at the write rate here by providers that cache of themselves",
    "sampled": "two samples and a third if they differ there; here n = 3 where the provider bills one prompt, "
    "elsewhere two and a third if they agree (unanimity)",
}


def main() -> None:
    table = PriceTable.load(date=DATE)
    rows: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for (teacher, student), independent in INDEPENDENT.items():
        made, rare = (
            plan(Workload(escalation=share), teacher=teacher, student=student, table=table) for share in (0.2, 0.1)
        )
        tie = plan(Workload(), teacher=teacher, student=student, table=table, sampling=Sampling.TIE_BREAK)
        ours = ratios(made, rare)
        rows.append(wide(teacher, student, "potstill plan", made.way("teacher").cost_usd, ours))
        theirs = dict(zip(COLUMNS, independent[1:], strict=True))
        rows.append(wide(teacher, student, "independent simulation", independent[0], theirs))
        details.append(
            {
                "teacher": teacher,
                "student": student,
                "teacher_usd": made.way("teacher").cost_usd,
                "teacher_usd_independent": independent[0],
                "ratios": ours,
                "ratios_independent": theirs,
                "sampled_by_tie_break": tie.way("cascade").ratio,
                "largest_relative_difference": max(abs(ours[name] / theirs[name] - 1) for name in COLUMNS),
                "same_side_of_one": all((ours[name] > 1) == (theirs[name] > 1) for name in COLUMNS),
                "same_order": order(ours) == order(theirs),
                "recommended": made.recommended,
                "break_even_escalation": made.break_even_escalation,
                "sampling": made.sampling,
                "ways": [
                    {
                        "name": way.name,
                        "cost_usd": way.cost_usd,
                        "ratio": way.ratio,
                        "cache_hit_rate": way.cache_hit_rate,
                    }
                    for way in made.ways
                ],
            }
        )
        print(teacher, student, *(f"{name} {ours[name]:.2f}" for name in COLUMNS), sep="  ")
    _results.write(
        "plan_table",
        rows,
        n=len(INDEPENDENT),
        seeds=None,
        prices_date=DATE,
        extra={"differs": DIFFERS, "pairs": details},
    )


def wide(teacher: str, student: str, by: str, teacher_usd: float, of: dict[str, float]) -> dict[str, Any]:
    """One line of the table."""
    return {"pair": f"{teacher} -> {student}", "by": by, "teacher_usd": round(teacher_usd, 3)} | {
        name: round(ratio, 2) for name, ratio in of.items()
    }


def ratios(made: Plan, rare: Plan) -> dict[str, float]:
    """Our ratio for each column of the independent table."""
    return {
        "naive": made.way("cascade-uncached").uncached_ratio or 0.0,
        "cached": made.way("cascade-per-step").ratio or 0.0,
        "frozen": made.way("cascade-frozen").ratio or 0.0,
        "sampled": made.way("cascade").ratio or 0.0,
        "handoff": made.way("handoff").ratio or 0.0,
        "handoff at 10 %": rare.way("handoff").ratio or 0.0,
        "gate": made.way("gate").ratio or 0.0,
        "student": made.way("student").ratio or 0.0,
    }


def order(of: dict[str, float]) -> list[str]:
    """Four ways that lie well apart, from the dearest to the cheapest."""
    names = ("cached", "frozen", "handoff", "student")
    return sorted(names, key=lambda name: of[name])


if __name__ == "__main__":
    main()
