"""Conditions under which a comparison fails a build.

What it knows: a finished comparison. What it does not do: exit. A condition that cannot be checked holds: a build that
cannot be judged does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from potstill.errors import one_of
from potstill.measure.comparison_result import Comparison


def failures(found: Comparison, conditions: Iterable[str], tolerance: float = 0.05) -> tuple[str, ...]:
    """The conditions that hold, as sentences.

    ``worse``: A is not shown to be within the margin (too few tasks fail, too). ``shown-worse``: A succeeds less often
    than B (the verdict is ``b_better``) and is not shown to be within the margin. ``cost-of-pass``: the whole interval
    of A's dollars per success over B's lies above ``1 + tolerance``, or the ratio is unknown. Raises ``UnknownName``.
    """
    checks: dict[str, Callable[[Comparison], str | None]] = {
        "worse": _worse,
        "shown-worse": _shown_worse,
        "cost-of-pass": lambda one: _cost_of_pass(one, tolerance),
    }
    reasons = []
    for condition in dict.fromkeys(conditions):
        one_of("condition of --fail-if", condition, checks)
        reason = checks[condition](found)
        if reason is not None:
            reasons.append(f"{condition}: {reason}")
    return tuple(reasons)


def _worse(found: Comparison) -> str | None:
    if found.non_inferior:
        return None
    low = found.difference_ci[0]
    return f"A may be worse by {-100 * low:.1f} points, more than the margin of {100 * found.margin:g}. {found.advice}"


def _shown_worse(found: Comparison) -> str | None:
    if found.verdict != "b_better" or found.non_inferior:
        return None
    low, high = found.difference_ci
    return f"A is worse by {-100 * high:.1f} to {-100 * low:.1f} points"


def _cost_of_pass(found: Comparison, tolerance: float) -> str | None:
    if found.cost_a_usd is None or found.cost_b_usd is None:
        return "it cannot be checked, for dollars of some pairs are unknown"
    if found.cost_of_pass_b_usd is None:
        return None if found.cost_of_pass_a_usd is not None else "it cannot be checked, for neither side succeeded"
    if found.cost_of_pass_a_usd is None:
        return "A never succeeded, so that no money buys a success"
    interval = found.cost_of_pass_ratio_ci
    if interval is None or found.cost_of_pass_ratio is None:
        return "it cannot be checked with fewer than two tasks, or where B costs nothing"
    low = interval[0]
    if low is not None and low <= 1 + tolerance:
        return None
    at_least = "infinitely" if low is None else f"at least {low:.2f}"
    return (
        f"a success of A costs {found.cost_of_pass_ratio:.2f} times as much as one of B "
        f"({at_least} by the {found.confidence:.0%} interval), more than {1 + tolerance:g}"
    )
