"""Links from figures to the example episodes that are on the page, and to the first step there that they are about.

What it knows: which examples are shown and under which ids (never those of the logs: these are text). What it does not
do: choose or render them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from potstill.measure.audit.result import Example
from potstill.measure.html.text import DASH, Html, esc, join, name

_MOST = 4


def episode_anchor(at: int) -> str:
    """The page's id of the example number ``at``."""
    return f"episode-{at}"


def step_anchor(at: int, step: int) -> str:
    """The page's id of a step, both counted from 1."""
    return f"episode-{at}-step-{step}"


class Links:
    """Made from the examples that are shown, with how many of the steps of each."""

    def __init__(self, shown: Sequence[tuple[Example, int]]) -> None:
        self._shown = {example.id: (at, example, steps) for at, (example, steps) in enumerate(shown, 1)}

    def to(self, ids: Iterable[str], mark: str | None = None) -> Html:
        """Links to those of the episodes that are shown; with ``mark``: to the first step there that carries it."""
        links = [self._link(*self._shown[identity], mark) for identity in ids if identity in self._shown]
        return join(links[:_MOST], ", ") if links else Html(DASH)

    def _link(self, at: int, example: Example, steps: int, mark: str | None) -> Html:
        target, text = episode_anchor(at), f"{at}"
        marked = [number for number, call in enumerate(example.calls[:steps], 1) if mark and mark in call.marks]
        if marked:
            target, text = step_anchor(at, marked[0]), f"{at}, step {marked[0]}"
        title = esc(f"Example episode {text}: {name(example.model)}, task {name(example.task_id or 'unknown')}")
        return Html(f'<a href="#{target}" title="{title}" aria-label="{title}">{esc(text)}</a>')
