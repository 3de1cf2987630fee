"""``potstill compress``: a trained policy becomes a smaller one. Parses, prints.

A command of its own, not options of ``distill weights``: the policy that is made smaller stays, is the judge of every
stage and the parent in the lineage, and other settings can be tried without training it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import Decorator, apply
from potstill.cli.training_options import batch_option, playing_options, sign_option, threads_option

if TYPE_CHECKING:
    from potstill.cli.training.compressing import Made

_FILE = click.Path(path_type=Path, dir_okay=False)

stage_options: tuple[Decorator, ...] = (
    click.option("--width", type=int, default=0, help="Distil into a new network of this width first."),
    click.option(
        "--features",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="With --width: draw the last hidden layer to FILE's, too, that much. [default: 0, not at all]",
    ),
    click.option(
        "--prune",
        type=float,
        multiple=True,
        metavar="SHARE",
        help="Take out that share of the units, such as 0.5; repeatable: of those that are left.",
    ),
    click.option(
        "--axis",
        "axes",
        multiple=True,
        metavar="NAME",
        help="Prune these only: hidden, embedding; of a ranker width, query, age; of a film goal, patch, memory, "
        "condition, channels, squeezed; of an mlp layers.0, ... [default: all]",
    ),
    click.option("--score", default="taylor", show_default=True, help="What a unit is worth: taylor or magnitude."),
    click.option(
        "--zeros",
        "sparse",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="Set that share of each matrix to zero. Saves no time, and bytes only where the file is zipped.",
    ),
    click.option("--int8", is_flag=True, help="Round the weights to eight bits, a scale for each row."),
    click.option("--int4", is_flag=True, help="Round the weights to four bits."),
    click.option("--distill-steps", type=click.IntRange(1), default=1500, show_default=True, help="With --width."),
    click.option(
        "--finetune-steps",
        type=click.IntRange(1),
        default=300,
        show_default=True,
        help="After each --prune or --zeros.",
    ),
    click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="Half of it to fine-tune."),
    batch_option,
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and batches."),
    threads_option,
)

gate_options: tuple[Decorator, ...] = (
    click.option(
        "--least-agreement",
        type=click.FloatRange(0, 1),
        default=0.95,
        show_default=True,
        help="Share of held-out decisions that must be taken as the given student takes them.",
    ),
    click.option(
        "--most-kl", type=click.FloatRange(0), default=0.05, show_default=True, help="Nats from the given student."
    ),
    click.option(
        "--margin",
        type=click.FloatRange(0, 1),
        default=0.02,
        show_default=True,
        help="With --play: how much lower the share of successes may be.",
    ),
)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, help="The file to write, such as small.policy.")
@apply(stage_options)
@apply(gate_options)
@apply(
    playing_options("Play so many held-out tasks after each stage that its decisions let pass, and before the first.")
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the decisions that FILE was made from. [default: the one beside FILE]",
)
@sign_option
@json_option
def compress(json_mode: bool, **options: Any) -> None:
    """Make the policy in FILE smaller: distil, prune, fine-tune, round; each stage is judged by FILE or undone.

    \b
    Example:
      potstill compress student.policy --out small.policy --prune 0.5 --int8

    A student learns FILE's own probabilities on the decisions that FILE was made from. A stage must take the held-out
    ones as FILE does (--least-agreement, --most-kl) and, with --play N, do as many held-out tasks. What is left is
    written only if, read back from the disk, it decides as the network that passed. FILE is its parent in the lineage.
    """
    from potstill.cli.training import compressing as session

    print_made(session.make(session.planned(options)), json_mode)


def print_made(made: Made, json_mode: bool) -> None:
    if json_mode:
        emit_json(made._asdict())
        return
    emit_table(list(made.stages[0]), [list(row.values()) for row in made.stages], json_mode=False, title=made.file)
    note(
        f"{made.file} has {made.size_bytes} bytes, {made.share:.1%} of {made.parent_bytes}. Next: potstill edge run "
        f"{made.file}, or potstill export {made.file} --onnx OUT"
    )
