"""``potstill plan``: what each way to use a student would cost, before anything is run. Parsing and printing only.

Heavy modules load inside the command, so that ``--help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note

if TYPE_CHECKING:
    from potstill.logs.records import Attempt
    from potstill.measure.advice import Recording
    from potstill.measure.ledger import Pricing
    from potstill.measure.whatif import Plan, WayCost
    from potstill.measure.workload import Observed, Workload
    from potstill.types import Trajectory

COLUMNS = (
    "way",
    "cost_usd",
    "ratio",
    "uncached_ratio",
    "cache_hit_rate",
    "teacher_step_share",
    "teacher_usd",
    "student_usd",
    "verdict",
    "unproven",
)
LEFT_OUT_FIRST = ("teacher_usd", "student_usd", "teacher_step_share", "cache_hit_rate", "uncached_ratio")
"""Columns that a narrow terminal does without."""
SHAPE = {
    "steps": "steps",
    "prefix": "prefix_tokens",
    "per_step": "per_step_tokens",
    "output": "output_tokens",
    "demos": "demonstrations_tokens",
    "samples": "samples",
    "escalation": "escalation",
    "task_escalation": "task_escalation",
    "handoff": "handoff_tokens",
    "keep_steps": "keep_steps",
    "step_seconds": "step_seconds",
}
"""Option -> field of the workload."""
SAMPLINGS = ("separate", "together", "two-then-more", "tie-break")
ASSUMPTIONS = ("signal", "handoff", "gate", "start", "verifier", "student")


@click.command()
@click.option("--teacher", required=True, help="The strong model, by the name of its price.")
@click.option("--student", required=True, help="The cheap model, by the name of its price.")
@click.option("--from", "source", type=click.Path(), help="Take steps, prompts, answers from a store or logs.")
@click.option("--format", "format_name", help="With --from: the format of the logs. [default: found out]")
@click.option("--run", "run_id", help="With --from: only this run. [default: all]")
@click.option("--namespace", default="default", show_default=True, help="With --from: the tenant.")
@click.option("--steps", type=int, help="Steps of an episode. [default: 20, or as recorded]")
@click.option("--prefix", type=int, help="Tokens of the first prompt. [default: 6000, or as recorded]")
@click.option("--per-step", type=int, help="Tokens that the prompt grows by. [default: 1200, or as recorded]")
@click.option("--output", type=int, help="Tokens of an answer. [default: 300, or as recorded]")
@click.option("--demos", type=int, help="Tokens of demonstrations for the student. [default: 8000, or as recorded]")
@click.option("--samples", type=int, help="Samples of the student at each step. [default: 3]")
@click.option("--escalation", type=float, help="Share of steps for the teacher, 0 to 1. [default: 0.2, or as recorded]")
@click.option("--task-escalation", type=float, help="Share of whole tasks for the teacher. [default: as --escalation]")
@click.option("--handoff", type=int, help="Tokens of a summary for the teacher, where that is shorter. [default: 4000]")
@click.option("--keep-steps", type=int, help="Steps that the teacher keeps or begins with. [default: 5]")
@click.option("--step-seconds", type=float, help="Seconds from step to step; caches forget. [default: 0, they do not]")
@click.option("--sampling", type=click.Choice(SAMPLINGS), help="How the cascades sample. [default: the cheapest]")
@click.option(
    "--assume",
    type=click.Choice(ASSUMPTIONS),
    multiple=True,
    help="Vouch for what a way assumes, so that it may be recommended; repeatable. 'signal' always is.",
)
@click.option("--price-teacher-as", help="Price the teacher as this model.")
@click.option("--price-student-as", help="Price the student as this model.")
@click.option("--teacher-service", help="The teacher's service level: standard, batch, flex, priority, fast.")
@click.option("--student-service", help="The student's service level.")
@click.option(
    "--cache-ttl",
    type=click.Choice(["provider", "1h"]),
    default="provider",
    show_default=True,
    help="Write caches for the provider's usual time, or for an hour at its own rate.",
)
@click.option(
    "--cache-reliability",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of what a cache should hold that is found in it, 0 to 1.",
)
@click.option(
    "--prices", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml, if there]"
)
@click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: the day of the price table]")
@json_option
def plan(teacher: str, student: str, source: str | None, json_mode: bool, **options: Any) -> None:
    """Predict what each way to use a student would cost per episode, prompt caches included.

    Ratios compare with a teacher that also uses its cache: above 1 saves. What loses money is never recommended.
    Success is not predicted: each way names what it assumes. Nothing is called and nothing is spent.
    """
    from potstill.measure import whatif
    from potstill.measure.prices import PriceTable
    from potstill.measure.ways import Assumption, Sampling

    table = PriceTable.load(options["prices"], options["date"])
    workloads, observed, recording = _workloads(source, options)
    made = whatif.plan(
        workloads,
        teacher=teacher,
        student=student,
        table=table,
        pricing=_pricing(options),
        sampling=None if options["sampling"] is None else Sampling(options["sampling"]),
        assume=(Assumption.SIGNAL, *(Assumption(name) for name in options["assume"])),
        recording=None if recording is None else _named(recording, teacher, student),
    )
    if json_mode:
        emit_json(made.to_json() | {"from": None if observed is None else _told(observed)})
    else:
        show(made, observed, given_demos=options["demos"] is not None)


def show(made: Plan, observed: Observed | None, *, given_demos: bool = False) -> None:
    """Print a plan: the table, then what to do and what it rests on."""
    load = made.workload
    note(
        f"{load.steps} steps, prompts from {load.prefix_tokens} tokens by {load.per_step_tokens} a step, "
        f"{load.output_tokens} tokens an answer, demonstrations {load.demonstrations_tokens}, "
        f"{load.samples} samples ({made.sampling}), {load.escalation:.1%} of steps escalated"
    )
    if observed is not None:
        note(f"taken from {_sentence(observed)}")
        note(f"demonstrations: {_demonstrations(observed, given_demos)}")
    title = f"{made.teacher} -> {made.student}, dollars per episode, prices of {made.prices_date}"
    emit_table(COLUMNS, [_row(way) for way in made.ways], json_mode=False, title=title, left_out_first=LEFT_OUT_FIRST)
    note(f"recommended: {made.recommended or 'none'}: {made.reason}")
    if made.alternative is not None:
        other = made.way(made.alternative)
        note(
            f"cheaper if its assumption holds ({', '.join(other.unproven)}): '{other.name}', {other.says}, "
            f"${other.cost_usd:.4g} an episode. Measured by: {made.measure_with}"
        )
    note(_break_even(made))
    for text in made.notes:
        note(f"note: {text}")


def _row(way: WayCost) -> list[object]:
    shown = {"way": way.name, "verdict": str(way.verdict), "unproven": ", ".join(way.unproven) or None}
    return [shown[name] if name in shown else _rounded(getattr(way, name)) for name in COLUMNS]


def _rounded(value: object) -> object:
    """Six significant digits: a prediction has no more, and JSON has them all."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _break_even(made: Plan) -> str:
    share = made.break_even_escalation
    if share is None:
        return "'cascade' costs more than the cached teacher even if no step escalates"
    return f"'cascade' costs less than the cached teacher while fewer than {share:.0%} of the steps escalate"


def _pricing(options: dict[str, Any]) -> Pricing:
    from potstill.measure.ledger import Pricing

    return Pricing(
        student_as=options["price_student_as"],
        teacher_as=options["price_teacher_as"],
        student_service=options["student_service"],
        teacher_service=options["teacher_service"],
        cache_ttl=options["cache_ttl"],
        cache_reliability=options["cache_reliability"],
    )


def _workloads(source: str | None, options: dict[str, Any]) -> tuple[list[Workload], Observed | None, Recording | None]:
    """The workload that the options describe, or those of recorded episodes with the given options over them."""
    from msgspec.structs import replace

    from potstill.errors import ConfigError
    from potstill.measure.workload import Workload

    given = {field: options[option] for option, field in SHAPE.items() if options[option] is not None}
    base = Workload(**given)
    if source is None:
        if options["run_id"] is not None or options["format_name"] is not None:
            raise ConfigError("--run and --format are about recorded episodes: add --from, as in --from potstill.db")
        return [base], None, None
    observed, recording = _observed(source, base, options)
    if observed.escalation is not None:
        given = {"escalation": observed.escalation} | given
    if observed.demonstrations_tokens is not None:
        given = {"demonstrations_tokens": observed.demonstrations_tokens} | given
    return [replace(load, **given) for load in observed.workloads], observed, recording


def _observed(source: str, base: Workload, options: dict[str, Any]) -> tuple[Observed, Recording]:
    """What a store, an export of one (``potstill trajectories export``), or the logs of another agent say."""
    from potstill.errors import ConfigError
    from potstill.measure.workload import observe
    from potstill.trajectories.opening import is_url, shown

    if is_url(source):
        observed = observe(_of_store(source, options["run_id"], options["namespace"]), base)
        return observed, _recording(shown(source), observed, is_store=True)
    path = Path(source)
    if not path.exists():
        raise ConfigError(
            f"--from {path}: there is no such file. Name a store, an export of one or a log; or leave --from out and "
            "give --steps, --prefix and --per-step."
        )
    run_id, namespace = options["run_id"], options["namespace"]
    is_store = _starts_with(path, b"SQLite format 3")
    if is_store:
        observed = observe(_of_store(source, run_id, namespace), base)
    elif _starts_with(path, b'{"format":"potstill/trajectory"'):
        observed = observe(_of_export(path, run_id, namespace), base)
    else:
        return _of_logs(path, base, run_id, options["format_name"])
    return observed, _recording(source, observed, is_store)


def _recording(path: str, observed: Observed, is_store: bool) -> Recording:
    from potstill.measure.advice import Recording

    return Recording(
        path=path,
        is_store=is_store,
        has_student=observed.students > 0,
        teacher=observed.teacher,
        student=observed.student,
        models=tuple(name for name in (observed.teacher, observed.student) if name is not None),
    )


def _named(recording: Recording, teacher: str, student: str) -> Recording:
    """A log does not say which model is the teacher: the planned one, where the log knows that name."""
    from msgspec.structs import replace

    return replace(
        recording,
        teacher=recording.teacher or (teacher if teacher in recording.models else None),
        student=recording.student or (student if student in recording.models else None),
    )


def _of_export(path: Path, run_id: str | None, namespace: str) -> Iterator[Trajectory]:
    from potstill.errors import ConfigError
    from potstill.trajectories.jsonl import BadLine, read_jsonl

    with path.open("rb") as file:
        for number, read in read_jsonl(file):
            if isinstance(read, BadLine):
                raise ConfigError(f"{path}:{number} is not an episode that potstill exported: {read.problem}")
            if read.namespace == namespace and run_id in (None, read.run_id):
                yield read


def _of_logs(path: Path, base: Workload, run_id: str | None, format_name: str | None) -> tuple[Observed, Recording]:
    """Calls of one model in one session are one episode; calls that name no session are left out, and counted."""
    from potstill.logs.reader import read
    from potstill.logs.records import Attempt, LogCall
    from potstill.measure.advice import Recording
    from potstill.measure.workload import Shape, observe_shapes

    shapes: dict[object, Shape] = {}
    models: dict[str, None] = {}
    left_out = attempts = 0
    told: set[object] = set()
    for number, record in enumerate(read([path], format=format_name)):
        single = isinstance(record, LogCall)
        if run_id not in (None, record.run) or (isinstance(record, Attempt) and _is_told(record, told)):
            continue
        session = record.episode_id if single else number
        attempts += not single
        models.setdefault(record.model)
        for call in (record,) if isinstance(record, LogCall) else record.calls:
            if call.usage is None or session is None:
                left_out += 1
                continue
            shapes.setdefault((call.model, call.run, single, session), Shape()).add(call.usage)
    observed = observe_shapes(shapes.values(), base, left_out)
    return observed, Recording(path=str(path), has_attempts=attempts > 0, models=tuple(filter(None, models)))


def _is_told(attempt: Attempt, told: set[object]) -> bool:
    """Whether this attempt came before, be it in another run: logs often hold a run twice under two names."""
    key = (attempt.model, attempt.task_id, attempt.episode_id, attempt.cost_usd, attempt.started_at)
    if attempt.episode_id is None or key not in told:
        told.add(key)
        return False
    return True


def _of_store(place: str, run_id: str | None, namespace: str) -> Iterator[Trajectory]:
    from potstill.errors import UnknownName
    from potstill.trajectories.opening import read_store

    with read_store(place) as store:
        known = {run.run_id for run in store.runs(namespace=namespace)}
        if run_id is not None and run_id not in known:
            raise UnknownName("run", run_id, known)
        yield from store.select(run_id=run_id, namespace=namespace)


def _starts_with(path: Path, start: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _told(observed: Observed) -> dict[str, Any]:
    return {
        "episodes": len(observed.workloads),
        "cascades": observed.cascades,
        "left_out": observed.left_out,
        "escalation": observed.escalation,
        "demonstrations_tokens": observed.demonstrations_tokens,
    }


def _demonstrations(observed: Observed, given: bool) -> str:
    """Where their size is from."""
    recorded = observed.demonstrations_tokens
    if given:
        return "as given with --demos"
    if recorded is None:
        return "none recorded; assumed as long as an episode's longest prompt, 8000 tokens at most (--demos sets it)"
    return f"{recorded} tokens, by which recorded prompts with them are longer than the teacher's"


def _sentence(observed: Observed) -> str:
    share = "" if observed.escalation is None else f" ({observed.escalation:.1%} of their steps escalated)"
    out = (
        f"; {observed.left_out} episodes or calls left out, without token counts or session"
        if observed.left_out
        else ""
    )
    return f"{len(observed.workloads)} episodes and {observed.cascades} cascades{share}{out}"
