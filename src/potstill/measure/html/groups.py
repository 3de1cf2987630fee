"""The groups: success and dollars of each model in each run, and the consistency of repeated attempts (pass^k).

What it knows: an audit's groups. What it does not do: charts.
"""

from __future__ import annotations

from potstill.measure.audit.headline import least_cost_of_pass
from potstill.measure.audit.result import Audit, Group
from potstill.measure.html.labels import Labels
from potstill.measure.html.links import Links, group_anchor
from potstill.measure.html.table import folded, paragraph, table
from potstill.measure.html.text import (
    DASH,
    Html,
    count,
    esc,
    join,
    middle,
    name,
    percent,
    short_count,
    usd,
    usd_or_more,
    with_interval,
)

_RESULTS = ("group", "attempts", "success", "$ per success", "$ per episode", "$", "examples", "run")
_COUNTS = (
    "group", "input tokens", "from cache", "output tokens", "infrastructure errors", "success if these failed",
    "duplicates", "without outcome",
)  # fmt: skip


def groups_table(audit: Audit, labels: Labels, links: Links) -> Html:
    """All groups, with a star where one is on the frontier."""
    if not audit.groups:
        return paragraph("No attempts at tasks: these logs hold single calls without outcomes.")
    hull = {(row.model, row.run) for row in audit.frontier if row.on_hull}
    results = [_results(group, (group.model, group.run) in hull, labels, links) for group in audit.groups]
    counts = [_counts(group, labels) for group in audit.groups]
    note = (
        "★ on the frontier. Attempts leave out infrastructure errors and duplicates; dollars leave out duplicates only."
    )
    if any(group.cost_usd is None and group.known_cost_usd for group in audit.groups):
        note += " ≥: a lower bound, because the cost of some attempts is not known."
    return join(
        [
            table("groups", _RESULTS, results, words=(0, 6, 7)),
            paragraph(note, "quiet"),
            folded("Tokens and broken attempts", table("tokens and broken attempts", _COUNTS, counts), len(counts)),
            _pass_hat_k(audit, labels),
        ]
    )


def _results(group: Group, on_hull: bool, labels: Labels, links: Links) -> tuple[object, ...]:
    star = Html(' <span aria-label="on the frontier">★</span>') if on_hull else Html("")
    named = join([f"{labels.number(group)}. {name(group.model)}", star])
    return (
        Html(f'<span id="{group_anchor(labels.number(group))}">{named}</span>'),
        count(group.n),
        with_interval(group.success, group.success_ci, percent),
        _per_success(group),
        usd_or_more(group.cost_per_episode_usd, least_per_episode(group)),
        usd_or_more(group.cost_usd, group.known_cost_usd),
        links.group(group),
        Html(f'<span class="long">{esc(middle(group.run) if group.run else DASH)}</span>'),
    )


def _per_success(group: Group) -> Html:
    if group.cost_of_pass_usd is None:
        return esc(usd_or_more(None, least_cost_of_pass(group)))
    return with_interval(group.cost_of_pass_usd, group.cost_of_pass_ci_usd, usd)


def least_per_episode(group: Group) -> float | None:
    """A lower bound of the dollars per episode where some are not known; ``None`` if nothing is known."""
    attempts = group.n + group.n_infrastructure_errors
    return group.known_cost_usd / attempts if group.known_cost_usd and attempts else None


def _counts(group: Group, labels: Labels) -> tuple[object, ...]:
    cached = None
    if group.cached_input_tokens is not None and group.input_tokens:
        cached = group.cached_input_tokens / group.input_tokens
    return (
        f"{labels.number(group)}. {name(group.model)}",
        short_count(group.input_tokens),
        percent(cached),
        short_count(group.output_tokens),
        count(group.n_infrastructure_errors),
        percent(group.success_with_errors_failed) if group.n_infrastructure_errors else DASH,
        count(group.n_duplicates),
        count(group.unknown_outcomes),
    )


def _pass_hat_k(audit: Audit, labels: Labels) -> Html:
    repeated = [group for group in audit.groups if len(group.pass_hat_k) > 1]
    if not repeated:
        return Html("")
    powers = sorted({k for group in repeated for k in group.pass_hat_k}, key=lambda k: (len(k), k))
    rows = [(labels.of(group), *(percent(group.pass_hat_k.get(k)) for k in powers)) for group in repeated]
    title = "Consistency: all of k attempts at a task succeed (pass^k)"
    return folded(title, table("pass^k", ("group", *(f"k = {name(k, 8)}" for k in powers)), rows), len(rows))
