"""The two sides of a comparison: attempts out of logs, and episodes out of a store, in one small shape, paired.

What it knows: what is kept of an attempt, what an attempt cost, which are the same or broken, and which two belong
together. What it does not do: read files, or say which side is better (``comparison.py`` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from potstill.errors import UnknownPrice
from potstill.logs.records import Attempt, LogCall
from potstill.measure.audit.attempts import usage_of
from potstill.measure.cache import ledger
from potstill.measure.ledger import AS_RECORDED, CachePolicy, Pricing, price_tokens
from potstill.measure.prices.rows import ModelPrice
from potstill.measure.prices.table import PriceTable
from potstill.measure.tally import task_key
from potstill.types import Trajectory, Usage


class Entry(NamedTuple):
    """What a comparison keeps of one attempt at a task. ``None`` is unknown, never zero."""

    task: str
    sample: int | None
    """Seed or number of the attempt: what is the same on both sides."""
    success: bool | None
    broken: bool = False
    """The infrastructure failed before there was an outcome: neither success nor honest failure."""
    cost_usd: float | None = None
    warm_usd: float | None = None
    """The same dollars if all repeated input had been read from the prompt cache."""
    answer: str | None = None
    episode_id: str | None = None
    run: str = ""
    step: int | None = None
    """Where attempts are at single decisions within a task: its number."""
    harness: str | None = None
    user_model: str | None = None
    priced: bool = False
    """The dollars are ours, by list price; else the log's own."""
    content: int = 0
    """Hash of what the log says of the attempt."""
    telling: bool = False
    """The content has dollars or a time: what has the same is the same attempt."""

    @property
    def unit(self) -> tuple[str, int | None]:
        """What is attempted: a task, or one decision of it."""
        return self.task, self.step


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side: its attempts without duplicates, and what was found on the way."""

    name: str
    entries: tuple[Entry, ...]
    duplicates: int = 0
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> list[Entry]:
        """Attempts with an outcome."""
        return [entry for entry in self.entries if not entry.broken and entry.success is not None]


def side_of(name: str, entries: Iterable[Entry], notes: Sequence[str] = ()) -> Side:
    """A side with every attempt once: the first of a kind is kept.

    An episode id that comes again in its run is the same attempt; in another run it is one if its content is the same,
    for some runs count their episodes from one. Without an id, the same number at the same task with the same content.
    """
    kept: list[Entry] = []
    seen: set[object] = set()
    duplicates = 0
    for entry in entries:
        keys = _identities(entry)
        if seen.isdisjoint(keys):
            kept.append(entry)
        else:
            duplicates += 1
        seen.update(keys)
    return Side(name=name, entries=tuple(kept), duplicates=duplicates, notes=tuple(notes))


def _identities(entry: Entry) -> list[object]:
    part = () if entry.step is None else (entry.step, entry.sample)
    if entry.episode_id:
        keys: list[object] = [(entry.run, entry.episode_id, *part)]
        return [*keys, (entry.episode_id, *part, entry.content)] if entry.telling else keys
    if entry.sample is None or not entry.content:
        return []
    return [(entry.run, *entry.unit, entry.sample, entry.content)]


# --- out of logs ------------------------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """Dollars of an attempt, dollars with a warm cache, and whether they are list prices of ours."""

    usd: float | None
    warm_usd: float | None
    priced: bool


def entry_of(attempt: Attempt, table: PriceTable, *, recorded: bool = True) -> Entry:
    """One attempt of a log. ``recorded``: dollars that the log states are taken, else all are priced from tokens."""
    costs = costs_of(attempt, table, recorded=recorded)
    return Entry(
        task=attempt.task_id,
        sample=attempt.sample,
        success=attempt.success,
        broken=attempt.error is not None,
        cost_usd=costs.usd,
        warm_usd=costs.warm_usd,
        answer=attempt.answer,
        episode_id=attempt.episode_id,
        run=attempt.run,
        step=attempt.step,
        harness=attempt.harness,
        user_model=attempt.user_model,
        priced=costs.priced,
        content=_content(attempt),
        telling=bool(attempt.cost_usd) or attempt.started_at is not None or attempt.latency_s is not None,
    )


def _content(attempt: Attempt) -> int:
    told = (attempt.success, attempt.error, attempt.answer, attempt.cost_usd, attempt.started_at, attempt.latency_s)
    return hash((attempt.task_id, *told, attempt.input_tokens, attempt.output_tokens, len(attempt.calls)))


def costs_of(attempt: Attempt, table: PriceTable, *, recorded: bool = True) -> Costs:
    """What an attempt cost: as its log says, else the sum over its calls, else its token totals as one request.

    A model without a price gives ``None``: a log may hold models that nobody compares.
    """
    listed, warm = _call_dollars(attempt.calls, table)
    saved = listed - warm if listed is not None and warm is not None else None
    usd = attempt.cost_usd if recorded else None
    if usd is None and recorded and attempt.calls:
        usd = _sum([call.cost_usd for call in attempt.calls])
    if usd is not None:
        return Costs(usd, max(0.0, usd - saved) if saved is not None else None, False)
    if listed is None and not attempt.calls:
        listed = _price_of_sums(attempt, table)
    return Costs(listed, warm, listed is not None)


def _price_of_sums(attempt: Attempt, table: PriceTable) -> float | None:
    """Dollars of an attempt's token sums. How long each prompt was is not known: short prompts' rates are taken."""
    usage = usage_of(attempt)
    price = _price(attempt.model, "standard", table)
    if usage is None or price is None:
        return None
    return price_tokens(usage, msgspec.structs.replace(price, tiers=()) if price.tiers else price).total_usd


def _call_dollars(calls: Sequence[LogCall], table: PriceTable) -> tuple[float | None, float | None]:
    """List-price dollars of an attempt's calls, as they were and with every repeated prefix read from the cache."""
    if not calls:
        return None, None
    listed: list[float | None] = []
    warm: list[float | None] = []
    seen: dict[str, set[int]] = {}
    for call in calls:
        repeated = _repeated_share(call, seen.setdefault(call.model, set()))
        price = _price(call.model, call.service, table)
        if call.usage is None or price is None:
            return None, None
        listed.append(price_tokens(call.usage, price).total_usd)
        usage = None if repeated is None else with_cached(call.usage, repeated, price)
        warm.append(None if usage is None else price_tokens(usage, price).total_usd)
    cold, cached = _sum(listed), _sum(warm)
    return cold, cached if cached is None or cold is None else min(cold, cached)


_UNPRICED: WeakKeyDictionary[PriceTable, set[tuple[str, str]]] = WeakKeyDictionary()
"""Models and services without a price: the table looks for near names each time that it is asked."""


def _price(model: str, service: str, table: PriceTable) -> ModelPrice | None:
    unpriced = _UNPRICED.setdefault(table, set())
    if (model, service) in unpriced:
        return None
    try:
        return table.price(model, service)
    except UnknownPrice:
        unpriced.add((model, service))
        return None


def _repeated_share(call: LogCall, seen: set[int]) -> float | None:
    """Share of a prompt's characters that an earlier call of the episode had sent; adds the prompt to what was sent."""
    if not call.prefixes or len(call.prefixes) != len(call.sizes):
        return None
    total = repeated = call.tools[1]
    sent_before = bool(seen)
    alive = sent_before
    for size, prefix in zip(call.sizes, call.prefixes, strict=True):
        total += size
        alive = alive and prefix in seen
        repeated += size if alive else 0
    seen.update(call.prefixes)
    return repeated / total if sent_before and total else 0.0


def with_cached(usage: Usage, repeated_share: float, price: ModelPrice) -> Usage:
    """The same tokens with ``repeated_share`` of the input read from the cache, under the provider's rule.

    At least what was read stays read. Where the provider charges for writing, the rest of the input is written.
    """
    rule = price.cache
    repeated = int(usage.input_tokens * repeated_share)
    repeated -= repeated % rule.block_tokens
    read = max(usage.cache_read_tokens, repeated if repeated >= max(rule.minimum_tokens, 1) else 0)
    charged = rule.explicit or price.rates.cache_write is not None
    stored = usage.input_tokens if charged and usage.input_tokens >= rule.minimum_tokens else read
    return msgspec.structs.replace(
        usage, cache_read_tokens=read, cache_write_tokens=stored - read, cache_write_1h_tokens=0
    )


# --- out of a store ---------------------------------------------------------------------------------------------------


def entry_of_trajectory(
    trajectory: Trajectory, table: PriceTable, *, cache: CachePolicy = "simulated", pricing: Pricing = AS_RECORDED
) -> Entry:
    """One recorded episode, priced as ``potstill measure`` prices it. Raises ``UnknownPrice``."""
    calls = [call for step in trajectory.steps for call in step.calls]
    success = trajectory.outcome.success if trajectory.outcome is not None else None
    rows = ledger(calls, table, cache=cache, pricing=pricing)
    warm = rows if cache == "simulated" else ledger(calls, table, cache="simulated", pricing=pricing)
    return Entry(
        task=task_key(trajectory),
        sample=trajectory.seed,
        success=success,
        broken=success is None and trajectory.error is not None,
        cost_usd=_sum([row.total_usd for row in rows]),
        warm_usd=_sum([row.total_usd for row in warm]),
        episode_id=trajectory.id,
        run=trajectory.run_id,
        priced=True,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


# --- pairing ----------------------------------------------------------------------------------------------------------


class Paired(NamedTuple):
    """The pairs, and what has no partner. ``numbered``: pairs that were found by sample or seed; the rest by order."""

    pairs: list[tuple[Entry, Entry]]
    numbered: int
    alone_a: int
    alone_b: int
    tasks_only_a: int
    tasks_only_b: int

    @property
    def ordered(self) -> int:
        return len(self.pairs) - self.numbered


def pair(a: Sequence[Entry], b: Sequence[Entry]) -> Paired:
    """Pair attempts at the same task by sample (or seed) where both sides number them, else by their order.

    Numbers are used for a task if no attempt lacks one and no side repeats one there. Sides that have no number in
    common at all (one counts from 0, the other from 1) are paired by order throughout.
    """
    by_unit_a, by_unit_b = by_unit(a), by_unit(b)
    comparable = not {entry.sample for entry in a}.isdisjoint({entry.sample for entry in b} - {None})
    pairs: list[tuple[Entry, Entry]] = []
    numbered = 0
    for unit, ours in by_unit_a.items():
        theirs = by_unit_b.get(unit)
        if theirs is None:
            continue
        found = _by_number(ours, theirs) if comparable else None
        numbered += len(found or ())
        pairs += list(zip(ours, theirs, strict=False)) if found is None else found
    return Paired(
        pairs=pairs,
        numbered=numbered,
        alone_a=len(a) - len(pairs),
        alone_b=len(b) - len(pairs),
        tasks_only_a=len({task for task, _ in by_unit_a} - {task for task, _ in by_unit_b}),
        tasks_only_b=len({task for task, _ in by_unit_b} - {task for task, _ in by_unit_a}),
    )


def by_unit(entries: Iterable[Entry]) -> dict[tuple[str, int | None], list[Entry]]:
    """Attempts by what they are at, in their order."""
    found: dict[tuple[str, int | None], list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.unit, []).append(entry)
    return found


def _by_number(a: Sequence[Entry], b: Sequence[Entry]) -> list[tuple[Entry, Entry]] | None:
    ours = {entry.sample: entry for entry in a}
    theirs = {entry.sample: entry for entry in b}
    if None in ours or None in theirs or len(ours) < len(a) or len(theirs) < len(b):
        return None
    return [(entry, theirs[sample]) for sample, entry in ours.items() if sample in theirs]
