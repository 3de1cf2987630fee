"""Rationales by template: the words are those that the student can see, the steps are the teacher's own."""

from __future__ import annotations

import pytest
from data_episodes import episode, house_episodes, step
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.data.decisions import labelled
from potstill.distill.weights.rationales.hindsight import (
    Plain,
    common_words,
    plain_words,
    rationales,
    subgoal,
    templated,
    words_of,
)
from potstill.distill.weights.rationales.lines import Source, decision_of
from potstill.types import Situation

MUG = Situation(
    goal="put a clean mug in the cabinet", observation="You are in the kitchen. You see a sink 1, a shelf 2."
)
WORDS = st.sampled_from(["mug", "sink", "shelf", "put", "go", "to", "the", "1", "2", "clean"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("coming", "plain", "said"),
    [
        (["go to shelf 2", "take mug 1 from shelf 2"], Plain(), "Subgoal: mug 1 shelf 2. Steps before it: 1."),
        (["take mug 1 from table 3", "look"], Plain(), "Subgoal: mug 1. It can be done now."),
        (["go to shelf 2", "look"], Plain(), "Subgoal: shelf 2. It can be done now."),
        (["wait", "go to shelf 2"], Plain(observations=frozenset({"shelf"})), "Subgoal: 2. Steps before it: 1."),
        (["go on", "put it away"], Plain(goals=frozenset({"put"})), ""),
        (["wait"], Plain(), ""),
        ([], Plain(), ""),
    ],
)
def test_by_hand(coming: list[str], plain: Plain, said: str) -> None:
    """A word of the goal goes before one of the observation, the nearest action before a later one."""
    assert templated(MUG, coming, plain) == said


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=4), st.sets(WORDS), TEXTS)
def test_nothing_is_said_that_cannot_be_seen(
    goal: str, observation: str, coming: list[str], plain: set[str], later: str
) -> None:
    situation, common = Situation(goal=goal, observation=observation), Plain(frozenset(plain), frozenset(plain))
    found = subgoal(situation, coming, common)
    if found is None:
        return
    words, before = found
    assert words
    assert set(words.split()) <= {*words_of(goal), *words_of(observation)} - plain
    assert set(words.split()) <= set(words_of(coming[before]))
    assert 0 <= before < len(coming)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=4), TEXTS)
def test_what_comes_after_a_subgoal_that_the_goal_names_changes_nothing(
    goal: str, observation: str, coming: list[str], later: str
) -> None:
    situation = Situation(goal=goal, observation=observation)
    if any(set(words_of(action)) & set(words_of(goal)) for action in coming):
        assert templated(situation, [*coming, later], Plain()) == templated(situation, coming, Plain())


def test_words_that_all_texts_have_name_nothing() -> None:
    texts = [f"Next stage: {stage}." for stage in ("cut", "pack", "ship")]
    assert common_words(texts) == {"next", "stage"}
    assert common_words(texts[:1]) == frozenset()


def test_orders_of_a_real_environment_are_told_by_stages_and_the_acts_before_them() -> None:
    episodes = house_episodes(8)
    decisions = list(labelled(episodes))
    found = list(rationales(episodes, plain_words(decisions)))
    assert [one.key for one in found] == [(one.trajectory_id, one.step_index) for one in decisions]
    assert {one.source for one in found} == {Source.TEMPLATED}
    for rationale, decision in zip(found, decisions, strict=True):
        assert rationale.decision == decision_of(decision)
        stage = decision.situation.observation.rpartition("Next stage: ")[2].rstrip(".")
        now = decision.action.startswith(stage)
        assert rationale.text.startswith(f"Subgoal: {stage}. ")
        assert ("It can be done now." in rationale.text) == now
    assert any("Steps before it: 1." in one.text for one in found)


def test_a_teacher_that_reasoned_gets_no_rationale() -> None:
    said = episode("a", [step(0, "look", reasoning="it is dark"), step(1, "go north")])
    assert [one.step_index for one in rationales([said], Plain())] == [1]
