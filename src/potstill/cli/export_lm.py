"""The part of ``potstill export`` that is for tuned language models: its options, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.export_table import sides, tell_success
from potstill.cli.output import emit_json, emit_table, note
from potstill.cli.run_options import Decorator, typed_options
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.weights.lm.exporting import Exported

lm_export_options: tuple[Decorator, ...] = (
    click.option("--gguf", type=click.Path(path_type=Path), metavar="OUT", help="Write GGUF, such as student.gguf."),
    click.option(
        "--ctranslate2", type=click.Path(path_type=Path), metavar="OUT", help="Write a folder for CTranslate2."
    ),
    click.option("--quantize", help="gguf: q8_0, q4_0 or f16 [default: q8_0]; ctranslate2: int8 or float32 [int8]."),
    click.option(
        "--questions",
        type=click.IntRange(1),
        default=24,
        show_default=True,
        help="lm: held-out decisions that are compared, evenly picked; some at other lengths, too.",
    ),
    click.option("--base", help="lm: where the student's base lies, if not where it lay when it was tuned."),
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="lm: threads of both sides."),
)
_OURS = ("gguf", "ctranslate2", "quantize", "questions", "base", "threads")
_GATE = ("least_agreement", "most_kl")


def refuse_lm_options(student: str) -> None:
    """Raises ``ConfigError`` for options that mean something for language models only."""
    typed = typed_options()
    for name in (*_OURS, *_GATE):
        if name in typed:
            raise ConfigError(
                f"{typed[name]} is for tuned language models, and {student} holds none (student.json). Type for "
                "example: potstill export student-lm --gguf student.gguf"
            )


def export_student(folder: Path, options: dict[str, Any], *, json_mode: bool) -> None:
    """Plan, export and print. Raises as ``training.lm_exporting`` does."""
    from potstill.cli.training import lm_exporting as session

    plan = session.planned(folder, options)
    done = session.make(plan)
    rows = table(done)
    if json_mode:
        parity = done.parity.summary()
        told = {"path": done.path, "engine": done.engine, "quantization": done.quantization, "lineage": done.lineage}
        sized = {"size_bytes": done.size_bytes, "questions": parity["questions"]}
        emit_json({**told, **sized, "table": rows, "prompts": prompts(done), "parity": parity})
        return
    emit_table(list(rows[0]), [list(row.values()) for row in rows], json_mode=False, title=done.path)
    lengths = prompts(done)
    emit_table(list(lengths[0]), [list(row.values()) for row in lengths], json_mode=False, title="compared")
    tell_success(done.parity.success)
    note(f"Next: potstill run --env {plan.environment} --student tuned:{done.path} --arm zero-shot")


def prompts(done: Exported) -> list[dict[str, Any]]:
    """How the export compares at each length of prompts."""
    return [
        {"prompts": row.shape, "questions": row.questions, "agreement": row.agreement, "kl_nats": row.kl_nats}
        for row in done.parity.rows
    ]


def table(done: Exported) -> list[dict[str, Any]]:
    """Bytes, latency and memory of both sides, and how the export compares."""
    return sides(
        ("as tuned", done.student_bytes, done.trained_cost),
        (f"{done.engine} {done.quantization}", done.size_bytes, done.exported_cost),
        done.parity,
        done.parity.success,
    )
