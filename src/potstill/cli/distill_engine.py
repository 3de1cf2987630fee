"""``potstill distill engine``: an engine for larger work tunes a language model elsewhere. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.cli.lm_options import student_options
from potstill.cli.output import emit_estimate, emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply, typed_options
from potstill.cli.training_options import sign_option, source_options

METHODS = ("trl-sft", "trl-dpo", "trl-distill")


@click.command()
@click.argument("method", type=click.Choice(METHODS))
@apply(source_options)
@apply(student_options())
@click.option("--teacher-model", help="trl-distill: a model with the base's vocabulary, as --base names one.")
@click.option("--steps", type=click.IntRange(1), help="Gradient steps, instead of --epochs.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True, help="How often each row is learnt.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Rows of a step and process.")
@click.option("--learning-rate", type=float, help="The highest. [default: trl-sft 2e-4, trl-dpo and trl-distill 1e-5]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of adapters and batches.")
@click.option(
    "--save-every", type=click.IntRange(1), default=50, show_default=True, help="Steps between two checkpoints."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of PyTorch on a CPU.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting of TRL's SFTConfig, DPOConfig or DistillationConfig, such as beta=0.2; repeatable.",
)
@click.option(
    "--python", help="The Python of the environment that has TRL, such as trl-env/bin/python. [default: this one]"
)
@click.option(
    "--launch",
    metavar="COMMAND",
    help="What starts the script there, such as 'accelerate launch --num_processes 4'. [default: that Python]",
)
@click.option("--out", type=click.Path(path_type=Path), help="The student's folder, such as student-lm.")
@sign_option
@click.option("--resume", is_flag=True, help="Go on from the engine's last checkpoint of the same training.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and by which command, and stop.")
@json_option
def engine(method: str, dry_run: bool, json_mode: bool, **options: Any) -> None:
    """Tune a language model on recorded episodes by TRL, which runs as a process of its own in its own environment.

    \b
    python -m venv trl-env && trl-env/bin/pip install 'trl>=1.10,<2' peft
    potstill distill engine trl-sft --base smollm2-135m --out student-lm --python trl-env/bin/python
    potstill run --env minigrid --student tuned:student-lm --arm zero-shot --n 40

    trl-sft learns the teacher's answers. trl-dpo learns to tell what the teacher did from what else was done, or meant
    by an overruled student, behind the same prompt. trl-distill has the student answer by itself and learns the
    distribution of --teacher-model over its answers. Prompts are those that run sends. The folder beside the student
    (student-lm.training) holds rows, job, script and checkpoints. The student is written only if it decides, read back
    from the disk, as TRL's network did.
    """
    from potstill.cli.next_run import next_run
    from potstill.cli.training.engine_plan import planned

    if "environment" not in typed_options():  # settings name one to play, not the one that was recorded
        options["environment"] = ()
    plan = planned(method, options)
    from potstill.cli.training import engine as session  # needs PyTorch, whose absence planned has told of

    if dry_run:
        emit_estimate(session.estimate(plan), json_mode)
        return
    made = session.make(plan)
    if json_mode:
        emit_json(made._asdict())
        return
    hidden = ("parity", "data", "manifest_sha256", "versions")
    shown = {name: value for name, value in made._asdict().items() if name not in hidden}
    emit_table(list(shown), [list(shown.values())], json_mode=False, title=made.folder)
    note(
        f"Read back from the disk it decides as what TRL {made.versions['trl']} trained, on {made.parity['questions']} "
        "held-out questions."
    )
    note(f"Next: {next_run(plan.lm.db, plan.lm.filters, plan.lm.environment, f'tuned:{made.folder}')}")
