"""``potstill distill retrain`` and ``distill rollback``: a policy learns on, or the one before acts again.

Callbacks parse and print; the work is ``training.retraining``'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import Decorator, apply, typed_options
from potstill.cli.store_option import db_option, namespace_option
from potstill.cli.training_options import (
    batch_option,
    playing_options,
    run_option,
    schedule_option,
    sign_option,
    threads_option,
)

if TYPE_CHECKING:
    from potstill.cli.training.retraining import Retrained

NOT_PROMOTED = 1
_POLICY = click.Path(path_type=Path, exists=True, dir_okay=False)

_data_options: tuple[Decorator, ...] = (
    db_option,
    namespace_option,
    click.option("--env", "environment", help="Environment of the episodes. [default: that of its data]"),
    click.option("--split", default="train", show_default=True, help="Of the tasks; '' for a gateway's episodes."),
    run_option,
    click.option(
        "--new-share",
        type=float,
        default=0.5,
        show_default=True,
        help="What the new decisions weigh of all that is learnt from; 1: the old ones are left out.",
    ),
    click.option(
        "--margin",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.02,
        show_default=True,
        help="Loss of success that would be accepted, on new and on old alike; fix it before you look.",
    ),
    click.option(
        "--forget-old",
        is_flag=True,
        help="Do not judge by the old data: what was known does not hold any more. Else it must not be forgotten.",
    ),
)
_train_options: tuple[Decorator, ...] = (
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of batches and dropout."),
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="How often, at most."),
    click.option("--steps", type=click.IntRange(1), help="Gradient steps at most, instead of --epochs."),
    batch_option,
    click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="The highest (AdamW)."),
    schedule_option,
    click.option("--patience", type=click.IntRange(0), default=4, show_default=True, help="As of distill weights."),
    click.option("--loss", "loss_options", multiple=True, help="KEY=VALUE; repeatable. [default: as before]"),
    threads_option,
)
_play_options = playing_options(
    "Judge by so many held-out tasks of the new episodes, and as many of the old data where the environment still has "
    "them: both policies play them once training has ended. Held-out decisions say when to stop."
)


@click.command()
@click.argument("policy", type=_POLICY)
@apply(_data_options)
@apply(_train_options)
@apply(_play_options)
@sign_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same retraining.")
@json_option
def retrain(policy: Path, json_mode: bool, **options: Any) -> int:
    """Train POLICY on from its own weights, on episodes that it has not learnt from mixed with its old data.

    \b
    potstill distill retrain student.policy --play 100
    potstill distill rollback student.policy

    The retrained policy takes POLICY's place only if it is shown to lose no more than the margin allows on held-out
    tasks of the new episodes (played with --play N, else the teacher's own decisions, which cannot tell when the labels
    themselves are wrong) and on those of its old data: what was known must stay known. An old decision does not count
    where the teacher decided anew in that situation. POLICY is a ranker. Exit code 1 where it was not promoted; POLICY
    is untouched then.
    """
    from potstill.cli.training import retraining as session
    from potstill.cli.training.retrain_plan import planned

    if not options["play"] and "directory" not in typed_options():
        options["directory"] = None  # settings name games to play, and nothing is played
    if "environment" not in typed_options():
        options["environment"] = None
    made = session.retrain(planned(policy, options))
    print_retrained(made, json_mode)
    return 0 if made.promoted else NOT_PROMOTED


@click.command()
@click.argument("policy", type=_POLICY)
@click.option("--to", metavar="VERSION", help="First digits of a version's hash. [default: its parent]")
@json_option
def rollback(policy: Path, to: str | None, json_mode: bool) -> None:
    """Let the version act again that POLICY was retrained from, byte for byte as it was."""
    import datetime

    from potstill.distill.weights.continual import versions

    now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
    before = versions.version_of(policy)
    version = versions.roll_back(policy, at=now, to=to)
    row = {"file": str(policy), "version": version, "before": before}
    if json_mode:
        emit_json(row)
        return
    emit_table(list(row), [list(row.values())], json_mode=False, title=str(policy))
    note(f"{policy} is version {version[:16]} again. What it was stays in {versions.folder_of(policy)}.")


def print_retrained(made: Retrained, json_mode: bool) -> None:
    if json_mode:
        emit_json(made._asdict())
        return
    row = {name: value for name, value in made._asdict().items() if name not in ("why", "difference_ci", "old")}
    emit_table(list(row), [list(row.values())], json_mode=False, title=made.file)
    low, high = made.difference_ci
    said = f"{made.difference:+.1%} ({low:+.1%} to {high:+.1%}) on {made.n} {made.judged_by}, margin {made.margin:.1%}"
    for one in made.old:
        worst, best = one["difference_ci"]
        note(
            f"On what it knew: {one['difference']:+.1%} ({worst:+.1%} to {best:+.1%}) on {one['n']} {one['judged_by']}."
        )
    if made.promoted:
        note(f"Promoted: {said}. To take it back: potstill distill rollback {made.file}")
    else:
        note(f"Not promoted: {said}. {made.why} {made.file} is as it was.")
