"""``potstill run``: record arms on the same tasks and seeds, with progress, a budget, and resumption."""

from __future__ import annotations

from typing import Any

import click

from potstill.cli.output import json_option, note
from potstill.cli.run_options import (
    apply,
    context_options,
    playbook_options,
    policy_options,
    record_options,
    student_options,
    teacher_options,
    typed_options,
    world_options,
)


@click.command()
@apply(world_options)
@click.option("--split", help="Which tasks: train, valid_seen, test, ... [default: the environment's test split]")
@click.option(
    "--arm",
    "arms",
    default="zero-shot,context,context+cascade",
    show_default=True,
    help="Comma-separated: teacher, zero-shot, random-demos, context, cascade, context+cascade, random-mix, "
    "copy-nearest; with --playbook: playbook, playbook+context, playbook+cascade, playbook+context+cascade. "
    "NAME@MODE sets an escalation mode (context+cascade@sticky).",
)
@apply(teacher_options)
@apply(student_options)
@apply(policy_options)
@apply(context_options)
@apply(playbook_options)
@apply(record_options)
@json_option
def run(arms: str, run_id: str | None, resume: str | None, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Record every arm on the same tasks and seeds.

    \b
    potstill run --env minigrid --split test --n 20 --student local:smollm2-135m --teacher expert \\
        --price-teacher-as claude-sonnet-5-5 --arm zero-shot,context,context+cascade

    Ctrl-C keeps every finished episode; 'potstill run --resume' continues without repeating one.
    """
    from potstill.cli import run_plan as planning
    from potstill.cli.policy_data import stranger

    plan = (
        planning.planned(run_id, options, arms)
        if resume is None
        else planning.resumed(resume, options, typed_options())
    )
    if told := stranger(plan.config.student, plan.config.environment):
        note(f"note: {told}")
    if dry_run:
        from potstill.cli.run_estimate import print_estimate

        print_estimate(plan, json_mode)
        return
    from potstill.cli import session

    session.print_result(session.play(plan), plan, json_mode)
