"""Count attempts: one compact row each, grouped by model and run, duplicates told apart.

What it knows: which attempts are the same one twice, which broke, and what each cost. What it does not do: intervals
(``groups.py``), reading files, prices (a function is given).

Duplicates. An episode id that comes again in its own group is a duplicate. In another run of the same model it is one
if the attempt is the same: same task, outcome and tokens, with the same recorded time or dollars. Ids that count from
one in every run are not duplicates.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from potstill.logs.records import Attempt, Source
from potstill.measure.audit.dirt import Dirt
from potstill.measure.reconcile import Verdict, compare
from potstill.types import Usage

UNKNOWN = -1
Price = Callable[[str, Usage, float | None], float | None]
"""(model, tokens, unix time or None) -> dollars, or ``None`` where the model has no price."""
TOKENS = ("input_tokens", "cached_tokens", "write_tokens", "output_tokens")
EARLIEST = 1_420_000_000.0
"""Early 2015: no log of a language model's calls is older."""


class Row(NamedTuple):
    """What is kept of one attempt. ``task`` is an index into ``Attempts.tasks``; unknown is ``None``."""

    task: int
    success: bool | None
    broke: bool
    usd: float | None
    input_tokens: int | None
    cached_tokens: int | None
    write_tokens: int | None
    output_tokens: int | None
    called: bool
    """The log has its calls, so that its spending is told by them."""

    @property
    def outcome(self) -> str:
        if self.broke:
            return "error"
        return {True: "success", False: "failure", None: "unknown"}[self.success]


class GroupRows:
    """The attempts of one group, in columns of 54 bytes a row."""

    def __init__(self) -> None:
        self._task, self._usd = array("q"), array("d")
        self._success, self._broke, self._called = array("b"), array("b"), array("b")
        self._tokens = tuple(array("q") for _ in TOKENS)
        self.duplicates = 0
        self.counted_elsewhere = 0
        """Of the duplicates those that stood first in another run."""
        self.repeated_tasks: set[int] = set()
        """Tasks of the duplicates: attempted here, but counted where they stood first."""
        self.latency_s = 0.0
        self.timed = 0
        self.harnesses: set[str] = set()
        self.user_models: set[str] = set()

    def __len__(self) -> int:
        return len(self._task)

    def __iter__(self) -> Iterator[Row]:
        for number in range(len(self)):
            yield self[number]

    def __getitem__(self, number: int) -> Row:
        success, usd = self._success[number], self._usd[number]
        read, cached, written, output = self._tokens
        return Row(
            self._task[number],
            None if success == UNKNOWN else bool(success),
            bool(self._broke[number]),
            None if usd != usd else usd,
            _or_none(read[number]),
            _or_none(cached[number]),
            _or_none(written[number]),
            _or_none(output[number]),
            bool(self._called[number]),
        )

    def add(self, row: Row) -> None:
        self._task.append(row.task)
        self._success.append(UNKNOWN if row.success is None else row.success)
        self._broke.append(row.broke)
        self._usd.append(float("nan") if row.usd is None else row.usd)
        self._called.append(row.called)
        for name, column in zip(TOKENS, self._tokens, strict=True):
            value = getattr(row, name)
            column.append(UNKNOWN if value is None else value)

    def fill(self, number: int, row: Row) -> None:
        """The calls of an attempt were found: they tell what the attempt itself did not."""
        self._called[number] = True
        if self._usd[number] != self._usd[number] and row.usd is not None:
            self._usd[number] = row.usd
        for name, column in zip(TOKENS, self._tokens, strict=True):
            value = getattr(row, name)
            if column[number] == UNKNOWN and value is not None:
                column[number] = value


class Attempts:
    """All attempts of an audit, by (model, run)."""

    def __init__(self, price: Price, dirt: Dirt, *, now: float) -> None:
        self.groups: dict[tuple[str, str], GroupRows] = {}
        self.tasks: dict[str, int] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._without_calls: dict[int, int] = {}
        """Hash of (run, episode id) -> number of the group and of its row, for attempts whose calls may follow."""
        self._price, self._dirt, self._now = price, dirt, now
        self._runs: dict[str, int] = {}
        self._seen: dict[int, int] = {}
        """Hash of (model, episode id) or of (model, run, task, sample) -> run and fingerprint in one number."""

    def add(self, attempt: Attempt) -> Row | None:
        """Count an attempt; ``None`` if it is a duplicate."""
        group = self._group(attempt.model, attempt.run)
        self._tell_problems(attempt)
        if self._is_duplicate(attempt):
            group.duplicates += 1
            group.repeated_tasks.add(self.task(attempt.task_id))
            self._dirt.note("duplicate_episodes", attempt.run, attempt.source)
            return None
        self._tell_outcome(attempt)
        row = self._row(attempt, self._dollars(attempt))
        if attempt.episode_id is not None and not attempt.calls and attempt.step is None:
            place = self._numbers[attempt.model, attempt.run] << _FINGERPRINT_BITS | len(group)
            self._without_calls[hash((attempt.run, attempt.episode_id))] = place
        group.add(row)
        _add_conditions(group, attempt)
        return row

    def join(self, run: str, episode_id: str, calls: Row) -> bool:
        """The calls of an attempt that was told without them; ``False`` if there is no such attempt."""
        place = self._without_calls.pop(hash((run, episode_id)), None)
        if place is None:
            return False
        key, before = self._at(place)
        rows, number = self.groups[key], place & _FINGERPRINT
        rows.fill(number, calls)
        after = rows[number]
        if before.usd is None and after.usd is not None:
            self._dirt.take_back("missing_cost", key[1])
        if _lacks_tokens(before) and not _lacks_tokens(after):
            self._dirt.take_back("missing_tokens", key[1])
        return True

    def add_row(self, model: str, run: str, row: Row, source: Source) -> None:
        """Count an episode that only its calls tell."""
        if row.broke:
            self._dirt.note("infrastructure_errors", run or None, source)
        else:
            self._dirt.note("unknown_outcomes", run or None, source)
            if row.input_tokens is None or row.output_tokens is None:
                self._dirt.note("missing_tokens", run or None, source)
        if row.usd is None:
            self._dirt.note("missing_cost", run or None, source)
        self._group(model, run).add(row)

    def outcome_of(self, run: str, episode_id: str) -> Row | None:
        """An attempt that was told without its calls."""
        place = self._without_calls.get(hash((run, episode_id)))
        return None if place is None else self._at(place)[1]

    def is_possible(self, at: float) -> bool:
        """Whether a call can have been made at this time."""
        return EARLIEST <= at <= self._now + 86_400.0

    def task(self, name: str) -> int:
        """The number of a task."""
        return self.tasks.setdefault(name, len(self.tasks))

    def _at(self, place: int) -> tuple[tuple[str, str], Row]:
        key = list(self._numbers)[place >> _FINGERPRINT_BITS]
        return key, self.groups[key][place & _FINGERPRINT]

    def _group(self, model: str, run: str) -> GroupRows:
        key = (model, run)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = GroupRows()
            self._numbers[key] = len(self._numbers)
        return group

    def _row(self, attempt: Attempt, usd: float | None) -> Row:
        return Row(
            self.task(attempt.task_id),
            attempt.success,
            attempt.error is not None,
            usd,
            attempt.input_tokens,
            attempt.cached_input_tokens,
            attempt.cache_write_tokens,
            attempt.output_tokens,
            called=bool(attempt.calls),
        )

    # --- the same attempt twice -----------------------------------------------------------------------------------

    def _is_duplicate(self, attempt: Attempt) -> bool:
        fingerprint = _fingerprint(attempt)
        if attempt.episode_id is None:
            return self._is_repeated_sample(attempt, fingerprint)
        run = self._runs.setdefault(attempt.run, len(self._runs))
        part = None if attempt.step is None else (attempt.step, attempt.sample)
        mine = run << _FINGERPRINT_BITS | fingerprint
        before = self._seen.setdefault(hash((attempt.model, attempt.episode_id, part)), mine + _NEW)
        if before == mine + _NEW:
            self._seen[hash((attempt.model, attempt.episode_id, part))] = mine
            return False
        if before >> _FINGERPRINT_BITS == run:
            if before & _FINGERPRINT != fingerprint:
                self._dirt.note("differing_duplicates", attempt.run, attempt.source)
            return True
        if before & _FINGERPRINT == fingerprint and _is_telling(attempt):
            self._group(attempt.model, attempt.run).counted_elsewhere += 1
            return True
        self._dirt.note("reused_episode_ids", attempt.run, attempt.source)
        return False

    def _is_repeated_sample(self, attempt: Attempt, fingerprint: int) -> bool:
        """Without an episode id: the same sample number of the same task, with the same content."""
        if attempt.sample is None:
            return False
        key = hash((attempt.model, attempt.run, attempt.task_id, attempt.step, attempt.sample))
        before = self._seen.setdefault(key, fingerprint + _NEW)
        if before == fingerprint + _NEW:
            self._seen[key] = fingerprint
            return False
        if before == fingerprint:
            return True
        self._dirt.note("repeated_samples", attempt.run, attempt.source)
        return False

    # --- dollars and dirt -----------------------------------------------------------------------------------------

    def _dollars(self, attempt: Attempt) -> float | None:
        recorded = attempt.cost_usd
        if attempt.error is not None and not recorded and not _spent_tokens(attempt):
            self._dirt.note("errors_without_cost", attempt.run, attempt.source)
            return 0.0
        computed = self._computed(attempt)
        if recorded is not None:
            if computed is not None and attempt.error is None:
                self._reconcile(attempt, recorded, computed)
            return recorded
        if computed is not None:
            self._dirt.note("priced_from_tokens", attempt.run, attempt.source)
            return computed
        self._dirt.note("missing_cost", attempt.run, attempt.source)
        return None

    def _computed(self, attempt: Attempt) -> float | None:
        """Dollars by the price table: of the calls where the log has them, else of the attempt's sums."""
        if attempt.calls:
            costs = [None if c.usage is None else self._price(c.model, c.usage, c.started_at) for c in attempt.calls]
            known = [cost for cost in costs if cost is not None]
            return sum(known) if len(known) == len(costs) else None
        usage = usage_of(attempt)
        return None if usage is None else self._price(attempt.model, usage, attempt.started_at)

    def _reconcile(self, attempt: Attempt, recorded: float, computed: float) -> None:
        if compare(computed, recorded).verdict is Verdict.DIFFERS:
            ratio = f"{recorded / computed:.3g} times ours" if computed > 0 else "ours is 0"
            self._dirt.note("price_mismatch", attempt.run, f"{attempt.source.file}:{attempt.source.line} {ratio}")

    def _tell_problems(self, attempt: Attempt) -> None:
        for problem in attempt.problems:
            where = f"{attempt.source.file}:{attempt.source.line} {problem.detail}"
            self._dirt.note(problem.kind, attempt.run, where)
        for call in attempt.calls:
            for problem in call.problems:
                self._dirt.note(problem.kind, attempt.run, f"{call.source.file}:{call.source.line} {problem.detail}")
        if attempt.started_at is not None and not self.is_possible(attempt.started_at):
            self._dirt.note("clock_jumps", attempt.run, attempt.source)

    def _tell_outcome(self, attempt: Attempt) -> None:
        if attempt.error is not None:
            self._dirt.note("infrastructure_errors", attempt.run, attempt.source)
            if attempt.success:
                self._dirt.note("errors_with_success", attempt.run, attempt.source)
            return
        if attempt.success is None:
            self._dirt.note("unknown_outcomes", attempt.run, attempt.source)
        if attempt.input_tokens is None or attempt.output_tokens is None:
            self._dirt.note("missing_tokens", attempt.run, attempt.source)


_FINGERPRINT_BITS = 40
_FINGERPRINT = (1 << _FINGERPRINT_BITS) - 1
_NEW = 1 << 100
"""Marks what was put in just now: no run number reaches so far."""


def _fingerprint(attempt: Attempt) -> int:
    what = (
        attempt.task_id,
        attempt.success,
        attempt.error,
        attempt.answer,
        attempt.cost_usd,
        attempt.input_tokens,
        attempt.output_tokens,
        attempt.started_at,
        attempt.latency_s,
        len(attempt.calls),
    )
    return hash(what) & _FINGERPRINT


def _is_telling(attempt: Attempt) -> bool:
    """Whether two attempts with the same fingerprint must be the same: chance does not repeat times or dollars."""
    return bool(attempt.cost_usd) or attempt.started_at is not None or attempt.latency_s is not None


def _or_none(count: int) -> int | None:
    return None if count == UNKNOWN else count


def _add_conditions(group: GroupRows, attempt: Attempt) -> None:
    if attempt.latency_s is not None:
        group.latency_s += attempt.latency_s
        group.timed += 1
    if attempt.harness is not None:
        group.harnesses.add(attempt.harness)
    if attempt.user_model is not None:
        group.user_models.add(attempt.user_model)


def _lacks_tokens(row: Row) -> bool:
    return not row.broke and (row.input_tokens is None or row.output_tokens is None)


def _spent_tokens(attempt: Attempt) -> bool:
    return bool(attempt.input_tokens or attempt.output_tokens)


def usage_of(attempt: Attempt) -> Usage | None:
    """The attempt's tokens as a usage, if input and output are known; uncached where the log does not say."""
    if attempt.input_tokens is None or attempt.output_tokens is None:
        return None
    return Usage(
        input_tokens=attempt.input_tokens,
        cache_read_tokens=attempt.cached_input_tokens or 0,
        cache_write_tokens=attempt.cache_write_tokens or 0,
        output_tokens=attempt.output_tokens,
        cache_reported=attempt.cached_input_tokens is not None,
    )
