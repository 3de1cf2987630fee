"""The order of the tests: known before the data, or taken from tasks that no test uses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration_builders import units_of

from potstill.decide.calibration.candidates import LEARNED, learned_chains, split_tasks
from potstill.decide.calibration.certify import certify, sequences
from potstill.decide.calibration.losses import losses
from potstill.decide.calibration.paths import (
    BOLDEST,
    MOST_STEPS,
    Path,
    alone,
    learned_path,
    learned_scores,
    paths,
    votes_path,
    worth_learning,
)
from potstill.decide.calibration.score import table
from potstill.decide.calibration.units import Units, vote


def tasks(n: int, seed: int = 0) -> Units:
    """Three samples, each right by the task's own chance, which a margin gives away in part; the teacher is right."""
    generator = np.random.default_rng(seed)
    chance = generator.beta(4, 0.8, n)
    right = generator.random((n, 3)) < chance[:, None]
    wrong = generator.integers(0, 3, (n, 3))
    words = [
        "".join("a" if r else "bcd"[w] for r, w in zip(*row, strict=True)) for row in zip(right, wrong, strict=True)
    ]
    margin = chance[:, None] + 0.3 * generator.normal(size=(n, 3))
    return units_of(words, ["a"] * n, right=["a"] * n, features={"margin": margin.tolist()})


def shown(path: Path) -> list[tuple[int, int]]:
    """(samples, votes) of each step."""
    return [(chain.samples, round(threshold * chain.samples)) for chain, threshold in path.steps]


def test_votes_of_all_numbers_of_samples_are_one_path() -> None:
    """By the chance of so many wrong ones at 0.3: .002, .027, .031, .09, .163, .216, .3, and so on."""
    path = votes_path(units_of(["aaaaa"] * 4, ["a"] * 4), (1, 2, 3, 5))
    assert shown(path)[:7] == [(5, 5), (3, 3), (5, 4), (2, 2), (5, 3), (3, 2), (1, 1)]
    assert len(path.steps) == 11
    assert path.fixed


def test_thresholds_that_were_asked_for_are_in_the_same_order() -> None:
    path = votes_path(units_of(["aaa"] * 4, ["a"] * 4), (1, 3), thresholds=(0.6, 0.66, 1.0))
    assert [(chain.samples, threshold) for chain, threshold in path.steps] == [
        (3, 1.0),
        (3, 0.66),
        (3, 0.6),
        (1, 1.0),
        (1, 0.66),
        (1, 0.6),
    ]


def test_more_numbers_of_samples_take_no_more_tasks() -> None:
    """149 successes without a loss certify 0.98, also where three numbers of samples are tried."""
    for n, certified in ((148, False), (149, True)):
        units = units_of(["aaaaa"] * n, ["a"] * n, right=["a"] * n)
        found = certify(paths(units, (1, 3, 5), 0.98, 0.95), 0.98)
        assert found.certified == certified
        assert found.certified or found.needed_n == 1
    assert found.samples == 1


def test_a_path_from_data_hands_nothing_on() -> None:
    done, open_ = [0.001], [0.04]
    assert sequences([done, open_], 0.05, [0.8, 0.2], [False, True]) == ([1, 0], pytest.approx([0.04, 0.01]))
    assert sequences([done, open_], 0.05, [0.8, 0.2], [True, True]) == ([1, 1], pytest.approx([0.04, 0.05]))
    assert sequences([open_, done], 0.05, [0.8, 0.2], [False, True]) == ([1, 1], pytest.approx([0.05, 0.01]))


def test_what_is_handed_on_does_not_depend_on_paths_from_data() -> None:
    """The third has a share of 1 in 2 of what is left, whether or not the path from data is done."""
    for first in ([0.001], [0.9]):
        _, levels = sequences([first, [0.001], [0.9]], 0.06, fixed=[False, True, True])
        assert levels == pytest.approx([0.03, 0.02, 0.03])


def test_the_order_of_learned_scores_comes_from_the_tasks_that_they_were_fitted_on() -> None:
    units = tasks(800)
    testing_U = ~split_tasks(units.task_U, 0)
    teacher_U, success_US = units.teacher_success_U.copy(), units.success_US.copy()
    teacher_U[testing_U] = 1
    success_US[testing_U] = 0
    other = replace(units, teacher_success_U=teacher_U, success_US=success_US)
    one, two = (learned_path(learned_scores(each, (1, 2, 3)), 0.95) for each in (units, other))
    assert len(one.steps) > 5
    assert [(chain.samples, at) for chain, at in one.steps] == [(chain.samples, at) for chain, at in two.steps]
    assert not one.fixed
    assert certify([one], 0.95).certified
    assert not certify([two], 0.95).certified


def test_a_learned_path_goes_along_the_frontier_of_estimated_loss_and_cost() -> None:
    scores = learned_scores(tasks(4000), (1, 2, 3))
    path = learned_path(scores, 0.95)
    learning = {testing.samples: (fitted, testing.score) for fitted, testing in scores}
    lost, cost = [], []
    for chain, threshold in path.steps:
        fitted, score = learning[chain.samples]
        assert chain.score == score
        acted_U = fitted.acted_U(threshold)
        lost.append(float((1 - fitted.score_U)[acted_U].sum() / fitted.right_U.sum()))
        cost.append(float(fitted.student_usd_U.sum() + fitted.teacher_usd_U[~acted_U].sum()))
    assert lost == sorted(lost)
    assert cost == sorted(cost, reverse=True)
    assert 10 < len(path.steps) <= MOST_STEPS
    assert lost[-1] <= BOLDEST * 0.05 + 1e-9
    assert lost[0] <= 0.005


def test_without_costs_the_frontier_is_that_of_escalations() -> None:
    units = tasks(2000)
    units.teacher_usd_U[:] = np.nan
    path = learned_path(learned_scores(units, (1, 3)), 0.95)
    found = certify([path], 0.95)
    assert found.certified
    assert found.expected_cost_usd is None
    assert found.escalation_share < 0.7


def test_a_score_is_learned_where_enough_successes_are_left_for_its_tests() -> None:
    """At a level of 0.04 the least certificate of 0.98 takes 160 successes, so 240 must be left by a quarter of 320."""
    units = tasks(320)
    assert worth_learning(units, 0.98, 0.95)
    assert not worth_learning(units.take(np.arange(319)), 0.98, 0.95)
    assert not worth_learning(replace(units, features={}), 0.98, 0.95)
    assert [path.share for path in paths(units, (3,), 0.98, 0.95)] == pytest.approx([0.2, 0.8])
    assert [path.fixed for path in paths(units, (3,), 0.98, 0.95, votes=False)] == [False]
    assert [path.share for path in paths(units, (3,), 0.98, 0.95, learn=False)] == [1.0]


def test_missing_labels_count_those_that_go_into_learning() -> None:
    """90 of 120 tasks test; without a loss 149 are needed: 59 more tests take 79 more tasks."""
    generator = np.random.default_rng(1)
    margin = generator.random(120)
    learning_U = split_tasks(np.arange(120), 0)
    good = ~learning_U | (margin > 0.5)
    words = ["a" if one else "b" for one in good]
    units = units_of(words, ["a"] * 120, right=["a"] * 120, features={"margin": margin[:, None].tolist()})
    parts = learned_chains(units, 1)
    assert parts is not None
    found = certify([Path(((parts[1], 0.0),), fixed=False)], 0.98)
    assert (found.certified, found.n, found.needed_n) == (False, 90, 79)


def test_violations_of_learned_scores_are_no_more_than_the_confidence_allows() -> None:
    """100 calibrations on 300 tasks at 90 % confidence: ten violations are expected at most; 4 sigma above are 22."""
    world = tasks(20_000, seed=5)
    tables = {k: table(world, vote(world, k), k) for k in (1, 3)}
    chains = {chain.samples: chain for chain, _ in votes_path(world, (1, 3)).steps}
    generator = np.random.default_rng(6)
    violated = certified = learned = 0
    for seed in range(100):
        sample = world.take(generator.choice(20_000, 300, replace=False))
        found = certify(paths(sample, (1, 3), 0.95, 0.9, seed=seed), 0.95, 0.9)
        if not found.certified:
            continue
        assert found.threshold is not None
        assert found.samples is not None
        chain = chains[found.samples]
        if found.score is not None:
            learned += 1
            chain = chain._replace(score_U=found.score(tables[found.samples]))
        certified += 1
        violated += (losses(chain, found.threshold).rate or 0.0) > 0.05
    assert certified > 80
    assert learned > 30
    assert violated <= 22


def test_a_chain_alone_is_a_path_of_its_thresholds() -> None:
    parts = learned_chains(tasks(400), 3)
    assert parts is not None
    learning, testing = parts
    assert (testing.signal, alone(testing).fixed) == (LEARNED, True)
    assert [threshold for _, threshold in alone(testing).steps] == sorted(testing.thresholds, reverse=True)
    assert set(testing.thresholds) <= set(learning.score_U.tolist())
