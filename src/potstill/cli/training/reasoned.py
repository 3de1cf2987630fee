"""Rationales for a training: files, what is learnt of them, and what a student says of it.

What it knows: files and what a training prints. What it does not do: make rationales (``rationales``), choose among
them (``distill.weights.rationales.learning``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from potstill.cli.output import note
from potstill.distill.weights.data import Labelled
from potstill.distill.weights.lm.chats import Thoughts
from potstill.distill.weights.rationales.learning import NONE, TEACHER, Reasoned, joined, must_belong, with_reasoning
from potstill.distill.weights.rationales.lines import Read, read_rationales
from potstill.errors import ConfigError
from potstill.models.reasoned import WITH_ACTION


class Given(NamedTuple):
    """Files of rationales, by name, the preferred first."""

    files: dict[str, Read]

    @property
    def thoughts(self) -> Thoughts:
        return {key: one.text for key, one in joined(self.files.values()).items()}


def given(paths: tuple[Path, ...], reasoning: str, filters: dict[str, Any]) -> Given:
    """Raises ``ConfigError`` for a file that holds none, or was made for other episodes, and where none is learnt."""
    if paths and reasoning != WITH_ACTION:
        raise ConfigError("--rationales is reasoning to learn. Type: --reasoning with-action")
    if len({path.name for path in paths}) < len(paths):
        raise ConfigError("Two files of --rationales have the same name, and lineages name them by it. Rename one.")
    files = {path.name: read_rationales(path) for path in paths}
    for name, read in files.items():
        must_belong(read, name, filters)
    return Given(files)


def learnt(rationales: Given, decisions: list[Labelled]) -> tuple[list[Labelled], Reasoned | None]:
    """What of the decisions can be learnt, and whose reasoning; without files all of them, whoever reasoned.

    Raises as ``with_reasoning``.
    """
    if not rationales.files:
        return decisions, None
    hashes = {name: read.sha256 for name, read in rationales.files.items()}
    kept, reasoned = with_reasoning(decisions, joined(rationales.files.values()), hashes)
    told = ", ".join(f"{count} {whose}" for whose, count in reasoned.decisions.items())
    note(f"Reasoning of the decisions to learn: {told}.")
    return kept, reasoned


def reasoned_by(reasons: bool, reasoned: Reasoned | None, decisions: int) -> dict[str, int]:
    """Decisions that a student learnt to reason about, by whose reasoning it was; empty for one that learnt none."""
    if reasoned is None:
        return {TEACHER: decisions} if reasons else {}
    return {whose: count for whose, count in reasoned.decisions.items() if whose != NONE}
