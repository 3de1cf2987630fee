"""The cascade generator, driven by hand: what it asks for, who acts, and what it remembers."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide import (
    AskStudent,
    AskTeacher,
    CascadeState,
    Failed,
    Policy,
    PolicyKind,
    Resolution,
    Signal,
    TeacherView,
    agreement_rule,
    decide_step,
)
from potstill.decide.cascade import candidate_confidence, tally
from potstill.decide.policy import Sampling
from potstill.errors import ConfigError
from potstill.types import Answerer, EscalationMode, Reason, Reply

ADMISSIBLE = ("a", "b", "c")
EXACT = agreement_rule("exact")


START = CascadeState()


class Driver:
    """Feeds scripted student samples (in order) and a teacher that always says ``c``."""

    def __init__(self, student: Sequence[str], failed: bool = False) -> None:
        self.student = list(student)
        self.failed = failed
        self.asked: list[object] = []

    def __call__(self, policy: Policy, state: CascadeState = START, salt: str = "t") -> Resolution:
        effects = decide_step(policy, state, EXACT, ADMISSIBLE, salt=salt)
        request = next(effects)
        while True:
            self.asked.append(request)
            try:
                request = effects.send(self.answer(request))
            except StopIteration as end:
                return end.value

    def answer(self, request: object) -> list[Reply] | Failed:
        if isinstance(request, AskTeacher):
            return [Reply(text="c")]
        assert isinstance(request, AskStudent)
        if self.failed:
            return Failed()
        taken, self.student = self.student[: request.n], self.student[request.n :]
        return [Reply(text=text) for text in taken]


def cascade(**options: object) -> Policy:
    return Policy(kind=PolicyKind.CASCADE, **options)  # type: ignore[arg-type]


def test_unanimity_lets_the_student_act() -> None:
    result = Driver("aaa")(cascade())
    assert (result.action.text, result.decision.answerer) == ("a", Answerer.STUDENT)
    assert (result.decision.reason, result.decision.agreement, result.decision.samples) == (Reason.AGREED, 1.0, 3)


def test_one_dissenter_escalates_this_step_only() -> None:
    driver = Driver("aab")
    result = driver(cascade())
    assert (result.action.text, result.decision.reason) == ("c", Reason.DISAGREED)
    assert result.decision.agreement == pytest.approx(2 / 3)
    assert result.state == CascadeState(step=1, untrusted=1)
    assert [type(request) for request in driver.asked] == [AskStudent, AskTeacher]


def test_a_majority_is_enough_where_the_threshold_says_so() -> None:
    result = Driver("bab")(cascade(threshold=0.6))
    assert (result.action.text, result.decision.answerer) == ("b", Answerer.STUDENT)


def test_invalid_samples_count_as_disagreement_even_if_identical() -> None:
    result = Driver(["fly", "fly", "fly"])(cascade())
    assert (result.action.text, result.decision.reason, result.decision.agreement) == ("c", Reason.INVALID, 0.0)
    assert [vote.key for vote in result.decision.votes] == [None, None, None]


def test_a_failing_student_fails_open_to_the_teacher() -> None:
    result = Driver("", failed=True)(cascade())
    assert (result.action.text, result.decision.reason) == ("c", Reason.STUDENT_FAILED)


@given(st.lists(st.sampled_from(["a", "b", "bad"]), min_size=5, max_size=5), st.integers(2, 5))
def test_sequential_sampling_decides_the_same(samples: list[str], n: int) -> None:
    together = Driver(samples)(cascade(samples=n, sampling=Sampling.TOGETHER))
    sequential = Driver(samples)(cascade(samples=n, sampling=Sampling.SEQUENTIAL))
    assert together.action == sequential.action
    assert together.decision.answerer is sequential.decision.answerer
    assert sequential.decision.samples <= together.decision.samples


def test_sequential_sampling_stops_after_two_that_differ() -> None:
    driver = Driver("abb")
    assert driver(cascade(sampling=Sampling.SEQUENTIAL)).decision.samples == 2


def run(policy: Policy, script: Sequence[str]) -> list[Answerer]:
    """Play one sample string a step; the teacher's steps consume none."""
    state, who, steps = CascadeState(), [], list(script)
    for _ in range(len(script)):
        driver = Driver(steps[0] if steps else "aaa")
        result = driver(policy, state)
        if any(isinstance(request, AskStudent) for request in driver.asked):
            steps.pop(0)
        state = result.state
        who.append(result.decision.answerer)
    return who


def test_sticky_keeps_the_teacher_for_m_steps() -> None:
    S, T = Answerer.STUDENT, Answerer.TEACHER
    policy = cascade(mode=EscalationMode.STICKY, keep_steps=3)
    assert run(policy, ["aaa", "aab", "bbb", "aaa", "aaa", "abc"]) == [S, T, T, T, S, S]


def test_task_mode_decides_once() -> None:
    policy = cascade(mode=EscalationMode.TASK)
    assert set(run(policy, ["aaa", "abc", "abc"])) == {Answerer.STUDENT}
    assert set(run(policy, ["abc", "aaa", "aaa"])) == {Answerer.TEACHER}


def test_teacher_first_then_downshift() -> None:
    S, T = Answerer.STUDENT, Answerer.TEACHER
    policy = cascade(mode=EscalationMode.TEACHER_FIRST, keep_steps=2)
    assert run(policy, ["abc", "abc", "abc", "abc"]) == [T, T, S, S]


def test_restart_gives_the_whole_task_to_the_teacher_after_patience() -> None:
    policy = cascade(mode=EscalationMode.RESTART, patience=2)
    first = Driver("abc")(policy)
    assert (first.restart, first.decision.answerer) == (False, Answerer.TEACHER)
    second = Driver("abc")(policy, first.state)
    assert (second.restart, second.decision.answerer) == (True, Answerer.NOBODY)
    third = Driver("aaa")(policy, second.state)
    assert (third.decision.answerer, third.decision.reason) == (Answerer.TEACHER, Reason.TEACHER_KEEPS)


def test_compact_asks_the_teacher_for_the_compact_view() -> None:
    driver = Driver("abc")
    driver(cascade(mode=EscalationMode.COMPACT))
    assert driver.asked[-1] == AskTeacher(view=TeacherView.COMPACT, reason=Reason.DISAGREED)


@pytest.mark.parametrize(("escalate", "answerer"), [(True, Answerer.TEACHER), (False, Answerer.STUDENT)])
def test_samples_that_agree_on_going_round_in_a_circle_are_not_trusted(escalate: bool, answerer: Answerer) -> None:
    effects = decide_step(cascade(escalate_repeats=escalate), START, EXACT, ADMISSIBLE, tried={"a"})
    next(effects)
    try:
        assert isinstance(effects.send([Reply(text="a")] * 3), AskTeacher)
        effects.send([Reply(text="c")])
    except StopIteration as end:
        decision = end.value.decision
    assert decision.answerer is answerer
    assert decision.reason is (Reason.REPEATED if escalate else Reason.AGREED)
    assert decision.agreement == 1.0


def test_likelihood_acts_on_confidence() -> None:
    sure = Reply(text="a", candidates=(("a", math.log(0.6)), ("b", math.log(0.2))))
    assert candidate_confidence(sure) == pytest.approx(0.75)

    def drive(threshold: float) -> Resolution:
        effects = decide_step(cascade(signal=Signal.LIKELIHOOD, threshold=threshold), CascadeState(), EXACT, ADMISSIBLE)
        assert next(effects) == AskStudent(n=1, temperature=0.0, likelihood=True)
        try:
            assert isinstance(effects.send([sure]), AskTeacher)
            effects.send([Reply(text="c")])
        except StopIteration as end:
            return end.value
        raise AssertionError("the generator did not end")

    assert drive(0.7).decision.reason is Reason.CONFIDENT
    assert drive(0.8).decision.reason is Reason.NOT_CONFIDENT


def test_random_mix_escalates_the_stated_share_and_draws_the_same_again() -> None:
    policy = Policy(kind=PolicyKind.RANDOM_MIX, teacher_share=0.3, seed=7)

    def who(task: int) -> Answerer:
        return Driver("a")(policy, CascadeState(step=task % 13), salt=str(task)).decision.answerer

    first = [who(task) for task in range(2000)]
    share = first.count(Answerer.TEACHER) / len(first)
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)
    assert first == [who(task) for task in range(2000)]


def test_student_only_executes_what_it_said_even_if_invalid() -> None:
    result = Driver(["fly"])(Policy(kind=PolicyKind.STUDENT))
    assert (result.action.text, result.decision.reason) == ("fly", Reason.STUDENT_ONLY)


def test_tally_ties_go_to_the_action_seen_first() -> None:
    assert tally([Reply(text=text) for text in "baab"], EXACT, ADMISSIBLE) == (0, 0.5, 0)


@pytest.mark.parametrize("options", [{"samples": 0}, {"threshold": 1.5}, {"temperature": -1.0}, {"keep_steps": 0}])
def test_wrong_policies_are_refused_with_what_is_allowed(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"1 or more|0 to 1|0 or more"):
        cascade(**options)
