"""Plays a learning run with a progress bar, and says what came of it.

What it knows: which models are opened for which role, prices of calls, how a run goes on. What it does not do: learn
(``distill.playbook.learn``), read options (``playbook_learning``).
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import click
import msgspec

from potstill.cli.output import emit_json, emit_table, note, progress
from potstill.cli.playbook.outcomes import success_cell
from potstill.cli.playbook.shown import as_plain, shortened
from potstill.cli.playbook_generator import StudentGenerator
from potstill.cli.playbook_keys import can_repair, missing_keys
from potstill.cli.playbook_learning import ATTEMPTS, LearningPlan, record_of
from potstill.cli.playbook_wiring import playbook_context
from potstill.cli.wiring import resources
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Episodes, Recorded, Roles, Tasks
from potstill.distill.playbook.learn.journal import Journal, Row
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.plan import turns
from potstill.distill.playbook.learn.result import Progress, Result, Stopped, Validated
from potstill.distill.playbook.roles.contract import Case
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.roles.evidence import LabelOf, case_of, label_at
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.errors import BudgetReached, ConfigError, EnvError, KeyRefused, MissingExtra, ModelError, UnknownPrice
from potstill.measure.ledger import Pricing, cost_of
from potstill.measure.prices import PriceTable
from potstill.models.registry import open_model
from potstill.protocols import Model
from potstill.record.redact import Redactor
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store, read_store
from potstill.types import Answerer, Call, Trajectory


def play(learning: LearningPlan) -> Result:
    """Learn what the plan asks for and the book was not taught yet."""
    with open_store(learning.plan.db) as store:
        steps = _steps(learning)
        try:
            with progress(learning.name, steps, unit="steps") as bar:
                result = asyncio.run(_learn(learning, store, _Watch(bar, _rows_before(learning, store))))
        except KeyboardInterrupt:
            raise click.Abort from InterruptedError(how_to_resume(learning))
        except (ModelError, EnvError):
            note(how_to_resume(learning))
            raise
    return result


def _rows_before(learning: LearningPlan, store: Store) -> list[Row]:
    """What a run that goes on did already."""
    if not learning.plan.resumed:
        return []
    book = Playbook(store, learning.plan.config.namespace, learning.setup.book)
    return [row for position, row in Journal(book, learning.name).rows() if position >= 0]


def how_to_resume(learning: LearningPlan) -> str:
    name, place = shlex.quote(learning.name), learning.plan.place
    return f"What was learnt is kept. To go on, type: potstill distill playbook --resume {name} --db {place}" + (
        "" if learning.plan.config.namespace == "default" else f" --namespace {learning.plan.config.namespace}"
    )


async def _learn(learning: LearningPlan, store: Store, watch: _Watch) -> Result:
    """The run is registered once all that it needs is open, so that a mistyped name leaves no run behind."""
    config, setup = learning.plan.config, learning.setup
    book = Playbook(store, config.namespace, setup.book)
    async with _episodes(learning, store) as (episodes, student), contextlib.AsyncExitStack() as stack:
        roles = await _roles(learning, student, stack)
        store.put_run(learning.name, record_of(learning), replace=learning.plan.resumed)
        return await learn(book, episodes, roles, setup.settings, run=learning.name, progress=watch.saw)


@asynccontextmanager
async def _episodes(learning: LearningPlan, store: Store) -> AsyncIterator[tuple[Episodes, Model | None]]:
    """What is learnt from, and the student who plays it, if one does."""
    plan, setup = learning.plan, learning.setup
    if setup.episodes is not None:
        yield Recorded(ids=setup.episodes), None
        return
    alone = plan._replace(config=msgspec.structs.replace(plan.config, playbook=None))
    async with resources(alone, store) as opened:
        assert opened.student is not None, "the arm is a student's"
        config = plan.config
        context = playbook_context(store, config.namespace, setup.book, config.playbook_config, new=True)
        generator = StudentGenerator(config, opened.student, context, opened.lease, opened.recorder.put_blob)
        yield Tasks(generator=generator, tasks=plan.tasks, validation=learning.validation), opened.student


async def _roles(learning: LearningPlan, student: Model | None, stack: contextlib.AsyncExitStack) -> Roles:
    """Each model is opened once, whatever it is used for."""
    plan, setup = learning.plan, learning.setup
    config = plan.config
    opened: dict[str, tuple[Model, Answerer]] = {}
    if student is not None and config.student is not None:
        opened[config.student] = student, Answerer.STUDENT
    for spec in (setup.reflector, setup.curator):
        if spec not in opened:
            given = config.teacher_options if spec == config.teacher else {}
            model = open_model(spec, **given)
            stack.push_async_callback(model.aclose)
            opened[spec] = model, Answerer.TEACHER
    reflector, reflecting = opened[setup.reflector]
    curator, curating = opened[setup.curator]
    places = setup.settings.places
    label_of, redactor = _label_of(learning), Redactor(prose=True)
    return Roles(
        reflector=ModelReflector(reflector, answerer=reflecting, sections=places),
        curator=ModelCurator(curator, answerer=curating, sections=places),
        case=lambda trajectory: _without_secrets(case_of(trajectory, label_of=label_of), redactor),
        price=price_of(plan.prices, plan.pricing),
    )


def _without_secrets(case: Case, redactor: Redactor) -> Case:
    """An episode may have printed a key; neither the Reflector's provider nor the book is to have it."""
    texts = {name: redactor.text(getattr(case, name)) for name in ("goal", "account", "feedback", "label")}
    return msgspec.structs.replace(case, **texts)


def _label_of(learning: LearningPlan) -> LabelOf:
    """The right answer: from the task that an environment gave, or where the user says that it stands. A recorded
    episode's may have been written by whoever sent it, so nobody's word is taken unasked."""
    setup = learning.setup
    if setup.label_key is not None:
        return label_at(setup.label_key)
    return label_at("label") if setup.episodes is None else _no_label


def _no_label(trajectory: Trajectory) -> str | None:
    return None


def price_of(table: PriceTable, pricing: Pricing) -> Callable[[Call], float | None]:
    """Dollars of a call with the cache that its endpoint reported; None: not known."""

    def price(call: Call) -> float | None:
        try:
            return cost_of(call, table, pricing=pricing).total_usd
        except UnknownPrice:
            return None

    return price


class _Watch:
    """What the progress bar shows of the whole run: success of the episodes whose end is known, what was written,
    spend."""

    def __init__(self, bar: Any, before: Iterable[Row] = ()) -> None:
        self._bar = bar
        self._known = self._succeeded = self._written = self._done = 0
        for row in before:
            self._count(row)

    def saw(self, event: Progress) -> None:
        self._count(event.row)
        success = {"success": f"{self._succeeded}/{self._known}"} if self._known else {}
        self._bar.update(event.done - self._done, **success, written=self._written, spend=f"${event.cost_usd:.4f}")
        self._done = event.done

    def _count(self, row: Row) -> None:
        self._known += row.known
        self._succeeded += row.succeeded
        self._written += sum(row.applied.values())


def _steps(learning: LearningPlan) -> int:
    setup = learning.setup
    count = len(learning.plan.tasks) if setup.episodes is None else len(setup.episodes)
    return len(list(turns(setup.settings, count, play=setup.episodes is None, validate=bool(learning.validation))))


# --- what came of it ------------------------------------------------------------------------------------------------

COLUMNS = (
    "run",
    "book",
    "stopped",
    "learnt_from",
    "success",
    "before",
    "after",
    "written",
    "not_written",
    "revision",
    "cost_usd",
)


def print_result(result: Result, learning: LearningPlan, json_mode: bool) -> None:
    """The result; raises ``BudgetReached`` where the money ended the run."""
    if json_mode:
        emit_json({"book": learning.setup.book, **_plain(result)})
    else:
        emit_table(
            COLUMNS, [_row(result, learning)], json_mode=False, left_out_first=("before", "after", "not_written")
        )
        _tell(result, learning)
    if result.stopped is Stopped.BUDGET:
        raise BudgetReached(
            f"Spent ${result.cost_usd or 0.0:.4f}, the limit of --max-cost {learning.setup.settings.max_cost_usd} is "
            f"reached. {how_to_resume(learning)} --max-cost MORE"
        )


def _plain(result: Result) -> dict[str, Any]:
    told = as_plain(result)
    told["spent"] = [as_plain(one) for one in result.spent]
    told["not_taken"] = [{"why": one.why, "message": one.message} for one in result.not_taken]
    told["validations"] = [_validated(one) for one in result.validations]
    return {**told, "cost_usd": result.cost_usd}


def _validated(one: Validated) -> dict[str, Any]:
    return {**as_plain(one), "share": one.share}


def _row(result: Result, learning: LearningPlan) -> list[object]:
    return [
        result.run,
        learning.setup.book,
        str(result.stopped),
        result.episodes,
        _success(result, learning),
        _share(result.before),
        _share(result.after),
        sum(result.applied.values()),
        sum(result.refused.values()),
        result.revision,
        result.cost_usd,
    ]


def _success(result: Result, learning: LearningPlan) -> str | None:
    with read_store(learning.plan.db) as store:
        return success_cell(Playbook(store, learning.plan.config.namespace, learning.setup.book), result)


def _share(one: Validated | None) -> str | None:
    return None if one is None else f"{one.succeeded}/{one.episodes}"


def _tell(result: Result, learning: LearningPlan) -> None:
    if result.back_to is not None:
        note(f"Validation was best at revision {result.back_to}: the book was brought back to it.")
    for why, count in result.refused.items():
        said = next((f": {shortened(one.message, 300)}" for one in result.not_taken if str(one.why) == why), "")
        note(f"{count} not written ({why}){said}")
    for skip in result.skipped[:5]:
        note(f"Not learnt from: {skip.episode} ({skip.why})")
    if len(result.skipped) > 5:
        note(f"... and {len(result.skipped) - 5} more that were not learnt from; --json has all.")
    if result.skipped:
        note(_how_to_try_again(learning))
    where = f"--book {shlex.quote(learning.setup.book)} --db {learning.plan.place}"
    if (namespace := learning.plan.config.namespace) != "default":
        where += f" --namespace {shlex.quote(namespace)}"
    if not result.revision:
        note(f"Nothing was written, so there is no book yet. Next: potstill playbook runs {where}")
        return
    note(f"Next: potstill playbook show {where}, or potstill playbook log {where}")


def _how_to_try_again(learning: LearningPlan) -> str:
    """Episodes that were not learnt from are taken again; those that a run played by its name."""
    setup, config = learning.setup, learning.plan.config
    which = f" --from-run {shlex.quote(learning.name)}" if setup.episodes is None else ""
    roles = f"--reflector {shlex.quote(setup.reflector)} --curator {shlex.quote(setup.curator)}"
    tenant = "" if config.namespace == "default" else f" --namespace {shlex.quote(config.namespace)}"
    return (
        f"Recorded episodes are not lost, and tried {ATTEMPTS} times in all. To try again, type: potstill distill "
        f"playbook --from-store{which} --book {shlex.quote(setup.book)} {roles} --db {learning.plan.place}{tenant}"
    )


def check_roles(learning: LearningPlan) -> None:
    """Raises ``MissingExtra`` where answers that are almost JSON could not be read, ``KeyRefused`` for a key that is
    missing, ``ConfigError`` for a limit of cost that could not be kept, before anything is spent."""
    if not can_repair():
        raise MissingExtra("Learning from what models answer", "playbook")
    for missing in missing_keys(learning):
        raise KeyRefused(f"{missing}. Nothing was played or asked yet")
    config, setup, plan = learning.plan.config, learning.setup, learning.plan
    if setup.settings.max_cost_usd is None or plan.prices.cpu_hour_usd is not None:
        return
    named = {setup.reflector: plan.pricing.teacher_as, setup.curator: plan.pricing.teacher_as}
    if setup.episodes is None and config.student is not None:
        named[config.student] = plan.pricing.student_as
    for model, priced_as in named.items():
        if priced_as is None and not plan.prices.has(model):
            raise ConfigError(
                f"--max-cost cannot be kept: '{model}' has no price. Add it to potstill-prices.toml, or type: "
                f"--price-{'student' if model == config.student else 'teacher'}-as MODEL"
            )
