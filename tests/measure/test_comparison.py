"""Comparing two sides: the interval and the verdict by hand, what is left out, and what the money buys otherwise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.logs.records import Attempt, LogCall
from potstill.measure.comparison import BOOTSTRAP, SCORE, SCORE_BY_TASK, compare, verdict_of
from potstill.measure.comparison_advice import headline
from potstill.measure.comparison_baselines import Task, majority, random_escalation, retries, share_within_margin
from potstill.measure.comparison_gate import failures
from potstill.measure.comparison_power import needed_tasks
from potstill.measure.comparison_result import Options
from potstill.measure.comparison_sides import Entry, Side, costs_of, pair, side_of
from potstill.measure.prices import PriceTable
from potstill.measure.statistics import mcnemar_exact, paired_score_interval, resample_sums
from potstill.types import Usage

KEYS = (
    "n success_a success_b difference difference_ci discordant p_mcnemar "
    "cost_ratio cost_ratio_ci verdict advice needed_n"
)


def side(name: str, outcomes: str, cost: float | None = 1.0, **fields: object) -> Side:
    """One attempt a task; ``1`` succeeded, ``0`` failed, ``x`` broke, ``?`` was not judged."""
    entries = [
        Entry(
            task=f"t{index}",
            sample=0,
            success={"1": True, "0": False}.get(outcome),
            broken=outcome == "x",
            cost_usd=cost,
            **fields,
        )
        for index, outcome in enumerate(outcomes)
    ]
    return side_of(name, entries)


def repeated(name: str, outcomes: list[str], cost: float = 1.0) -> Side:
    """Several attempts a task, one string for each task."""
    return side_of(
        name,
        [
            Entry(task=f"t{task}", sample=sample, success=one == "1", cost_usd=cost, answer=one)
            for task, line in enumerate(outcomes)
            for sample, one in enumerate(line)
        ],
    )


# --- the interval -----------------------------------------------------------------------------------------------------


def test_score_interval_without_discordance_by_hand() -> None:
    """The statistic is n d / sqrt(n d (1 - d)) then, so that the bounds are z^2 / (n + z^2)."""
    bound = 1.959964**2 / (100 + 1.959964**2)
    assert paired_score_interval(0, 0, 100) == pytest.approx((-bound, bound), abs=1e-6)
    assert paired_score_interval(0, 0, 0) is None


def test_score_interval_bounds_are_where_the_score_test_rejects() -> None:
    """Against the constrained likelihood, maximised by a plain search over the free cell."""
    for b, c, n in ((12, 2, 50), (1, 0, 10), (3, 7, 20), (0, 4, 30)):
        for bound, z in zip(paired_score_interval(b, c, n) or (), (1.959964, -1.959964), strict=True):
            cells = np.linspace(max(0.0, -bound) + 1e-9, (1 - bound) / 2 - 1e-9, 400_001)
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = c * np.log(cells) if c else np.zeros_like(cells)
                logs += b * np.log(cells + bound) if b else 0
                logs += (n - b - c) * np.log(1 - 2 * cells - bound)
            q = cells[int(np.nanargmax(logs))]
            statistic = (b - c - n * bound) / math.sqrt(n * (2 * q + bound * (1 - bound)))
            assert statistic == pytest.approx(z, abs=2e-2), (b, c, n)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_score_interval_holds_the_difference_and_mirrors(b: int, c: int, rest: int) -> None:
    n = b + c + rest
    if n == 0:
        return
    low, high = paired_score_interval(b, c, n) or (1, -1)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert low < high
    assert paired_score_interval(c, b, n) == pytest.approx((-high, -low))


def test_the_non_inferiority_test_rejects_wrongly_at_most_as_often_as_it_says() -> None:
    """Exact chance of showing non-inferiority where the loss is the margin, summed over all tables: 2.5 % nominal."""
    margin = 0.1
    for n, only_a in ((20, 0.0), (40, 0.05), (60, 0.1), (80, 0.02)):
        only_b = only_a + margin
        wrong = 0.0
        for b in range(n + 1):
            for c in range(n + 1 - b):
                low, _ = paired_score_interval(b, c, n) or (-1.0, 1.0)
                if low > -margin:
                    ways = math.comb(n, b) * math.comb(n - b, c)
                    wrong += ways * only_a**b * only_b**c * (1 - only_a - only_b) ** (n - b - c)
        assert wrong < 0.035, (n, only_a)


def test_mcnemar_of_many_pairs_is_the_exact_one() -> None:
    exact = 2 * sum(math.comb(1200, i) for i in range(571)) / 2**1200
    assert mcnemar_exact(570, 630) == pytest.approx(exact, rel=1e-9)
    assert mcnemar_exact(50_000, 50_000) == 1.0
    assert mcnemar_exact(40_000, 60_000) == pytest.approx(0, abs=1e-300)


def test_resampling_many_tasks_has_the_spread_of_resampling_few() -> None:
    """The sum of T draws of values with variance v has the variance T v."""
    values = np.random.default_rng(4).exponential(size=(3000, 1))
    sums = resample_sums(values, 4000, 0)
    assert sums.shape == (4000, 1)
    assert sums.mean() == pytest.approx(values.sum(), rel=2e-3)
    assert sums.var() == pytest.approx(3000 * values.var(), rel=0.08)


# --- the comparison ---------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """A: 3 of 5 for $1 each, B: 4 of 5 for $4 each; task 0 only A, tasks 3 and 4 only B."""
    found = compare(side("new", "11100"), side("old", "01111", 4.0))
    assert (found.n, found.success_a, found.success_b) == (5, 0.6, 0.8)
    assert found.difference == pytest.approx(-0.2)
    assert (found.discordant, found.only_a, found.only_b) == (3, 1, 2)
    assert found.p_mcnemar == 1.0
    assert (found.cost_ratio, found.cost_ratio_ci) == (0.25, (0.25, 0.25))
    assert (found.cost_of_pass_a_usd, found.cost_of_pass_b_usd) == (pytest.approx(5 / 3), 5.0)
    assert found.cost_of_pass_ratio == pytest.approx(1 / 3)
    assert found.difference_method == SCORE
    assert (found.verdict, found.needed_n) == ("no_difference_shown", None)
    assert "itself beyond the margin" in found.advice
    assert set(KEYS.split()) <= set(found.to_json())
    assert headline(found).startswith("No difference shown between A and B: -20.0 points")


def test_sides_that_are_alike_have_an_interval_and_a_number_of_tasks() -> None:
    found = compare(side("a", "1" * 60 + "0" * 40), side("b", "1" * 60 + "0" * 40, 2.0))
    assert found.difference == 0.0
    assert found.difference_ci == pytest.approx((-0.036993, 0.036993), abs=1e-5)
    assert found.verdict == "no_difference_shown"
    assert found.needed_n == 89  # z^2 / (N + z^2) < 0.02 from N = 189 on
    assert "89 more shared tasks" in found.advice
    more = compare(side("a", "1" * 189), side("b", "1" * 189, 2.0))
    assert (more.verdict, more.needed_n) == ("non_inferior", None)
    assert more.advice == "Take A: it is not worse by more than 2 points, and it costs 0.5 times as much."


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.001, 0.1), "a_better"),
        ((-0.1, -0.001), "b_better"),
        ((-0.015, -0.002), "b_better"),
        ((-0.019, 0.0), "non_inferior"),
        ((-0.02, 0.1), "no_difference_shown"),
        ((0.0, 0.1), "non_inferior"),
    ],
)
def test_verdicts(interval: tuple[float, float], verdict: str) -> None:
    assert verdict_of(interval, 0.02) == verdict


def test_a_loss_within_the_margin_is_shown_as_both() -> None:
    found = compare(side("a", "1" * 970 + "0" * 30), side("b", "1" * 1000, 3.0), Options(margin=0.05))
    assert (found.verdict, found.non_inferior, found.needed_n) == ("b_better", True, None)
    assert "less than the margin of 5 points" in found.advice
    assert failures(found, ["worse", "shown-worse"]) == ()


def test_what_is_left_out_is_told() -> None:
    a = side("a", "1x?10")
    b = side_of("b", [*side("b", "11110", 2.0, harness="v1").entries, Entry("only-b", 0, True)])
    found = compare(a, b)
    assert found.n == 3
    said = " | ".join(found.notes)
    assert "left out of A: 1 attempt that ended in an infrastructure error" in said
    assert "left out of A: 1 attempt that had no outcome" in said
    assert "left out of B, without a partner: 3 attempts (tasks without a usable attempt in the other: 3)" in said
    other = found.errors_as_failures
    assert other is not None
    assert (other.n, other.difference) == (4, -0.25)


def test_duplicates_are_removed_first() -> None:
    twice = [Entry("t0", 0, True, cost_usd=1.0, episode_id="e"), Entry("t0", 1, False, cost_usd=9.0, episode_id="e")]
    found = compare(side_of("a", twice), side("b", "1"))
    assert (found.n, found.success_a, found.cost_ratio) == (1, 1.0, 1.0)
    assert "left out of A: 1 attempt that repeated an episode id" in found.notes


def test_an_id_of_another_run_is_a_duplicate_only_with_the_same_content() -> None:
    first = Entry("t0", 0, True, cost_usd=1.0, episode_id="e", run="one", content=5, telling=True)
    copied, other = first._replace(run="two"), first._replace(run="two", content=6)
    assert side_of("a", [first, copied]).duplicates == 1
    assert side_of("a", [first, other]).duplicates == 0
    numbered = first._replace(episode_id=None)
    assert side_of("a", [numbered, numbered]).duplicates == 1
    assert side_of("a", [numbered, numbered._replace(content=7)]).duplicates == 0
    assert side_of("a", [first._replace(step=1), first._replace(step=2)]).duplicates == 0


def test_decisions_of_a_task_are_pairs_of_one_cluster() -> None:
    def steps(name: str, outcomes: str) -> Side:
        return side_of(name, [Entry("t", 0, one == "1", step=step) for step, one in enumerate(outcomes)])

    found = compare(steps("a", "110"), steps("b", "101"))
    assert (found.n, found.tasks, found.only_a, found.only_b) == (3, 1, 1, 1)
    assert found.difference_method == SCORE_BY_TASK


def test_an_unknown_cost_is_never_zero() -> None:
    found = compare(side("a", "10", None), side("b", "11"))
    assert (found.cost_ratio, found.cost_ratio_ci, found.cost_of_pass_a_usd) == (None, None, None)
    assert "cost unknown for 2 of 2 shared attempts of A: no cost ratio" in found.notes
    assert found.baselines == ()
    assert "the cost ratio is unknown" in headline(found)


def test_a_side_that_costs_nothing_or_never_succeeds_has_no_ratio() -> None:
    free = compare(side("a", "10"), side("b", "11", 0.0))
    assert (free.cost_ratio, free.cost_ratio_ci, free.cost_of_pass_ratio_ci) == (None, None, None)
    assert "the attempts of B cost nothing: no cost ratio" in free.notes
    never = compare(side("a", "00"), side("b", "11"))
    assert (never.cost_of_pass_a_usd, never.cost_of_pass_ratio, never.cost_ratio) == (None, None, 1.0)


def test_a_bound_without_successes_is_infinite() -> None:
    """One success in five tasks is bounded by Wilson's 0.0362 and 0.6245; none has only a lower bound."""
    rare = compare(side("a", "10000"), side("b", "11111"))
    assert rare.cost_of_pass_a_ci_usd == pytest.approx((1 / 0.6245, 1 / 0.0362), rel=1e-3)
    assert rare.cost_of_pass_b_ci_usd == pytest.approx((1.0, 1 / 0.5655), rel=1e-3)
    assert rare.cost_of_pass_ratio_ci is not None
    assert rare.cost_of_pass_ratio_ci[0] == pytest.approx(0.9999, rel=1e-3)
    never = compare(side("a", "00000"), side("b", "11111"))
    assert never.cost_of_pass_a_ci_usd == (pytest.approx(1 / 0.4345, rel=1e-3), None)


def test_unlike_conditions_and_shared_recordings_are_told() -> None:
    a = side("a", "10", harness="base", user_model="x", episode_id="same")
    b = side("b", "10", harness="v1", user_model="x", episode_id="same")
    said = " | ".join(compare(a, b).notes)
    assert "A and B differ in harness (base against v1)" in said
    assert "ids that both sides have: 1" in said
    assert "simulated user" not in said


def test_nothing_shared_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no task in common: the tasks of one are t0, of the other u0"):
        compare(side("a", "1"), side_of("b", [Entry("u0", 0, True)]))
    with pytest.raises(ConfigError, match="a has no attempt with an outcome: 2 attempts, 1 of them broken"):
        compare(side("a", "x?"), side("b", "11"))
    with pytest.raises(ConfigError, match="margin of 2 is not possible"):
        compare(side("a", "1"), side("b", "1"), Options(margin=2.0))


def test_pairs_are_by_number_where_there_are_numbers() -> None:
    def attempts(*samples: int | None) -> list[Entry]:
        return [Entry("t", sample, True, episode_id=str(index)) for index, sample in enumerate(samples)]

    def ids(a: list[Entry], b: list[Entry]) -> list[tuple[str | None, str | None]]:
        return [(one.episode_id, other.episode_id) for one, other in pair(a, b).pairs]

    assert ids(attempts(0, 1, 2), attempts(2, 0)) == [("0", "1"), ("2", "0")]
    assert ids(attempts(0, 1, 2), attempts(None, None)) == [("0", "0"), ("1", "1")]
    assert ids(attempts(0, 1), attempts(5, 6)) == [("0", "0"), ("1", "1")]
    assert ids(attempts(0, 0, 1), attempts(0, 1)) == [("0", "0"), ("1", "1")]
    lost = pair(attempts(0, 1, 2), attempts(2, 0))
    assert (lost.numbered, lost.ordered, lost.alone_a, lost.alone_b) == (2, 0, 1, 0)


attempts = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3), st.booleans()).map(lambda three: Entry(*three)),
    min_size=1,
    max_size=12,
)


@given(attempts, attempts)
def test_nobody_is_paired_twice_or_across_tasks(a: list[Entry], b: list[Entry]) -> None:
    a = [entry._replace(episode_id=f"a{index}") for index, entry in enumerate(a)]
    b = [entry._replace(episode_id=f"b{index}") for index, entry in enumerate(b)]
    found = pair(a, b)
    assert all(ours.task == theirs.task for ours, theirs in found.pairs)
    assert len({ours.episode_id for ours, _ in found.pairs}) == len(found.pairs)
    assert len({theirs.episode_id for _, theirs in found.pairs}) == len(found.pairs)
    assert found.alone_a + len(found.pairs) == len(a)
    assert found.alone_b + len(found.pairs) == len(b)


@given(attempts, attempts)
def test_swapping_the_sides_mirrors_the_comparison(a: list[Entry], b: list[Entry]) -> None:
    one, other = side_of("a", a), side_of("b", b)
    if not pair(a, b).pairs:
        return
    forth, back = compare(one, other), compare(other, one)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.difference_ci == pytest.approx((-back.difference_ci[1], -back.difference_ci[0]), abs=0.05)
    assert (forth.only_a, forth.only_b) == (back.only_b, back.only_a)
    assert forth.difference_ci[0] <= forth.difference + 1e-9


# --- several attempts a task ------------------------------------------------------------------------------------------


def test_repeating_every_attempt_does_not_narrow_the_interval() -> None:
    generator = np.random.default_rng(0)
    once = ["1" if one else "0" for one in generator.random(200) < 0.6]
    other = ["1" if one else "0" for one in generator.random(200) < 0.6]
    single = compare(side("a", "".join(once)), side("b", "".join(other)))
    five = compare(repeated("a", [one * 5 for one in once]), repeated("b", [one * 5 for one in other]))
    assert (five.n, five.tasks, five.difference_method) == (1000, 200, BOOTSTRAP)
    assert five.difference_ci == pytest.approx(single.difference_ci, abs=0.02)
    assert "trust the interval" in " ".join(five.notes)


def test_where_few_tasks_tell_sides_apart_each_counts_as_one_pair() -> None:
    alike = compare(repeated("a", ["111"] * 30), repeated("b", ["111"] * 30))
    assert (alike.difference_method, alike.difference_ci) == (SCORE_BY_TASK, paired_score_interval(0, 0, 30))
    one = compare(repeated("a", ["111"] * 29 + ["110"]), repeated("b", ["111"] * 30))
    assert one.difference_ci == pytest.approx(paired_score_interval(0, 1 / 3, 30))


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("only_a", "only_b"), [(0.05, 0.05), (0.10, 0.08), (0.02, 0.03)])
def test_with_the_tasks_that_are_asked_for_non_inferiority_is_shown_in_four_of_five(
    only_a: float, only_b: float
) -> None:
    margin, tasks = 0.05, 60
    needed = needed_tasks(only_a - only_b, None, tasks, margin=margin, confidence=0.95, discordant=only_a + only_b)
    assert needed is not None
    n = tasks + needed
    draws = np.random.default_rng(3).multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=2000)
    shown = [(paired_score_interval(b, c, n) or (-1, 1))[0] > -margin for b, c, _ in draws.tolist()]
    assert 0.76 < np.mean(shown) < 0.86


def test_needed_tasks_by_the_formula() -> None:
    """((1.95996 + 0.84162) 0.5 / 0.05)^2 = 784.9"""
    assert needed_tasks(0.0, 0.5, 100, margin=0.05, confidence=0.95) == 685
    assert needed_tasks(-0.05, 0.5, 100, margin=0.05, confidence=0.95) is None
    assert needed_tasks(-0.05 + 1e-9, 0.5, 100, margin=0.05, confidence=0.95) is None


# --- baselines --------------------------------------------------------------------------------------------------------


def test_retries_by_hand() -> None:
    """Task 1: one of two succeeded; task 2: never. Second attempts: half of task 1 and all of task 2."""
    tasks = [Task(2, 1, 1.0), Task(2, 0, 3.0)]
    assert retries(tasks, 0.1) == (0.25, 2.0, 1.0, False)
    full = retries(tasks, 100.0)
    assert (full.success, full.cost_usd, full.attempts, full.exhausted) == (0.5, 2.0 + (0.5 + 3.0) / 2, 2.0, True)
    half = retries(tasks, 2.0 + 0.875)
    assert half == pytest.approx((0.375, 2.875, 1.5, False))


def test_retries_are_pass_at_k() -> None:
    for n, c in itertools.product(range(1, 8), range(8)):
        if c > n:
            continue
        solved = retries([Task(n, c, 1.0)], 1e9)
        assert solved.success == pytest.approx(1.0 if c else 0.0)
        expected = sum(math.comb(n - c, j) / math.comb(n, j) for j in range(n))
        assert solved.cost_usd == pytest.approx(expected)


def test_votes_and_mixes_by_hand() -> None:
    assert majority(["b", "a", "a", "b"]) == "b"
    mix = random_escalation((0.5, 1.0), (0.9, 5.0), 2.0)
    assert mix == pytest.approx((0.25, 0.6, 2.0))
    assert random_escalation((0.5, 1.0), (0.9, 5.0), 50.0) == (1.0, 0.9, 5.0)
    assert share_within_margin(0.9, 0.5, 0.1) == 0.0


def test_baselines_of_a_comparison() -> None:
    """The cheap side costs $1 an attempt, the dear one $3: three votes. Votes: 101 -> right, 001 -> wrong."""
    cheap, dear = repeated("cheap", ["101", "001", "000"]), repeated("dear", ["111", "111", "110"], 3.0)
    rows = {row.name: row for row in compare(cheap, dear).baselines}
    assert all(row.computed for row in rows.values())
    assert rows["cheaper alone"].success == pytest.approx(1 / 3)
    votes = rows["self-consistency"]
    assert (votes.attempts, votes.success, votes.cost_per_episode_usd) == (
        3.0,
        pytest.approx(1 / 3),
        pytest.approx(3.0),
    )
    retried = rows["retries with a perfect verifier"]
    assert retried.success == pytest.approx(2 / 3)
    assert retried.cost_per_episode_usd == pytest.approx((4 / 3 + 2 + 3) / 3)
    mix = rows["random escalation"]
    assert mix.success == pytest.approx(8 / 9 - 0.02)
    assert rows["warm cache"].success is None
    assert "are not in the records" in rows["warm cache"].note


def test_baselines_at_the_cost_of_a_cascade() -> None:
    student, teacher = side("student", "1100", 1.0), side("teacher", "1111", 9.0)
    found = compare(side("cascade", "1110", 3.0), teacher, cheap=student)
    mix = next(row for row in found.baselines if row.name == "random escalation")
    assert (mix.teacher_share, mix.success, mix.cost_per_episode_usd) == (0.25, 0.625, 3.0)
    assert "at the cost of A" in mix.note
    lacking = compare(side("cascade", "1110", 3.0), teacher, cheap=side("student", "11"))
    assert lacking.baselines == ()
    assert "no equal-cost baselines: cheap (student) lacks dollars or tasks" in " ".join(lacking.notes)


def test_warm_cache_reads_what_an_earlier_call_sent() -> None:
    """Two calls of 10,000 and 20,000 tokens; half of the second repeats the first: $2 a million, reads $0.5.

    The provider's hits are whole blocks of 128 tokens: 9,984.
    """
    table = PriceTable.load(date="2026-11-21")
    price = table.price("gpt-4.1")
    assert (price.rates.input, price.rates.read_rate) == (2.0, 0.5)
    calls = tuple(
        LogCall(
            model="gpt-4.1",
            usage=Usage(input_tokens=tokens),
            sizes=(100,) * messages,
            prefixes=tuple(range(messages)),
        )
        for tokens, messages in ((10_000, 1), (20_000, 2))
    )
    costs = costs_of(Attempt(task_id="t", model="gpt-4.1", calls=calls), table)
    assert costs.usd == pytest.approx(0.06)
    assert costs.warm_usd == pytest.approx(0.02 + (10_016 * 2.0 + 9_984 * 0.5) / 1e6)
    assert costs.priced
    billed = costs_of(Attempt(task_id="t", model="gpt-4.1", calls=calls, cost_usd=0.05), table)
    assert billed == (0.05, pytest.approx(0.05 - 9_984 * 1.5 / 1e6), False)
    sums = Attempt(task_id="t", model="gpt-4.1", input_tokens=1_000_000, cached_input_tokens=400_000, output_tokens=0)
    assert costs_of(sums, table) == (pytest.approx(1.4), None, True)
    assert costs_of(Attempt(task_id="t", model="unheard-of", input_tokens=1, output_tokens=1), table).usd is None


# --- conditions for a build -------------------------------------------------------------------------------------------


def test_conditions_by_hand() -> None:
    alike = compare(side("a", "1" * 50), side("b", "1" * 50))
    assert failures(alike, []) == ()
    assert failures(alike, ["cost-of-pass", "shown-worse"]) == ()
    (worse,) = failures(alike, ["worse", "worse"])
    assert worse.startswith("worse: A may be worse by 7.1 points, more than the margin of 2.")
    lost = compare(side("a", "1" * 20 + "0" * 30), side("b", "1" * 50))
    assert [one.split(":")[0] for one in failures(lost, ["worse", "shown-worse", "cost-of-pass"])] == [
        "worse",
        "shown-worse",
        "cost-of-pass",
    ]


def test_a_dearer_success_fails_only_beyond_the_tolerance() -> None:
    dearer = compare(side("a", "10" * 50, 1.1), side("b", "10" * 50))
    assert failures(dearer, ["cost-of-pass"], tolerance=0.15) == ()
    (reason,) = failures(dearer, ["cost-of-pass"], tolerance=0.05)
    assert "a success of A costs 1.10 times as much as one of B" in reason


def test_what_cannot_be_checked_does_not_pass() -> None:
    unknown = compare(side("a", "10", None), side("b", "11"))
    assert "cannot be checked" in failures(unknown, ["cost-of-pass"])[0]
    assert "A never succeeded" in failures(compare(side("a", "00"), side("b", "11")), ["cost-of-pass"])[0]
    assert failures(compare(side("a", "11"), side("b", "00")), ["cost-of-pass"]) == ()
    assert "neither side" in failures(compare(side("a", "00"), side("b", "00")), ["cost-of-pass"])[0]
    assert "fewer than two tasks" in failures(compare(side("a", "1"), side("b", "1")), ["cost-of-pass"])[0]
