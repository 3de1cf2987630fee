"""What credit knows of a book, as data: each bullet's episodes, effect, rent, and what is decided about it.

What it knows: how counts, effects, rents and decisions belong together. What it does not do: print (``cli``), apply
what was decided (``book.Playbook.apply`` takes ``Report.batches``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from potstill.distill.playbook.apply import Entry
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.credit.back import way_back
from potstill.distill.playbook.credit.decide import CreditPlan, Decision, batches, decide
from potstill.distill.playbook.credit.guard import GuardPlan, Outcomes, Regression, regression
from potstill.distill.playbook.credit.past import begun, last_back
from potstill.distill.playbook.credit.read import Reader, support
from potstill.distill.playbook.credit.rent import Rent, Worth, worth
from potstill.distill.playbook.credit.tally import NOTHING, Counts, Tally, cost_difference
from potstill.distill.playbook.credit.use import Use
from potstill.distill.playbook.operations import Batch, Bullet
from potstill.distill.playbook.render import bullet_line
from potstill.distill.playbook.roles.contract import Signal
from potstill.errors import ConfigError
from potstill.protocols import TokenCounter
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Struct


class Line(Struct, frozen=True, kw_only=True):
    """One bullet."""

    bullet: Bullet
    counts: Counts
    decision: Decision
    rent: Rent
    worth: Worth


class Report(Struct, frozen=True, kw_only=True):
    """A book by its episodes."""

    namespace: str
    name: str
    revision: int
    episodes: int
    trials: int
    confidence: float
    prices_date: str | None
    value_of_success_usd: float | None
    lines: tuple[Line, ...]
    """In the order of the bullets' numbers; removed bullets are left out."""
    regression: Regression | None
    batches: tuple[Batch, ...]
    """What is to be applied, in this order; none: nothing is to be done."""
    notes: tuple[str, ...] = ()


def report(
    book: Playbook,
    *,
    reader: Reader | None = None,
    plan: CreditPlan | None = None,
    guard: GuardPlan | None = None,
    counter: TokenCounter | None = None,
    value_of_success_usd: float | None = None,
    labelled: Iterable[str] = (),
) -> Report:
    """Read a book and all its uses, and decide; nothing is written.

    ``reader``: with prices, for rents and costs (default: without). ``labelled``: ids of trajectories whose right
    answer is known. One pass over the uses; of each that is counted some twenty bytes are kept. Raises ``StoreError``.
    """
    reader = reader or Reader(book.store, book.namespace, book.name)
    entries, bullets = _as_one(book)
    return made(
        bullets,
        entries,
        reader.uses(),
        plan=plan or CreditPlan(),
        guard=guard or GuardPlan(),
        signals=support(book.store, book.namespace, bullets, labelled),
        counter=counter or EstimatedTokens(),
        value_of_success_usd=value_of_success_usd,
        head=(book.namespace, book.name, None if reader.table is None else reader.table.date),
        notes=reader.notes,
    )


def _as_one(book: Playbook) -> tuple[list[Entry], dict[str, Bullet]]:
    """The log and the bullets of one revision, whoever writes meanwhile."""
    while True:
        entries, bullets = book.log(), book.bullets()
        if book.revision == (entries[-1].revision if entries else 0):
            return entries, bullets


def made(
    bullets: Mapping[str, Bullet],
    entries: Sequence[Entry],
    uses: Iterable[Use],
    *,
    plan: CreditPlan,
    guard: GuardPlan,
    signals: Mapping[str, Signal],
    counter: TokenCounter,
    value_of_success_usd: float | None = None,
    head: tuple[str, str, str | None] = ("default", "", None),
    notes: Iterable[str] = (),
) -> Report:
    """The same from what was read. ``uses`` are gone through once, ``notes`` after them."""
    since = begun(entries, bullets)
    tally, outcomes = Tally(since), Outcomes()
    for use in uses:
        tally.add(use)
        outcomes.add(use)
    counts = tally.counts()
    decisions = decide(bullets, counts, since, plan, signals)
    revision = entries[-1].revision if entries else 0
    accused = regression(outcomes, guard, after=last_back(entries))
    back, said = _back(entries, bullets, accused, tally.last)
    return Report(
        namespace=head[0],
        name=head[1],
        revision=revision,
        episodes=tally.episodes,
        trials=tally.trials,
        confidence=1.0 - plan.alpha,
        prices_date=head[2],
        value_of_success_usd=value_of_success_usd,
        lines=tuple(_lines(bullets, counts, decisions, counter, value_of_success_usd)),
        regression=accused,
        batches=back or batches(decisions, base=revision, last=tally.last),
        notes=(*notes, *said),
    )


def _back(
    entries: Sequence[Entry], bullets: Mapping[str, Bullet], accused: Regression | None, last: int
) -> tuple[tuple[Batch, ...], tuple[str, ...]]:
    """The way back, or why there is none: the decisions on single bullets are taken all the same then."""
    if accused is None:
        return (), ()
    try:
        return way_back(entries, bullets, accused, last=last), ()
    except ConfigError as error:
        return (), (f"The book became worse, and cannot be brought back: {error}",)


def _lines(
    bullets: Mapping[str, Bullet],
    counts: Mapping[str, Counts],
    decisions: Iterable[Decision],
    counter: TokenCounter,
    value_usd: float | None,
) -> Iterator[Line]:
    for decision in decisions:
        bullet, seen, found = bullets[decision.id], counts.get(decision.id, NOTHING), decision.effect
        if bullet.removed:
            continue
        rent = rent_of(counter.count(bullet_line(bullet)), seen)
        yield Line(
            bullet=bullet,
            counts=seen,
            decision=decision,
            rent=rent,
            worth=worth(rent, found.difference, found.interval, value_usd),
        )


def rent_of(tokens: int, counts: Counts) -> Rent:
    """Tokens times what a token cost in the calls that held the bullet."""
    priced = counts.calls > counts.unpriced_calls
    return Rent(
        tokens=tokens,
        calls=counts.calls,
        unpriced_calls=counts.unpriced_calls,
        usd=tokens * counts.usd_per_token if priced else None,
        episodes=counts.shown,
    )


# --- as rows --------------------------------------------------------------------------------------------------------


def rows(report: Report) -> list[dict[str, Any]]:
    """One plain JSON object for each bullet. Names that begin with ``observed_`` are no effects: who is shown a bullet,
    or cites it, may differ in other things too."""
    return [_row(line, report.confidence) for line in report.lines]


def _row(line: Line, confidence: float) -> dict[str, Any]:
    bullet, counts, found = line.bullet, line.counts, line.decision.effect
    cost = cost_difference(counts, confidence)
    row: dict[str, Any] = {
        "id": bullet.id,
        "section": bullet.section,
        "stage": bullet.stage,
        "pinned": bullet.pinned,
        "quarantined": bullet.quarantined,
        "trials_with": found.trials.shown.n,
        "trials_with_succeeded": found.trials.shown.successes,
        "trials_without": found.trials.withheld.n,
        "trials_without_succeeded": found.trials.withheld.successes,
        "trials_with_unknown": counts.unknown_shown,
        "trials_without_unknown": counts.unknown_withheld,
        "effect": found.difference,
        "effect_interval": found.interval,
        "effect_fixed_time_interval": found.fixed_interval,
        "log_e_harm": found.log_harm,
        "log_e_help": found.log_help,
        "cost_difference_usd": None if cost is None else cost[0],
        "cost_difference_fixed_time_interval": None if cost is None else cost[1],
        "observed_shown": counts.shown,
        "observed_shown_known": counts.when_shown.n,
        "observed_shown_succeeded": counts.when_shown.successes,
        "observed_cited": counts.cited,
        "observed_cited_known": counts.when_cited.n,
        "observed_cited_succeeded": counts.when_cited.successes,
        "observed_at_stage_known": counts.at_stage.n,
        "observed_at_stage_succeeded": counts.at_stage.successes,
        "tokens": line.rent.tokens,
        "calls": line.rent.calls,
        "unpriced_calls": line.rent.unpriced_calls,
        "rent_usd": line.rent.usd,
        "rent_usd_per_episode": line.rent.usd_per_episode,
        "break_even_value_of_success_usd": line.worth.break_even_usd,
        "break_even_interval_usd": line.worth.break_even_interval,
        "value_usd": line.worth.value_usd,
        "value_interval_usd": line.worth.value_interval,
        "net_usd": line.worth.net_usd,
        "act": line.decision.act,
        "reason": line.decision.reason,
        "sentence": line.decision.sentence,
    }
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain


def as_json(report: Report) -> dict[str, Any]:
    """The whole report as plain JSON values."""
    head = {
        "namespace": report.namespace,
        "name": report.name,
        "revision": report.revision,
        "episodes": report.episodes,
        "trials": report.trials,
        "confidence": report.confidence,
        "prices_date": report.prices_date,
        "value_of_success_usd": report.value_of_success_usd,
        "regression": None
        if report.regression is None
        else {**msgspec.to_builtins(report.regression), "sentence": report.regression.sentence},
        "operations": [msgspec.to_builtins(one) for batch in report.batches for one in batch.operations],
        "notes": list(report.notes),
    }
    return {**head, "bullets": rows(report)}
