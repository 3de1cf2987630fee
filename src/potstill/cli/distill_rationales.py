"""``potstill distill rationales``: reasoning for the decisions of a teacher that gave none. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_estimate, emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply, typed_options
from potstill.cli.training_options import recorded_options
from potstill.errors import BudgetReached

if TYPE_CHECKING:
    from potstill.cli.training.rationales import Made


@click.command()
@apply(recorded_options)
@click.option(
    "--from",
    "source",
    default="subgoals",
    show_default=True,
    help="subgoals (a template, in hindsight of the teacher's own next steps) or sampled (a model reasons, and what "
    "led it to the teacher's action is kept; arXiv 2203.14465).",
)
@click.option("--model", help="Who is asked: torch:smollm2-135m, tuned:FOLDER, PROVIDER:MODEL, ...")
@click.option("--model-option", "model_options", multiple=True, help="KEY=VALUE for the model; repeatable.")
@click.option("--samples", type=int, default=4, show_default=True, help="Answers to each decision.")
@click.option("--temperature", type=float, default=0.7, show_default=True, help="Of the answers.")
@click.option(
    "--hint", is_flag=True, help="Where none is right, ask again with the teacher's action told; marked as hinted."
)
@click.option("--history", "history_turns", type=click.IntRange(0), help="Past turns in prompts. [default: all]")
@click.option(
    "--list-admissible/--no-list-admissible", default=False, show_default=True, help="Write the actions into prompts."
)
@click.option(
    "--reasoning-tokens", type=click.IntRange(1), default=64, show_default=True, help="Of an answer, beside its action."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is sampled.")
@click.option("--limit", type=click.IntRange(1), help="Decisions at most, the first of the store. [default: all]")
@click.option("--cpu-hour-usd", type=float, help="Price a local model by CPU time, in dollars an hour.")
@click.option(
    "--max-cost",
    "max_cost_usd",
    type=click.FloatRange(0, min_open=True),
    help="Ask about no other decision once this sitting has cost so many dollars.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file, such as rationales.jsonl.")
@click.option("--resume", is_flag=True, help="Go on with the file; what is in it is not made again.")
@click.option("--dry-run", is_flag=True, help="Say how many decisions would be asked about, and stop.")
@json_option
def rationales(dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Write what might have been said before each decision of a teacher that gave no reasoning.

    \b
    potstill distill rationales --from subgoals --out templated.jsonl
    potstill distill rationales --from sampled --model torch:smollm2-135m --out sampled.jsonl
    potstill distill weights --student lm --base smollm2-135m --reasoning with-action --rationales sampled.jsonl \\
        --rationales templated.jsonl --out student-lm

    Ctrl-C keeps what is there, and --resume goes on. Each line says whether its text was templated, sampled or hinted,
    and a student that learns them says so, too.
    """
    from potstill.cli.training import rationales as making
    from potstill.cli.training.rationales_plan import planned

    typed = typed_options()
    if "environment" not in typed:
        options["environment"] = None
    plan = planned(options, typed)
    if dry_run:
        emit_estimate(making.estimate(plan), json_mode)
        return
    made = making.make(plan)
    sampled = "Ask a larger model, or type --hint or --from subgoals."
    _print(made, json_mode, sampled if plan.model else "Let a model be asked: --from sampled --model NAME")
    if made.left:
        raise BudgetReached(
            f"--max-cost {plan.max_cost_usd:g} is reached, and {made.left} decisions are left. To go on, type the same "
            "command with --resume: each sitting has its own budget."
        )


def _print(made: Made, json_mode: bool, other: str) -> None:
    """``other``: what to try where nothing was kept."""
    if json_mode:
        emit_json(made._asdict())
        return
    row = {name: value for name, value in made._asdict().items() if name != "by_source"}
    emit_table(list(row), [list(row.values())], json_mode=False, title=made.file)
    if not made.kept:
        note(f"Rationales: none, so there is nothing to learn yet. {other}")
        return
    told = ", ".join(f"{count} {source}" for source, count in made.by_source.items())
    note(
        f"Rationales: {told}; {made.asked - made.kept} decisions have none. Next: potstill distill weights --student "
        f"lm --base smollm2-135m --reasoning with-action --rationales {made.file} --out student-lm"
    )
