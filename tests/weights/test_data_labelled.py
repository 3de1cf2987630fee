"""One decision: what it is made from, what is known of its distribution, when two are the same."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest
from data_episodes import ACTIONS, answered, episode, scored, step
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.data import Evidence, Labelled, probabilities
from potstill.distill.weights.data.decisions import Counting, labelled
from potstill.distill.weights.data.labelled import FLOOR, decision_key, normalised, one_hot, state_key
from potstill.distill.weights.data.merging import Merging
from potstill.errors import ConfigError
from potstill.trajectories.choices import LeftOut
from potstill.types import (
    Action,
    Answerer,
    Decision,
    ErrorRecord,
    Outcome,
    Past,
    Purpose,
    Reason,
    Situation,
    Step,
    ToolCall,
    Vote,
)


def only(*steps: Step | str, **fields: object) -> Labelled:
    (found,) = labelled([episode("a", steps, **fields)])
    return found


def test_a_step_becomes_a_decision_with_all_that_was_known() -> None:
    first, second = labelled([episode("a", ["go north", step(1, " look ", reasoning="because")], task="t")])
    assert first == Labelled(
        environment="house",
        task_id="t",
        kind="find",
        trajectory_id="a",
        step_index=0,
        situation=Situation(goal="goal of t", observation="place 0"),
        admissible=ACTIONS,
        action="go north",
    )
    assert second.situation.past == (Past(observation="place 0", action="go north"),)
    assert (second.action, second.reasoning) == ("look", "because")
    assert one_hot(second) == (0.0, 0.0, 1.0)
    assert probabilities(second) is None


def test_what_is_left_out_is_counted_with_its_reason() -> None:
    called = msgspec.structs.replace(step(0, ""), action=Action(tool_calls=(ToolCall(id="c", name="ls"),)))
    some = [
        episode("won", ["look"]),
        episode("won", ["look"]),
        episode("lost", ["look"], outcome=Outcome(success=False)),
        episode("unknown", ["look"], outcome=None),
        episode("empty", []),
        episode(
            "odd",
            [
                step(0, "look", answerer=Answerer.STUDENT),
                step(1, "", answerer=Answerer.NOBODY, error=ErrorRecord(kind="ModelError", message="x")),
                step(2, "look", admissible=None),
                step(3, "look", admissible=("look", "look")),
                step(4, "dance"),
                called,
                step(5, "go south", error=ErrorRecord(kind="StoreError", message="no demonstrations")),
            ],
        ),
    ]
    counting = Counting()
    found = list(labelled(some, counting=counting))
    assert [(one.trajectory_id, one.action) for one in found] == [("won", "look"), ("odd", "go south")]
    assert counting.left_out == {
        LeftOut.REPEATED_EPISODE: 1,
        LeftOut.FAILED: 2,
        LeftOut.NO_STEPS: 1,
        LeftOut.OTHER_ANSWERER: 2,
        LeftOut.NO_ADMISSIBLE: 1,
        LeftOut.NO_CHOICE: 1,
        LeftOut.NOT_ADMISSIBLE: 1,
        LeftOut.TOOL_CALL: 1,
    }
    everybody = {Answerer.TEACHER, Answerer.STUDENT, Answerer.NOBODY}
    counting = Counting()
    assert len(list(labelled(some, everybody, only_successes=False, counting=counting))) == 5
    assert counting.left_out[LeftOut.BROKEN] == 1
    assert counting.left_out[LeftOut.FAILED] == 0


def test_two_tenants_are_refused() -> None:
    with pytest.raises(ConfigError, match="two tenants, 'default' and 'acme'"):
        list(labelled([episode("a"), episode("b", namespace="acme")]))


# --- distributions ----------------------------------------------------------------------------------------------------


def test_likelihoods_of_all_candidates_add_up_to_one() -> None:
    call = scored(("look", math.log(0.2)), ("go north", math.log(0.1)), ("go south", math.log(0.1)))
    found = only(step(0, "look", calls=(call,)))
    assert found.evidence is Evidence.LOG_PROBABILITIES
    assert probabilities(found) == pytest.approx((0.25, 0.25, 0.5))


def test_of_some_candidates_what_was_told_is_known_and_the_rest_is_not() -> None:
    told = {"look": 0.6, "go south": 0.2, "jump": 0.2}
    some = step(0, "look", calls=(scored(*((action, math.log(share)) for action, share in told.items())),))
    found = only(some)
    assert found.evidence is Evidence.TOP_K
    north, south, look = probabilities(found) or ()
    assert math.isnan(north)
    assert (south, look) == pytest.approx((0.25, 0.75))  # of the .8 that are not on an action which is not there
    encoded = msgspec.json.encode(found)
    assert msgspec.json.decode(encoded, type=Labelled) == found
    whole = step(0, "look", calls=(scored(("look", -1.0), ("go north", -2.0), ("go south", -3.0)),))
    alike = list(labelled([episode(name, [one], task="t") for name, one in (("a", some), ("b", whole), ("c", some))]))
    merging = Merging()
    for one in alike:
        merging.add(one)
    (kept,) = filter(None, map(merging.kept, alike))
    assert (kept.evidence, kept.trajectory_id, kept.count) == (Evidence.LOG_PROBABILITIES, "b", 3)


@pytest.mark.parametrize(
    "call",
    [
        scored(("look", -0.1), ("go north", -0.2)),
        scored(("look", -8.0), ("go north", -10.0)),
        scored(("look", math.log(0.5)), ("go north", -math.inf)),
        scored(("go north", math.log(0.9))),
        scored(("look", math.nan), ("go north", -2.0)),
        scored(("jump", -0.1)),
        scored(("look", math.nan), ("go north", -2.0), ("go south", -3.0)),
        scored(("look", -math.inf), ("go north", -math.inf), ("go south", -math.inf)),
        scored(("look", -1.0), ("go north", -2.0), ("go south", -3.0), answerer=Answerer.STUDENT),
        answered("look"),
        answered("look", "look", purpose=Purpose.REASON),
        answered("look", "look", error=ErrorRecord(kind="x", message="y")),
    ],
    ids=[
        "some, above 1 in all",
        "some, of which an untold one would be likelier",
        "some, and one that cannot be while half is left",
        "some without what was done",
        "some, NaN",
        "another",
        "NaN",
        "nothing possible",
        "the other side's",
        "one sample",
        "a thought",
        "failed",
    ],
)
def test_what_says_nothing_of_the_distribution_leaves_the_action(call: object) -> None:
    assert only(step(0, "look", calls=(call,))).evidence is Evidence.ONE_HOT


def test_an_impossible_candidate_survives_json_and_stays_impossible() -> None:
    call = scored(("look", -1.0), ("go north", -1.0), ("go south", -math.inf))
    found = only(step(0, "look", calls=(call,)))
    again = msgspec.json.decode(msgspec.json.encode(found), type=Labelled)
    assert again == found
    assert found.log_probabilities[1] == FLOOR
    assert probabilities(again) == pytest.approx((0.5, 0.0, 0.5))
    assert probabilities(again)[1] == 0.0  # type: ignore[index]


def test_samples_are_kept_as_counts_and_smoothed_afterwards() -> None:
    calls = (answered("look", "Look.", "reasoning: well\naction: go north"), answered("fly"))
    found = only(step(0, "look", calls=calls))
    assert (found.evidence, found.votes) == (Evidence.VOTES, (1, 0, 2))
    assert probabilities(found) == pytest.approx((1.5 / 4.5, 0.5 / 4.5, 2.5 / 4.5))
    assert probabilities(found, alpha=0.0) == pytest.approx((1 / 3, 0.0, 2 / 3))


def test_a_students_votes_are_its_own_and_never_its_teachers() -> None:
    votes = tuple(Vote(key=text, text=text) for text in ("look", "look", "go north"))
    overruled = Decision(answerer=Answerer.TEACHER, reason=Reason.DISAGREED, votes=votes, samples=3, rule="exact")
    agreed = Decision(answerer=Answerer.STUDENT, reason=Reason.AGREED, votes=votes, samples=3, rule="exact")
    steps = [step(0, "go south", decision=overruled), step(1, "look", decision=agreed, answerer=Answerer.STUDENT)]
    first, second = labelled([episode("a", steps)], {Answerer.TEACHER, Answerer.STUDENT})
    assert first.evidence is Evidence.ONE_HOT
    assert second.votes == (1, 0, 2)


@given(st.lists(st.floats(-1e308, 1e308) | st.just(-math.inf), min_size=1, max_size=6))
def test_normalised_scores_are_a_distribution(scores: list[float]) -> None:
    found = normalised(scores)
    if found is None:
        assert set(scores) == {-math.inf}
    else:
        assert math.fsum(math.exp(value) for value in found) == pytest.approx(1)
        assert min(found) >= FLOOR


# --- sameness and soundness -------------------------------------------------------------------------------------------


def key(one: Labelled) -> bytes:
    return decision_key(state_key(one), one.action)


def test_decisions_are_equal_where_situation_choice_and_set_of_actions_are() -> None:
    one = only("look")
    turned = only(step(0, "look", admissible=tuple(reversed(ACTIONS))), task="a-task")
    same = msgspec.structs.replace(one, task_id="other", trajectory_id="z", step_index=9, kind="k", weight=2.0, count=3)
    assert key(same) == key(one)
    assert key(msgspec.structs.replace(turned, situation=one.situation)) == key(one)
    differing = [
        msgspec.structs.replace(one, action="go north"),
        msgspec.structs.replace(one, admissible=(*ACTIONS, "sit")),
        msgspec.structs.replace(one, environment="other"),
        msgspec.structs.replace(one, situation=Situation(goal="goal of a", observation="place 1")),
        msgspec.structs.replace(one, situation=Situation(goal="", observation="goal of aplace 0")),
    ]
    assert len(Counter(map(key, [one, *differing]))) == 6
    assert state_key(differing[0]) == state_key(one)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "dance"},
        {"votes": (1, 2, 3)},
        {"evidence": Evidence.VOTES, "votes": (1, 2)},
        {"evidence": Evidence.LOG_PROBABILITIES},
        {"weight": -1.0},
        {"weight": math.nan},
        {"count": 0},
    ],
)
def test_a_decision_that_contradicts_itself_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"admissible|actions and|weight"):
        msgspec.structs.replace(only("look"), **fields)
