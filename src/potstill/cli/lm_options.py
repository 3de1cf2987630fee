"""The options of ``potstill distill weights --student lm``, their defaults, and what is printed. Parses and prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from potstill.cli.output import emit_estimate, emit_json, emit_table, note
from potstill.cli.run_options import Decorator, typed_options
from potstill.errors import ConfigError


def student_options(of: str = "") -> tuple[Decorator, ...]:
    """Options of a language-model student, however it is tuned. ``of``: begins their help where others stand beside."""
    return (
        click.option("--base", help=f"{of}What is tuned: smollm2-135m, a GGUF file or a checkpoint folder."),
        click.option("--rank", type=int, default=16, show_default=True, help=f"{of}Inner width of the adapters."),
        click.option(
            "--history", "history_turns", type=click.IntRange(0), help=f"{of}Past turns in prompts. [default: all]"
        ),
        click.option(
            "--list-admissible/--no-list-admissible",
            default=False,
            show_default=True,
            help=f"{of}Write the admissible actions into prompts. It is held to them either way.",
        ),
        click.option(
            "--reasoning",
            default="none",
            show_default=True,
            help=f"{of}none, or with-action: it writes its reasoning before it acts.",
        ),
        click.option(
            "--rationales",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"{of}With --reasoning with-action, reasoning for decisions whose teacher gave none (potstill distill "
            "rationales); repeatable, the first file that has some is learnt. Decisions without any are left out.",
        ),
        click.option(
            "--demos",
            "demonstrations",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help=f"{of}Demonstrations in each prompt, found as run finds them. With 0 it must never be shown any.",
        ),
        click.option(
            "--merged", is_flag=True, help=f"{of}Write whole weights, which need no base, instead of adapters."
        ),
    )


lm_options: tuple[Decorator, ...] = (
    *student_options("lm: "),
    click.option(
        "--span", "span_options", multiple=True, help="lm: KIND=WEIGHT of tokens: text, reasoning. [default: 1 and 0.3]"
    ),
    click.option(
        "--whole-episodes",
        is_flag=True,
        help="lm: Learn all decisions of an episode in one pass (all past turns in prompts); --batch counts episodes.",
    ),
)
_PARAMETERS = (
    "base",
    "rank",
    "history_turns",
    "list_admissible",
    "reasoning",
    "demonstrations",
    "span_options",
    "rationales",
    "whole_episodes",
    "merged",
)
_DEFAULTS = {"epochs": 2, "batch": 8, "learning_rate": 5e-4, "patience": 3}
"""Instead of the ranker's, where they are not typed."""


def refuse_lm_options(typed: Mapping[str, str]) -> None:
    """Raises ``ConfigError`` for options that mean something for language models only."""
    for name in _PARAMETERS:
        if name in typed:
            raise ConfigError(f"{typed[name]} is for language models. Type: --student lm, or leave it away.")


def tune(options: dict[str, Any], *, dry_run: bool, json_mode: bool) -> None:
    """Plan, train and print a language-model student. Raises as ``training.lm`` does."""
    typed = typed_options()
    if "width" in typed:
        raise ConfigError(f"{typed['width']} is for rankers; a language model has its base's. Type: --rank 16")
    from potstill.cli.next_run import next_run
    from potstill.cli.training import lm as session

    plan = session.planned({**options, **{name: value for name, value in _DEFAULTS.items() if name not in typed}})
    if dry_run:
        emit_estimate(session.estimate(plan), json_mode)
        return
    made = session.make(plan)
    if json_mode:
        emit_json(made._asdict())
        return
    shown = {name: value for name, value in made._asdict().items() if name not in ("parity", "data", "manifest_sha256")}
    emit_table(list(shown), [list(shown.values())], json_mode=False, title=str(plan.out))
    note(
        f"Read back from the disk it decides as what was trained: agreement {made.parity['agreement']:.4g} on "
        f"{made.parity['questions']} held-out questions."
    )
    note(f"Next: {next_run(plan.db, plan.filters, plan.environment, f'tuned:{plan.out}')}")
