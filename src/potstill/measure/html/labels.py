"""Short names and numbers of groups, the same in every chart and table of a page.

What it knows: an audit's groups. What it does not do: write HTML. A model that has one run goes by its own name; one
with several by its name and the group's number in the table, since names of runs are long.
"""

from __future__ import annotations

from collections import Counter

from potstill.measure.audit.result import Audit, Group
from potstill.measure.html.links import group_anchor
from potstill.measure.html.text import name

_CHARACTERS = 40


class Labels:
    """Made once from an audit, then only read."""

    def __init__(self, audit: Audit) -> None:
        self._numbers = {(group.model, group.run): at for at, group in enumerate(audit.groups, 1)}
        models = Counter(group.model for group in audit.groups)
        self._several = {model for model, runs in models.items() if runs > 1}
        self._models = {model: at for at, model in enumerate(models)}

    def number(self, group: Group) -> int:
        """The group's place in the table, from 1."""
        return self._numbers[group.model, group.run]

    def of(self, group: Group) -> str:
        """The group's short name."""
        return self.by_key(group.model, group.run)

    def by_key(self, model: str, run: str) -> str:
        """The short name of a model in a run; a pair that is no group goes by the model's name."""
        number = self._numbers.get((model, run))
        several = f" #{number}" if number is not None and model in self._several else ""
        return name(model, _CHARACTERS) + several

    def link(self, model: str, run: str) -> str | None:
        """Where the group's row is on the page; ``None`` if it is no group."""
        number = self._numbers.get((model, run))
        return None if number is None else f"#{group_anchor(number)}"

    def model_number(self, model: str) -> int:
        """The place of a model among the models, from 0: its colour and marker."""
        return self._models.get(model, 0)
