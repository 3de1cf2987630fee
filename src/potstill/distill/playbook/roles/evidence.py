"""A recorded episode as a ``Case``: what may be learnt from it, and who says how it ended.

What it knows: outcomes and their sources, labels, which bullets an episode was shown and named. What it does not do:
render steps (``account``), ask a Reflector, decide what a lesson without a signal is good for (the learning gate).

*Who says so.* A label makes ``Signal.LABEL``. Without one, an outcome that is known makes ``Signal.EXECUTION`` where an
environment, a checker or a person said it. A judge does not: it is a model's opinion about a model, wrong in ways that
go together with those of the Reflector that would learn from it, and learning from such opinions made agents worse
than not learning (arXiv 2510.04618, table 2: 67.3 against 70.7 on FiNER). Its opinion is told as one, ``success`` stays
unknown, and the signal is ``NONE``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from potstill.distill.playbook.border import cited
from potstill.distill.playbook.own_words import own_words
from potstill.distill.playbook.roles.account import account
from potstill.distill.playbook.roles.contract import Case, Signal
from potstill.distill.playbook.roles.quoting import neutral_text
from potstill.errors import ConfigError
from potstill.protocols import TokenCounter
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Outcome, OutcomeSource, Trajectory

ACCOUNT_TOKENS = 6_000
LEAST_ACCOUNT_TOKENS = 100
MAX_FIELD_CHARACTERS = 2_000
"""Of a case's goal, feedback and label: longer ones lose their middle."""

LabelOf = Callable[[Trajectory], str | None]
"""The right answer to an episode's task; None or empty: there is none."""


def label_at(*keys: str) -> LabelOf:
    """Reads the label from ``task.data``, or else from ``metadata``, under the first of these keys that holds one.

    What is no text is written as JSON. Metadata may be written by whoever sent an episode: where such people are not
    trusted to say what is right, hand ``case_of`` a function that reads elsewhere.
    """

    def found(trajectory: Trajectory) -> str | None:
        for held in (trajectory.task.data, trajectory.metadata):
            for key in keys:
                if text := _as_text(held.get(key)):
                    return text
        return None

    return found


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return (value or "").strip()
    return msgspec.json.encode(value, enc_hook=str).decode()


def case_of(
    trajectory: Trajectory,
    *,
    label_of: LabelOf | None = None,
    tokens: int = ACCOUNT_TOKENS,
    counter: TokenCounter | None = None,
) -> Case:
    """The episode as a Reflector may see it, also where it broke off.

    ``label_of``: default ``label_at("label")``. ``tokens``: the most that the account takes, by ``counter`` (default: a
    token for four bytes); 100 or more, or ``ConfigError``. All texts are neutral: no line of the account but those of
    ``account`` itself is without a mark, and no id in it counts.
    """
    if tokens < LEAST_ACCOUNT_TOKENS:
        raise ConfigError(f"An account of {tokens} tokens says nothing. Allowed: {LEAST_ACCOUNT_TOKENS} or more.")
    label = (label_of or label_at("label"))(trajectory) or ""
    known = _known(trajectory.outcome)
    shown = trajectory.playbook.shown if trajectory.playbook is not None else ()
    return Case(
        id=trajectory.id,
        goal=_short(trajectory.goal or trajectory.task.goal),
        account=account(trajectory, tokens, counter or EstimatedTokens()),
        signal=Signal.LABEL if label else Signal.EXECUTION if known is not None else Signal.NONE,
        success=known,
        feedback=_feedback(trajectory.outcome),
        label=_short(label),
        shown=shown,
        cited=_cited(trajectory),
    )


def of_book(case: Case, trajectory: Trajectory, book: str) -> Case:
    """The case without the bullets of other books: these have the same ids, and are others."""
    if trajectory.playbook is not None and trajectory.playbook.name == book:
        return case
    return msgspec.structs.replace(case, shown=(), cited=())


def _short(text: str) -> str:
    return neutral_text(text, MAX_FIELD_CHARACTERS)


# --- how it ended ---------------------------------------------------------------------------------------------------


def _known(outcome: Outcome | None) -> bool | None:
    if outcome is None or outcome.source is OutcomeSource.JUDGE:
        return None
    return outcome.success


def _feedback(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    parts = [outcome.detail.strip()]
    if outcome.score is not None:
        parts.insert(0, f"Score {outcome.score:g}.")
    if outcome.source is OutcomeSource.JUDGE:
        verdict = {True: "done", False: "not done", None: "unclear"}[outcome.success]
        parts.insert(0, f"No more than the opinion of a model that judged: {verdict}.")
    return _short(" ".join(part for part in parts if part))


# --- what it named --------------------------------------------------------------------------------------------------


def _cited(trajectory: Trajectory) -> tuple[str, ...]:
    """The bullets that it was shown and named, by the student's words and by what was noted while it ran."""
    use = trajectory.playbook
    if use is None:
        return ()
    found = cited("\n".join(own_words(trajectory)), frozenset(use.shown))
    return tuple(dict.fromkeys((*(id for id in use.cited if id in use.shown), *found)))
