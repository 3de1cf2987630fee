"""Several environments in one student: how they share the weight, and what must be there before any is learnt.

What it knows: labelled decisions and whose environment each is. What it does not do: weigh them (``balance``), train.

Nothing marks which environment a decision is of: a student reads the words of its situation, as it will when it acts.
Where two environments look the same and want different things, no student can tell them apart (``look_alikes``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from potstill.distill.weights.data.labelled import Labelled, state_key
from potstill.errors import ConfigError

BETWEEN = ","
"""Between the names of several environments, where one text names them all."""


def names_of(environment: str) -> tuple[str, ...]:
    """The environments that a text names.

    >>> names_of("house-rules,minigrid")
    ('house-rules', 'minigrid')
    """
    return tuple(environment.split(BETWEEN))


def environments_in(decisions: Iterable[Labelled]) -> tuple[str, ...]:
    """Those that the decisions are of, in alphabetical order."""
    return tuple(sorted({one.environment for one in decisions}))


def shares(decisions: Iterable[Labelled]) -> dict[str, float]:
    """Of all weight, each environment's, by name in alphabetical order; 0 where nothing weighs anything."""
    summed: dict[str, float] = {}
    for one in decisions:
        summed[one.environment] = summed.get(one.environment, 0.0) + one.weight
    total = sum(summed.values())
    return {name: weight / total if total else 0.0 for name, weight in sorted(summed.items())}


def must_be_in_each(environments: Sequence[str], splits: Mapping[str, Sequence[Labelled]]) -> None:
    """Raise ``ConfigError`` where a split has no decision of an environment: nothing would be known of it."""
    for split, decisions in splits.items():
        there = {one.environment for one in decisions}
        for name in environments:
            if name not in there:
                raise ConfigError(
                    f"No decision of '{name}' fell into the split '{split}': tasks are dealt out by a hash of their "
                    "names, and these are too few. Record episodes of more of its tasks, or type another --held-out."
                )


def look_alikes(decisions: Iterable[Labelled]) -> int:
    """Situations, with their actions, that two environments have and answer differently."""
    chosen: dict[bytes, dict[str, set[str]]] = {}
    for one in decisions:
        chosen.setdefault(state_key(one, anywhere=True), {}).setdefault(one.environment, set()).add(one.action)
    return sum(len({frozenset(actions) for actions in by.values()}) > 1 for by in chosen.values())
