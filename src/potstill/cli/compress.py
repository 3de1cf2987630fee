"""``potstill compress``: a trained student becomes a smaller one. Parses, prints.

A command of its own, not options of ``distill weights``: the student that is made smaller stays, is the judge of every
stage and the parent in the lineage, and other settings can be tried without training it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.cli.export_table import tell_success
from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import Decorator, apply, left_alone, typed_options
from potstill.cli.training_options import batch_option, playing_options, sign_option, threads_option

LM_DEFAULTS = {"batch": 8, "finetune_steps": 60, "learning_rate": 1e-3}
"""Of a tuned language model, where nobody says otherwise."""

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
        "condition, channels, squeezed; of an mlp layers.0, ...; of a language model heads, units. [default: all]",
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
    click.option(
        "--hard-share",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Of the recorded actions in what is learnt, beside the given student's own probabilities.",
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
@click.argument("student", metavar="FILE_OR_FOLDER")
@click.option("--out", type=click.Path(path_type=Path), help="What to write, such as small.policy or small-lm.")
@apply(stage_options)
@apply(gate_options)
@apply(
    playing_options("Play so many held-out tasks after each stage that its decisions let pass, and before the first.")
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the decisions that the student was made from. [default: the one beside it]",
)
@click.option("--base", help="lm: where the student's base lies, if not where it lay when it was tuned.")
@sign_option
@json_option
def compress(student: str, json_mode: bool, **options: Any) -> None:
    """Make a policy or a tuned language model smaller; each stage is judged by what was given, or undone.

    \b
    Examples:
      potstill compress student.policy --out small.policy --prune 0.5 --int8
      potstill compress student-lm --out small-lm --prune 0.34

    A student learns the given one's own probabilities on the decisions that it was made from. A stage must take the
    held-out ones as it does (--least-agreement, --most-kl) and, with --play N, do as many held-out tasks. What is left
    is written only if, read back from the disk, it decides as the network that passed. The given one is its parent in
    the lineage.

    A language model loses attention heads and units of its MLPs (--prune, --axis), and is tuned by adapters that become
    part of its weights: 60 steps of 8 decisions with a --learning-rate of 0.001, unless you say otherwise. Fewer bits
    are an export's: potstill export small-lm --gguf OUT.
    """
    from potstill.cli.training import compressing, lm_compressing
    from potstill.models.gguf import SUFFIX
    from potstill.models.tuned_file import STUDENT, place_of

    options["file"] = file = place_of(student)
    if (file / STUDENT).is_file() or file.suffix == SUFFIX:
        options |= {name: value for name, value in LM_DEFAULTS.items() if name in left_alone()}
        if not options["play"] and "directory" not in typed_options():
            options["directory"] = None  # settings name games to play, and nothing is played
        plan = lm_compressing.planned(options)
        made = lm_compressing.make(plan)
        acting = f"potstill run --env {plan.tuned.environment} --student tuned:{made.file} --arm zero-shot"
        exporting = f"potstill export {made.file} --gguf OUT"
    else:
        made = compressing.make(compressing.planned(options))
        acting, exporting = f"potstill edge run {made.file}", f"potstill export {made.file} --onnx OUT"
    if json_mode:
        emit_json({**made._asdict(), "success": msgspec.to_builtins(made.success)})
        return
    emit_table(list(made.stages[0]), [list(row.values()) for row in made.stages], json_mode=False, title=made.file)
    tell_success(made.success)
    note(
        f"{made.file} has {made.size_bytes} bytes, {made.share:.1%} of {made.parent_bytes}. Next: {acting}, or "
        f"{exporting}"
    )
