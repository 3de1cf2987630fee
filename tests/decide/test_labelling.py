"""A student that is taught on its own episodes, step by step: whom it asks, who acts, what is kept as a label."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide import AskTeacher, CascadeState, Failed, Labelling, Policy, PolicyKind, Resolution, agreement_rule
from potstill.decide.labelling import certainty_of, label_step
from potstill.decide.policy import Certainty
from potstill.errors import ConfigError
from potstill.types import Answerer, Reason, Reply

ADMISSIBLE = ("a", "b", "c")
EXACT = agreement_rule("exact")
START = CascadeState()
shares = st.floats(0, 1)


def reply(*probabilities: float, says: str = "a") -> Reply:
    logs = [math.log(p) if p else -math.inf for p in probabilities]
    return Reply(text=says, candidates=tuple(zip(ADMISSIBLE, logs, strict=False)))


def drive(
    labelling: Labelling,
    student: Reply | None,
    state: CascadeState = START,
    *,
    seed: int = 0,
    salt: str = "t",
    tried: Collection[str] = (),
) -> tuple[Resolution, bool]:
    """What became of a step in which the teacher says ``c``, and whether it was asked. None: the student fails."""
    policy = Policy(kind=PolicyKind.LABELLING, labelling=labelling, alone_temperature=0.0, seed=seed)
    effects = label_step(policy, state, EXACT, ADMISSIBLE, salt=salt, tried=tried)
    request, asked = next(effects), False
    while True:
        try:
            asked = asked or isinstance(request, AskTeacher)
            answer = [Reply(text="c")] if isinstance(request, AskTeacher) else [student] if student else Failed()
            request = effects.send(answer)
        except StopIteration as end:
            return end.value, asked


def test_a_sure_student_acts_and_nobody_is_asked() -> None:
    done, asked = drive(Labelling(below=0.6), reply(0.6, 0.4))
    assert not asked
    assert (done.action.text, done.decision.answerer, done.decision.reason) == (
        "a",
        Answerer.STUDENT,
        Reason.STUDENT_ONLY,
    )
    assert done.decision.label is None
    assert done.decision.confidence == pytest.approx(0.6)
    assert (done.state.step, done.state.asked) == (1, 0)


def test_an_unsure_student_acts_and_keeps_what_the_teacher_says() -> None:
    done, asked = drive(Labelling(below=0.6), reply(0.5, 0.5))
    assert asked
    assert (done.action.text, done.decision.answerer, done.decision.reason) == ("a", Answerer.STUDENT, Reason.LABELLED)
    assert (done.decision.label, done.state.asked) == ("c", 1)


def test_with_beta_1_the_teacher_acts_wherever_it_is_asked() -> None:
    done, _ = drive(Labelling(below=0.6, beta=1.0), reply(0.5, 0.5))
    assert (done.action.text, done.decision.answerer) == ("c", Answerer.TEACHER)
    assert done.decision.reason is Reason.NOT_CONFIDENT
    assert (done.decision.label, done.state.asked) == (None, 1)


def test_a_student_that_repeats_itself_asks_however_sure_it_is() -> None:
    done, asked = drive(Labelling(below=0.1), reply(0.9, 0.1), tried={"a"})
    assert asked
    assert done.decision.label == "c"


def test_an_episode_asks_no_more_than_its_budget() -> None:
    ask = Labelling(below=1.0, most=2)
    assert drive(ask, reply(0.5, 0.5), CascadeState(asked=1))[1]
    done, asked = drive(ask, reply(0.5, 0.5), CascadeState(asked=2), tried={"a"})
    assert not asked
    assert done.action.text == "a"


@pytest.mark.parametrize("student", [None, reply(0.5, 0.5, says="dance")])
def test_where_the_student_has_no_answer_the_teacher_acts(student: Reply | None) -> None:
    done, _ = drive(Labelling(below=0.0, most=0), student)
    assert (done.action.text, done.decision.answerer) == ("c", Answerer.TEACHER)
    assert done.decision.reason is (Reason.STUDENT_FAILED if student is None else Reason.INVALID)


def test_asked_at_every_step_it_is_dagger() -> None:
    """arXiv 1011.0686: the mixture's action is the teacher's with probability beta, and every state has a label."""
    ask = Labelling(below=1.0, beta=0.3)
    done = [drive(ask, reply(1.0, 0.0), CascadeState(step=step), salt=f"task {step % 40}") for step in range(2000)]
    assert all(asked for _, asked in done)
    followed = sum(one.decision.answerer is Answerer.TEACHER for one, _ in done) / len(done)
    assert followed == pytest.approx(0.3, abs=0.03)


def test_a_share_of_the_sure_steps_is_asked_and_the_seed_says_which() -> None:
    ask = Labelling(below=0.0, share=0.25)
    asked = [drive(ask, reply(0.9, 0.1), CascadeState(step=step))[1] for step in range(2000)]
    assert sum(asked) / 2000 == pytest.approx(0.25, abs=0.03)
    assert asked == [drive(ask, reply(0.9, 0.1), CascadeState(step=step))[1] for step in range(2000)]
    assert asked != [drive(ask, reply(0.9, 0.1), CascadeState(step=step), seed=1)[1] for step in range(2000)]


def test_certainty_by_hand() -> None:
    """(3/4, 1/4): margin 1/2; entropy 0.8113 bits of 1 bit."""
    one = reply(0.75, 0.25)
    assert certainty_of(one, Certainty.LIKELIHOOD) == pytest.approx(0.75)
    assert certainty_of(one, Certainty.MARGIN) == pytest.approx(0.5)
    assert certainty_of(one, Certainty.ENTROPY) == pytest.approx(1 - 0.8112781)
    assert certainty_of(Reply(text="a"), Certainty.MARGIN) is None


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=8), st.floats(-100, 100))
def test_certainty_is_a_share_and_knows_no_scale(logs: list[float], shift: float) -> None:
    def of(values: list[float], measure: Certainty) -> float:
        found = certainty_of(Reply(candidates=tuple((str(n), v) for n, v in enumerate(values))), measure)
        assert found is not None
        return found

    for measure in Certainty:
        found = of(logs, measure)
        assert 0.0 <= found <= 1.0
        assert of([log + shift for log in logs], measure) == pytest.approx(found, abs=1e-6)
        assert of(list(reversed(logs)), measure) == pytest.approx(found, abs=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), shares, shares, shares)
def test_more_is_asked_where_more_certainty_is_wanted(
    weights: list[float], low: float, high: float, share: float
) -> None:
    low, high = sorted((low, high))
    student = reply(*(weight / sum(weights) for weight in weights))
    if drive(Labelling(below=low, share=share), student)[1]:
        assert drive(Labelling(below=high, share=share), student)[1]


@pytest.mark.parametrize("wrong", [{"beta": 1.1}, {"below": -0.1}, {"share": math.nan}, {"most": -1}])
def test_what_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="allowed: 0"):
        Labelling(**wrong)  # type: ignore[arg-type]
