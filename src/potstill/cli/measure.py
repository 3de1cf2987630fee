"""``potstill measure``: read recorded episodes, measure, print. Parsing and wiring only.

Heavy modules load inside the command, so that ``--help`` stays fast.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.open_episodes import open_line
from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.store_option import db_option, namespace_option

if TYPE_CHECKING:
    from potstill.measure.measurement import ArmSummary, Measurement, Options
    from potstill.measure.prices import PriceTable
    from potstill.trajectories import Store
    from potstill.trajectories.queries import Summary
    from potstill.types import Trajectory

COLUMNS = (
    "arm",
    "n",
    "seeds",
    "success",
    "success_ci",
    "cost_per_episode_usd",
    "cost_of_pass_usd",
    "cost_of_pass_ci_usd",
    "uncached_cost_of_pass_usd",
    "marginal_usd_per_success",
    "teacher_step_share",
    "teacher_cost_share",
    "cache_hit_rate",
    "steps_mean",
    "break_even_episodes",
    "errors",
)
LEFT_OUT_FIRST = (
    "steps_mean",
    "cache_hit_rate",
    "errors",
    "marginal_usd_per_success",
    "uncached_cost_of_pass_usd",
    "seeds",
    "break_even_episodes",
    "teacher_step_share",
    "cost_of_pass_ci_usd",
    "teacher_cost_share",
)
"""Columns that a narrow terminal does without."""


@click.command()
@db_option
@click.option("--run", "run_id", help="Only this run. [default: all]")
@click.option("--arm", "arms", multiple=True, help="Only this arm; repeatable. [default: all]")
@click.option("--split", help="Only tasks of this split.")
@namespace_option
@click.option("--by", default="arm", show_default=True, help="Split arms by: arm, environment, kind, split, student.")
@click.option(
    "--cache",
    type=click.Choice(["reported", "simulated", "none"]),
    default="simulated",
    show_default=True,
    help="Prompt caching: as reported, simulated where not reported, or none.",
)
@click.option(
    "--prices", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml, if there]"
)
@click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: the day of the price table]")
@click.option("--price-student-as", help="Price the student as this model. [default: as the run was planned]")
@click.option("--price-teacher-as", help="Price the teacher as this model. [default: as the run was planned]")
@click.option("--cpu-hour-usd", type=float, help="Price local models by CPU time, in dollars an hour.")
@click.option("--reference", help="The arm to compare with. [default: the teacher's]")
@click.option("--demos-cost-usd", type=float, help="What the demonstrations cost, if their episodes are not here.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of all intervals.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write a self-contained report.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Write the cost-success plot (.png, .svg or .pdf).")
@json_option
def measure(db: str, run_id: str | None, arms: tuple[str, ...], json_mode: bool, **options: Any) -> None:
    """Report success, cost and cost per success of recorded episodes, with intervals.

    Cost of pass is all dollars over all successes: failures count as cost. Unknown stays unknown, it is never zero.
    """
    from potstill.trajectories.opening import read_store

    with read_store(db) as store:
        going = open_line(store, db, options["namespace"])
        measurement = _measure(store, run_id, arms, options, going)
    for kind, path in (("html", options["html"]), ("plot", options["plot"])):
        if path is not None:
            _write(kind, Path(path), measurement)
    show(measurement, json_mode=json_mode)
    if going:
        note(f"note: {going}")


def show(measurement: Measurement, *, json_mode: bool) -> None:
    """Print a measurement: the JSON contract, or a table with its caveats on stderr."""
    if json_mode:
        emit_json(measurement.to_json())
        return
    title = f"Prices of {measurement.prices_date} ({measurement.prices_source}), cache: {measurement.options.cache}"
    rows = [_row(arm) for arm in measurement.arms]
    emit_table(COLUMNS, rows, json_mode=False, title=title, left_out_first=LEFT_OUT_FIRST)
    even = measurement.break_even
    if even is not None:
        note(_break_even_line(measurement))
    for text in measurement.notes:
        note(f"note: {text}")


def _row(arm: ArmSummary) -> list[object]:
    even = arm.break_even.episodes if arm.break_even is not None else None
    judged = arm.n - arm.unknown_outcomes
    special: dict[str, object] = {
        "n": f"{arm.n} ({judged} judged)" if arm.unknown_outcomes else arm.n,
        "success_ci": _interval(arm.success_ci),
        "cost_of_pass_ci_usd": _interval(arm.cost_of_pass_ci_usd),
        "uncached_cost_of_pass_usd": arm.uncached.cost_of_pass_usd,
        "break_even_episodes": None if even is None else round(even),
    }
    return [special[name] if name in special else getattr(arm, name) for name in COLUMNS]


def _interval(interval: tuple[float | None, float | None] | None) -> str | None:
    if interval is None:
        return None
    low, high = ("inf" if bound is None else f"{bound:.3g}" for bound in interval)
    return f"{low} to {high}"


def _break_even_line(measurement: Measurement) -> str:
    from potstill.measure.breakeven import why_never

    even = measurement.break_even
    assert even is not None
    if even.episodes is None:
        return f"break-even: never, {why_never(even, repr(even.arm), repr(even.reference_arm))}"
    served = (
        "" if even.episodes_if_served is None else f" ({even.episodes_if_served:.0f} if their tasks were served work)"
    )
    return (
        f"break-even: {round(even.episodes)} episodes of '{even.arm}' instead of '{even.reference_arm}' pay for "
        f"demonstrations of ${even.demonstrations_usd:.4g}{served}"
    )


# --- wiring -----------------------------------------------------------------------------------------------------------


def _measure(
    store: Store, run_id: str | None, arms: tuple[str, ...], options: dict[str, Any], going: str
) -> Measurement:
    from potstill.measure.summary import summarise

    namespace = options["namespace"]
    _must_exist(store, run_id, arms, options, going)
    selected = store.select(run_id=run_id, split=options["split"], namespace=namespace)
    return summarise(
        selected,
        _table(options),
        _options(store, run_id, arms, options),
        find_demonstrations=lambda ids: _collections(store, ids, namespace),
        run_configs={run.run_id: run.config for run in store.runs(namespace=namespace)},
    )


def _must_exist(store: Store, run_id: str | None, arms: tuple[str, ...], options: dict[str, Any], going: str) -> None:
    """A name of a run, split or arm that no episode has is a slip: say which there are, after the options before it."""
    from potstill.errors import ConfigError, UnknownName

    found = store.summaries(namespace=options["namespace"])
    if not found:
        raise ConfigError(
            f"There are no episodes of namespace '{options['namespace']}' in {store.path}. "
            + (going or f"Record some: potstill serve or potstill run --db {store.path}, or potstill demo")
        )
    filters: tuple[tuple[str, tuple[str | None, ...], Callable[[Summary], str]], ...] = (
        ("run", (run_id,), lambda row: row.run_id),
        ("split", (options["split"],), lambda row: row.split),
        ("arm", arms, lambda row: row.arm or row.kind.value),
    )
    for what, wanted, name_of in filters:
        names = {name_of(row) for row in found}
        chosen = {name for name in wanted if name is not None}
        for name in sorted(chosen - names):
            raise UnknownName(what, name, names)
        found = [row for row in found if not chosen or name_of(row) in chosen]


def _options(store: Store, run_id: str | None, arms: tuple[str, ...], options: dict[str, Any]) -> Options:
    from potstill.measure.ledger import Pricing
    from potstill.measure.measurement import Options

    runs = store.runs(namespace=options["namespace"])
    planned = [run.config for run in runs if run_id in (None, run.run_id)]
    return Options(
        by=options["by"],
        arms=arms,
        cache=options["cache"],
        pricing=Pricing(
            student_as=options["price_student_as"] or _planned(planned, "price_student_as"),
            teacher_as=options["price_teacher_as"] or _planned(planned, "price_teacher_as"),
        ),
        confidence=options["confidence"],
        reference=options["reference"],
        demonstrations_usd=options["demos_cost_usd"],
        examples=4 if options["html"] else 0,
    )


def _planned(configs: list[dict[str, Any]], key: str) -> str | None:
    """How the runs were planned to be priced, where they agree."""
    names = {config[key] for config in configs if config.get(key)}
    return names.pop() if len(names) == 1 else None


def _table(options: dict[str, Any]) -> PriceTable:
    from potstill.measure.prices import PriceTable

    return PriceTable.load(options["prices"], options["date"], cpu_hour_usd=options["cpu_hour_usd"])


def _collections(store: Store, ids: Iterable[str], namespace: str) -> Iterator[Trajectory]:
    """All episodes recorded together with the given demonstrations: same run, arm and split."""
    from potstill.errors import StoreError

    wanted, seen = set(ids), set[tuple[str, str, str]]()
    while wanted:
        try:
            shown = store.get(wanted.pop())
        except StoreError:
            continue  # pruned or imported without it: its cost is unknown, and the report says so
        key = (shown.run_id, shown.arm, shown.task.split)
        if key in seen or shown.namespace != namespace:
            continue
        seen.add(key)
        for episode in store.select(run_id=key[0], arm=key[1], split=key[2], namespace=namespace):
            wanted.discard(episode.id)
            yield episode


def _write(kind: str, path: Path, measurement: Measurement) -> None:
    from potstill.errors import PotstillError

    try:
        _write_file(kind, path, measurement)
    except OSError as error:
        raise PotstillError(f"Cannot write --{kind} {path}: {error.strerror or error}.") from error
    note(f"wrote {path}")


def _write_file(kind: str, path: Path, measurement: Measurement) -> None:
    if kind == "html":
        from potstill.measure.report import render_html

        command = shlex.join(["potstill", *sys.argv[1:]])
        path.write_text(render_html(measurement, command=command), encoding="utf-8")
    else:
        from potstill.measure.plot import write_plot

        write_plot(measurement, path)
