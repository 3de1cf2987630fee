"""What is told of a search: a line for a person, rows for ``--json``, what a lineage keeps. Prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from potstill.distill.weights.search.aim import Aim, Goal
from potstill.distill.weights.search.frontier import row_of, rows_of
from potstill.distill.weights.search.labels import labels_in
from potstill.distill.weights.search.trials import WHOLE, Variant, timeless

if TYPE_CHECKING:
    from potstill.distill.weights.data import Labelled
    from potstill.distill.weights.search.searching import Found


def told(found: Found, aim: Aim, *, seed: int, played: bool) -> dict[str, Any]:
    """What ``--json`` has of the search."""
    return {
        "seed": seed,
        "judged_by": "success" if played else "agreement",
        "for": aim.goal.value,
        "within": 0.0 if aim.goal is Goal.SUCCESS else aim.within,
        "ended": found.ended.value,
        "best": found.best.number,
        "chosen": {name: value for name, value in row_of(found.best, found.variant).items() if name != "frontier"},
        "cpu_s": sum(trial.cpu_s + trial.smaller_cpu_s for trial in found.trials),
        "trials": [msgspec.to_builtins(trial) for trial in found.trials],
        "frontier": [row for row in rows_of(found.trials) if row["frontier"]],
    }


def lasting(found: Found, told: dict[str, Any], learn: Sequence[Labelled]) -> dict[str, Any]:
    """The same without what differs from run to run, for the lineage: CPU seconds, and the frontier that they give.

    Also what the policy learnt of the data that the lineage names.
    """
    kept = {name: value for name, value in told.items() if name not in ("cpu_s", "frontier", "chosen")}
    return kept | {
        "learnt": {"decisions": len(learn), "labels": labels_in(learn)},
        "trials": [msgspec.to_builtins(timeless(trial)) for trial in found.trials],
    }


def best_line(found: Found, aim: Aim) -> str:
    """Which trial is trained, and why that one."""
    recipe, count = row_of(found.best, found.variant)["recipe"], len(found.trials)
    if aim.goal is Goal.SUCCESS:
        return f"The best of {count} trials is number {found.best.number} ({recipe}). It is trained now."
    cost, best = {
        Goal.BYTES: (f"{found.variant.bytes} bytes{_narrow(found.variant)}", "smallest"),
        Goal.LABELS: (f"{found.best.labels} labels", "cheapest"),
    }[aim.goal]
    return (
        f"The {best} of {count} trials within {aim.within:g} of the best value is number {found.best.number}, value "
        f"{found.variant.value:.3f} with {cost} ({recipe}). It is trained now."
    )


def _narrow(variant: Variant) -> str:
    units = f" without {variant.pruned:.0%} of its units" if variant.pruned else ""
    return units + ("" if variant.bits == WHOLE else f" in {variant.bits} bits")
