"""The audit in a few sentences: what was spent, what a success costs, what could be avoided.

What it knows: which figures come first, for the terminal and the report alike. What it does not do: compute them.
"""

from __future__ import annotations

from potstill.measure.audit.result import Audit, Group, OpenInterval, Waste

WASTE = {
    "redundant_calls": "calls that repeat an earlier one",
    "loops": "calls in loops",
    "bloated_observations": "carrying bloated observations",
    "calls_after_last_useful_step": "calls after the last useful step",
}


def headline(audit: Audit) -> list[str]:
    """At most four sentences, the most important first."""
    found = [_spent(audit), _pass(audit), _cache(audit), _waste(audit)]
    return [sentence for sentence in found if sentence is not None]


def usd(value: float | None) -> str:
    """Dollars to three significant digits; ``an unknown sum`` where not known.

    >>> usd(1234.5), usd(0.01234)
    ('$1,234.50', '$0.0123')
    """
    if value is None:
        return "an unknown sum"
    if abs(value) >= 1:
        return f"${value:,.2f}"
    return f"${value:.3g}"


def usd_interval(interval: OpenInterval | None) -> str:
    if interval is None:
        return ""
    low, high = (("no bound" if bound is None else usd(bound)) for bound in interval)
    return f" [{low} to {high}]"


def _spent(audit: Audit) -> str:
    attempts = sum(group.n + group.n_infrastructure_errors for group in audit.groups)
    models = len({group.model for group in audit.groups})
    known = usd(audit.total_usd) if audit.total_usd is not None else _known(audit)
    calls = f" and {audit.calls:,} calls" if audit.calls else ""
    return f"{known} in {attempts:,} episodes{calls} of {models} {'model' if models == 1 else 'models'}."


def _known(audit: Audit) -> str:
    known = [group.cost_usd for group in audit.groups if group.cost_usd is not None]
    if not known:
        return "An unknown sum"
    return f"At least {usd(sum(known))} (the cost of {len(audit.groups) - len(known)} groups is not known)"


def _pass(audit: Audit) -> str | None:
    """The cheapest success, and the group with the most successes per dollar is not always the most successful."""
    priced = [group for group in audit.groups if group.cost_of_pass_usd is not None]
    if not priced:
        return None
    best = min(priced, key=lambda group: group.cost_of_pass_usd or 0.0)
    sentence = (
        f"A success costs {usd(best.cost_of_pass_usd)}{usd_interval(best.cost_of_pass_ci_usd)} with {_name(best)}"
    )
    top = max(priced, key=lambda group: group.success or 0.0)
    if top is not best:
        sentence += f", {usd(top.cost_of_pass_usd)}{usd_interval(top.cost_of_pass_ci_usd)} with {_name(top)}"
    return sentence + "."


def _name(group: Group) -> str:
    share = "" if group.success is None else f" ({100 * group.success:.0f} % success, n={group.n})"
    return f"{group.model}{' in ' + group.run if group.run else ''}{share}"


def _cache(audit: Audit) -> str | None:
    cache = audit.cache
    if cache is None or cache.repeated_prefix_share is None:
        return None
    hits = "" if cache.hit_rate is None else f"; {100 * cache.hit_rate:.0f} % of it was read from a cache"
    saving = cache.saving_if_cached_usd
    more = f"; caching all that repeats would save {usd(saving)}" if saving is not None and saving > 0 else ""
    return f"{100 * cache.repeated_prefix_share:.0f} % of the input repeats the start of an earlier prompt{hits}{more}."


def _waste(audit: Audit) -> str | None:
    costly = [waste for waste in audit.waste if waste.usd]
    if not costly:
        return None
    worst: Waste = max(costly, key=lambda waste: waste.usd or 0.0)
    return f"The largest waste: {usd(worst.usd)} for {WASTE.get(worst.kind, worst.kind)} ({worst.count:,} times)."
