"""``potstill distill rules``: rules out of a teacher's episodes, or written by hand, certified on held-out tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply, typed_options
from potstill.cli.training_options import recorded_options


@click.command()
@apply(recorded_options)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=0.5,
    show_default=True,
    help="Share of the tasks that certifies the rules, and that none is learnt from.",
)
@click.option(
    "--rules",
    "written",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certify these rules, in their order, instead of learning some.",
)
@click.option("--leaves", type=click.IntRange(2), default=128, show_default=True, help="Of the tree, at most.")
@click.option(
    "--precision",
    type=float,
    default=0.95,
    show_default=True,
    help="Of the tasks in which rules answer, the share in which every answer must be the teacher's.",
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the certificate.")
@click.option("--student", metavar="policy:FILE", help="Show, too, what a student would answer behind the rules,")
@click.option("--threshold", type=float, default=0.8, show_default=True, help="where it is at least so sure.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the tree's ties.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file, such as house.rules.json.")
@json_option
def rules(json_mode: bool, **options: Any) -> None:
    """Learn rules from a teacher's recorded episodes, keep those that held-out tasks certify, and write them as JSON.

    \b
    potstill distill context --env house-rules --split train --n 400 --teacher expert
    potstill distill rules --out house.rules.json
    potstill run --env house-rules --student rules:house.rules.json#policy:student.policy --teacher expert \\
        --arm cascade --signal likelihood

    The rules answer where one of them singles out an action, the student elsewhere, the teacher last. Nothing is
    written where the rules cannot be certified.
    """
    from potstill.cli.training import ruling as session

    typed = typed_options()
    if "student" not in typed:
        options["student"] = None
    if "environment" not in typed:
        options["environment"] = None
    made = session.make(session.planned(options))
    if json_mode:
        emit_json(made)
        return
    emit_table(
        list(made["layers"][0]),
        [list(layer.values()) for layer in made["layers"]],
        json_mode=False,
        title=f"who would answer the {made['held_out']} decisions of held-out tasks",
    )
    proof = made["certificate"]
    note(
        f"{made['rules']} rules in {made['file']}: every answer was the teacher's in {proof['tasks'] - proof['wrong']} "
        f"of {proof['tasks']} held-out tasks in which they answered, so in at least {proof['lower']:.1%} of such tasks "
        f"with confidence {proof['confidence']:g}."
    )
