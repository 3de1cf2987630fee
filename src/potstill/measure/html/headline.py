"""The head of the page: three figures (spent, cost of a success, avoidable share), and the terminal's sentences.

What it knows: ``Audit``; the sentences come from ``measure.audit.headline``, so that page and terminal say the same.
What it does not do: compute.
"""

from __future__ import annotations

from typing import NamedTuple

from potstill.measure.audit.headline import headline
from potstill.measure.audit.result import Audit, Group
from potstill.measure.html.labels import Labels
from potstill.measure.html.text import Html, clip, esc, join, name, percent, plural, span, usd
from potstill.measure.html.words import waste_title


class Fact(NamedTuple):
    """One figure with its interval, as plain text (not yet escaped)."""

    title: str
    figure: str
    interval: str
    """Empty where there is none."""
    detail: str


def figures(audit: Audit) -> tuple[Fact, ...]:
    """The facts, most important first; what cannot be known is said, not left out."""
    return (_spent(audit), _success_price(audit), _avoidable(audit))


def _spent(audit: Audit) -> Fact:
    attempts = sum(group.n + group.n_infrastructure_errors for group in audit.groups)
    calls = f" with {plural(audit.calls, 'call')}" if audit.calls else ""
    detail = f"{plural(max(attempts, audit.episodes), 'episode')}{calls}, prices of {name(audit.prices_date, 20)}"
    if audit.total_usd is None:
        return Fact("Spent", "unknown", "", f"{detail}; the logs hold no dollars and no model with a price")
    return Fact("Spent", usd(audit.total_usd), "", detail)


def biggest_group(audit: Audit) -> Group | None:
    """The group with the most dollars; without dollars, with the most attempts."""
    return max(audit.groups, key=lambda group: (group.cost_usd or 0.0, group.n), default=None)


def _success_price(audit: Audit) -> Fact:
    group = biggest_group(audit)
    if group is None:
        return Fact("Cost of a success", "unknown", "", "no attempts at tasks are in these logs, only calls")
    label = Labels(audit).of(group)
    if group.cost_of_pass_usd is None:
        why = "no success is recorded" if not group.successes else "its dollars are not known"
        return Fact("Cost of a success", "unknown", "", f"{label}: {why}")
    detail = f"{label}, the group with the most dollars, succeeds at {percent(group.success)}"
    success = span(group.success_ci, percent)
    detail += f" ({success})" if success else ""
    return Fact("Cost of a success", usd(group.cost_of_pass_usd), span(group.cost_of_pass_ci_usd, usd), detail)


def _avoidable(audit: Audit) -> Fact:
    title = "Largest avoidable share"
    known = [(dollars, what) for dollars, what in _candidates(audit) if dollars is not None]
    if not known:
        return Fact(title, "unknown", "", "no calls with prompts and prices are in these logs")
    dollars, what = max(known, key=lambda pair: pair[0])
    if not audit.total_usd or dollars <= 0:
        return Fact(title, "none found", "", "no waste and no uncached repetition with a price")
    return Fact(title, percent(dollars / audit.total_usd), "", f"{usd(dollars)}: {what}")


def _candidates(audit: Audit) -> list[tuple[float | None, str]]:
    found: list[tuple[float | None, str]] = [
        (waste.usd, name(waste_title(waste.kind)).lower()) for waste in audit.waste
    ]
    if audit.cache is not None:
        found.append((audit.cache.saving_if_cached_usd, "repeated prompt prefixes that no cache served"))
        found.append(
            (audit.cache.saving_if_laid_out_usd, "repeated prompt text that no cache served, with a better layout")
        )
    return found


def headline_section(audit: Audit, confidence: float) -> Html:
    """The figures as cards, and the sentences below."""
    cards = join(_card(fact, confidence) for fact in figures(audit))
    said = join(Html(f"<li>{esc(clip(sentence, 600))}</li>") for sentence in headline(audit))
    return Html(f'<section aria-label="Headline"><dl class="cards">{cards}</dl><ul class="lead">{said}</ul></section>')


def _card(fact: Fact, confidence: float) -> Html:
    interval = Html("")
    if fact.interval:
        interval = Html(f"<small>{100 * confidence:g} % interval: {esc(fact.interval)}</small>")
    return Html(
        f'<div><dt>{esc(fact.title)}</dt><dd><span class="figure">{esc(fact.figure)}</span>{interval}'
        f"<p>{esc(fact.detail)}</p></dd></div>"
    )
