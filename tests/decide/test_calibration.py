"""Which thresholds are certified and chosen: by hand, and the error rate over many streams with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_builders import units_of
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.bounds import betting_p_value, binomial_cdf, clopper_pearson_upper
from potstill.decide.calibration.candidates import learned_chains, split_tasks, vote_chain
from potstill.decide.calibration.certify import Certified, certify, sequences
from potstill.decide.calibration.losses import Level, economics, losses
from potstill.decide.calibration.units import Units
from potstill.errors import ConfigError


def test_a_threshold_by_hand() -> None:
    """200 unanimous and right, 10 unanimous and wrong, 90 split two to one and wrong; the teacher is always right.

    At 3/3 ten of 300 successes are lost, at 2/3 a hundred. 0.9 may lose 30: P(X <= 10 | 300, 0.1) is tiny.
    """
    units = units_of(["aaa"] * 200 + ["bbb"] * 10 + ["bba"] * 90, ["a"] * 300, right=["a"] * 300)
    found = certify([vote_chain(units, 3)], keep=0.9)
    assert (found.certified, found.threshold, found.samples) == (True, 1.0, 3)
    assert (found.n, found.losses, found.loss_rate) == (300, 10, pytest.approx(1 / 30))
    assert found.violations_bound == pytest.approx(clopper_pearson_upper(10, 300))
    assert found.escalation_share == pytest.approx(0.3)
    assert found.expected_cost_usd == pytest.approx(3 + 0.3 * 10)
    assert found.teacher_cost_usd == 10
    assert found.kept_observed == pytest.approx(290 / 300)
    assert found.needed_n is None
    assert found.recommendation == "cascade"
    assert [one.certified for one in found.candidates] == [True, False, False]
    assert found.candidates[0].p_value == pytest.approx(binomial_cdf(10, 300, 0.1))
    assert found.least_escalation == pytest.approx((1 / 3 - 0.1) / 0.9), "always acting loses a third"


def test_only_the_teachers_successes_count() -> None:
    """The student errs only where the teacher fails: nothing is lost, and only 60 of 100 tasks are evidence."""
    units = units_of(["a"] * 60 + ["b"] * 40, ["a"] * 60 + ["b"] * 40, right=["a"] * 100)
    assert not certify([vote_chain(units, 1)], keep=0.96).certified  # 0.96^60 = 0.086
    found = certify([vote_chain(units, 1)], keep=0.95)  # 0.95^60 = 0.046
    assert found.certified
    assert (found.n, found.n_teacher_success, found.losses) == (100, 60, 0)


def test_too_few_tasks_say_how_many_more() -> None:
    """Without a loss 149 successes certify 0.98; the teacher succeeds at half: 298 tasks, so 198 more than 100."""
    units = units_of(["a"] * 100, ["a", "b"] * 50, right=["a"] * 100)
    found = certify([vote_chain(units, 1)], keep=0.98)
    assert (found.certified, found.needed_n, found.n) == (False, 198, 100)
    assert (found.threshold, found.samples, found.violations_bound) == (None, None, None)
    assert found.escalation_share == 1.0
    assert found.expected_cost_usd == found.teacher_cost_usd == 10
    assert "198 more" in found.reason
    assert found.recommendation == "teacher"


def test_a_bad_student_cannot_be_certified_by_any_number_of_tasks() -> None:
    units = units_of(["a"] * 80 + ["b"] * 20, ["a"] * 100, right=["a"] * 100)
    found = certify([vote_chain(units, 1)], keep=0.98)
    assert (found.certified, found.needed_n) == (False, None)
    assert "No number of labelled tasks" in found.reason


def test_nothing_to_keep_and_nothing_labelled() -> None:
    failing = units_of(["a"] * 50, ["b"] * 50, right=["a"] * 50)
    found = certify([vote_chain(failing, 1)])
    assert (found.certified, found.needed_n) == (False, None)
    assert "no success to keep" in found.reason
    unlabelled = units_of(["a"] * 50, ["a"] * 50, labelled=[False] * 50)
    found = certify([vote_chain(unlabelled, 1)])
    assert (found.certified, found.n) == (False, 0)
    assert "nothing can be certified" in found.reason


def test_a_certificate_that_loses_money_recommends_the_teacher() -> None:
    units = units_of(["aaa"] * 200, ["a"] * 200, right=["a"] * 200, student_usd=5)
    found = certify([vote_chain(units, 3)])
    assert (found.certified, found.recommendation) == (True, "teacher")
    assert found.expected_cost_usd == 15
    assert "use the teacher" in found.reason


def test_a_threshold_at_which_the_student_never_acts_is_no_cascade() -> None:
    units = units_of(["ab"] * 400, ["a"] * 400, right=["b"] * 400)
    units.teacher_success_U[:] = 1
    units.success_US[:] = 0
    found = certify([vote_chain(units, 2)])
    assert not found.certified
    assert found.candidates[0].certified, "it loses nothing, but the teacher answers everything"


def test_the_cheapest_certified_is_chosen_and_unknown_costs_go_by_escalation() -> None:
    """Every answer is right: one sample is the cheapest way; where no cost is known, it is too, having fewest."""
    units = units_of(["aba"] * 400, ["a"] * 400, right=["a"] * 400)
    units.success_US[:] = 1
    for usd in (1.0, np.nan):
        units.student_usd_US[:] = usd
        found = certify([vote_chain(units, 3), vote_chain(units, 1)])
        assert (found.samples, found.threshold, found.escalation_share) == (1, 1.0, 0.0)
    assert found.expected_cost_usd is None
    assert found.recommendation == "cascade"


def test_decisions_of_a_task_are_bet_on_and_whole_tasks_counted() -> None:
    """Ten decisions in each of 300 tasks; in 6 of them one decision is lost."""
    answers = ["a"] * 3000
    for task in range(6):
        answers[task * 10] = "b"
    units = units_of(answers, ["a"] * 3000, tasks=[i // 10 for i in range(3000)])
    chain = vote_chain(units, 1)
    shares = losses(chain, 1.0, Level.DECISION)
    assert (shares.n, shares.binary, shares.rate) == (300, False, pytest.approx(6 / 3000))
    expected = betting_p_value([0.1] * 6 + [0.0] * 294, 0.02)
    assert certify([chain], keep=0.98).candidates[0].p_value == pytest.approx(expected)
    whole = losses(chain, 1.0, Level.TASK)
    assert (whole.n, whole.binary, whole.lost) == (300, True, 6)
    assert certify([chain], keep=0.98).certified
    assert not certify([chain], keep=0.98, level=Level.TASK).certified


def test_what_was_kept_is_counted_as_what_was_lost() -> None:
    """Ten decisions in each of 300 tasks, one lost in each of 6: 2,994 of 3,000 decisions, but 294 of 300 tasks."""
    units = units_of((["b"] + ["a"] * 9) * 6 + ["a"] * 2940, ["a"] * 3000, tasks=[i // 10 for i in range(3000)])
    chain = vote_chain(units, 1)
    kept = {level: certify([chain], keep=0.9, level=level).kept_observed for level in Level}
    assert kept == {Level.DECISION: pytest.approx(0.998), Level.TASK: pytest.approx(0.98)}


def test_kept_by_shares_of_tasks_and_a_task_that_the_student_wins() -> None:
    """Tasks of 1 decision (lost), 3 (kept), 2 (of which the teacher fails at one, and the student at none).

    Shares: teacher 1 + 1 + 1/2, student 0 + 1 + 1; whole tasks: teacher 1 + 1 + 0, student 0 + 1 + 1.
    """
    units = units_of(["b", *"aaaaa"], [*"aaaaa", "b"], right=["a"] * 6, tasks=[0, 1, 1, 1, 2, 2])
    chain = vote_chain(units, 1)
    kept = {level: economics(chain, 1.0, level).kept for level in Level}
    assert kept == {Level.DECISION: pytest.approx(2 / 2.5), Level.TASK: pytest.approx(1.0)}


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=6), st.floats(0.001, 0.5))
def test_the_graph_is_at_least_bonferroni_and_never_skips(p_values: list[list[float]], alpha: float) -> None:
    passed, levels = sequences(p_values, alpha)
    assert sum(level for level, n, row in zip(levels, passed, p_values, strict=True) if n < len(row)) <= alpha + 1e-12
    for row, n, level in zip(p_values, passed, levels, strict=True):
        assert level >= alpha / len(p_values) - 1e-15
        assert all(p <= level for p in row[:n])
        assert n == len(row) or row[n] > level


@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.sampled_from("ab")), min_size=1, max_size=40),
    st.floats(0.3, 0.99),
    st.sampled_from([1, 3]),
    st.sampled_from(Level),
)
def test_test_bound_and_choice_never_disagree(
    rows: list[tuple[str, str]], keep: float, per_task: int, level: Level
) -> None:
    words, teacher = [row[0] for row in rows], [row[1] for row in rows]
    tasks = [i // per_task for i in range(len(rows))]
    units = units_of(words, teacher, right=["a"] * len(rows), tasks=tasks)
    found = certify([vote_chain(units, k) for k in (1, 4)], keep=keep, confidence=0.8, level=level)
    for one in found.candidates:
        assert one.certified == (one.violations_bound is not None and one.violations_bound <= 1 - keep + 1e-9) or (
            abs((one.violations_bound or 0.0) - (1 - keep)) < 1e-9
        )
        assert one.loss_rate is None or one.violations_bound is None or one.loss_rate <= one.violations_bound + 1e-12
        assert (one.loss_rate is None) == (one.kept_observed is None)
        assert one.kept_observed is None or one.kept_observed >= 1 - (one.loss_rate or 0.0) - 1e-12, "gains only add"
    assert (found.needed_n is None) or not found.certified
    cheaper = [one for one in found.candidates if one.certified and one.escalation_share < 1]
    assert found.certified == bool(cheaper)
    if cheaper:
        assert found.expected_cost_usd == min(one.expected_cost_usd or 0.0 for one in cheaper)


def test_one_chain_has_the_whole_level() -> None:
    assert sequences([[0.01, 0.05, 0.06, 0.01]], 0.05) == ([2], [0.05])


@pytest.mark.parametrize(("keep", "confidence"), [(0.0, 0.95), (1.5, 0.95), (0.98, 1.0), (0.98, 0.0)])
def test_what_cannot_be_asked_for(keep: float, confidence: float) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        certify([vote_chain(units_of(["a"], ["a"]), 1)], keep=keep, confidence=confidence)


def test_keeping_everything_cannot_be_proven() -> None:
    found = certify([vote_chain(units_of(["a"] * 500, ["a"] * 500), 1)], keep=1.0)
    assert (found.certified, found.needed_n) == (False, None)
    assert "below 1" in found.reason


# --- the guarantee ----------------------------------------------------------------------------------------------------


def stream(generator: np.random.Generator, n: int, k: int = 5) -> tuple[Units, np.ndarray]:
    """Tasks of random difficulty: each sample is right with the task's own chance, the teacher in 80 % of them."""
    chance = generator.beta(4, 0.6, n)
    right = generator.random((n, k)) < chance[:, None]
    wrong = generator.integers(0, 2, (n, k))
    words = [
        "".join("a" if r else "bc"[w] for r, w in zip(*row, strict=True)) for row in zip(right, wrong, strict=True)
    ]
    teacher = ["a" if one else "d" for one in generator.random(n) < 0.8]
    return units_of(words, teacher, right=["a"] * n), right


def loss_rate(found: Certified, world: Units) -> float:
    chain = vote_chain(world, found.samples or 1)
    assert found.threshold is not None
    return losses(chain, found.threshold).rate or 0.0


def test_violations_are_no_more_than_the_confidence_allows() -> None:
    """A world of 40,000 tasks is the truth; 400 calibrations on 300 tasks drawn from it, over three numbers of samples.

    The demand lies between two thresholds' true losses, so that over-reaching is easy. At 90 % confidence 40 violations
    are expected at most; 4 sigma above are 64.
    """
    generator = np.random.default_rng(11)
    world, _ = stream(generator, 40_000)
    true = {
        (k, t): losses(vote_chain(world, k), t).rate or 0.0 for k in (1, 3, 5) for t in vote_chain(world, k).thresholds
    }
    keep = 1 - sorted(set(true.values()))[len(set(true.values())) // 2] + 1e-6
    violated = certified = 0
    for _ in range(400):
        sample = world.take(generator.choice(40_000, 300, replace=False))
        found = certify([vote_chain(sample, k) for k in (1, 3, 5)], keep=keep, confidence=0.9)
        if found.certified:
            certified += 1
            assert found.threshold is not None
            assert found.samples is not None
            violated += true[found.samples, found.threshold] > 1 - keep
    assert certified > 200, "a guarantee by never certifying would be cheap"
    assert violated <= 64


def test_a_learned_score_is_tested_on_tasks_that_it_never_saw() -> None:
    """Votes say nothing here, the margin says all: only the learned score can be certified."""
    generator = np.random.default_rng(2)
    n = 3000
    margin = generator.random(n)
    good = generator.random(n) < np.where(margin > 0.5, 1.0, 0.6)
    units = units_of(["a" if one else "b" for one in good], ["a"] * n, features={"margin": margin[:, None].tolist()})
    parts = learned_chains(units, 1, seed=3)
    assert parts is not None
    learning, learned = parts
    assert learned.score is not None
    testing = ~split_tasks(units.task_U, 3)
    assert len(learned.task_U) == testing.sum() == 2250
    assert len(learning.task_U) == 750
    assert learned.score_U.tolist() == pytest.approx(learned.score(_signals(units))[testing].tolist())
    found = certify([vote_chain(units, 1), learned], keep=0.95)
    assert (found.certified, found.signal) == (True, "learned")
    assert 0.3 < found.escalation_share < 0.65
    assert found.score == learned.score


def _signals(units: Units):
    from potstill.decide.calibration.score import table
    from potstill.decide.calibration.units import vote

    return table(units, vote(units, 1), 1)


def test_the_part_to_learn_from_is_made_of_whole_tasks() -> None:
    task_U = np.repeat(np.arange(11), 3)
    mask = split_tasks(task_U, 0)
    assert mask.sum() == 6, "two of eleven tasks"
    assert all(len(set(mask[task_U == task].tolist())) == 1 for task in range(11))
    assert (split_tasks(task_U, 0) == mask).all()
