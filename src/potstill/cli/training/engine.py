"""Has an engine make a language-model student: its folder, its process, the student. Needs the extra ``lm``.

What it knows: the order of things. What it does not do: parse or print (``distill_engine``), train.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.cli.output import note
from potstill.cli.training import engine_student
from potstill.cli.training.engine_data import Handed, asked_chats, hand
from potstill.cli.training.engine_plan import EnginePlan
from potstill.cli.training.plan import to_resume
from potstill.distill.weights.engines import running, trl_script
from potstill.distill.weights.engines.job import Job, differences, encoded
from potstill.distill.weights.engines.rows import asked_rows
from potstill.errors import ConfigError
from potstill.locks import exclusive
from potstill.models.lm_texts import LmTexts


def estimate(plan: EnginePlan) -> dict[str, Any]:
    """What would be trained. Leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        handed = hand(plan, Path(folder))
    rows, budget = len(handed.rows), plan.budget
    return {
        "environment": plan.lm.environment,
        "base": plan.lm.recipe.base,
        "rows": rows,
        "held_out": len(handed.read.held_out),
        "longest_prompt": handed.longest,
        "steps": budget.steps or budget.epochs * -(-rows // budget.batch),
        "trl": plan.versions["trl"],
        "command": shlex.join(plan.command),
    }


def make(plan: EnginePlan) -> engine_student.Made:
    """Train and write the student. Raises ``ConfigError``, ``PotstillError``, ``GateFailed``, ``StoreError``."""
    folder = plan.lm.folder
    to_resume(folder / trl_script.JOB, plan.lm.resume)
    folder.mkdir(exist_ok=True)
    _refuse_running(folder)
    handed = hand(plan, folder)
    _lay_out(plan, folder, handed)
    if not (folder / trl_script.TRAINED / trl_script.REPORT).exists():
        try:
            running.run(plan.command, folder, note)
        except running.Stopped:
            raise click.Abort from InterruptedError(
                f"the checkpoints in {folder / trl_script.CHECKPOINTS} are kept. To go on, type the same command with "
                "--resume"
            )
    return engine_student.write(plan, handed)


def _refuse_running(folder: Path) -> None:
    """An engine outlives a potstill that was killed; its checkpoints must not be taken away under it."""
    try:
        with exclusive(folder / trl_script.LOCK, wait=False):
            pass
    except BlockingIOError:
        raise ConfigError(
            f"A training is running in {folder}. Wait until it has ended; or have it keep a checkpoint and end: touch "
            f"{folder / trl_script.STOP}"
        ) from None


def _lay_out(plan: EnginePlan, folder: Path, handed: Handed) -> None:
    """The folder as the engine reads it; with ``--resume`` it must be of the same job."""
    job, path = encoded(handed.job), folder / trl_script.JOB
    if plan.lm.resume:
        if path.read_bytes() != job:
            raise ConfigError(
                f"{path} is of another training: {_different(path, handed.job)}. Type the command as it was, or leave "
                "--resume away to begin anew."
            )
    else:
        if (folder / trl_script.CHECKPOINTS).exists():
            note(f"The checkpoints in {folder} are replaced. To go on from them instead, stop and type --resume.")
        for name in (trl_script.CHECKPOINTS, trl_script.TRAINED):
            shutil.rmtree(folder / name, ignore_errors=True)
    running.prepare(folder, job, handed.rows, asked_rows(asked_chats(handed.read), LmTexts(handed.base)))


def _different(path: Path, job: Job) -> str:
    """What another job has otherwise."""
    try:
        before = msgspec.json.decode(path.read_bytes(), type=Job)
    except msgspec.DecodeError:
        return "another version of potstill wrote it"
    return "; ".join(differences(before, job)) or "another version of potstill wrote it"
