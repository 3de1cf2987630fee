"""The options that commands share which learn from recorded episodes, as decorators. Parsing only."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.cli.run_options import Decorator
from potstill.cli.store_option import db_option, namespace_option

split_option: Decorator = click.option(
    "--split", default="train", show_default=True, help="Of the tasks: never those that will be tested."
)
run_option: Decorator = click.option("--run", "run_id", metavar="RUN", help="Only this run's episodes.")

recorded_options: tuple[Decorator, ...] = (
    db_option,
    namespace_option,
    click.option("--env", "environment", help="Environment of the episodes. [default: the only one there is]"),
    split_option,
    run_option,
)
"""Which episodes are learnt from, where one command learns one environment."""

batch_option: Decorator = click.option(
    "--batch", type=click.IntRange(1), default=64, show_default=True, help="Decisions of a step."
)
schedule_option: Decorator = click.option("--schedule", default="cosine", show_default=True, help="cosine or constant.")
threads_option: Decorator = click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of PyTorch."
)
jobs_option: Decorator = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Episodes at a time."
)
sign_option: Decorator = click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ed25519 key (PEM) to sign with.",
)

source_options: tuple[Decorator, ...] = (
    db_option,
    namespace_option,
    click.option(
        "--env",
        "environment",
        multiple=True,
        help="Environment of the episodes; repeatable, then one student learns all, each with the same weight. "
        "[default: the only one there is]",
    ),
    split_option,
    run_option,
    click.option(
        "--held-out",
        type=click.FloatRange(0, 0.9, min_open=True),
        default=0.1,
        show_default=True,
        help="Share of the tasks that is not learnt from: it says when to stop, and judges the file.",
    ),
)
"""The same where one command may learn several, and holds tasks out."""


def playing_options(play: str, purpose: str = "--play") -> tuple[Decorator, ...]:
    """How held-out tasks are played. ``play``: what ``--play N`` means; ``purpose``: options that play them."""
    return (
        click.option("--play", type=click.IntRange(0), default=0, show_default=True, metavar="N", help=play),
        click.option("--tasks", "directory", type=click.Path(), help=f"For {purpose}: folder with the games."),
        click.option(
            "--option",
            "environment_options",
            multiple=True,
            help=f"For {purpose}: KEY=VALUE for the environment; of several, NAME:KEY=VALUE.",
        ),
        click.option("--max-steps", type=click.IntRange(1), help=f"For {purpose}: steps. [default: the environment's]"),
        jobs_option,
    )
