"""``potstill replay``: read samples, replay a cascade of votes, print. Parsing and wiring only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from potstill.cli.attempt_files import reading_options, recorded
from potstill.cli.output import emit_json, emit_table, json_option, note

if TYPE_CHECKING:
    from potstill.measure.replay import Area, Replay
    from potstill.measure.samples import Found, Recorded

COLUMNS = (
    "samples",
    "threshold",
    "n",
    "accuracy",
    "accuracy_ci",
    "kept_observed",
    "agreement_with_teacher",
    "escalation_share",
    "cost_usd",
    "student_cost_usd",
    "teacher_cost_usd",
    "always_teacher_cost_usd",
    "unknown_outcomes",
    "tasks_with_fewer_samples",
    "on_frontier",
)
LEFT_OUT_FIRST = (
    "agreement_with_teacher",
    "tasks_with_fewer_samples",
    "unknown_outcomes",
    "always_teacher_cost_usd",
    "kept_observed",
    "student_cost_usd",
    "teacher_cost_usd",
    "n",
)
MOST_SWEPT = 10
"""Samples up to which ``--sweep`` goes by itself."""


@click.command()
@reading_options
@click.option("--student", required=True, metavar="MODEL", help="The cheap model: MODEL, or MODEL@RUN for one run.")
@click.option("--teacher", required=True, metavar="MODEL", help="The expensive one: MODEL or MODEL@RUN.")
@click.option("--samples", metavar="K[,K...]", help="How many samples vote. [default: 3, or all with --sweep]")
@click.option(
    "--threshold", metavar="T[,T...]", help="Least share of the votes. [default: 1, or all shares with --sweep]"
)
@click.option("--sweep", is_flag=True, help="All pairs of K and T, those on the frontier marked.")
@json_option
def replay(
    files: tuple[str, ...],
    student: str,
    teacher: str,
    samples: str | None,
    threshold: str | None,
    sweep: bool,
    json_mode: bool,
    **options: Any,
) -> None:
    """Replay a cascade of votes on recorded samples: what it would have achieved and cost.

    FILES are logs of attempts, or stores. The first K samples of the student vote on each task; the top answer is taken
    if its share of them is at least T, else the teacher's recorded answer. Dollars are totals over all tasks. Several K
    or T give a table with the frontier.
    """
    counts = None if samples is None else numbers(samples, int, "--samples", "3 or --samples 1,3,5")
    shares = None if threshold is None else numbers(threshold, float, "--threshold", "0.6 or --threshold 0.5,0.6,1")
    found = recorded(files, (student,), teacher, options)[0]
    rows, is_sweep = _replayed(found, counts, shares, sweep)
    whole = _area(rows) if is_sweep else None
    if json_mode:
        told = [_plain(row, found, whole) for row in rows]
        emit_json(told if is_sweep else told[0])
    else:
        title = f"{student} and {teacher} on {found.found.tasks} tasks"
        columns = [name for name in COLUMNS if is_sweep or name != "on_frontier"]
        table = [[_cell(row, name, found.found) for name in columns] for row in rows]
        emit_table(columns, table, json_mode=False, title=title, left_out_first=LEFT_OUT_FIRST)
        _tell(rows[-1])
        if whole is not None:
            note(_frontier(whole))
    for text in _cautions(rows[-1], found.found):
        note(f"note: {text}")


def _area(rows: list[Replay]) -> Area:
    from potstill.measure.replay import area

    return area(rows)


def numbers(text: str, kind: type[Any], option: str, example: str) -> list[Any]:
    """Numbers between commas. Raises ``ConfigError``."""
    from potstill.errors import ConfigError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} is '{text}', which is not numbers. Type for example: {option} {example}") from None


def _replayed(
    found: Recorded, counts: list[int] | None, shares: list[float] | None, every: bool
) -> tuple[list[Replay], bool]:
    from potstill.measure.replay import replay as replay_one
    from potstill.measure.replay import sweep

    if every or len(counts or ()) > 1 or len(shares or ()) > 1:
        ks = counts or list(range(1, min(MOST_SWEPT, found.units.most_samples) + 1))
        return sweep(found.units, ks, shares), True
    return [replay_one(found.units, (counts or [3])[0], (shares or [1.0])[0])], False


def _plain(row: Replay, found: Recorded, whole: Area | None) -> dict[str, Any]:
    """The JSON contract: the row, what was left out, and of a sweep its frontier as a whole, the same in each row."""
    told: dict[str, Any] = msgspec.to_builtins(row)
    if whole is None:
        told.pop("on_frontier")
    else:
        told["frontier"] = msgspec.to_builtins(whole)
    of = found.found
    return {
        **told,
        "agreement_with_teacher": _agreement(row, of),
        "student": of.student,
        "teacher": of.teacher,
        "tasks_left_out": of.without_teacher + of.without_student,
        "left_out": {"no_teacher_answer": of.without_teacher, "no_student_sample": of.without_student},
        "errors": of.errors,
        "duplicates": of.duplicates,
    }


def _agreement(row: Replay, of: Found) -> float | None:
    """Not known where one side never says anything: its empty answers would all be equal, or all differ."""
    return row.agreement_with_teacher if of.student_answers and of.teacher_said else None


def _cell(row: Replay, name: str, of: Found) -> object:
    value = _agreement(row, of) if name == "agreement_with_teacher" else getattr(row, name)
    if name == "on_frontier":
        return "yes" if value else ""
    if name.endswith("_usd") and value is not None:
        return float(f"{value:.6g}")
    return f"{value[0]:.3f} to {value[1]:.3f}" if isinstance(value, tuple) else value


def _tell(row: Replay) -> None:
    if row.tasks_with_fewer_samples:
        note(f"note: {row.tasks_with_fewer_samples} tasks have fewer than {row.samples} samples: those there are voted")
    if row.unknown_outcomes and row.accuracy_of_known is not None:
        known = f"; of the others {row.accuracy_of_known:.1%} end well"
        note(f"note: the outcome of {row.unknown_outcomes} answers that were taken is not known{known}")
    if row.cost_usd is None:
        note("note: not every cost is known, so neither is their sum")


def _cautions(row: Replay, of: Found) -> list[str]:
    """What makes a replay mean less than it seems to; said beside JSON too."""
    told = []
    empty = of.student_samples - of.student_answers
    if empty and not of.student_answers:
        told.append(
            f"none of the {empty} samples of '{of.student}' has an answer: all vote as the same empty answer, so all "
            "count as agreed and nothing escalates. Give 'answer' in the rows"
        )
    elif empty:
        told.append(f"{empty} of {of.student_samples} samples of '{of.student}' have no answer: each is an empty vote")
    if row.accuracy_of_known is None:
        share = _agreement(row, of)
        agreed = "" if share is None else f"; {share:.1%} of the decisions end with the teacher's"
        told.append(
            f"no answer that was taken has a recorded success, so the accuracy is not known{agreed}. "
            "'potstill calibrate' takes the teacher's answer as right"
        )
    return told


def _frontier(whole: Area) -> str:
    """The frontier in a sentence."""
    if whole.aiq_cost_range_usd is None:
        return "frontier: not known, for no row has both a cost and an accuracy"
    low, high = whole.aiq_cost_range_usd
    average = "none, for it is one point" if whole.aiq is None else f"{whole.aiq:.3f}"
    saving = "not known, or the teacher's success is not reached"
    if whole.iso_quality_saving is not None:
        saving = f"{whole.iso_quality_saving:.1%} of always-teacher's dollars"
    return f"frontier: AIQ {average} over ${low:.4g} to ${high:.4g}; saving at the teacher's success: {saving}"
