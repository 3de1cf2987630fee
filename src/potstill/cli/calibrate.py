"""``potstill calibrate``: read samples and labels, certify a threshold, print. Parsing and wiring only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from potstill.cli import calibrate_policies
from potstill.cli.attempt_files import reading_options, recorded
from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.replay import numbers

if TYPE_CHECKING:
    from potstill.decide.calibration.certify import Candidate, Certified
    from potstill.measure.calibration import Calibration, Settings

T = TypeVar("T")
COLUMNS = (
    "chosen",
    "student",
    "signal",
    "samples",
    "threshold",
    "certified",
    "loss_rate",
    "violations_bound",
    "p_value",
    "level",
    "escalation_share",
    "expected_cost_usd",
    "teacher_cost_usd",
    "kept_observed",
    "n",
)
MOST_ROWS = 12
"""Candidates of a table; a policy has sixty thresholds."""
LEFT_OUT_FIRST = ("level", "student", "signal", "n", "teacher_cost_usd", "kept_observed", "p_value")


@click.command()
@reading_options
@click.option(
    "--student",
    "students",
    required=True,
    multiple=True,
    metavar="MODEL",
    help="The cheap model: MODEL, MODEL@RUN for one run, or policy:FILE or tuned:FOLDER, which are asked anew; "
    "repeatable, each is a candidate.",
)
@click.option("--teacher", required=True, metavar="MODEL", help="The expensive one: MODEL or MODEL@RUN.")
@click.option(
    "--keep", type=float, default=0.98, show_default=True, help="Share of the teacher's success that must be kept."
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the guarantee, below 1.")
@click.option("--samples", metavar="K[,K...]", help="Samples that vote. [default: 3, and as many as most tasks have]")
@click.option(
    "--threshold",
    metavar="T[,T...]",
    help="Only these shares of the votes (all shares j/K if not given) or, of one that is asked, these probabilities.",
)
@click.option("--env", "environment", help="For a student that is asked, where a store holds several environments.")
@click.option(
    "--score", default="auto", show_default=True, help="votes, learned (from signals in the rows), or auto: both."
)
@click.option(
    "--level",
    type=click.Choice(["decision", "task"]),
    help="Where tasks have several decisions: what is lost, the share of them or the whole task. [default: decision; "
    "task for a student that is asked]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which quarter of the tasks a score is learned on."
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the result as JSON.")
@click.option("--require", is_flag=True, help="Exit with 1 if nothing is certified.")
@json_option
def calibrate(
    files: tuple[str, ...],
    students: tuple[str, ...],
    teacher: str,
    out: str | None,
    require: bool,
    json_mode: bool,
    **options: Any,
) -> int:
    """Find the cheapest threshold that provably keeps a share of the teacher's success.

    FILES are logs of attempts, or stores: samples of the student, and the teacher's attempts at some of the same tasks,
    chosen at random. A policy:FILE or tuned:FOLDER is asked itself what it would do at the teacher's recorded
    decisions, for which one store is enough. Of the tasks at which the teacher succeeds, at most 1 - KEEP are lost,
    with the CONFIDENCE asked for, on new tasks like these. Where nothing can be certified, it says how many more labels
    are needed.
    """
    from potstill.measure.calibration import calibrate as run
    from potstill.measure.calibration import check_asked, check_settings

    asked = calibrate_policies.asked_of(students, files)
    settings = _settings(options | {"level": options["level"] or ("task" if asked else "decision")})
    check_settings(settings)  # before anything is read
    for student in asked:
        check_asked(settings, student)
    _check_out(out)
    sides = calibrate_policies.recorded(files, students, teacher, options)
    found = run(recorded(files, students, teacher, options) if sides is None else sides, settings)
    if out is not None:
        _write(found, Path(out))
    show(found, json_mode=json_mode, file=out)
    return 1 if require and not found.result.certified else 0


def show(found: Calibration, *, json_mode: bool, file: str | None = None) -> None:
    """Print a calibration: the JSON contract, or the verdict and the candidates around the choice with the caveats on
    stderr."""
    import sys

    for text in found.notes:
        note(f"note: {text}")
    if json_mode:
        emit_json(found.to_json())
        return
    (emit_text if sys.stdout.isatty() else note)(headline(found.result, file))
    every = found.result.candidates
    shown = around(every, _middle(found.result))
    rows = [[_cell(one, name, found.result) for name in COLUMNS] for one in shown]
    emit_table(COLUMNS, rows, json_mode=False, left_out_first=LEFT_OUT_FIRST)
    if len(shown) < len(every):
        what = "the choice" if found.result.certified else "what is nearest to a certificate"
        note(f"The {len(shown)} of {len(every)} candidates around {what}; --json and --out have all.")


def around(candidates: Sequence[T], middle: int, most: int = MOST_ROWS) -> Sequence[T]:
    """At most so many neighbours, with the one in the middle among them."""
    first = max(0, min(middle - most // 2, len(candidates) - most))
    return candidates[first : first + most]


def _middle(result: Certified) -> int:
    """Where the choice stands; where nothing is certified, what is nearest to it, else where the student first acts."""
    every = result.candidates
    if result.certified:
        return next(index for index, one in enumerate(every) if _is_chosen(one, result))
    acting = [index for index, one in enumerate(every) if one.escalation_share < 1.0]
    return min(acting, key=lambda index: every[index].needed_n or math.inf, default=0)


def headline(result: Certified, file: str | None = None) -> str:
    """The verdict in a few sentences; ``file``: where it was written."""
    if not result.certified:
        return f"Not certified: keep {result.keep:.2%}. {result.reason} Until then the teacher answers."
    # A share of votes may be written lower than it is, for there is nothing between; a probability may not.
    threshold = str(result.threshold) if result.signal == "likelihood" else _at_most(result.threshold)
    what = f"{result.samples} samples of {result.student}, threshold {threshold}"
    if result.signal == "likelihood":
        what = f"{result.student} where its probability is at least {threshold}"
    how = " of a learned score" if result.signal == "learned" else ""
    typed = {
        "votes": f"--samples {result.samples} --threshold {threshold}",
        "likelihood": f"--signal likelihood --threshold {threshold}",
    }.get(result.signal or "")
    runs = ""
    if typed is not None and result.recommendation == "cascade":
        who = f"--student {result.student} " if result.signal == "likelihood" else ""
        runs = f" Type: potstill run {who}{typed if file is None else f'--calibration {file}'} ..."
    share = f"{1.0 - result.escalation_share:.1%} of decisions need no teacher."
    return f"Certified: {what}{how}. {result.reason} {share}{runs}"


def _at_most(threshold: float | None) -> str:
    """A threshold in few digits that is not above it: two thirds must not become 0.6667."""
    return f"{math.floor((threshold or 0.0) * 10_000) / 10_000:g}"


def _settings(options: dict[str, Any]) -> Settings:
    from potstill.decide.calibration.losses import Level
    from potstill.measure.calibration import Settings

    samples, threshold = options["samples"], options["threshold"]
    return Settings(
        keep=options["keep"],
        confidence=options["confidence"],
        samples=tuple(numbers(samples, int, "--samples", "3 or --samples 3,5") if samples else ()),
        thresholds=tuple(numbers(threshold, float, "--threshold", "0.6 or --threshold 0.6,1") if threshold else ()),
        score=options["score"],
        level=Level(options["level"]),
        seed=options["seed"],
    )


def _cell(one: Candidate, name: str, result: Certified) -> object:
    if name == "chosen":
        return "yes" if _is_chosen(one, result) else ""
    if name == "certified":
        return "yes" if one.certified else "no"
    return getattr(one, name)


def _is_chosen(one: Candidate, result: Certified) -> bool:
    same = (one.student, one.signal, one.samples, one.threshold)
    return same == (result.student, result.signal, result.samples, result.threshold)


def _check_out(out: str | None) -> None:
    """Raises ``PotstillError`` for a file in a folder that is not there, before a student is asked for hours."""
    from potstill.errors import PotstillError

    if out is not None and not Path(out).absolute().parent.is_dir():
        raise PotstillError(f"Cannot write --out {out}: there is no folder {Path(out).parent}. Make it first.")


def _write(found: Calibration, path: Path) -> None:
    import msgspec

    from potstill.errors import PotstillError

    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found.to_json()), indent=2) + b"\n")
    except OSError as error:
        raise PotstillError(f"Cannot write --out {path}: {error.strerror or error}.") from error
    note(f"wrote {path}")
