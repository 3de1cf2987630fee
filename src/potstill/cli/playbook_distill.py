"""``potstill distill playbook``: an agent improves from its own episodes (ACE, arXiv 2510.04618). Parsing only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_table, json_option, note
from potstill.cli.run_options import (
    Decorator,
    agent_options,
    apply,
    playbook_options,
    record_options,
    student_options,
    task_options,
    teacher_model_options,
    typed_options,
)

if TYPE_CHECKING:
    from potstill.cli.playbook_learning import LearningPlan

roles_options: tuple[Decorator, ...] = (
    click.option("--reflector", help="Who says what an episode teaches. [default: the teacher]"),
    click.option("--curator", help="Who says what to change in the book. [default: the teacher]"),
)

learn_options: tuple[Decorator, ...] = (
    click.option("--book", metavar="NAME", help="The playbook to teach; it is made where there is none."),
    click.option(
        "--mode",
        "learn_mode",
        type=click.Choice(("offline", "online", "sample", "batch")),
        default="offline",
        show_default=True,
        help="offline: each episode is learnt from before the next; online: a window is played, then learnt from; "
        "sample: a window of one; batch: many reflections at once, curated in groups.",
    ),
    click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="How often (offline, batch)."),
    click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of reflection, at most."),
    click.option("--replay", is_flag=True, help="Play a failed task again with each reflection, until it succeeds."),
    click.option(
        "--window", "learn_window", type=click.IntRange(1), default=15, show_default=True, help="Episodes; online."
    ),
    click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Episodes at once; batch."),
    click.option(
        "--first-stage",
        type=click.Choice(("shadow", "canary", "live")),
        help="Where new bullets begin. [default: live offline, canary online; shadow without an outcome or label]",
    ),
    click.option("--label-key", metavar="KEY", help="Of the task's data or metadata that holds the right answer."),
    click.option("--shuffle", is_flag=True, help="Another order in each epoch, by --seed."),
    click.option("--validate-split", "validation_split", help="Judge the book on these tasks, and keep the best one."),
    click.option("--validate-n", "validation_n", type=click.IntRange(1), help="So many of them. [default: all]"),
    click.option(
        "--patience",
        "learn_patience",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Validations without a better one that end the run; 0: none does.",
    ),
    click.option("--from-store", is_flag=True, help="Learn from recorded episodes; nothing is played."),
    click.option("--from-run", metavar="RUN", help="With --from-store: only this run's episodes."),
    click.option("--since", metavar="DATE", help="With --from-store: only episodes that started on or after it (UTC)."),
    click.option("--again", is_flag=True, help="With --from-store: also episodes that taught the book before."),
)


@click.command()
@apply(task_options)
@click.option("--split", help="Tasks to learn from, never those that will be tested. [default: train]")
@apply(learn_options)
@apply(student_options)
@apply(teacher_model_options)
@apply(roles_options)
@click.option("--reasoning", default="none", show_default=True, help="The student's: none, with-action or separate.")
@apply(agent_options)
@apply(playbook_options[1:])
@apply(record_options)
@json_option
def playbook(run_id: str | None, resume: str | None, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Let a student play, a teacher reflect and curate, and a playbook grow by what was learnt (arXiv 2510.04618).

    \b
    potstill distill playbook --env house-rules --n 50 --book house \\
        --student local:smollm2-135m --teacher openai:gpt-4.1 --max-cost 2

    Ctrl-C keeps what was learnt; '--resume' goes on exactly where it was. With --from-store recorded episodes, such as
    a gateway's, are learnt from: the newest ones that did not teach the book yet. What nobody judged stays in shadow,
    where no student is shown it.
    """
    from potstill.cli import playbook_learning as planning

    if resume is not None:
        learning = planning.resumed(resume, options, typed_options())
    else:
        learning = planning.planned(run_id, _chosen(options))
    if dry_run:
        print_estimate(learning, json_mode)
        return
    from potstill.cli import playbook_session as session

    session.check_roles(learning)
    session.print_result(session.play(learning), learning, json_mode)


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    """What is played is of the split train; of what is recorded, a setting hides nothing: only what was typed does."""
    if not options["from_store"]:
        return {**options, "split": options["split"] or "train"}
    return options if "environment" in typed_options() else {**options, "environment": None}


CASE_TOKENS, REFLECTION_TOKENS, BOOK_TOKENS, CURATION_TOKENS = 7_000, 600, 4_000, 600
"""Assumed of one call: what a Reflector and a Curator read and write. A case is at most so long."""


def print_estimate(learning: LearningPlan, json_mode: bool) -> None:
    """Calls, tokens and dollars of each role, uncached and at most: what ``--dry-run`` prints."""
    from potstill.cli.playbook_keys import can_repair, missing_keys
    from potstill.cli.run_estimate import steps_of, token_price
    from potstill.errors import MissingExtra
    from potstill.run.estimate import Assumptions, calls_of, estimate_arm

    plan, setup, settings = learning.plan, learning.setup, learning.setup.settings
    config = plan.config
    played = len(plan.tasks) * settings.epochs
    episodes = played if setup.episodes is None else len(setup.episodes) * settings.epochs
    rows: list[tuple[Any, ...]] = []
    if setup.episodes is None:
        most = settings.epochs + 1 if learning.validation else 0
        plays = played + len(learning.validation) * most + (played * (settings.rounds - 1) if settings.replay else 0)
        arm, steps = config.arms[0], steps_of(config)
        told = estimate_arm(arm, plays, Assumptions(steps=steps))
        tokens = told.student_input_tokens, told.student_output_tokens
        calls = plays * calls_of(arm.student_agent, steps)
        rows.append(("student", config.student, calls, *tokens, config.price_student_as or config.student))
    reflections = episodes * settings.rounds
    curations = (
        episodes if settings.mode != "batch" else -(-episodes // settings.batch) * settings.groups_of(settings.batch)
    )
    teacher = config.price_teacher_as
    for role, model, calls, reads, writes in (
        ("reflector", setup.reflector, reflections, CASE_TOKENS, REFLECTION_TOKENS),
        ("curator", setup.curator, curations, BOOK_TOKENS, CURATION_TOKENS),
    ):
        rows.append((role, model, calls, calls * reads, calls * writes, teacher or model))
    priced = [(*row[:5], _dollars(token_price(plan, row[5]), row[3], row[4])) for row in rows]
    columns = ("part", "model", "calls", "input_tokens", "output_tokens", "uncached_cost_usd")
    emit_table(columns, priced, json_mode=json_mode, title=f"{learning.name}: an estimate, nothing was recorded")
    for row in priced:
        if row[5] is None:
            note(f"No price for '{row[1]}': its cost is left out. Add it to potstill-prices.toml.")
    for missing in missing_keys(learning):
        note(missing)
    if not can_repair():
        note(str(MissingExtra("Learning from what models answer", "playbook")))
    note(f"At most {settings.rounds} rounds of reflection for each of {episodes} episodes; nothing cached.")


def _dollars(price: tuple[float, float] | None, input_tokens: int, output_tokens: int) -> float | None:
    return None if price is None else input_tokens * price[0] + output_tokens * price[1]
