"""Measure arms: one pass over recorded episodes, then compare what was counted.

What it knows: which episodes belong to which arm, which are demonstrations only, and how arms are set beside each
other. What it does not do: read stores (it takes any iterable), print, or draw. ``tally.py`` counts; the formulas
are in ``statistics``, ``frontier`` and ``breakeven``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from potstill.errors import ConfigError, UnknownName
from potstill.measure.breakeven import BreakEven, break_even
from potstill.measure.cache import ledger
from potstill.measure.frontier import Point, hull, neighbours
from potstill.measure.measurement import (
    GROUPS,
    ArmSummary,
    Demonstrations,
    Measurement,
    Options,
    Versus,
)
from potstill.measure.notes import notes
from potstill.measure.pooling import RunConfigs, pooling_note
from potstill.measure.prices.table import PriceTable
from potstill.measure.statistics import check_confidence, paired_cost_ratio, paired_difference
from potstill.measure.tally import Tally, task_key
from potstill.types import Trajectory, TrajectoryKind

DEFAULT_OPTIONS = Options()

FindDemonstrations = Callable[[tuple[str, ...]], Iterable[Trajectory]]
"""Given ids of demonstrations, gives all episodes of the collection that they belong to, failed ones too."""


class _Cell(NamedTuple):
    group: str | None
    arm: str
    split: str
    run: str


@dataclass
class _Counted:
    """What one pass leaves behind."""

    cells: dict[_Cell, Tally] = field(default_factory=dict)
    teacher_ids: dict[str, _Cell] = field(default_factory=dict)
    fetched: set[_Cell] = field(default_factory=set)
    shown: dict[str, None] = field(default_factory=dict)
    shown_elsewhere: set[str] = field(default_factory=set)
    """By arms that are not measured."""
    tasks_elsewhere: set[str] = field(default_factory=set)
    shown_in: set[tuple[str | None, str]] = field(default_factory=set)
    examples: dict[tuple[str | None, str], dict[bool, list[Trajectory]]] = field(default_factory=dict)


class _Arm(NamedTuple):
    group: str | None
    name: str
    tally: Tally


def summarise(
    trajectories: Iterable[Trajectory],
    table: PriceTable,
    options: Options = DEFAULT_OPTIONS,
    *,
    find_demonstrations: FindDemonstrations | None = None,
    run_configs: RunConfigs = MappingProxyType({}),
) -> Measurement:
    """Measure episodes, in one streaming pass.

    Teacher episodes that were shown as demonstrations, on tasks that no other arm ran, are the cost of collecting
    demonstrations and not an arm. Where shown episodes are not among those given, ``find_demonstrations`` may fetch
    their collection. ``run_configs`` are the runs' configurations, to say in what runs of one arm differ. Raises
    ``UnknownPrice`` for a model without a price, ``UnknownName`` for a group or arm that does not exist,
    ``ConfigError`` if there are no episodes or an option cannot be.
    """
    _check(options)
    counted = _count(trajectories, table, options)
    if not counted.cells:
        raise ConfigError("There are no episodes to measure. Record some: potstill demo, or potstill run --help")
    if find_demonstrations is not None:
        _fetch_collection(counted, table, options, find_demonstrations)
    arms, collection = _arms_and_collection(counted)
    demonstrations, known = _demonstrations(counted, collection, options)
    rows = [arm.tally.summarise(_label(arm), arm.group, options) for arm in arms]
    rows = [row for group in dict.fromkeys(arm.group for arm in arms) for row in _compared(group, arms, rows, options)]
    rows = [_with_break_even(row, rows, arms, counted, demonstrations, options) for row in rows]
    return Measurement(
        prices_date=table.date,
        prices_source=table.source,
        options=options,
        arms=tuple(rows),
        frontier=tuple(row.arm for row in rows if row.on_frontier),
        demonstrations=demonstrations,
        break_even=_chosen_break_even(rows, options),
        notes=notes(rows, options, known, _pooled(arms, run_configs)),
        examples=tuple(t for kept in counted.examples.values() for half in kept.values() for t in half),
    )


def _check(options: Options) -> None:
    if options.by not in GROUPS:
        raise UnknownName("way to group", options.by, GROUPS)
    check_confidence(options.confidence)
    cost = options.demonstrations_usd
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        raise ConfigError(f"Demonstrations cannot cost {cost:g} dollars. Give 0 or more.")


# --- counting ---------------------------------------------------------------------------------------------------------


def _count(trajectories: Iterable[Trajectory], table: PriceTable, options: Options) -> _Counted:
    counted = _Counted()
    for trajectory in trajectories:
        cell = _cell(trajectory, options)
        if options.arms and cell.arm not in options.arms:
            _note_elsewhere(counted, trajectory)
            continue
        _add(counted, cell, trajectory, table, options)
        _note_demonstrations(counted, trajectory, cell)
        if options.examples:
            kept = counted.examples.setdefault((cell.group, cell.arm), {True: [], False: []})
            half = kept[trajectory.succeeded]
            if len(half) < (options.examples + trajectory.succeeded) // 2:
                half.append(trajectory)
    return counted


def _add(counted: _Counted, cell: _Cell, trajectory: Trajectory, table: PriceTable, options: Options) -> None:
    calls = [call for step in trajectory.steps for call in step.calls]
    rows = ledger(calls, table, cache=options.cache, pricing=options.pricing)
    plain = ledger(calls, table, cache="none", pricing=options.pricing)
    if cell not in counted.cells:
        counted.cells[cell] = Tally(kind=trajectory.kind.value)
    counted.cells[cell].add(trajectory, rows, plain)


def _fetch_collection(counted: _Counted, table: PriceTable, options: Options, find: FindDemonstrations) -> None:
    """Count the episodes that demonstrations came from, where they were not measured as an arm."""
    missing = tuple(identifier for identifier in counted.shown if identifier not in counted.teacher_ids)
    if not missing or options.demonstrations_usd is not None:
        return
    for trajectory in find(missing):
        if trajectory.id in counted.teacher_ids:
            continue
        cell = _cell(trajectory, options)._replace(run=f"demonstrations of {trajectory.run_id}")
        counted.fetched.add(cell)
        counted.teacher_ids[trajectory.id] = cell
        _add(counted, cell, trajectory, table, options)


def _cell(trajectory: Trajectory, options: Options) -> _Cell:
    values = {
        "arm": None,
        "environment": trajectory.task.environment,
        "kind": trajectory.task.kind or "(no kind)",
        "split": trajectory.task.split or "(no split)",
        "student": trajectory.student or "(no student)",
    }
    arm = trajectory.arm or trajectory.kind.value
    return _Cell(values[options.by], arm, trajectory.task.split, trajectory.run_id)


def _note_demonstrations(counted: _Counted, trajectory: Trajectory, cell: _Cell) -> None:
    if trajectory.kind is TrajectoryKind.TEACHER:
        counted.teacher_ids[trajectory.id] = cell
    for step in trajectory.steps:
        for shown in step.demonstrations:
            counted.shown[shown.trajectory_id] = None
            counted.shown_in.add((cell.group, cell.arm))


def _note_elsewhere(counted: _Counted, trajectory: Trajectory) -> None:
    shown = {one.trajectory_id for step in trajectory.steps for one in step.demonstrations}
    counted.shown_elsewhere |= shown
    if trajectory.kind is not TrajectoryKind.TEACHER:
        counted.tasks_elsewhere.add(task_key(trajectory))


# --- which cells are arms ---------------------------------------------------------------------------------------------


def _arms_and_collection(counted: _Counted) -> tuple[list[_Arm], dict[_Cell, Tally]]:
    """Cells merged into arms, and the teacher cells that demonstrations came from."""
    collection = {counted.teacher_ids[i]: None for i in counted.shown if i in counted.teacher_ids}
    shown = [*counted.shown, *counted.shown_elsewhere]
    candidates = {counted.teacher_ids[i]: None for i in shown if i in counted.teacher_ids}
    others = {e.task for cell, tally in counted.cells.items() if cell not in candidates for e in tally.episodes}
    others |= counted.tasks_elsewhere
    apart = {c for c in candidates if others and not any(e.task in others for e in counted.cells[c].episodes)}
    apart |= counted.fetched
    merged: dict[tuple[str | None, str], Tally] = {}
    for cell, tally in counted.cells.items():
        if cell not in apart:
            key = (cell.group, cell.arm)
            if key not in merged:
                merged[key] = Tally(kind=tally.kind)
            merged[key].merge(tally)
    arms = [_Arm(group, name, tally) for (group, name), tally in merged.items()]
    return arms, {cell: counted.cells[cell] for cell in collection}


def _pooled(arms: list[_Arm], configs: RunConfigs) -> list[str]:
    found = (pooling_note(arm.name, _label(arm), arm.tally.kind, arm.tally.runs, configs) for arm in arms)
    return [note for note in found if note is not None]


def _label(arm: _Arm) -> str:
    return arm.name if arm.group is None else f"{arm.name} / {arm.group}"


def _demonstrations(
    counted: _Counted, collection: dict[_Cell, Tally], options: Options
) -> tuple[Demonstrations | None, bool]:
    """What collecting demonstrations cost (failed attempts too), and whether all of their episodes were at hand."""
    if options.demonstrations_usd is not None:
        stated = Demonstrations(arms=(), n=options.demonstration_episodes, cost_usd=options.demonstrations_usd)
        return stated, True
    if not counted.shown:
        return None, True
    names = tuple(dict.fromkeys(cell.arm for cell in collection))
    if any(identifier not in counted.teacher_ids for identifier in counted.shown):
        return Demonstrations(arms=names, n=None, cost_usd=None), False
    costs = [tally.cost_usd for tally in collection.values()]
    known = [cost for cost in costs if cost is not None]
    return Demonstrations(
        arms=names,
        n=sum(len(tally.episodes) for tally in collection.values()),
        cost_usd=sum(known) if len(known) == len(costs) else None,
    ), True


# --- comparing arms ---------------------------------------------------------------------------------------------------


def _compared(group: str | None, arms: list[_Arm], rows: list[ArmSummary], options: Options) -> list[ArmSummary]:
    """The rows of one group, cheapest first, with frontier, marginal cost and the comparison with the reference."""
    pairs = [(arm, row) for arm, row in zip(arms, rows, strict=True) if arm.group == group]
    points = [
        Point(row.arm, row.cost_per_episode_usd, row.success)
        for _, row in pairs
        if row.cost_per_episode_usd is not None and row.success is not None
    ]
    on_hull = {point.name for point in hull(points)}
    marginal = neighbours(points)
    reference = _reference([arm for arm, _ in pairs], options)
    done = []
    for arm, row in pairs:
        before, price = marginal.get(row.arm, (None, None))
        versus = _versus(arm, reference, options) if reference is not None and arm is not reference else None
        changes = {"on_frontier": row.arm in on_hull, "marginal_from": before, "marginal_usd_per_success": price}
        done.append(msgspec.structs.replace(row, versus=versus, **changes))
    return sorted(done, key=lambda row: (row.cost_per_episode_usd is None, row.cost_per_episode_usd or 0.0, row.arm))


def _reference(arms: list[_Arm], options: Options) -> _Arm | None:
    if options.reference is not None:
        for arm in arms:
            if options.reference in (arm.name, _label(arm)):
                return arm
        raise UnknownName("arm", options.reference, [arm.name for arm in arms])
    return next((arm for arm in arms if arm.tally.kind == TrajectoryKind.TEACHER), None)


def _versus(arm: _Arm, reference: _Arm, options: Options) -> Versus:
    confidence, samples, seed = options.confidence, options.samples, options.seed
    success_a, success_b = _successes(arm), _successes(reference)
    cost_a, cost_b = _costs(arm), _costs(reference)
    return Versus(
        arm=_label(reference),
        success=paired_difference(success_a, success_b, samples=samples, confidence=confidence, seed=seed),
        cost=paired_cost_ratio(cost_a, cost_b, samples=samples, confidence=confidence, seed=seed),
    )


def _successes(arm: _Arm) -> dict[tuple[str, int], float]:
    return {(e.task, e.seed): float(e.success) for e in arm.tally.episodes if e.success is not None}


def _costs(arm: _Arm) -> dict[tuple[str, int], float]:
    return {(e.task, e.seed): e.cost_usd for e in arm.tally.episodes if e.cost_usd is not None}


def _with_break_even(
    row: ArmSummary,
    rows: list[ArmSummary],
    arms: list[_Arm],
    counted: _Counted,
    demonstrations: Demonstrations | None,
    options: Options,
) -> ArmSummary:
    reference = next((other for other in rows if row.versus is not None and other.arm == row.versus.arm), None)
    if reference is None or row.cost_per_episode_usd is None or reference.cost_per_episode_usd is None:
        return row
    uses = any(_label(arm) == row.arm and (arm.group, arm.name) in counted.shown_in for arm in arms)
    if not uses or demonstrations is None or demonstrations.cost_usd is None:
        return row  # nothing has to be paid back, or nobody knows how much
    computed = break_even(
        row.arm,
        reference.arm,
        demonstrations_usd=demonstrations.cost_usd,
        demonstration_episodes=demonstrations.n,
        teacher_usd=reference.cost_per_episode_usd,
        student_usd=row.cost_per_episode_usd,
        succeeds=row.successes > 0,
    )
    return msgspec.structs.replace(row, break_even=computed)


def _chosen_break_even(rows: list[ArmSummary], options: Options) -> BreakEven | None:
    if options.break_even_arm is not None:
        for row in rows:
            if row.arm == options.break_even_arm:
                return row.break_even
        raise UnknownName("arm", options.break_even_arm, [row.arm for row in rows])
    candidates = [row for row in rows if row.break_even is not None and row.break_even.demonstrations_usd > 0]
    best = max(candidates, key=lambda row: (row.success or 0.0, -(row.cost_per_episode_usd or 0.0)), default=None)
    return None if best is None else best.break_even
