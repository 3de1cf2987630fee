"""``potstill export``: a trained student for other runtimes. Parses, finds held-out decisions, prints.

A policy becomes ONNX; a tuned language model (``export_lm``) GGUF or a folder for CTranslate2.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.compress import gate_options
from potstill.cli.edge import opened
from potstill.cli.export_lm import export_student, lm_export_options, refuse_lm_options
from potstill.cli.export_table import sides, tell_success
from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply, typed_options
from potstill.cli.training_options import playing_options, sign_option
from potstill.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from potstill.cli.policy_data import PolicyData
    from potstill.distill.weights.export.onnx import Exported, Play
    from potstill.distill.weights.train.several import Plays
    from potstill.edge.policy import Policy

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("student", metavar="FILE_OR_FOLDER")
@click.option("--onnx", "out", type=_FILE, metavar="OUT", help="Write an ONNX file, such as student.onnx.")
@click.option("--int8", is_flag=True, help="For --onnx: round the weights to eight bits, a scale for each row.")
@apply(lm_export_options)
@apply(gate_options)
@apply(playing_options("Have the student and what is written play so many held-out tasks: the file must do as many."))
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the decisions that it was made from. [default: the one beside it, where it is]",
)
@sign_option
@json_option
def export(
    student: str,
    out: Path | None,
    int8: bool,
    data: Path | None,
    key: Path | None,
    json_mode: bool,
    **options: Any,
) -> None:
    """Write a policy as ONNX, or a tuned language model as GGUF or for CTranslate2.

    \b
    Examples:
      potstill export student.policy --onnx student.onnx
      potstill export student-lm --gguf student.gguf --quantize q8_0
      potstill export student-lm --ctranslate2 student-ct2

    A policy is written only if ONNX Runtime computes from the file what numpy computes, for held-out decisions in
    several shapes and sizes of batch; where these are not at hand, for questions made of its vocabulary. Equal policies
    give equal bytes. A tuned model's export, read back from the disk, must choose as the model does in PyTorch
    (--least-agreement, --most-kl), and is a student like the one that it came from: tuned:student.gguf. With --play N
    either must do as many held-out tasks as before. A table says what both sides take.

    The manifest lies beside what is written (OUT.lineage.json) and names the student as its parent.
    """
    from potstill.models.tuned_file import STUDENT, place_of

    if not options["play"] and "directory" not in typed_options():
        options["directory"] = None  # settings name games to play, and nothing is played
    file = place_of(student)
    if not file.exists():
        raise ConfigError(
            f"There is no file or folder {file}. Name a policy's file, such as student.policy, or a tuned language "
            "model's folder, such as student-lm."
        )
    if (file / STUDENT).is_file():
        if out is not None or int8:
            raise ConfigError(
                f"{student} is a tuned language model, and ONNX is for policies. Type: --gguf {file}.gguf"
            )
        return export_student(file, {**options, "data": data, "key": key}, json_mode=json_mode)
    refuse_lm_options(student)
    _export_policy(file, out, int8, {**options, "data": data, "key": key}, json_mode)


def _export_policy(file: Path, out: Path | None, int8: bool, options: dict[str, Any], json_mode: bool) -> None:
    from potstill.cli.training.plan import key_of, named_as

    if out is None:
        raise ConfigError("Nothing says what to write. Type for example: --onnx student.onnx")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    named_as(out, ".onnx", "--onnx")
    key_of(options["key"])
    policy = opened(file)
    data, player = _player(file, options)
    questions, held_out = _questions(policy, data)
    done = _written(file, policy, out, questions, player, {**options, "bits": 8 if int8 else None})
    asked = "held-out decisions" if held_out else "questions made of its vocabulary"
    compared = done.parity if done.quantized is None else done.quantized
    policy_bytes = file.stat().st_size
    rows = sides(
        ("policy in numpy", policy_bytes, done.policy_cost),
        (f"ONNX Runtime, {done.bits} bits", done.size_bytes, done.cost),
        compared,
        done.parity.success,
    )
    if json_mode:
        parity = done.parity.summary()
        rounding = None if done.quantized is None else done.quantized.summary()["agreement"]
        sized = {"size_bytes": done.size_bytes, "policy_bytes": policy_bytes, "bits": done.bits}
        found = {
            "agreement": parity["agreement"],
            "difference": parity["difference"],
            "agreement_of_rounding": rounding,
        }
        told = {"asked": asked, "questions": len(questions), "lineage": done.lineage, "parity": parity, "table": rows}
        emit_json({"file": done.path, **sized, **found, **told})
        return
    emit_table(list(rows[0]), [list(row.values()) for row in rows], json_mode=False, title=done.path)
    tell_success(done.parity.success)
    note(f"It computes what {file.name} computes, asked {len(questions)} {asked} in batches of 1, 3 and 32.")


def _written(
    file: Path, policy: Policy, out: Path, questions: list[Any], player: Plays | None, options: dict[str, Any]
) -> Exported:
    from potstill.distill.weights.export.onnx import export as exported
    from potstill.distill.weights.lineage import created

    with contextlib.ExitStack() as stack:
        if player is not None:
            stack.enter_context(player)
        return exported(
            file,
            policy,
            out,
            questions,
            bits=options["bits"],
            play=None if player is None else _both(player, policy),
            success_margin=options["margin"],
            key=options["key"],
            created=created(os.environ),
        )


def _both(player: Plays, policy: Policy) -> Play:
    return lambda side, written: (player.outcomes(policy), player.outcomes_of(side, written))


def _player(file: Path, options: dict[str, Any]) -> tuple[PolicyData | None, Plays | None]:
    """The data that the policy was made from, where they are at hand, and who plays the tasks that they hold out."""
    from potstill.cli.policy_data import found, needed
    from potstill.cli.training.plan import playing_of

    if not options["play"]:
        playing_of(options)
        return found(file, options["data"]), None
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Playing held-out tasks", "weights")
    from potstill.cli.training.held_out_play import player_on
    from potstill.distill.weights.data.environments import environments_in

    data = needed(file, options["data"], "--play")
    return data, player_on(data, options["play"], 0, playing_of(options, environments_in(data.held_out)))


def _questions(policy: Policy, data: PolicyData | None) -> tuple[list[Any], bool]:
    """Held-out decisions where they are at hand, else drawn questions, and which of both."""
    from potstill.distill.weights.export.drawn import drawn_questions
    from potstill.distill.weights.gate_shapes import questions_of

    if policy.kind in ("ranker", "film") and data is not None and data.held_out:
        return list(questions_of(data.held_out)), True
    return drawn_questions(policy), False
