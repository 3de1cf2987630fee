"""Links from figures to the example episodes that are on the page, and to the first step there that they are about.

What it knows: which examples are shown and under which ids (never those of the logs: these are text), and which of them
belong to which group. What it does not do: choose or render them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from potstill.measure.audit.result import Audit, Example, Group
from potstill.measure.html.text import DASH, Html, esc, join, name

_MOST = 4
Key = tuple[str, str]
"""A group's model and run."""


def episode_anchor(at: int) -> str:
    """The page's id of the example number ``at``."""
    return f"episode-{at}"


def step_anchor(at: int, step: int) -> str:
    """The page's id of a step, both counted from 1."""
    return f"episode-{at}-step-{step}"


def group_anchor(number: int) -> str:
    """The page's id of a group's row in the table of groups."""
    return f"group-{number}"


def examples_of_groups(audit: Audit) -> dict[Key, tuple[str, ...]]:
    """Ids of the examples of each group, those that most figures name first.

    In a run that is one group all examples are that group's, whatever models answered in them.
    """
    groups = {(group.model, group.run) for group in audit.groups}
    runs = Counter(run for _, run in groups)
    only = {run: (model, run) for model, run in groups if runs[run] == 1}
    named = Counter(identity for ids in references(audit) for identity in ids)
    found: dict[Key, list[str]] = {}
    for example in sorted(audit.examples, key=lambda one: -named[one.id]):
        key = (example.model, example.run)
        own = key if key in groups else only.get(example.run)
        if own is not None:
            found.setdefault(own, []).append(example.id)
    return {key: tuple(ids) for key, ids in found.items()}


def references(audit: Audit) -> Iterable[tuple[str, ...]]:
    """The ids that figures other than groups name."""
    for figures in (audit.waste, audit.by_outcome, audit.by_step_type, audit.by_model, audit.student_steps):
        yield from (figure.examples for figure in figures)
    if audit.cache is not None:
        yield audit.cache.examples


class Links:
    """Made from the examples that are shown, with how many of the steps of each, and those of each group."""

    def __init__(
        self, shown: Sequence[tuple[Example, int]], groups: Mapping[Key, tuple[str, ...]] | None = None
    ) -> None:
        self._shown = {example.id: (at, example, steps) for at, (example, steps) in enumerate(shown, 1)}
        self._groups = groups or {}

    def to(self, ids: Iterable[str], mark: str | None = None) -> Html:
        """Links to those of the episodes that are shown; with ``mark``: to the first step there that carries it."""
        links = [self._link(*self._shown[identity], mark) for identity in ids if identity in self._shown]
        return join(links[:_MOST], ", ") if links else Html(DASH)

    def group(self, group: Group) -> Html:
        """Links to episodes of a group; words where none was kept."""
        links = self.to(self._groups.get((group.model, group.run), ()))
        return Html("none kept") if links == DASH else links

    def _link(self, at: int, example: Example, steps: int, mark: str | None) -> Html:
        target, text = episode_anchor(at), f"{at}"
        marked = [number for number, call in enumerate(example.calls[:steps], 1) if mark and mark in call.marks]
        if marked:
            target, text = step_anchor(at, marked[0]), f"{at}, step {marked[0]}"
        title = esc(f"Example episode {text}: {name(example.model)}, task {name(example.task_id or 'unknown')}")
        return Html(f'<a href="#{target}" title="{title}" aria-label="{title}">{esc(text)}</a>')
