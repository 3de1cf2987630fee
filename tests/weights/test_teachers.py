"""Several teachers: how reliable each is, found without knowing what is right, and what their labels then come to."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from data_episodes import episode
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.weights.data import build
from potstill.distill.weights.data.labelled import Evidence, Labelled, Said
from potstill.distill.weights.teachers.fusing import Teachers, fused, judge
from potstill.distill.weights.teachers.reliability import START, Ballots, Reliability, chosen_is_right, estimate
from potstill.errors import ConfigError
from potstill.types import Outcome, Situation


def ballots(said: list[list[int | None]], actions: int = 3, **more: object) -> Ballots:
    """A row a state, a column a teacher, None where it was not there."""
    votes = [(s, a, j) for s, row in enumerate(said) for j, a in enumerate(row) if a is not None]
    state, action, teacher = (np.array(column, np.int64) for column in zip(*votes, strict=True))
    given: dict[str, object] = {
        "state_V": state,
        "action_V": action,
        "teacher_V": teacher,
        "weight_V": np.ones(len(votes)),
        "won_V": np.zeros(len(votes)),
        "lost_V": np.zeros(len(votes)),
        "actions_S": np.full(len(said), actions),
        "kind_S": np.zeros(len(said), np.int64),
        "teachers": len(said[0]),
    }
    return Ballots(**{**given, **more})  # type: ignore[arg-type]


def test_one_step_of_em_is_as_worked_by_hand() -> None:
    """Two states with three actions. In the first all say 0; in the second the first two say 1 and the third says 2.

    At r = .7 a vote multiplies by .7 / (.3 / 2) = 14/3. First state: (14/3)^3 against 1 and 1: 2744/2798.
    Second: (14/3)^2 for 1, 14/3 for 2, 1 for 0: 196/9, 42/9 and 9/9: 196/247 and 42/247. With one right and one wrong
    answer before the data, the first two have (2744/2798 + 196/247 + 1) / 4, the third (2744/2798 + 42/247 + 1) / 4.
    """
    asked = ballots([[0, 0, 0], [1, 1, 2]])
    start = Reliability(np.full((3, 1), START), np.full(3, START), 0.5, 0.5, 0)
    first = 2744 / 2798
    assert chosen_is_right(asked, start) == pytest.approx([first] * 3 + [196 / 247, 196 / 247, 42 / 247])
    found = estimate(asked, steps=1)
    assert found.right_J == pytest.approx([(first + 196 / 247 + 1) / 4] * 2 + [(first + 42 / 247 + 1) / 4])
    assert found.right_J.tolist() == pytest.approx([0.69356, 0.69356, 0.53769], abs=1e-5)


def drawn(states: int, right: list[float], seed: int, actions: int = 5) -> tuple[Ballots, np.ndarray]:
    chance = np.random.default_rng(seed)
    truth = chance.integers(actions, size=states)
    shift = chance.integers(1, actions, size=(states, len(right)))
    hit = chance.random((states, len(right))) < np.array(right)
    said = np.where(hit, truth[:, None], (truth[:, None] + shift) % actions)
    return ballots(said.tolist(), actions), truth


def test_reliability_is_found_without_knowing_what_is_right() -> None:
    asked, _ = drawn(3000, [0.9, 0.75, 0.3], seed=1)
    assert estimate(asked).right_J == pytest.approx([0.9, 0.75, 0.3], abs=0.03)


def test_a_teacher_that_is_always_right_comes_near_to_one_and_one_that_guesses_to_chance() -> None:
    found = estimate(drawn(2000, [1.0, 0.7, 0.5, 0.2], seed=2)[0]).right_J
    assert found[0] > 0.95
    assert found[3] == pytest.approx(0.2, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_the_order_of_teachers_changes_nothing(seed: int, order: list[int]) -> None:
    asked, _ = drawn(30, [0.9, 0.6, 0.5, 0.2], seed)
    moved = asked._replace(teacher_V=np.array(order)[asked.teacher_V])
    assert estimate(moved).right_J[order] == pytest.approx(estimate(asked).right_J, abs=1e-6)


def test_outcomes_tell_apart_what_agreement_cannot() -> None:
    """Two teachers who never agree: alone their votes say nothing; one always wins and the other never does."""
    said = [[0, 1]] * 60
    won = np.array([1.0, 0.0] * 60)
    asked = ballots(said, won_V=won, lost_V=1 - won)
    even = estimate(asked).right_J
    assert even[0] == even[1]
    told = estimate(asked, outcome_share=1.0).right_J
    assert told[0] > 0.95
    assert told[1] < 0.05


def test_a_state_that_one_teacher_alone_judged_says_nothing_of_it() -> None:
    both, _ = drawn(100, [0.9, 0.8], seed=3)
    alone = ballots([[0, None]] * 500, 5)
    more = Ballots(
        *(
            np.concatenate([getattr(both, name), getattr(alone, name) + (100 if name == "state_V" else 0)])
            for name in Ballots._fields[:8]
        ),
        teachers=2,
    )
    assert estimate(more).right_J == pytest.approx(estimate(both).right_J, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "share", "said"),
    [
        (ballots([[0, 0]])._replace(state_V=np.zeros(0, np.int64)), 0.0, "No teacher's decision"),
        (ballots([[0, 0]], actions=1), 0.0, "fewer than two actions"),
        (ballots([[0, 0]]), 1.5, "outcome_share is 1.5"),
    ],
)
def test_what_cannot_be_estimated_is_refused(asked: Ballots, share: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        estimate(asked, outcome_share=share)


# --- labels ---------------------------------------------------------------------------------------------------------


def label(state: str, action: str, *teachers: str, kind: str = "find", won: int = 1, **more: object) -> Labelled:
    return Labelled(
        environment="house",
        task_id=state,
        kind=kind,
        trajectory_id=f"{state}-{action}",
        step_index=0,
        situation=Situation(goal=state),
        admissible=("a", "b", "c", "d"),
        action=action,
        said=tuple(Said(teacher=name, times=1, won=won, lost=1 - won) for name in teachers),
        count=max(1, len(teachers)),
        **more,  # type: ignore[arg-type]
    )


def school(bad_states: int = 10) -> list[Labelled]:
    agreed = [label(f"same {n}", "a", "good", "fair", "bad") for n in range(5)]
    return agreed + [
        one for n in range(bad_states) for one in (label(f"s{n}", "b", "good", "fair"), label(f"s{n}", "c", "bad"))
    ]


def test_a_bad_teacher_is_outvoted_and_one_label_a_state_is_left() -> None:
    decisions = school()
    judged = judge(decisions)
    assert judged.teachers == ("bad", "fair", "good")
    bad, fair, good = judged.reliability
    assert bad < 0.5 < 0.85 < fair == good
    made = fused(decisions, judged, Teachers.WEIGHED)
    assert [one.action for one in made] == ["a"] * 5 + ["b"] * 10
    assert all(one.evidence is Evidence.LOG_PROBABILITIES for one in made)
    assert all(math.fsum(map(math.exp, one.log_probabilities)) == pytest.approx(1) for one in made)
    assert math.fsum(one.weight for one in made) == pytest.approx(len(made))
    assert made[0].count == 3


def test_what_a_doubtful_teacher_said_alone_is_left_out() -> None:
    decisions = [*school(), label("alone", "d", "bad"), label("alone too", "d", "good")]
    made = {one.situation.goal: one for one in fused(decisions, judge(decisions), Teachers.WEIGHED)}
    assert "alone" not in made
    surest = made["same 0"]
    assert 0 < made["alone too"].weight < surest.weight
    assert max(made["alone too"].log_probabilities) < max(surest.log_probabilities)


def test_teachers_who_know_nothing_teach_nothing() -> None:
    """Three who never agree: nobody is better than chance, and no label is likely."""
    decisions = [
        label(f"s{n}", action, name)
        for n in range(30)
        for name, action in zip(("one", "two", "three"), ("a", "b", "c"), strict=True)
    ]
    judged = judge(decisions)
    with pytest.raises(ConfigError, match="know too little to teach"):
        fused([label("alone", "d", "one")], msgspec.structs.replace(judged, by_kind=((0.25,),) * 3), Teachers.WEIGHED)


def test_each_kind_of_task_is_learnt_from_its_best_teacher() -> None:
    def lesson(kind: str, best: str, worst: str) -> list[Labelled]:
        return [
            one
            for n in range(20)
            for one in (
                label(f"{kind} {n}", "b", best, "third", kind=kind),
                label(f"{kind} {n}", "c", worst, kind=kind),
            )
        ]

    decisions = lesson("heat", "cook", "clerk") + lesson("file", "clerk", "cook")
    judged = judge(decisions)
    assert {judged.best("heat"), judged.best("file")} <= {"cook", "clerk", "third"}
    routed = fused(decisions, judged, "routed")
    assert {one.action for one in routed} == {"b"}
    at = dict(zip(judged.teachers, judged.by_kind, strict=True))
    heat, file = judged.kinds.index("heat"), judged.kinds.index("file")
    assert at["cook"][heat] > 0.8 > 0.4 > at["cook"][file]


def test_who_said_what_comes_from_episodes_and_survives_merging() -> None:
    failed = Outcome(success=False)
    episodes = [
        episode("e1", task="t", teacher="good"),
        episode("e2", task="t", teacher="bad", outcome=failed),
        episode("e3", ("go south", "look"), task="t", teacher="bad", outcome=failed),
    ]
    (made,) = build(episodes, only_successes=False, by_teacher=True, fractions={"train": 1.0}).splits.values()
    north = next(one for one in made if one.action == "go north")
    assert north.said == (Said(teacher="bad", times=1, lost=1), Said(teacher="good", times=1, won=1))
    plain = build(episodes, only_successes=False, fractions={"train": 1.0}).splits["train"]
    assert [msgspec.structs.replace(one, said=()) for one in made] == plain


@pytest.mark.parametrize(
    ("decisions", "said"),
    [
        ([label("s", "a", "good")], "only 'good' taught"),
        ([label("s", "a")], "no decision says who chose it"),
        ([label("s", "a", "good"), label("t", "a", "bad")], "No two teachers ever decided in the same situation"),
    ],
)
def test_teachers_that_cannot_be_compared_are_refused(decisions: list[Labelled], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge(decisions)
