"""``potstill demo``: the whole product in five minutes, with a real small language model and no key.

A grid world where one thing has to be put next to another among many. Its bot is the teacher (priced as a named model),
a 135-million-parameter model the student. The demo is ``distill context``, ``run`` and ``measure`` with chosen options,
nothing else; it prints them so that they can be repeated.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
import zlib
from pathlib import Path

import click

from potstill.cli.distill import context as distill_context
from potstill.cli.measure import measure
from potstill.cli.output import json_option, note
from potstill.cli.run import run

WORLD = ("--env", "minigrid", "--option", "level=PutNextLocal", "--price-teacher-as", "claude-sonnet-5-5")
STUDENT = (
    *(
        "--student",
        "local:smollm2-135m",
        "--student-option",
        "template=plain",
        "--price-student-as",
        "claude-haiku-5-5",
    ),
    *("--style", "transcript", "--k", "3", "--max-steps", "6", "--temperature", "1.0"),
)
ARMS = "zero-shot,context,context+cascade,copy-nearest"


@click.command()
@click.option("--n", type=click.IntRange(1, 100), default=20, show_default=True, help="Tasks per arm.")
@click.option("--arm", "arms", default=ARMS, show_default=True, help="Arms to compare, as in 'potstill run'.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False),
    default="potstill-demo",
    show_default=True,
    help="Folder for the record and report.html.",
)
@json_option
@click.pass_context
def demo(ctx: click.Context, n: int, arms: str, directory: str, json_mode: bool) -> None:
    """Watch a small model act alone, with a teacher's demonstrations, and in a cascade.

    Records into a folder of its own and writes report.html there. Run again, it goes on where it stopped.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    db = str(folder / "demo.db")
    started = time.perf_counter()
    note("1/3  The teacher solves 60 training tasks; its episodes become demonstrations.")
    with _stdout_for_json_only(json_mode):
        _invoke(ctx, distill_context, [*WORLD, "--n", "60", "--teacher", "expert", "--run", "teacher", "--db", db])
    note(f"2/3  The student acts on {n} other tasks: {arms.replace(',', ', ')}.")
    run_id = f"students-{n}-{hash_of(arms):04x}"
    target = [*WORLD, *STUDENT, "--n", str(n), "--teacher", "expert", "--arm", arms, "--run", run_id, "--db", db]
    with _stdout_for_json_only(json_mode):
        _invoke(ctx, run, target)
    note("3/3  What it cost and what it achieved.")
    report = folder / "report.html"
    _invoke(ctx, measure, ["--db", db, "--run", run_id, "--html", str(report), *(["--json"] if json_mode else [])])
    note(f"Took {time.perf_counter() - started:.0f} s. Open {report} in a browser, or look at one episode:")
    note(f"  potstill trajectories list --db {db} --run {run_id}")
    note(f"  potstill trajectories show ID --db {db}")
    note(f"The same by hand: potstill run {shlex.join(target)}")


def _stdout_for_json_only(json_mode: bool) -> contextlib.AbstractContextManager[object]:
    """With ``--json`` stdout is one document, that of ``measure``: tables on the way to it go to stderr."""
    return contextlib.redirect_stdout(sys.stderr) if json_mode else contextlib.nullcontext()


def _invoke(ctx: click.Context, command: click.Command, arguments: list[str]) -> None:
    """Run another command with its own defaults, as if it had been typed."""
    with command.make_context(command.name, list(arguments), parent=ctx) as inner:
        command.invoke(inner)


def hash_of(text: str) -> int:
    """A small stable number of a text, so that other arms get a run of their own."""
    return zlib.crc32(text.encode()) & 0xFFFF
