"""``potstill distill``: hand a teacher's knowledge down. ``distill context`` records its episodes as demonstrations,
``distill playbook`` (``playbook_distill``) lets it write down what a student's episodes teach, ``distill weights``
(``distill_weights``) trains a small policy on them, ``distill rules`` (``distill_rules``) certifies rules by them,
``distill debates`` (``distill_debates``) lets policies debate about them, ``distill rationales``
(``distill_rationales``) adds reasoning to them, ``distill kickstart`` (``distill_kickstart``) lets a policy learn on
from rewards."""

from __future__ import annotations

from typing import Any

import click

from potstill.cli.distill_debates import debates
from potstill.cli.distill_engine import engine
from potstill.cli.distill_kickstart import kickstart
from potstill.cli.distill_rationales import rationales
from potstill.cli.distill_retrain import retrain, rollback
from potstill.cli.distill_rules import rules
from potstill.cli.distill_weights import weights
from potstill.cli.output import json_option, note
from potstill.cli.playbook_distill import playbook
from potstill.cli.run_options import (
    apply,
    context_options,
    defaults,
    playbook_options,
    policy_options,
    record_options,
    student_options,
    teacher_options,
    typed_options,
    world_options,
)


@click.group()
def distill() -> None:
    """Hand a teacher's knowledge down to a student."""


@distill.command()
@apply(world_options)
@click.option("--split", default="train", show_default=True, help="Which tasks: never those that will be tested.")
@apply(teacher_options)
@click.option(
    "--first-thought",
    is_flag=True,
    help="With --reasoning with-action: an episode's first reasoning begins as the teacher thinks about the goal when "
    "it is not asked to act (first-thought prefix, arXiv 2505.17612).",
)
@apply(record_options)
@json_option
def context(run_id: str | None, resume: str | None, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Record teacher episodes; the complete, successful ones are the demonstrations of later runs (arXiv 2512.02543).

    \b
    potstill distill context --env minigrid --split train --n 100 --teacher expert
    """
    from potstill.cli import run_plan as planning

    if resume is not None:
        plan = planning.resumed(resume, options, typed_options())
    else:
        unused = defaults(student_options, policy_options, context_options, playbook_options)
        plan = planning.planned(run_id, {**unused, **options}, "teacher")
    if dry_run:
        from potstill.cli.run_estimate import print_estimate

        print_estimate(plan, json_mode)
        return
    from potstill.cli import session

    result = session.play(plan)
    session.print_result(result, plan, json_mode)
    kept = sum(counts.successes for counts in result.arms)
    note(f"{kept} successful episodes of '{plan.config.split}' now serve as demonstrations in {plan.place}.")


distill.add_command(playbook)
distill.add_command(rules)
distill.add_command(debates)
distill.add_command(rationales)
distill.add_command(engine)
distill.add_command(weights)
distill.add_command(kickstart)
distill.add_command(retrain)
distill.add_command(rollback)
