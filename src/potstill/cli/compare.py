"""``potstill compare``: find the two sides, compare, print, and give CI an exit code. Parsing and wiring only.

Heavy modules load inside the command, so that ``--help`` stays fast.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.compare_fidelity import fidelity_of, refuse_files, show_fidelity
from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.store_option import db_option

if TYPE_CHECKING:
    from potstill.distill.weights.fidelity import RunFidelity
    from potstill.measure.comparison_result import Baseline, Comparison

COLUMNS = ("measure", "a", "b", "a_against_b", "interval")
BASELINE_COLUMNS = ("baseline", "of", "success", "cost_per_episode_usd", "attempts", "teacher_share")
FAIL_IF = ("worse", "shown-worse", "cost-of-pass")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--margin", type=float, default=0.02, show_default=True, help="Loss of success that would be accepted.")
@click.option(
    "--fidelity", is_flag=True, help="Add how alike a student A and its teacher B decide; both are runs of the store."
)
@click.option("--cheap", help="The cheap side that A, a cascade, escalates from: baselines at A's cost need it.")
@db_option
@click.option("--namespace", default="default", show_default=True, help="The tenant, in a store.")
@click.option("--format", "format_name", help="Of the files. [default: each file's own, by its first rows]")
@click.option(
    "--costs",
    type=click.Choice(["recorded", "listed"]),
    default="recorded",
    show_default=True,
    help="Dollars of files: as recorded where there, or list prices throughout.",
)
@click.option(
    "--cache",
    type=click.Choice(["reported", "simulated", "none"]),
    default="simulated",
    show_default=True,
    help="Prompt caching in a store: as reported, simulated where not reported, or none.",
)
@click.option(
    "--prices", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml, if there]"
)
@click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: the day of the price table]")
@click.option("--price-student-as", help="Price the student as this model. [default: as the run was planned]")
@click.option("--price-teacher-as", help="Price the teacher as this model. [default: as the run was planned]")
@click.option("--cpu-hour-usd", type=float, help="Price local models by CPU time, in dollars an hour.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of all intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--fail-if",
    "fail_if",
    multiple=True,
    type=click.Choice(FAIL_IF),
    help="Exit with 1 if A is not shown to be within the margin, is shown to be worse than B, or costs more for each "
    "success; repeatable.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    help="For cost-of-pass: how much dearer a success of A may be, as a share.",
)
@json_option
def compare(a: str, b: str, json_mode: bool, fail_if: tuple[str, ...], tolerance: float, **options: Any) -> int:
    """Compare A with B on the tasks that both have, with a verdict.

    A and B are runs in the store (RUN or RUN:ARM) or attempts in a file (FILE#MODEL, FILE#MODEL@RUN, or FILE if it
    holds one model). Attempts are paired by task and seed or sample. The margin is to be fixed before looking.
    """
    import msgspec

    from potstill.measure.comparison_gate import failures

    found, alike = _compare(a, b, options)
    found = msgspec.structs.replace(found, failed=failures(found, fail_if, tolerance))
    show(found, alike, json_mode=json_mode)
    return 1 if found.failed else 0


def show(found: Comparison, alike: RunFidelity | None = None, *, json_mode: bool) -> None:
    """Print a comparison, and how alike the sides decide: the JSON contract, or headline, tables and caveats."""
    if json_mode:
        emit_json(found.to_json() if alike is None else found.to_json() | {"fidelity": alike})
    else:
        _show_tables(found)
        if alike is not None:
            show_fidelity(alike)
    for reason in found.failed:
        note(f"failed: {reason}")


def _show_tables(found: Comparison) -> None:
    """Headline and advice first, on a terminal with the data, in a pipe beside them."""
    from potstill.measure.comparison_advice import headline

    terminal = sys.stdout.isatty()
    say = emit_text if terminal else note
    say(f"{headline(found)}\n{found.advice}\nA: {found.a}\nB: {found.b}")
    emit_table(COLUMNS, _rows(found), json_mode=False)
    if terminal and found.baselines:
        rows = [_baseline_row(row) for row in found.baselines]
        title = "What the same money could buy otherwise (computed from the recordings)"
        emit_table(BASELINE_COLUMNS, rows, json_mode=False, title=title)
        emit_text("\n".join(f"{row.name}: {row.note}" for row in found.baselines) + "\n")
    for text in _told(found):
        note(f"note: {text}")


def _rows(found: Comparison) -> list[list[object]]:
    """One row a measure: difference of shares, ratios of dollars, each with its interval."""
    a, b = found.cost_per_episode_a_usd, found.cost_per_episode_b_usd
    pass_a, pass_b = found.cost_of_pass_a_usd, found.cost_of_pass_b_usd
    return [
        ["success (A - B)", found.success_a, found.success_b, found.difference, _interval(found.difference_ci)],
        ["USD per episode (A / B)", a, b, found.cost_ratio, _interval(found.cost_ratio_ci)],
        ["USD per success (A / B)", pass_a, pass_b, found.cost_of_pass_ratio, _interval(found.cost_of_pass_ratio_ci)],
        ["pairs where only one succeeded", found.only_a, found.only_b, found.discordant, None],
    ]


def _interval(interval: tuple[float | None, float | None] | None) -> str | None:
    if interval is None:
        return None
    low, high = ("inf" if bound is None else f"{bound:.3g}" for bound in interval)
    return f"{low} to {high}"


def _baseline_row(row: Baseline) -> list[object]:
    return [row.name, row.of, row.success, row.cost_per_episode_usd, row.attempts, row.teacher_share]


def _told(found: Comparison) -> list[str]:
    told = [f"difference: {found.difference_method}, McNemar's exact p {found.p_mcnemar:.3g}", *found.notes]
    other = found.errors_as_failures
    if other is not None:
        low, high = other.difference_ci
        told.append(
            f"with infrastructure errors as failures: {100 * other.difference:+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}) on {other.n} pairs"
        )
    return told


def _compare(a: str, b: str, options: dict[str, Any]) -> tuple[Comparison, RunFidelity | None]:
    from potstill.cli.compare_sides import Sources
    from potstill.measure.comparison import compare as compared
    from potstill.measure.comparison_result import Options

    chosen = Options(margin=options["margin"], confidence=options["confidence"], seed=options["seed"])
    if options["fidelity"]:
        refuse_files([a, b])
    with Sources(options) as sources:
        names = [a, b] + ([options["cheap"]] if options["cheap"] is not None else [])
        sides = sources.sides(names)
        found = compared(sides[0], sides[1], chosen, cheap=sides[2] if len(sides) > 2 else None)
        return found, fidelity_of(sources, sides[0], sides[1], chosen) if options["fidelity"] else None
