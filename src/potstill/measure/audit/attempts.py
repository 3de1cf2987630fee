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

from potstill.logs.records import Attempt
from potstill.measure.audit.dirt import Dirt
from potstill.types import Usage

UNKNOWN = -1
Price = Callable[[str, Usage, float | None], float | None]
"""(model, tokens, unix time or None) -> dollars, or ``None`` where the model has no price."""
_TOKENS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")
EARLIEST = 1_420_000_000.0
"""Early 2015: no log of a language model's calls is older."""


class Row(NamedTuple):
    """What is kept of one attempt. ``task`` is an index into ``Attempts.tasks``."""

    task: int
    success: bool | None
    broke: bool
    usd: float | None


class GroupRows:
    """The attempts of one group, in columns."""

    def __init__(self) -> None:
        self._task, self._success, self._usd = array("q"), array("b"), array("d")
        self._broke = array("b")
        self.duplicates = 0
        self.tokens: dict[str, int | None] = dict.fromkeys(_TOKENS, 0)
        self.latency_s = 0.0
        self.timed = 0
        self.harnesses: set[str] = set()
        self.user_models: set[str] = set()
        self.fits, self.differs = 0, 0
        """Attempts whose recorded dollars the price table gives, and those for which it does not."""
        self.recorded_usd, self.computed_usd = 0.0, 0.0

    def __len__(self) -> int:
        return len(self._task)

    def __iter__(self) -> Iterator[Row]:
        for task, success, broke, usd in zip(self._task, self._success, self._broke, self._usd, strict=True):
            yield Row(task, None if success == UNKNOWN else bool(success), bool(broke), None if usd != usd else usd)

    def add(self, row: Row) -> None:
        self._task.append(row.task)
        self._success.append(UNKNOWN if row.success is None else row.success)
        self._broke.append(row.broke)
        self._usd.append(float("nan") if row.usd is None else row.usd)

    def add_tokens(self, attempt: Attempt) -> None:
        """Sums that become unknown with the first unknown part."""
        for name in _TOKENS:
            value, total = getattr(attempt, name), self.tokens[name]
            self.tokens[name] = None if value is None or total is None else total + value


class Attempts:
    """All attempts of an audit, by (model, run)."""

    def __init__(self, price: Price, dirt: Dirt, *, now: float) -> None:
        self.groups: dict[tuple[str, str], GroupRows] = {}
        self.tasks: dict[str, int] = {}
        self._price, self._dirt, self._now = price, dirt, now
        self._runs: dict[str, int] = {}
        self._seen: dict[int, int] = {}
        """Hash of (model, episode id) or of (model, run, task, sample) -> run and fingerprint in one number."""

    def add(self, attempt: Attempt) -> bool:
        """Count an attempt; ``False`` if it is a duplicate."""
        group = self.groups.setdefault((attempt.model, attempt.run), GroupRows())
        self._tell_problems(attempt)
        if self._is_duplicate(attempt):
            group.duplicates += 1
            self._dirt.note("duplicate_episodes", attempt.run, attempt.source)
            return False
        usd = self._dollars(attempt, group)
        broke = attempt.error is not None
        self._tell_outcome(attempt, broke)
        if not broke or _spent_tokens(attempt):
            group.add_tokens(attempt)
        group.add(Row(self.tasks.setdefault(attempt.task_id, len(self.tasks)), attempt.success, broke, usd))
        if attempt.latency_s is not None:
            group.latency_s += attempt.latency_s
            group.timed += 1
        if attempt.harness is not None:
            group.harnesses.add(attempt.harness)
        if attempt.user_model is not None:
            group.user_models.add(attempt.user_model)
        return True

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
            return True
        if before & _FINGERPRINT == fingerprint and _is_telling(attempt):
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

    def _dollars(self, attempt: Attempt, group: GroupRows) -> float | None:
        computed = self._computed(attempt)
        recorded = attempt.cost_usd
        if recorded is not None:
            if computed is not None and attempt.error is None:
                self._reconcile(attempt, group, recorded, computed)
            return recorded
        if computed is not None:
            self._dirt.note("priced_from_tokens", attempt.run, attempt.source)
            return computed
        if attempt.error is not None and not _spent_tokens(attempt):
            self._dirt.note("errors_without_cost", attempt.run, attempt.source)
            return 0.0
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

    def _reconcile(self, attempt: Attempt, group: GroupRows, recorded: float, computed: float) -> None:
        group.recorded_usd += recorded
        group.computed_usd += computed
        if abs(recorded - computed) <= TOLERANCE * max(recorded, computed):
            group.fits += 1
        else:
            group.differs += 1
            ratio = f"{recorded / computed:.3g} times" if computed > 0 else "more than"
            self._dirt.note("price_mismatch", attempt.run, f"{attempt.source.file}:{attempt.source.line} {ratio}")

    def _tell_problems(self, attempt: Attempt) -> None:
        for problem in attempt.problems:
            where = f"{attempt.source.file}:{attempt.source.line} {problem.detail}"
            self._dirt.note(problem.kind, attempt.run, where)
        for call in attempt.calls:
            for problem in call.problems:
                self._dirt.note(problem.kind, attempt.run, f"{call.source.file}:{call.source.line} {problem.detail}")
        if attempt.started_at is not None and not EARLIEST <= attempt.started_at <= self._now + 86_400.0:
            self._dirt.note("clock_jumps", attempt.run, attempt.source)

    def _tell_outcome(self, attempt: Attempt, broke: bool) -> None:
        if broke:
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
TOLERANCE = 0.01
"""Recorded and computed dollars fit if they differ by no more than this share."""


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
