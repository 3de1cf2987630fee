"""The options that ``run``, ``distill context`` and ``demo`` share, as decorators. Parsing only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from potstill.cli.store_option import db_option, namespace_option
from potstill.config import HELP

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def apply(options: tuple[Decorator, ...]) -> Decorator:
    """One decorator from many, so that the help lists them in the order in which they stand."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def defaults(*groups: tuple[Decorator, ...]) -> dict[str, Any]:
    """The defaults of options that a command does not show, because they change nothing in it."""
    command = click.command()(apply(tuple(option for group in groups for option in group))(lambda: None))
    return command.make_context("defaults", []).params


def typed_options() -> dict[str, str]:
    """The options that the user typed, parameter by flag; neither defaults nor settings from files or variables."""
    context = click.get_current_context()
    about = {"resume", "dry_run", "json_mode"}
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and parameter.name not in about
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def left_alone() -> set[str]:
    """The parameters that have their default: nobody typed them, and no settings name them."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.DEFAULT}


task_options: tuple[Decorator, ...] = (
    click.option("--env", "environment", help=HELP["env"]),
    click.option("--tasks", "directory", type=click.Path(), help="Folder with the games, where they are files."),
    click.option("--option", "environment_options", multiple=True, help="KEY=VALUE for the environment; repeatable."),
    click.option("--n", type=int, help="How many tasks, drawn by --seed. [default: all]"),
    click.option("--seed", type=int, default=0, show_default=True, help="First seed."),
    click.option("--max-steps", type=click.IntRange(1), help="Steps per episode. [default: the environment's]"),
)

world_options: tuple[Decorator, ...] = (
    *task_options,
    click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Seeds per task."),
)

teacher_model_options: tuple[Decorator, ...] = (
    click.option("--teacher", help="expert, http:URL#MODEL, PROVIDER:MODEL, ..."),
    click.option("--teacher-option", "teacher_options", multiple=True, help="KEY=VALUE for the teacher; repeatable."),
    click.option("--price-teacher-as", help="Price the teacher as this model (needed for 'expert')."),
)

teacher_options: tuple[Decorator, ...] = (
    *teacher_model_options,
    click.option("--reasoning", default="none", show_default=True, help="none, with-action or separate."),
    click.option("--plan/--no-plan", default=False, help="Write a plan first (language models)."),
)

student_options: tuple[Decorator, ...] = (
    click.option("--student", help="local:smollm2-135m, local:PATH.gguf, http:URL#MODEL, ..."),
    click.option("--student-option", "student_options", multiple=True, help="KEY=VALUE for the student; repeatable."),
    click.option("--price-student-as", help="Price the student as this model (local students)."),
)

record_options: tuple[Decorator, ...] = (
    db_option,
    namespace_option,
    click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Episodes at a time."),
    click.option("--cpu-hour-usd", type=float, help="Price local models by CPU time, in dollars an hour."),
    click.option(
        "--max-cost",
        "max_cost_usd",
        type=click.FloatRange(0, min_open=True),
        help="Start no new episode once the run has cost so many dollars; inf lifts a resumed run's limit.",
    ),
    click.option("--run", "run_id", help="Name of the run; made from date and configuration if not given."),
    click.option(
        "--resume",
        is_flag=False,
        flag_value="last",
        help="Continue a run by name, or the last one: its settings come from the store.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be recorded and its estimated cost, and stop."),
)

agent_options: tuple[Decorator, ...] = (
    click.option(
        "--alone-temperature", type=float, default=0.1, show_default=True, help="Of an answer without a vote."
    ),
    click.option("--placement", default="first", show_default=True, help="Demonstrations first or last."),
    click.option("--history", "history_turns", type=click.IntRange(0), help="Past turns in the prompt. [default: all]"),
    click.option(
        "--list-admissible/--no-list-admissible",
        default=None,
        help="Write the admissible actions into the "
        "prompt. [default: only where the student is not constrained to them]",
    ),
)

policy_options: tuple[Decorator, ...] = (
    *agent_options,
    click.option("--mode", default="step", show_default=True, help="Escalation: step, sticky, restart, compact, ..."),
    click.option(
        "--signal",
        default="votes",
        show_default=True,
        help="What makes the student trusted: votes or likelihood (of its best action among the admissible ones).",
    ),
    click.option("--samples", type=int, default=3, show_default=True, help="Samples N of the student."),
    click.option("--temperature", type=float, default=0.7, show_default=True, help="Of the samples that vote."),
    click.option(
        "--threshold", type=float, help="Least agreement or likelihood. [default: 1.0 for votes, 0.7 for likelihood]"
    ),
    click.option(
        "--calibration",
        type=click.Path(dir_okay=False),
        help="Signal, samples and threshold that 'potstill calibrate --out' certified, in place of the three.",
    ),
    click.option("--sampling", default="auto", show_default=True, help="auto (the cheaper), together or sequential."),
    click.option("--rule", help="Agreement: exact, normalized, json, python-ast. [default: by environment]"),
    click.option("--keep-steps", type=int, default=5, show_default=True, help="For sticky and teacher-first."),
    click.option("--patience", type=int, default=3, show_default=True, help="Untrusted steps before a restart."),
    click.option("--teacher-share", type=float, default=0.0, help="For random-mix without a cascade in the run."),
    click.option(
        "--escalate-repeats/--trust-repeats",
        default=True,
        show_default=True,
        help="Whether a cascade hands over when the student repeats an action in the same situation.",
    ),
)

playbook_options: tuple[Decorator, ...] = (
    click.option("--playbook", metavar="NAME", help="The playbook that arms named playbook... show; see 'playbook'."),
    click.option(
        "--playbook-budget", type=click.IntRange(0), default=10_000, show_default=True, help="Most tokens of its text."
    ),
    click.option(
        "--playbook-per-step",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Bullets beside its text for each step, found by --ranker.",
    ),
    click.option(
        "--canary-share",
        type=click.FloatRange(0, 1),
        default=0.1,
        show_default=True,
        help="Share of the tasks that are shown a canary.",
    ),
    click.option(
        "--holdout-share",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Share of the episodes that leave out half of the bullets by lot: how 'playbook report' knows effects.",
    ),
)

context_options: tuple[Decorator, ...] = (
    click.option("--k", type=click.IntRange(1), default=3, show_default=True, help="Demonstrations shown."),
    click.option(
        "--window",
        type=click.IntRange(0),
        default=5,
        show_default=True,
        help="Steps either side, where demonstrations belong to a step (per-step, hybrid).",
    ),
    click.option("--retrieval", default="per-task", show_default=True, help="per-task (frozen), per-step or hybrid."),
    click.option(
        "--demos-split",
        "demonstrations_split",
        default="train",
        show_default=True,
        help="Split whose teacher episodes are shown; never the one that is tested.",
    ),
    click.option(
        "--style", default="full", show_default=True, help="full, compact, or transcript (for template=plain)."
    ),
    click.option("--ranker", default="bm25", show_default=True, help="bm25, onnx:PATH or http:URL#MODEL."),
    click.option("--context-budget", type=click.IntRange(0), help="Most tokens of demonstrations."),
)
