"""Uses out of a store: what a book's episodes were shown, how they ended, what they cost.

What it knows: what counts as an outcome, and whose calls held the page. What it does not do: count (``tally``), SQL
(``trajectories.uses``).

An outcome counts where the environment, a checker or a person gave it. A judge is a model with an opinion; so is
nobody. An episode that broke counts with its outcome if it has one, and as unknown otherwise.

Without prices only the rows of uses are read, some 40,000 a second. With prices each trajectory is read too, a few
thousand a second: its ledger gives the cost and the rent, the student's own words the bullets that it cites. The page
is in the student's prompts alone: a teacher works without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from potstill.distill.playbook.border import cited
from potstill.distill.playbook.credit.rent import charge_of
from potstill.distill.playbook.credit.use import Charge, Use
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.own_words import own_words
from potstill.distill.playbook.roles.contract import Signal
from potstill.errors import StoreError, UnknownPrice
from potstill.measure.cache import ledger
from potstill.measure.ledger import AS_RECORDED, CachePolicy, LedgerRow, Pricing, turned_away
from potstill.measure.prices import PriceTable
from potstill.trajectories import Store
from potstill.trajectories.uses import UseRow
from potstill.types import Answerer, Call, Outcome, OutcomeSource, Step, Trajectory

_SAID_SO = frozenset({OutcomeSource.ENVIRONMENT, OutcomeSource.CHECKER, OutcomeSource.HUMAN})


class Reader:
    """Reads the uses of a tenant's book. ``table`` None: without dollars and without what is cited."""

    def __init__(
        self,
        store: Store,
        namespace: str,
        name: str,
        *,
        table: PriceTable | None = None,
        pricing: Pricing = AS_RECORDED,
        cache: CachePolicy = "reported",
    ) -> None:
        self.store, self.namespace, self.name = store, namespace, name
        self.table, self._pricing, self._cache = table, pricing, cache
        self.notes: dict[str, None] = {}
        """What could not be priced, and what to type; each once."""

    def uses(self, *, after: int = 0) -> Iterator[Use]:
        """In the order in which they came in, one at a time; ``after``: those with a larger ``seq``. An outcome that
        came late is seen by who reads from 0. Raises ``StoreError`` for what is damaged."""
        for row in self.store.playbook_uses(self.namespace, self.name, after=after):
            use = of_row(row)
            yield use if self.table is None else self._with_body(use, row, self.table)

    def _with_body(self, use: Use, row: UseRow, table: PriceTable) -> Use:
        try:
            trajectory = self.store.get(row.trajectory_id, namespace=self.namespace)
        except StoreError as error:
            self.notes[str(error)] = None
            return use
        pairs = self._priced(trajectory, table)
        mine = [(step, line) for step, call, line in pairs if _held_the_page(call)]
        return msgspec.structs.replace(
            use,
            cited=use.cited or cited("\n".join(own_words(trajectory)), frozenset(use.shown)),
            cost_usd=_total(line for _, _, line in pairs),
            charge=_charge([line for _, line in mine]),
            step_charges=_step_charges(trajectory.steps, mine, use.shown),
        )

    def _priced(self, trajectory: Trajectory, table: PriceTable) -> list[tuple[int, Call, LedgerRow | None]]:
        """Each call with its step's place and its row of the ledger; None where a model of the episode has no price."""
        calls = [(place, call) for place, step in enumerate(trajectory.steps) for call in step.calls]
        try:
            lines: list[LedgerRow] = ledger(
                (call for _, call in calls), table, cache=self._cache, pricing=self._pricing
            )
        except UnknownPrice as error:
            self.notes[str(error)] = None
            return [(place, call, None) for place, call in calls]
        return [(place, call, line) for (place, call), line in zip(calls, lines, strict=True)]


def of_row(row: UseRow) -> Use:
    """What the row alone says."""
    return Use(
        episode=row.trajectory_id,
        seq=row.seq,
        revision=row.use.revision,
        shown=row.use.shown,
        withheld=row.use.withheld,
        trial=row.use.trial,
        cited=row.use.cited,
        success=known(row.outcome),
        charge=Charge(calls=row.calls, unpriced_calls=row.calls),
    )


def known(outcome: Outcome | None) -> bool | None:
    """Whether the episode succeeded, by somebody's word that counts."""
    return outcome.success if outcome is not None and outcome.source in _SAID_SO else None


def _held_the_page(call: Call) -> bool:
    return call.answerer is Answerer.STUDENT and not turned_away(call)


def _total(lines: Iterable[LedgerRow | None]) -> float | None:
    total = 0.0
    for line in lines:
        usd = None if line is None else line.total_usd
        if usd is None:
            return None
        total += usd
    return total


def _charge(lines: list[LedgerRow | None]) -> Charge:
    priced = charge_of(line for line in lines if line is not None)
    missing = sum(line is None for line in lines)
    return msgspec.structs.replace(priced, calls=priced.calls + missing, unpriced_calls=priced.unpriced_calls + missing)


def _step_charges(
    steps: tuple[Step, ...], mine: list[tuple[int, LedgerRow | None]], shown: tuple[str, ...]
) -> tuple[tuple[str, Charge], ...]:
    """Of bullets that stood beside the page: the calls of the steps that were shown them."""
    places: dict[str, set[int]] = {}
    for place, step in enumerate(steps):
        for id in step.bullets:
            places.setdefault(id, set()).add(place)
    return tuple((id, _charge([line for place, line in mine if place in places[id]])) for id in shown if id in places)


# --- what a lesson stands on ----------------------------------------------------------------------------------------


def support(
    store: Store, namespace: str, bullets: Mapping[str, Bullet], labelled: Iterable[str] = ()
) -> dict[str, Signal]:
    """Of each bullet in shadow: what says how the episodes ended that it was learnt from, the weakest of them: nobody
    can say which episode of a batch taught it.

    Outcomes are those of now: a word that came after the lesson counts. ``labelled``: ids of trajectories whose right
    answer is known. A source that is no longer in the store has none.
    """
    right = frozenset(labelled)
    waiting = [one for one in bullets.values() if one.stage is Stage.SHADOW and not one.removed]
    held = {id: _signal(store, namespace, id, right) for id in dict.fromkeys(s for one in waiting for s in one.sources)}
    return {
        one.id: max((held[source] for source in one.sources), key=_ORDER.index, default=Signal.NONE) for one in waiting
    }


_ORDER = (Signal.LABEL, Signal.EXECUTION, Signal.NONE)


def _signal(store: Store, namespace: str, source: str, labelled: frozenset[str]) -> Signal:
    if source in labelled:
        return Signal.LABEL
    try:
        outcome = store.get(source, namespace=namespace).outcome
    except StoreError:
        return Signal.NONE
    return Signal.NONE if known(outcome) is None else Signal.EXECUTION
