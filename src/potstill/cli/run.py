"""``potstill run``: record arms on the same tasks and seeds, with progress, a budget, and resumption."""

from __future__ import annotations

from typing import Any

import click

from potstill.cli.output import json_option
from potstill.cli.run_options import apply, context_options, policy_options, target_options


@click.command()
@target_options
@click.option(
    "--arm",
    "arms",
    default="zero-shot,context,context+cascade",
    show_default=True,
    help="Comma-separated: teacher, zero-shot, random-demos, context, cascade, context+cascade, random-mix, "
    "copy-nearest. NAME@MODE sets an escalation mode (context+cascade@sticky).",
)
@apply(policy_options)
@apply(context_options)
@click.option("--run", "run_id", help="Name of the run; made from date and configuration if not given.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="last",
    help="Continue a run by name, or the last one: its settings come from the store.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be recorded and its estimated cost, and stop.")
@json_option
def run(arms: str, run_id: str | None, resume: str | None, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Record every arm on the same tasks and seeds.

    \b
    potstill run --env minigrid --split test --n 20 --student local:smollm2-135m --teacher expert \\
        --price-teacher-as claude-sonnet-5-5 --arm zero-shot,context,context+cascade

    Ctrl-C keeps every finished episode; 'potstill run --resume' continues without repeating one.
    """
    from potstill.cli import plan as planning

    plan = planning.planned(run_id, options, arms) if resume is None else planning.resumed(resume, options)
    if dry_run:
        planning.print_estimate(plan, json_mode)
        return
    from potstill.cli import session

    session.print_result(session.play(plan), plan, json_mode)
