"""The audit: one pass over records, then every figure of ``result.Audit``.

What it knows: how attempts and calls meet. A call belongs to an episode; an episode that no attempt tells becomes one
with an unknown outcome; an attempt that is told elsewhere (same run and episode id) judges its calls.
What it does not do: read files, find episodes (``place`` is given), print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from potstill.logs.records import Attempt, LogCall, Record
from potstill.logs.report import FileReport
from potstill.measure.audit.agreement import Agreement
from potstill.measure.audit.attempts import Attempts, Row
from potstill.measure.audit.dirt import Dirt
from potstill.measure.audit.episodes import Closed, Episodes, step_type_of
from potstill.measure.audit.groups import Settings, aiq_of, budget_curve_of, frontier_of, group_of
from potstill.measure.audit.pricing import LogPrices
from potstill.measure.audit.result import Audit, BudgetCurve, Example, FileRead, Group, Skips, Spend
from potstill.measure.audit.runs import tell_differences
from potstill.measure.audit.spending import Slices, joined
from potstill.measure.audit.waste import Cost
from potstill.measure.prices.table import PriceTable
from potstill.measure.reconcile import Verdict, compare
from potstill.measure.statistics import check_confidence

CURVES = 12
"""Budget curves are drawn of so many groups, the largest."""
PLAIN_EXAMPLES = 3
FEW = 20
"""Episodes of one call each; more than that are no chance."""
BACKWARDS_S = 60.0
"""Calls of an episode that run at once may be logged out of order by so much."""
_NO_TASK = -1


class AuditOptions(NamedTuple):
    """How to audit."""

    confidence: float = 0.95
    bloated: int = 8000
    """Characters above which an observation is bloated."""
    ignore_ids: bool = False
    """The episodes are put together without the log's ids."""
    dated: bool = True
    """Price each record at its own day; else all at the table's."""


class Auditor:
    """Takes records one by one (``add``), then gives the audit (``result``).

    ``place`` says which episode a call belongs to. ``now``: Unix seconds, against which times are checked.
    """

    def __init__(
        self, table: PriceTable, options: AuditOptions, *, place: Callable[[LogCall], str], now: float
    ) -> None:
        check_confidence(options.confidence)
        self.records = 0
        self._table, self._options, self._place = table, options, place
        self._dirt = Dirt()
        self._prices = LogPrices(table, self._dirt, dated=options.dated)
        self._attempts = Attempts(self._prices.of_sum, self._dirt, now=now)
        self._episodes = Episodes(self._cost, self._prices.cache_rates, bloated=options.bloated)
        self._agreement = Agreement()
        self._ids: dict[str, tuple[str, str]] = {}
        """Key of an open episode -> run and episode id, where the log names it."""
        self._clocks: dict[str, float] = {}
        self._call_ids: set[int] = set()
        self._closed: list[tuple[tuple[str, str] | None, Closed]] = []
        self._plain: dict[tuple[str, str], list[Example]] = {}
        """The dearest attempts without calls, by model and outcome."""

    # --- taking -------------------------------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        self.records += 1
        if isinstance(record, LogCall):
            self._add_call(record)
        else:
            self._add_attempt(record)

    def drop(self, key: str) -> None:
        """No further call of this episode will come (give this to ``Stitcher.on_drop``)."""
        named = self._ids.pop(key, None)
        self._clocks.pop(key, None)
        judged = None if named is None else self._attempts.outcome_of(*named)
        if judged is not None:
            self._episodes.settle(key, judged.success, "broke" if judged.broke else None)
        closed = self._episodes.close(key)
        if closed is not None:
            self._closed.append((named, closed))

    def _add_call(self, call: LogCall) -> None:
        if call.call_id is not None:
            known = hash((call.run, call.call_id))
            if known in self._call_ids:
                self._dirt.note("repeated_calls", call.run or None, call.source)
                return
            self._call_ids.add(known)
        key = self._place(call)
        if call.episode_id is not None and not self._options.ignore_ids:
            self._ids[key] = (call.run, call.episode_id)
        self._tell_problems(call, key)
        cost = self._episodes.add(key, call)
        self._agreement.add_call(call, step_type_of(call), key, cost.usd)

    def _add_attempt(self, attempt: Attempt) -> None:
        row = self._attempts.add(attempt)
        if row is None:
            return
        self._agreement.add_attempt(attempt, row.usd)
        if attempt.calls:
            name = attempt.episode_id or f"{attempt.source.file}:{attempt.source.line}"
            self._episodes.attempt(f"{attempt.run}/{name}" if attempt.run else name, attempt)
        else:
            self._keep_example(attempt, row)

    def _keep_example(self, attempt: Attempt, row: Row) -> None:
        kept = self._plain.setdefault((attempt.model, row.outcome), [])
        if len(kept) == PLAIN_EXAMPLES and (row.usd or 0.0) <= (kept[-1].usd or 0.0):
            return
        kept.append(_plain_example(attempt, row))
        kept.sort(key=lambda example: -(example.usd or 0.0))
        del kept[PLAIN_EXAMPLES:]

    def _tell_problems(self, call: LogCall, key: str) -> None:
        for problem in call.problems:
            where = f"{call.source.file}:{call.source.line} {problem.detail}"
            self._dirt.note(problem.kind, call.run or None, where)
        if call.usage is None and call.error is None:
            self._dirt.note("calls_without_usage", call.run or None, call.source)
        at = call.started_at
        if at is None:
            return
        before = self._clocks.get(key, at)
        if before - at > BACKWARDS_S or not self._attempts.is_possible(at):
            self._dirt.note("clock_jumps", call.run or None, call.source)
        self._clocks[key] = at

    def _cost(self, call: LogCall) -> Cost:
        """What the log says that a call cost, else what the price table gives."""
        parts = self._prices.of_call(call)
        if call.cost_usd is None:
            return Cost(None if parts is None else parts.total_usd, parts)
        if parts is not None and compare(parts.total_usd, call.cost_usd).verdict is Verdict.DIFFERS:
            ratio = f"{call.cost_usd / parts.total_usd:.3g} times ours" if parts.total_usd else "ours is 0"
            self._dirt.note("price_mismatch", call.run or None, f"{call.source.file}:{call.source.line} {ratio}")
        return Cost(call.cost_usd, parts)

    # --- giving -------------------------------------------------------------------------------------------------------

    def result(self, files: Iterable[FileReport] = (), *, stitched: int = 0, partial: bool = False) -> Audit:
        """Every figure.

        ``files``: what came of each file; ``stitched``: episodes put together without ids; ``partial``: reading was
        interrupted.
        """
        for key in self._episodes.open_keys():
            self.drop(key)
        self._episodes.finish()
        self._join()
        if stitched:
            self._dirt.note("stitched", None, f"{stitched:,} episodes", count=stitched)
        reports = list(files)
        self._tell_files(reports)
        counted = self._attempts
        tell_differences(counted.groups, counted.tasks, self._dirt)
        options = self._options
        settings = Settings(options.confidence)
        groups = tuple(group_of(*key, rows, settings) for key, rows in counted.groups.items())
        costs = [group.cost_usd for group in groups]
        known = [cost for cost in costs if cost is not None]
        by_model, by_outcome = self._spends()
        return Audit(
            prices_date=self._table.date,
            groups=groups,
            frontier=frontier_of(groups),
            aiq=aiq_of(groups),
            warnings=self._dirt.warnings(),
            files=tuple(_file_read(report) for report in reports),
            total_usd=sum(known) if len(known) == len(costs) else None,
            known_usd=sum(group.known_cost_usd for group in groups),
            partial=partial,
            calls=self._episodes.calls,
            episodes=sum(len(rows) for rows in counted.groups.values()),
            stitched_episodes=stitched,
            by_model=by_model,
            by_step_type=self._episodes.by_step_type(),
            by_outcome=by_outcome,
            cache=self._episodes.cache(),
            waste=self._episodes.waste() if self._episodes.calls else (),
            student_steps=self._agreement.student_steps(options.confidence),
            budget_curves=self._curves(groups),
            examples=self._examples(),
        )

    def _join(self) -> None:
        """Episodes of single calls: they fill the attempt that was told without calls, or become one."""
        self._tell_meaningless_ids()
        for named, closed in self._closed:
            row = Row(
                _NO_TASK,
                None,
                closed.error is not None,
                closed.usd,
                closed.input_tokens,
                closed.cached_tokens,
                None,
                closed.output_tokens,
                called=True,
            )
            if named is None or not self._attempts.join(*named, row):
                task = self._attempts.task(closed.task_id or closed.key)
                self._attempts.add_row("+".join(closed.models), closed.run, row._replace(task=task), closed.source)
        self._closed.clear()

    def _tell_meaningless_ids(self) -> None:
        """Proxies that know no session make up an id for each request."""
        named = [closed for ids, closed in self._closed if ids is not None]
        if len(named) >= FEW and all(closed.calls == 1 for closed in named):
            self._dirt.note("single_call_ids", None, f"{len(named):,} ids", count=len(named))

    def _spends(self) -> tuple[tuple[Spend, ...], tuple[Spend, ...]]:
        """By model (calls tell it where there are any) and by outcome."""
        models, outcomes = Slices(), Slices()
        for (model, _), rows in self._attempts.groups.items():
            for row in rows:
                if not row.called:
                    _add(models, model, row)
                _add(outcomes, row.outcome, row)
        examples: dict[str, list[Example]] = {}
        for (model, outcome), kept in self._plain.items():
            examples.setdefault(model, []).extend(kept)
            examples.setdefault(outcome, []).extend(kept)
        by_model = joined(self._episodes.by_model(), models.spends(), examples)
        called = {spend.name: spend for spend in self._episodes.by_outcome()}
        by_outcome = (
            msgspec.structs.replace(spend, calls=called[spend.name].calls, examples=called[spend.name].examples)
            if spend.name in called
            else spend
            for spend in outcomes.spends()
        )
        return by_model, joined(tuple(by_outcome), (), examples)

    def _curves(self, groups: tuple[Group, ...]) -> tuple[BudgetCurve, ...]:
        largest = sorted(groups, key=lambda group: -group.n)[:CURVES]
        counted = {(group.model, group.run): self._attempts.groups[group.model, group.run] for group in largest}
        most = max((row.usd or 0.0 for rows in counted.values() for row in rows), default=0.0)
        curves = (budget_curve_of(*key, rows, most) for key, rows in counted.items())
        return tuple(curve for curve in curves if curve is not None)

    def _examples(self) -> tuple[Example, ...]:
        plain = {example.id: example for kept in self._plain.values() for example in kept}
        return (*self._episodes.examples(), *plain.values())

    def _tell_files(self, reports: Iterable[FileReport]) -> None:
        for report in reports:
            for skips in report.skipped:
                lines = ", ".join(str(line) for line in skips.lines[:3])
                self._dirt.note(
                    "skipped_rows", None, f"{report.path}: {skips.reason}, lines {lines}", count=skips.count
                )
            for name, count in report.mixed.items():
                self._dirt.note("mixed_formats", None, f"{report.path}: {count:,} of {name}", count=count)


def _add(slices: Slices, name: str, row: Row) -> None:
    slices.add(
        name,
        usd=row.usd,
        calls=0,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        example=None,
    )


def _plain_example(attempt: Attempt, row: Row) -> Example:
    return Example(
        id=attempt.episode_id or f"{attempt.source.file}:{attempt.source.line}",
        model=attempt.model,
        run=attempt.run,
        task_id=attempt.task_id,
        success=attempt.success,
        error=attempt.error,
        usd=row.usd,
        file=attempt.source.file,
        line=attempt.source.line,
    )


def _file_read(report: FileReport) -> FileRead:
    skipped = tuple(
        Skips(reason=skips.reason, count=skips.count, lines=skips.lines, detail=skips.detail)
        for skips in report.skipped
    )
    return FileRead(
        path=report.path, format=report.format, rows=report.rows, understood=report.understood, skipped=skipped
    )
