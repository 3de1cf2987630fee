"""What a comparison says in words: what to do, and what must be known before believing it.

What it knows: a finished comparison. What it does not do: compute.
"""

from __future__ import annotations

from potstill.measure.comparison_result import Comparison
from potstill.measure.comparison_sides import Paired, Side


def headline(found: Comparison) -> str:
    """One sentence: the difference with its interval, the cost ratio, the verdict."""
    low, high = found.difference_ci
    said = {
        "a_better": "A succeeds more often than B",
        "b_better": "B succeeds more often than A",
        "non_inferior": f"A is not worse than B by more than {points(found.margin)}",
        "no_difference_shown": "No difference shown between A and B",
    }[found.verdict]
    gap = f"{_signed(found.difference)} points ({_signed(low)} to {_signed(high)})"
    return f"{said}: {gap} on {found.n:,} pairs; {_cost(found)}."


def points(share: float) -> str:
    """A share of successes in points.

    >>> points(0.02)
    '2 points'
    """
    value = f"{100 * share:.3g}"
    return f"{value} point" if value == "1" else f"{value} points"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _cost(found: Comparison) -> str:
    if found.cost_ratio is None:
        return "the cost ratio is unknown"
    interval = found.cost_ratio_ci
    within = "" if interval is None else f" ({_bound(interval[0])} to {_bound(interval[1])})"
    return f"A costs {found.cost_ratio:.3g} times as much as B{within}"


def _bound(value: float | None) -> str:
    return "infinity" if value is None else f"{value:.3g}"


def advice(found: Comparison) -> str:
    """What to do, in one or two sentences."""
    return f"{_what_to_do(found)} {how_many_more(found)}".strip()


def _what_to_do(found: Comparison) -> str:
    cheaper, dearer = _surely(found)
    cost, margin = _cost_of_a(found, cheaper, dearer), points(found.margin)
    if found.verdict == "a_better":
        if dearer:
            return f"A succeeds more often but {cost}: take it if {_price_of_success(found)} is worth it."
        return f"Take A: it succeeds more often, and {cost}."
    if found.verdict == "b_better":
        if found.non_inferior:
            worth = "take it if that saving is worth the loss" if cheaper else "keep B"
            return f"A is worse, but by less than the margin of {margin}, and {cost}: {worth}."
        if cheaper:
            lost = points(-found.difference)
            if found.difference_ci[1] < -found.margin:
                return f"Keep B: A {cost[3:]} but loses {lost}, surely more than the margin of {margin}."
            return f"Keep B: A {cost[3:]} but loses {lost}, and that it stays within {margin} is not shown."
        return f"Keep B: A succeeds less often, and {cost}."
    if found.verdict == "non_inferior":
        return f"{'Take A: it' if cheaper else 'A'} is not worse by more than {margin}, and {cost}."
    if cheaper:
        return f"A {cost[3:]}, but a loss of more than {margin} is not ruled out: keep B until it is."
    return f"A loss of more than {margin} is not ruled out, and {cost}: keep B."


def _cost_of_a(found: Comparison, cheaper: bool, dearer: bool) -> str:
    """What A costs beside B, in words that begin with "it "."""
    if found.cost_ratio is None:
        return "it has an unknown cost"
    if found.cost_ratio_ci is None:
        return f"it cost {found.cost_ratio:.3g} times as much, on too few tasks for an interval"
    if cheaper or dearer:
        return f"it costs {found.cost_ratio:.3g} times as much"
    return f"it is not shown to cost more or less ({found.cost_ratio:.3g} times as much)"


def _surely(found: Comparison) -> tuple[bool, bool]:
    """Whether A is cheaper, or dearer, by the whole interval."""
    interval = found.cost_ratio_ci
    if found.cost_ratio is None or interval is None:
        return False, False
    low, high = interval
    return high is not None and high < 1, low is None or low > 1


def _price_of_success(found: Comparison) -> str:
    a, b = found.cost_per_episode_a_usd, found.cost_per_episode_b_usd
    if a is None or b is None or found.difference <= 0:
        return "that"
    return f"${(a - b) / found.difference:.3g} for each extra success"


def how_many_more(found: Comparison, side: str = "A") -> str:
    """Which further tasks could show non-inferiority, in one sentence that calls side A ``side``; "" where it is."""
    if found.non_inferior:
        return ""
    if found.difference <= -found.margin:
        return "The difference seen is itself beyond the margin: more tasks of this kind would not show otherwise."
    if found.needed_n is None:
        return "No number of tasks would show it if the difference stays as it is."
    return (
        f"{found.needed_n} more shared tasks would give a chance of 80 % to show that {side} is not worse by more than "
        f"{points(found.margin)}, if the difference stays as it is."
    )


# --- caveats ----------------------------------------------------------------------------------------------------------


def notes_of(a: Side, b: Side, paired: Paired, *, clustered: bool) -> tuple[str, ...]:
    """What was left out, how pairs were found, and what makes the sides hard to compare; each once."""
    found = [*a.notes, *b.notes, *_pairing(paired)]
    for label, side in (("A", a), ("B", b)):
        found += _left_out(label, side)
    found += _unlike(a, b)
    for label, index in (("A", 0), ("B", 1)):
        missing = sum(1 for one in paired.pairs if one[index].cost_usd is None)
        if missing:
            found.append(f"cost unknown for {missing} of {len(paired.pairs)} shared attempts of {label}: no cost ratio")
    if all(theirs.cost_usd == 0 for _, theirs in paired.pairs):
        found.append("the attempts of B cost nothing: no cost ratio")
    if len({one.priced for pair in paired.pairs for one in pair if one.cost_usd is not None}) == 2:
        found.append("some dollars are the logs' own and some are list prices; --costs listed prices all alike")
    if clustered:
        found.append("p_mcnemar takes attempts at one task as independent; the interval does not: trust the interval")
    return tuple(dict.fromkeys(found))


def _pairing(paired: Paired) -> list[str]:
    found = []
    if paired.ordered and any(one.sample is not None for pair in paired.pairs for one in pair):
        found.append(
            f"{paired.ordered} of {len(paired.pairs)} pairs are by order within the task: sample numbers do not fit"
        )
    elif paired.ordered and len({one[0].task for one in paired.pairs}) < len(paired.pairs):
        found.append("attempts without sample numbers are paired by their order within the task")
    for label, alone, tasks in (
        ("A", paired.alone_a, paired.tasks_only_a),
        ("B", paired.alone_b, paired.tasks_only_b),
    ):
        if alone:
            where = f"tasks without a usable attempt in the other: {tasks}"
            found.append(f"left out of {label}, without a partner: {_attempts(alone)} ({where})")
    return found


def _left_out(label: str, side: Side) -> list[str]:
    broken = sum(1 for entry in side.entries if entry.broken)
    unknown = sum(1 for entry in side.entries if entry.success is None and not entry.broken)
    reasons = (
        (side.duplicates, "repeated an episode id"),
        (broken, "ended in an infrastructure error"),
        (unknown, "had no outcome"),
    )
    return [f"left out of {label}: {_attempts(count)} that {reason}" for count, reason in reasons if count]


def _attempts(count: int) -> str:
    return f"{count:,} attempt{'' if count == 1 else 's'}"


def _unlike(a: Side, b: Side) -> list[str]:
    found = []
    for what, name in (("harness", "harness"), ("user_model", "simulated user")):
        ours = {getattr(entry, what) for entry in a.entries} - {None}
        theirs = {getattr(entry, what) for entry in b.entries} - {None}
        if ours and theirs and ours != theirs:
            which = f"{_some(ours)} against {_some(theirs)}"
            found.append(f"A and B differ in {name} ({which}): the difference is not the model's alone")
    ids = {entry.episode_id for entry in a.entries} & {entry.episode_id for entry in b.entries} - {None, ""}
    if ids:
        found.append(f"ids that both sides have: {len(ids)} (they may be the same recordings)")
    return found


def _some(values: set[str]) -> str:
    names = sorted(values)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
