"""``potstill lineage``: where a trained artefact comes from, and whether anything was changed since.

Callbacks parse and print; what is compared lies in ``potstill.distill.weights.lineage_verify``.
"""

from __future__ import annotations

from pathlib import Path

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.errors import BadModelFile

_FILE = click.Path(path_type=Path)


@click.group()
def lineage() -> None:
    """Tell where a trained artefact comes from, and whether it was changed."""


@lineage.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=_FILE,
    metavar="PUBLIC.pem",
    help="Each FILE must be signed by one of these Ed25519 keys [repeatable].",
)
@click.option("--complete", is_flag=True, help="Fail also where a parent is not at hand.")
@json_option
def verify(files: tuple[Path, ...], keys: tuple[Path, ...], complete: bool, json_mode: bool) -> int:
    """Find any change of FILES, of their manifests, and of the artefacts that they were made from.

    A parent is searched among FILES, then beside its child, then among the
    child's former versions. Exit code 3 if anything was changed.

    \b
    Examples:
      potstill lineage verify student.safetensors
      potstill lineage verify student.safetensors --key public.pem --complete
    """
    from potstill.distill.weights.lineage_sign import public_key
    from potstill.distill.weights.lineage_verify import Status
    from potstill.distill.weights.lineage_verify import verify as found_in

    found = found_in(files, keys=[public_key(path) for path in keys])
    rows = [(one.file, one.part, one.status.value, one.detail or None) for one in found.findings]
    emit_table(("file", "part", "status", "detail"), rows, json_mode=json_mode, title="Lineage")
    counts = {status: sum(one.status is status for one in found.findings) for status in Status}
    note(", ".join(f"{count} {status.value}" for status, count in counts.items()))
    return 0 if found.passed and (found.complete or not complete) else BadModelFile.exit_code


@lineage.command()
@click.argument("file", type=_FILE)
def show(file: Path) -> None:
    """Print the manifest of FILE as JSON, as it was found: teachers, data, metrics, parents."""
    from potstill.distill.weights.lineage import read

    found = read(file)
    emit_json({"sha256": found.sha256, "manifest": found.manifest})
