"""``potstill distill``: hand a teacher's knowledge down. ``distill context`` records its episodes as demonstrations."""

from __future__ import annotations

from typing import Any

import click

from potstill.cli.output import json_option, note
from potstill.cli.run_options import apply, context_options, policy_options, target_options


@click.group()
def distill() -> None:
    """Hand a teacher's knowledge down to a student."""


@distill.command()
@target_options
@apply(policy_options)
@apply(context_options)
@click.option("--run", "run_id", help="Name of the run; made from date and configuration if not given.")
@click.option("--resume", is_flag=False, flag_value="last", help="Continue a collection by name, or the last one.")
@click.option("--dry-run", is_flag=True, help="Say what would be recorded and its estimated cost, and stop.")
@json_option
def context(run_id: str | None, resume: str | None, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Record teacher episodes; the complete, successful ones are the demonstrations of later runs (arXiv 2512.02543).

    \b
    potstill distill context --env minigrid --split train --n 100 --teacher expert
    """
    from potstill.cli import plan as planning

    options["split"] = options.get("split") or options["demonstrations_split"]
    plan = planning.planned(run_id, options, "teacher") if resume is None else planning.resumed(resume, options)
    if dry_run:
        planning.print_estimate(plan, json_mode)
        return
    from potstill.cli import session

    result = session.play(plan)
    session.print_result(result, plan, json_mode)
    kept = sum(counts.successes for counts in result.arms)
    note(f"{kept} successful episodes of '{plan.config.split}' now serve as demonstrations in {plan.db}.")
