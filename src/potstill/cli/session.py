"""Plays a plan with a progress bar, and says what was recorded. ``run``, ``distill context`` and ``demo`` share it.

What it knows: sittings, and how one goes on after another. What it does not do: read options (``plan``) or put models,
environments and demonstrations together (``wiring``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import msgspec

from potstill.cli.output import emit_json, emit_table, note, progress
from potstill.cli.run_plan import Plan
from potstill.cli.wiring import must_have_book, resources
from potstill.errors import BudgetReached, ConfigError, ModelError, UnknownPrice
from potstill.run.runner import EpisodeDone, Resources, RunConfig, run_episodes
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store


class Counts(NamedTuple):
    """What one arm has recorded."""

    arm: str
    episodes: int
    successes: int
    errors: int


class Result(NamedTuple):
    run_id: str
    played: int
    arms: list[Counts]
    spent_usd: float | None
    duration_s: float
    broken: tuple[str, ...] = ()
    """What went wrong in episodes of this sitting that ended with an error, one line each."""


def play(plan: Plan, *, quiet: bool = False) -> Result:
    """Record what the plan asks for and the store does not hold yet."""
    with open_store(plan.db) as store, _alone(plan, store):
        must_have_book(plan.config, store)
        watch = _Watch(plan)
        started = time.perf_counter()
        try:
            played = asyncio.run(_play(plan, store, watch, quiet))
        except KeyboardInterrupt:
            raise click.Abort from InterruptedError(_how_to_resume(plan))
        except (ModelError, BudgetReached):
            if watch.registered or plan.resumed:
                note(_how_to_resume(plan))
            raise
        duration_s = time.perf_counter() - started
        counts = _counts(store, plan.config)
        return Result(plan.config.run_id, played, counts, watch.spent_usd, duration_s, tuple(watch.broken))


@contextlib.contextmanager
def _alone(plan: Plan, store: Store) -> Iterator[None]:
    """Two sittings of one run at once would pay for the same episodes twice."""
    with store.alone(f"run/{plan.config.run_id}") as mine:
        if not mine:
            raise ConfigError(
                f"Another process is recording the run {plan.config.run_id} in {plan.place}. Wait until it ends, or "
                "name another run: --run NAME"
            )
        yield


def _how_to_resume(plan: Plan) -> str:
    return (
        f"Every finished episode is kept. To go on, type: potstill run --resume {plan.config.run_id} --db {plan.place}"
    )


async def _play(plan: Plan, store: Store, watch: _Watch, quiet: bool) -> int:
    """The run is registered, and the bar begins, once all that it needs is open: a mistyped name leaves neither."""
    async with resources(plan, store) as opened:
        store.put_run(plan.config.run_id, msgspec.to_builtins(plan.config), replace=plan.resumed)
        watch.registered = True
        spent = _spent(plan, store, opened) if plan.config.max_cost_usd is not None else 0.0
        with _bar(plan, quiet) as watch.bar:
            return await run_episodes(
                plan.config,
                plan.tasks,
                opened,
                jobs=plan.jobs,
                max_cost_usd=plan.config.max_cost_usd,
                spent_usd=spent,
                on_done=watch.done,
            )


def _spent(plan: Plan, store: Store, opened: Resources) -> float:
    """Cost of the run's earlier sittings. Raises ``UnknownPrice`` if unknown: a limit would mean nothing."""
    costs = [opened.price(e) for e in store.select(run_id=plan.config.run_id, namespace=plan.config.namespace)]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        raise UnknownPrice(
            f"--max-cost cannot be kept: what {len(costs) - len(known)} of the {len(costs)} recorded episodes cost is "
            f"not known. Add the model's price to potstill-prices.toml, or lift the limit: --max-cost inf"
        )
    return sum(known)


class _Watch:
    """What the progress bar shows: success so far, steps per second, spend."""

    def __init__(self, plan: Plan) -> None:
        self.bar: Any = None
        self.spent_usd: float | None = 0.0
        self._started = time.perf_counter()
        self._episodes = self._successes = self._steps = 0
        self.broken: list[str] = []
        self.registered = False
        """Whether there is a run to go on with."""

    def done(self, event: EpisodeDone) -> None:
        self._episodes += 1
        self._successes += event.trajectory.succeeded
        self._steps += len(event.trajectory.steps)
        if event.trajectory.error is not None:
            self.broken.append(f"{event.trajectory.id} ({event.trajectory.task.id}): {event.trajectory.error.message}")
        self.spent_usd = None if self.spent_usd is None or event.cost_usd is None else self.spent_usd + event.cost_usd
        rate = self._steps / max(1e-9, time.perf_counter() - self._started)
        shown = {
            "success": f"{self._successes}/{self._episodes}",
            "steps": f"{rate:.1f}/s",
            "spend": "unknown" if self.spent_usd is None else f"${self.spent_usd:.4f}",
        }
        # The first event of a resumed run carries the episodes that were there already.
        self.bar.update(event.done if self._episodes == 1 else 1, **shown)


def _bar(plan: Plan, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    if quiet:
        return contextlib.nullcontext(_Silent())
    total = len(plan.tasks) * plan.config.seeds * len(plan.config.arms)
    return progress(plan.config.run_id, total, unit="episodes")


class _Silent:
    def update(self, advance: float = 0, **shown: object) -> None:
        """Shows nothing."""


def _counts(store: Store, config: RunConfig) -> list[Counts]:
    rows: dict[str, list[int]] = {arm.name: [0, 0, 0] for arm in config.arms}
    for summary in store.summaries(run_id=config.run_id, namespace=config.namespace):
        row = rows.setdefault(summary.arm, [0, 0, 0])
        row[0] += 1
        row[1] += summary.success is True
        row[2] += summary.success is None
    return [Counts(arm, *row) for arm, row in rows.items()]


def print_result(result: Result, plan: Plan, json_mode: bool) -> None:
    if json_mode:
        emit_json(
            {
                "run": result.run_id,
                "played": result.played,
                "spent_usd": result.spent_usd,
                "duration_s": result.duration_s,
                "broken": result.broken,
                "arms": [counts._asdict() for counts in result.arms],
            }
        )
        return
    emit_table(Counts._fields, result.arms, json_mode=False, title=f"run {result.run_id}")
    if result.broken:
        note(f"{len(result.broken)} episodes ended with an error and count as failures. The first, {result.broken[0]}")
    note(f"Next: potstill measure --db {plan.place} --run {result.run_id}")
