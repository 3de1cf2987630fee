"""Rationales by template: what the teacher's next own steps say it was after, in words that the student can see.

A decision's *subgoal* is the teacher's next action, this one included, that speaks of something which the goal names,
or else the present observation; words that nearly all goals, or observations, hold name nothing. The template says the
subgoal and how many steps come before it. It uses only words of goal and observation, so that nothing is learnt which
could not be known. What else tells the action from its alternatives is left to be weighed: a student that had written
its whole action could only repeat it, and how likely that is says little about whether it is right. Pure; knows texts
and no environment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from potstill.distill.weights.data.decisions import labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.rationales.lines import Rationale, Source, decision_of
from potstill.types import Situation, Trajectory

COMMON = 0.9
"""A word of more than this share of the goals (or observations) names nothing: it is how they are worded."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SMALL = frozenset(
    _WORD.findall("a an and at be by for from in into is it its of on or out some that the then this to with")
)


class Plain(NamedTuple):
    """Words that name nothing, for goals and for observations."""

    goals: frozenset[str] = frozenset()
    observations: frozenset[str] = frozenset()


def words_of(text: str) -> list[str]:
    """Words that may name something, in their order, each once.

    >>> words_of("Put a clean mug in the cabinet 12. A mug!")
    ['put', 'clean', 'mug', 'cabinet', '12']
    """
    return [word for word in dict.fromkeys(_WORD.findall(text.casefold())) if word not in _SMALL]


def common_words(texts: Collection[str]) -> frozenset[str]:
    """Words of nearly all of the texts. Of one text nothing can be said.

    >>> sorted(common_words(["next: cut glass", "next: cut oak", "next: pack"]))
    ['next']
    """
    counts = Counter(word for text in texts for word in words_of(text))
    return frozenset(word for word, count in counts.items() if len(texts) > 1 and count > COMMON * len(texts))


def plain_words(decisions: Iterable[Labelled]) -> Plain:
    """Of all decisions of an environment."""
    found = list(decisions)
    goals = {one.task_id: one.situation.goal for one in found}
    return Plain(common_words(list(goals.values())), common_words([one.situation.observation for one in found]))


def subgoal(situation: Situation, coming: Sequence[str], plain: Plain) -> tuple[str, int] | None:
    """The subgoal, in words of goal and observation, and how many steps come before it; None: nothing was named.

    ``coming``: the teacher's actions from this decision on.
    """
    of_goal = set(words_of(situation.goal)) - plain.goals
    seen = set(words_of(situation.observation)) - plain.observations
    shown = of_goal | seen
    for named in (of_goal, seen):
        for before, action in enumerate(coming):
            words = words_of(action)
            if not set(words).isdisjoint(named):
                return " ".join(word for word in words if word in shown), before
    return None


def templated(situation: Situation, coming: Sequence[str], plain: Plain) -> str:
    """The rationale's text; empty where no next step names anything.

    >>> templated(Situation(goal="clean the mug", observation="a sink"), ["go to sink 1", "clean mug 1"], Plain())
    'Subgoal: clean mug. Steps before it: 1.'
    """
    found = subgoal(situation, coming, plain)
    if found is None:
        return ""
    words, before = found
    return f"Subgoal: {words}. " + (f"Steps before it: {before}." if before else "It can be done now.")


def rationales(episodes: Iterable[Trajectory], plain: Plain) -> Iterator[Rationale]:
    """One for each decision of a teacher that gave no reasoning."""
    for episode in episodes:
        decisions = list(labelled([episode]))
        for at, one in enumerate(decisions):
            if not one.reasoning.strip():
                yield Rationale(
                    trajectory_id=one.trajectory_id,
                    step_index=one.step_index,
                    decision=decision_of(one),
                    source=Source.TEMPLATED,
                    text=templated(one.situation, [later.action for later in decisions[at:]], plain),
                )
