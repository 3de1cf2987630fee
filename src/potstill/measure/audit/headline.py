"""The audit in a few figures and sentences: what was spent, what a success costs, what could be avoided.

What it knows: which figures come first and in which words, for the terminal and the report alike. What it does not do:
compute them. Where a cost is known in part, the part is told as a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from potstill.measure.audit.result import Audit, Group, OpenInterval
from potstill.measure.statistics import Interval

WASTE = {
    "redundant_calls": "redundant calls",
    "possibly_redundant_calls": "possibly redundant calls",
    "loops": "calls in loops",
    "bloated_observations": "bloated observations",
    "calls_after_last_useful_step": "calls after the last useful step",
}
_NO_DOLLARS = "the logs hold neither dollars nor the tokens of a model with a price"


class Fact(NamedTuple):
    """One figure, as plain text: for a card and in a sentence."""

    title: str
    figure: str
    interval: str
    """Empty where there is none."""
    detail: str
    sentence: str | None
    """``None``: nothing is known that is worth a sentence."""
    examples: tuple[str, ...] = ()
    """Ids of episodes that show it, beside those of ``groups``."""
    groups: tuple[Group, ...] = ()
    waste: str | None = None
    """The kind of waste that it is about."""


Called = Callable[[Group], str]
"""What a group is called."""


def headline(audit: Audit) -> list[str]:
    """At most five sentences, the most important first."""
    found = [incomplete(audit), *(fact.sentence for fact in facts(audit)), _cache(audit)]
    return [sentence for sentence in found if sentence is not None]


def facts(audit: Audit, called: Called | None = None) -> tuple[Fact, Fact, Fact]:
    """What was spent, the cost of a success, the largest avoidable share; what is not known is said, not left out.

    ``called`` names groups in the details; else they go by model and run, as in the sentences.
    """
    return _spent(audit), _success(audit, called or _name), _avoidable(audit)


def incomplete(audit: Audit) -> str | None:
    """What must be said before all else of an audit that was interrupted."""
    if not audit.partial:
        return None
    return "Incomplete: reading was interrupted, and every figure tells only what was read until then."


# --- words ------------------------------------------------------------------------------------------------------------


def usd(value: float | None) -> str:
    """Dollars: three significant digits below one, cents up to a thousand; ``an unknown sum`` where not known.

    >>> usd(1234.5), usd(12.345), usd(0.01234)
    ('$1,234', '$12.35', '$0.0123')
    """
    if value is None or not math.isfinite(value):
        return "an unknown sum"
    sign, size = ("−" if value < 0 else ""), abs(value)
    if size == 0:
        return "$0"
    decimals = 0 if size >= 1000 else 2 if size >= 1 else min(9, 2 - math.floor(math.log10(size)))
    return f"{sign}${size:,.{decimals}f}"


def plural(number: int, one: str, more: str | None = None) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def waste_name(kind: str) -> str:
    """A kind of waste in words; of an unknown one its own."""
    return WASTE.get(kind) or kind.replace("_", " ").strip()


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _usd_span(interval: OpenInterval | None) -> str:
    if interval is None:
        return ""
    low, high = ("∞" if bound is None else usd(bound) for bound in interval)
    return f"{low} to {high}"


def _bracketed(interval: OpenInterval | None) -> str:
    spanned = _usd_span(interval)
    return f" [{spanned}]" if spanned else ""


def _name(group: Group) -> str:
    return f"{group.model}{' in ' + group.run if group.run else ''}"


def _described(group: Group) -> str:
    share = "" if group.success is None else f" ({_percent(group.success)} success, n={group.n:,})"
    return _name(group) + share


# --- spent ------------------------------------------------------------------------------------------------------------


def episodes_of(audit: Audit) -> int:
    """All episodes, those with infrastructure errors among them."""
    return sum(group.n + group.n_infrastructure_errors for group in audit.groups) or audit.episodes


def known_usd(audit: Audit) -> float | None:
    """The dollars that shares are of: all, or those that are known; ``None`` if none are."""
    return audit.total_usd if audit.total_usd is not None else audit.known_usd or None


def _spent(audit: Audit) -> Fact:
    episodes = episodes_of(audit)
    models = len({group.model for group in audit.groups})
    what = plural(episodes, "episode")
    calls = plural(audit.calls, "call") if audit.calls else ""
    of = f"in {what}{' and ' + calls if calls else ''} of {plural(models, 'model')}"
    detail = f"{what}{' with ' + calls if calls else ''}, prices of {audit.prices_date[:20]}"
    dearest = tuple(example for slice_ in audit.by_model for example in slice_.examples[:1])
    if audit.total_usd is not None:
        return Fact("Spent", usd(audit.total_usd), "", detail, f"{usd(audit.total_usd)} {of}.", dearest)
    if not audit.known_usd:
        return Fact("Spent", "unknown", "", f"{detail}; {_NO_DOLLARS}", f"An unknown sum {of}: {_NO_DOLLARS}.", dearest)
    missing = sum(group.attempts_without_cost for group in audit.groups)
    why = f"the cost of {missing:,} of {what} is not known"
    sentence = f"At least {usd(audit.known_usd)} {of}: {why}."
    return Fact("Spent", f"≥ {usd(audit.known_usd)}", "", f"{detail}; a lower bound: {why}", sentence, dearest)


# --- the cost of a success --------------------------------------------------------------------------------------------


def least_cost_of_pass(group: Group) -> float | None:
    """A lower bound of the cost of a success where a part of the dollars is not known; ``None`` if there is none."""
    if not group.successes or group.unknown_outcomes or not group.known_cost_usd:
        return None
    return group.known_cost_usd / group.successes


def _success(audit: Audit, called: Called) -> Fact:
    """Of the group whose successes are the cheapest; beside it the most successful group, where it is another."""
    title = "Cost of a success"
    priced = [group for group in audit.groups if group.cost_of_pass_usd is not None]
    if not priced:
        return _bounded_success(audit, title, called)
    best = min(priced, key=lambda group: group.cost_of_pass_usd or 0.0)
    top = max(priced, key=lambda group: (group.success or 0.0, -(group.cost_of_pass_usd or 0.0)))
    cost = f"{usd(best.cost_of_pass_usd)}{_bracketed(best.cost_of_pass_ci_usd)}"
    sentence = f"A success costs {cost} with {_described(best)}"
    detail = f"{called(best)}{'' if len(priced) == 1 else ', the cheapest,'} succeeds at {_success_share(best)}"
    if top is not best:
        dear = f"{usd(top.cost_of_pass_usd)}{_bracketed(top.cost_of_pass_ci_usd)}"
        sentence += f", {dear} with {_described(top)}"
        detail += f"; {called(top)}, the most successful, at {_success_share(top)}, for {usd(top.cost_of_pass_usd)}"
    span = _usd_span(best.cost_of_pass_ci_usd)
    groups = (best,) if top is best else (best, top)
    return Fact(title, usd(best.cost_of_pass_usd), span, detail, sentence + ".", groups=groups)


def _success_share(group: Group) -> str:
    if group.success is None:
        return "an unknown share"
    interval: Interval | None = group.success_ci
    span = "" if interval is None else f" ({_percent(interval[0], 1)} to {_percent(interval[1], 1)})"
    return _percent(group.success, 1) + span


def _bounded_success(audit: Audit, title: str, called: Called) -> Fact:
    """No group's dollars are all known: a lower bound for the largest group that has one, else why there is none."""
    bounded = [group for group in audit.groups if least_cost_of_pass(group) is not None]
    if not bounded:
        return Fact(title, "unknown", "", _why_no_success(audit), None)
    group = max(bounded, key=lambda group: group.n)
    least = usd(least_cost_of_pass(group))
    attempts = plural(group.n + group.n_infrastructure_errors, "attempt")
    why = f"the cost of {group.attempts_without_cost:,} of {attempts} is not known"
    sentence = f"A success costs at least {least} with {_described(group)}: {why}."
    return Fact(title, f"≥ {least}", "", f"{called(group)}: a lower bound, {why}", sentence, groups=(group,))


def _why_no_success(audit: Audit) -> str:
    if not audit.groups:
        return "no attempts at tasks are in these logs, only calls"
    unjudged, n = sum(group.unknown_outcomes for group in audit.groups), sum(group.n for group in audit.groups)
    if unjudged:
        return f"the logs do not tell how {unjudged:,} of {plural(n, 'attempt')} ended"
    if not any(group.successes for group in audit.groups):
        return "no success is recorded"
    return "the dollars of the groups with successes are not known"


# --- what could be avoided --------------------------------------------------------------------------------------------


class _Avoidable(NamedTuple):
    usd: float
    what: str
    examples: tuple[str, ...]
    waste: str | None = None


def _avoidable(audit: Audit) -> Fact:
    """The most dollars that one kind of waste, or the repetition that no cache served, comes to: an estimate."""
    title = "Largest avoidable share, an estimate"
    found = _candidates(audit)
    if not found:
        return Fact(title, "unknown", "", "no calls with prompts and prices are in these logs", None)
    most = max(found, key=lambda one: one.usd)
    whole = known_usd(audit)
    if not whole or most.usd <= 0:
        return Fact(title, "none found", "", "no waste and no uncached repetition with a price", None)
    of = "" if audit.total_usd is not None else " of the known dollars"
    share = _percent(most.usd / whole, 1)
    sentence = f"The largest avoidable share, an estimate: {share}{of} ({usd(most.usd)}) for {most.what}."
    return Fact(title, share, "", f"{usd(most.usd)}{of}: {most.what}", sentence, most.examples, waste=most.waste)


def _candidates(audit: Audit) -> list[_Avoidable]:
    found = [
        _Avoidable(waste.usd, f"{waste_name(waste.kind)} (found {plural(waste.count, 'time')})", waste.examples,
                   waste.kind)
        for waste in audit.waste if waste.usd is not None
    ]  # fmt: skip
    cache = audit.cache
    if cache is None:
        return found
    repeated = "repeated prompt text that no cache served"
    for saving, what in (
        (cache.saving_if_cached_usd, repeated),
        (cache.saving_if_laid_out_usd, f"{repeated}, with a layout that keeps what changes last"),
    ):
        if saving is not None:
            found.append(_Avoidable(saving, what, cache.examples))
    return found


def _cache(audit: Audit) -> str | None:
    cache = audit.cache
    if cache is None or cache.repeated_prefix_share is None:
        return None
    repeated = f"{_percent(cache.repeated_prefix_share)} of the input repeats the start of an earlier prompt"
    hits = "" if cache.hit_rate is None else f"; {_percent(cache.hit_rate)} of all input was read from a cache"
    saving = cache.saving_if_cached_usd
    more = f"; caching all that repeats would save about {usd(saving)}" if saving is not None and saving > 0 else ""
    return f"{repeated}{hits}{more}."
