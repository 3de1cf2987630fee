"""``potstill distill debates``: several say what they would do in recorded situations. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.run_options import apply, typed_options
from potstill.cli.training_options import recorded_options


@click.command()
@apply(recorded_options)
@click.option(
    "--speaker",
    "speakers",
    multiple=True,
    metavar="SPEAKER",
    help="policy:FILE, or run:NAME for what was done there; two or more.",
)
@click.option(
    "--n", type=click.IntRange(1), default=500, show_default=True, help="Situations at most, drawn by --seed."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file, such as debates.jsonl.")
@json_option
def debates(json_mode: bool, **options: Any) -> None:
    """Let policies and runs say what they would do in situations whose answer is known, and write that as debates.

    \b
    potstill distill debates --speaker policy:a.policy --speaker policy:b.policy --out debates.jsonl
    potstill distill weights --debates debates.jsonl --out student.policy

    Right is what the teacher did in its successful episodes. Runs speak in situations that they met, too. Each line of
    the file is one debate, and one that others held, in several rounds, may be written into the same form.
    """
    from potstill.cli.training import holding

    if "environment" not in typed_options():
        options["environment"] = None
    held = holding.make(holding.planned(options))
    if json_mode:
        emit_json(held._asdict())
        return
    emit_table(
        ["speaker", "right"], [[name, share] for name, share in held.right.items()], json_mode=False, title=held.file
    )
    note(
        f"{held.debates} debates, {held.telling} of which tell a right action from a wrong one. "
        f"Next: potstill distill weights --debates {held.file} --out student.policy"
    )
