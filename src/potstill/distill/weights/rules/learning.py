"""A decision tree on (situation, action) pairs, read as rules: each leaf that says "this is the one" is a rule.

What it knows: which conditions a tree may ask about, made from the decisions to learn from, and scikit-learn. What it
does not do: say how often rules are right on tasks that they were not made from (``certifying``).
"""

from __future__ import annotations

import importlib.util
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from potstill.decide.bounds import clopper_pearson_upper
from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError, MissingExtra
from potstill.models.rule_list import Condition, Measure, Of, Reading, Rule, answer, number_after, words_of

LEAST, MOST = 5, 400
"""A word must stand in so many decisions to be asked about; at most so many words of each place are."""
LEAVES, LEAF = 128, 4
"""Leaves of the tree, and the fewest pairs in one."""


class Tried(NamedTuple):
    """A rule with what it did on the decisions that it was learnt from."""

    rule: Rule
    fired: int
    right: int

    @property
    def bound(self) -> float:
        """Lower bound of its precision there: what rules are ordered by. Optimistic, for the rule was chosen there."""
        return 1.0 - clopper_pearson_upper(self.fired - self.right, self.fired) if self.fired else 0.0


def learn_rules(decisions: Sequence[Labelled], *, leaves: int = LEAVES, seed: int = 0) -> list[Tried]:
    """Rules, the surest first. The same decisions give the same rules.

    Raises ``ConfigError`` for no decision or ``leaves`` below 2, ``MissingExtra`` without scikit-learn.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtra("Learning rules", "rules")
    if not decisions:
        raise ConfigError("There is no decision to learn rules from. Record episodes of a teacher first.")
    if leaves < 2:
        raise ConfigError(f"leaves is {leaves}. Allowed: 2 or more; {LEAVES} is usual.")
    from sklearn.tree import DecisionTreeClassifier

    asked = _conditions(decisions)
    table, chosen = _pairs(decisions, asked)
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=LEAF, random_state=seed)
    tree.fit(table, chosen)
    tried = [tried_on(rule, decisions) for rule in _leaves(tree.tree_, asked)]
    return sorted((one for one in tried if one.fired), key=lambda one: (-one.bound, -one.fired))


def tried_on(rule: Rule, decisions: Iterable[Labelled]) -> Tried:
    """The rule alone on decisions: how often it singles out an action, and how often that is the teacher's."""
    fired = right = 0
    for one in decisions:
        found = answer((rule,), one.situation, one.admissible)
        if found is not None:
            fired += 1
            right += found.action == one.action
    return Tried(rule, fired, right)


# --- what may be asked ----------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """A column of the table. ``word``: present or not, else a number of which ``above`` is a threshold."""

    of: Of
    word: str = ""
    number_after: str = ""
    measure: Measure | None = None


def _conditions(decisions: Sequence[Labelled]) -> list[_Asked]:
    """Words that stand in some decisions and not in all, words that a number follows, measures."""
    counts: dict[Of, Counter[str]] = {of: Counter() for of in Of}
    numbers: Counter[tuple[Of, str]] = Counter()
    for one in decisions:
        reading = Reading(one.situation, one.admissible)
        for of, words in reading.words.items():
            counts[of].update({word for word in words if word})
        counts[Of.ACTION].update({word for action in one.admissible for word in words_of(action)})
        for of in (Of.GOAL, Of.OBSERVATION):
            words = reading.words[of]
            pairs = itertools.pairwise(words)
            numbers.update({(of, word) for word, after in pairs if after.isdigit() and not word.isdigit()})
    found = [
        _Asked(of, word)
        for of in Of
        for word, count in sorted(counts[of].items(), key=lambda item: (-item[1], item[0]))[:MOST]
        if count >= LEAST and (count < len(decisions) or of is Of.ACTION)
    ]
    found += [_Asked(of, number_after=word) for (of, word), count in sorted(numbers.items()) if count >= LEAST]
    return [*found, *(_Asked(Of.ACTION, measure=measure) for measure in Measure)]


def _pairs(decisions: Sequence[Labelled], asked: Sequence[_Asked]) -> tuple[Any, np.ndarray]:
    """A sparse row for each admissible action of each decision, and whether it was chosen."""
    from scipy.sparse import csr_matrix

    by_word = {(one.of, one.word): column for column, one in enumerate(asked) if one.word}
    rest = [(column, one) for column, one in enumerate(asked) if not one.word]
    values, columns, starts, chosen = list[float](), list[int](), [0], list[bool]()
    for one in decisions:
        reading = Reading(one.situation, one.admissible)
        shared = [
            (by_word[of, word], 1.0)
            for of, words in reading.words.items()
            for word in set(words)
            if (of, word) in by_word
        ]
        shared += [
            (column, number_after(ask.number_after, reading.words[ask.of]) or 0.0)
            for column, ask in rest
            if ask.number_after
        ]
        for action in one.admissible:
            own = [(by_word[Of.ACTION, word], 1.0) for word in set(words_of(action)) if (Of.ACTION, word) in by_word]
            own += [(column, reading.measured(ask.measure, action)) for column, ask in rest if ask.measure]
            for column, value in sorted([*shared, *own]):
                columns.append(column)
                values.append(value)
            starts.append(len(columns))
            chosen.append(action == one.action)
    shape = (len(chosen), len(asked))
    return csr_matrix((values, columns, starts), shape=shape, dtype=np.float32), np.array(chosen)


# --- a tree's leaves ------------------------------------------------------------------------------------------------


def _leaves(tree: Any, asked: Sequence[_Asked]) -> list[Rule]:
    """The paths to leaves in which most pairs were chosen, as conditions; of a column the tightest bounds only."""
    found: list[Rule] = []

    def walk(node: int, low: dict[int, float], high: dict[int, float]) -> None:
        if tree.children_left[node] < 0:
            if tree.value[node][0][1] > tree.value[node][0][0]:
                found.append(_rule(asked, low, high, f"leaf {node}"))
            return
        column, threshold = int(tree.feature[node]), float(tree.threshold[node])
        walk(tree.children_left[node], low, {**high, column: min(threshold, high.get(column, threshold))})
        walk(tree.children_right[node], {**low, column: max(threshold, low.get(column, threshold))}, high)

    if len(tree.value[0][0]) == 2:  # one class only: nothing was ever chosen or left
        walk(0, {}, {})
    return [rule for rule in found if rule.when]


def _rule(asked: Sequence[_Asked], low: dict[int, float], high: dict[int, float], name: str) -> Rule:
    above = [_condition(asked[column], threshold, True) for column, threshold in sorted(low.items())]
    below = [_condition(asked[column], threshold, False) for column, threshold in sorted(high.items())]
    return Rule(when=(*above, *below), name=name)


def _condition(asked: _Asked, threshold: float, holds: bool) -> Condition:
    if asked.word:
        return Condition(of=asked.of, has=asked.word, holds=holds)
    threshold = round(threshold, 6)
    if asked.measure is not None:
        return Condition(measure=asked.measure, above=threshold, holds=holds)
    return Condition(of=asked.of, number_after=asked.number_after, above=threshold, holds=holds)
