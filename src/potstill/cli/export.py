"""``potstill export``: a trained student for other runtimes. Parses, finds held-out decisions, prints.

A policy becomes ONNX; a tuned language model (``export_lm``) GGUF or a folder for CTranslate2.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.compress import gate_options
from potstill.cli.edge import opened
from potstill.cli.export_lm import export_student, lm_export_options, refuse_lm_options
from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply
from potstill.cli.training_options import play_options, sign_option
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.edge.policy import Policy

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("student", metavar="FILE_OR_FOLDER")
@click.option("--onnx", "out", type=_FILE, metavar="OUT", help="Write an ONNX file, such as student.onnx.")
@click.option("--int8", is_flag=True, help="For --onnx: round the weights to eight bits, a scale for each row.")
@apply(lm_export_options)
@apply(gate_options)
@apply(play_options)
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
    (--least-agreement, --most-kl) and, with --play N, do as many held-out tasks: a table says what each takes. It is a
    student like the one that it came from: tuned:student.gguf.

    The manifest lies beside what is written (OUT.lineage.json) and names the student as its parent.
    """
    from potstill.models.tuned_file import STUDENT, place_of

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
    _export_policy(file, out, int8, data, key, json_mode)


def _export_policy(
    file: Path, out: Path | None, int8: bool, data: Path | None, key: Path | None, json_mode: bool
) -> None:
    from potstill.cli.training.plan import key_of, named_as
    from potstill.distill.weights.export.onnx import export as exported
    from potstill.distill.weights.lineage import created

    if out is None:
        raise ConfigError("Nothing says what to write. Type for example: --onnx student.onnx")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    named_as(out, ".onnx", "--onnx")
    key_of(key)
    policy = opened(file)
    questions, held_out = _questions(file, policy, data)
    done = exported(file, policy, out, questions, bits=8 if int8 else None, key=key, created=created(os.environ))
    asked = "held-out decisions" if held_out else "questions made of its vocabulary"
    shown = {
        "file": done.path,
        "size_bytes": done.size_bytes,
        "policy_bytes": file.stat().st_size,
        "bits": done.bits,
        "questions": len(questions),
        "agreement": done.parity.summary()["agreement"],
        "difference": done.parity.summary()["difference"],
        "agreement_of_rounding": None if done.quantized is None else done.quantized.summary()["agreement"],
    }
    if json_mode:
        emit_json({**shown, "asked": asked, "lineage": done.lineage, "parity": done.parity.summary()})
        return
    emit_table(list(shown), [list(shown.values())], json_mode=False, title=done.path)
    note(f"It computes what {file.name} computes, asked {len(questions)} {asked} in batches of 1, 3 and 32.")


def _questions(file: Path, policy: Policy, folder: Path | None) -> tuple[list[Any], bool]:
    """Held-out decisions where they are at hand, else drawn questions, and which of both."""
    from potstill.cli.policy_data import found
    from potstill.distill.weights.export.drawn import drawn_questions
    from potstill.distill.weights.gate_shapes import questions_of

    if policy.kind in ("ranker", "film"):
        data = found(file, folder)
        if data is not None and data.held_out:
            return list(questions_of(data.held_out)), True
    return drawn_questions(policy), False
