"""Measuring whole arms: hand-worked totals, honest unknowns, and the JSON contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from measure_builders import DATE, STUDENT, TEACHER, call, episode, step, usage

from potstill.errors import ConfigError, UnknownName, UnknownPrice
from potstill.measure.ledger import Pricing
from potstill.measure.measurement import ArmSummary, Measurement, Options
from potstill.measure.prices import PriceTable
from potstill.measure.report import render_html
from potstill.measure.summary import summarise
from potstill.types import Answerer, ErrorRecord, Outcome, Trajectory, TrajectoryKind

TABLE = PriceTable.load(date=DATE)
T_USD, S_USD = 0.003, 0.00015
"""1,000 input and 100 output tokens: of the teacher (2 and 10 $/M) and of the student (0.1 and 0.5 $/M)."""
CONTRACT = [
    "arm",
    "n",
    "seeds",
    "success",
    "success_ci",
    "cost_per_episode_usd",
    "cost_of_pass_usd",
    "cost_of_pass_ci_usd",
    "teacher_step_share",
    "teacher_cost_share",
    "cache_hit_rate",
    "steps_mean",
]


def cascade(task: int, *, success: bool, shown: tuple[str, ...] = ()) -> Trajectory:
    """Two steps: the student acts, then the student is asked and the teacher acts."""
    student = call(STUDENT, Answerer.STUDENT, usage())
    steps = (
        step(0, Answerer.STUDENT, (student,), shown),
        step(1, Answerer.TEACHER, (student, call(TEACHER, Answerer.TEACHER, usage()))),
    )
    return episode("cascade", task, success=success, kind=TrajectoryKind.CASCADE, steps=steps)


def study() -> list[Trajectory]:
    """Ten tasks for each of three arms, and four demonstrations on tasks of their own, one of them failed."""
    demos = [episode("teacher", i, split="train", success=i > 0) for i in range(4)]
    teacher = [episode("teacher", i, success=i < 9) for i in range(10)]
    student = [episode("zero-shot", i, success=i < 4, kind=TrajectoryKind.STUDENT) for i in range(10)]
    both = [cascade(i, success=i < 8, shown=("teacher-train-1-0",)) for i in range(10)]
    return [*demos, *teacher, *student, *both]


def arms(measurement: Measurement) -> dict[str, ArmSummary]:
    return {arm.arm: arm for arm in measurement.arms}


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return summarise(study(), TABLE)


def test_totals_by_hand(measured: Measurement) -> None:
    found = arms(measured)
    assert list(found) == ["zero-shot", "teacher", "cascade"]  # cheapest first
    teacher, both = found["teacher"], found["cascade"]
    assert (teacher.n, teacher.successes, teacher.success) == (10, 9, 0.9)
    assert teacher.cost_per_episode_usd == pytest.approx(T_USD)
    assert teacher.cost_of_pass_usd == pytest.approx(10 * T_USD / 9)
    assert both.cost_per_episode_usd == pytest.approx(2 * S_USD + T_USD)
    assert both.cost_of_pass_usd == pytest.approx(10 * (2 * S_USD + T_USD) / 8)
    assert (both.teacher_step_share, both.steps_mean) == (0.5, 2)
    assert both.teacher_cost_share == pytest.approx(T_USD / (2 * S_USD + T_USD))
    assert both.latency.step_s_mean == pytest.approx(0.5)
    assert both.latency.episode_s_mean == pytest.approx(2)


def test_cost_parts_add_up(measured: Measurement) -> None:
    for arm in measured.arms:
        assert arm.cost_parts is not None
        parts = msgspec.structs.astuple(arm.cost_parts)
        assert sum(parts) == pytest.approx(arm.cost_per_episode_usd)


def test_marginal_dollars_and_frontier(measured: Measurement) -> None:
    found = arms(measured)
    assert found["teacher"].marginal_from == "zero-shot"
    assert found["teacher"].marginal_usd_per_success == pytest.approx((T_USD - S_USD) / 0.5)
    assert found["cascade"].marginal_usd_per_success is None  # dearer than the teacher and no better
    assert measured.frontier == ("zero-shot", "teacher")


def test_demonstrations_are_a_cost_and_not_an_arm(measured: Measurement) -> None:
    assert measured.demonstrations is not None
    assert measured.demonstrations.n == 4  # the failed one was paid for too
    assert measured.demonstrations.cost_usd == pytest.approx(4 * T_USD)
    assert arms(measured)["teacher"].n == 10


def test_break_even_is_never_if_the_arm_is_not_cheaper(measured: Measurement) -> None:
    assert measured.break_even is not None
    assert measured.break_even.arm == "cascade"
    assert measured.break_even_episodes is None


def test_break_even_by_hand() -> None:
    shown = ("teacher-train-1-0",)
    student = call(STUDENT, Answerer.STUDENT, usage())
    context = [
        episode(
            "context",
            i,
            success=i < 8,
            kind=TrajectoryKind.STUDENT,
            steps=(step(0, Answerer.STUDENT, (student,), shown),),
        )
        for i in range(10)
    ]
    found = summarise([*study(), *context], TABLE, Options(break_even_arm="context")).break_even
    assert found is not None
    assert found.episodes == pytest.approx(4 * T_USD / (T_USD - S_USD))
    assert found.episodes_if_served == pytest.approx(0, abs=1e-9)


def test_break_even_is_unknown_without_demonstrations_and_never_without_a_success(measured: Measurement) -> None:
    """Zero would say that an arm which fails every task has paid for itself already."""
    assert arms(measured)["zero-shot"].break_even is None
    student = call(STUDENT, Answerer.STUDENT, usage())
    steps = (step(0, Answerer.STUDENT, (student,), ("teacher-train-1-0",)),)
    kind = TrajectoryKind.STUDENT
    losing = [episode("context", i, success=False, kind=kind, steps=steps) for i in range(10)]
    only = summarise([*(t for t in study() if t.arm == "teacher"), *losing], TABLE)
    assert only.break_even is not None
    assert only.break_even.saving_per_episode_usd > 0
    assert (only.break_even.episodes, only.break_even.episodes_if_served, only.break_even_episodes) == (None,) * 3
    assert "Never: <b>context</b> never succeeded" in render_html(only)


@pytest.mark.parametrize("cost", [-3.0, float("nan"), float("inf")])
def test_demonstrations_cannot_have_a_negative_or_endless_cost(cost: float) -> None:
    with pytest.raises(ConfigError, match="cannot cost"):
        summarise(study(), TABLE, Options(demonstrations_usd=cost))


@pytest.mark.parametrize("arm", ["teacher", "zero-shot", "cascade"])
def test_an_arm_alone_is_the_arm_beside_others(measured: Measurement, arm: str) -> None:
    """Its demonstrations do not come back as episodes of the teacher when the arms that used them are left out."""
    alone = arms(summarise(study(), TABLE, Options(arms=(arm,))))
    assert list(alone) == [arm]
    told = ("n", "successes", "cost_per_episode_usd", "cost_of_pass_ci_usd", "steps_mean")
    assert [getattr(alone[arm], key) for key in told] == [getattr(arms(measured)[arm], key) for key in told]


def test_broken_episodes_are_mentioned() -> None:
    broken = episode("teacher", 20, error=ErrorRecord(kind="KeyRefused", message="401"))
    assert any("1 of 11 in 'teacher'" in note for note in summarise([*study(), broken], TABLE).notes)


def test_demonstrations_that_were_not_given_are_fetched_or_unknown() -> None:
    demos = [t for t in study() if t.task.split == "train"]
    rest = [t for t in study() if t.task.split != "train"]
    without = summarise(rest, TABLE)
    assert without.demonstrations is not None
    assert without.demonstrations.cost_usd is None
    assert without.break_even is None
    assert any("cost of the demonstrations is unknown" in note for note in without.notes)
    fetched = summarise(rest, TABLE, find_demonstrations=lambda ids: demos if "teacher-train-1-0" in ids else [])
    assert fetched.demonstrations is not None
    assert fetched.demonstrations.cost_usd == pytest.approx(4 * T_USD)
    assert arms(fetched)["teacher"].n == 10


def test_against_the_reference(measured: Measurement) -> None:
    versus = arms(measured)["zero-shot"].versus
    assert versus is not None
    assert versus.arm == "teacher"
    assert versus.success is not None
    assert (versus.success.n, versus.success.difference) == (10, pytest.approx(-0.5))
    assert (versus.success.only_a, versus.success.only_b) == (0, 5)
    assert versus.cost is not None
    assert versus.cost.ratio == pytest.approx(S_USD / T_USD)


def test_unknown_tokens_make_the_cost_unknown_and_are_counted() -> None:
    blind = episode("teacher", 0, steps=(step(0, Answerer.TEACHER, (call(TEACHER, tokens=None),)),))
    (arm,) = summarise([blind, episode("teacher", 1)], TABLE).arms
    assert (arm.cost_usd, arm.cost_per_episode_usd, arm.cost_of_pass_usd, arm.tokens) == (None, None, None, None)
    assert (arm.uncached.cost_per_episode_usd, arm.teacher_cost_share, arm.cost_parts) == (None, None, None)
    assert (arm.calls_without_cost, arm.known_cost_usd) == (1, pytest.approx(T_USD))


def test_no_success_is_an_unknown_cost_of_pass_and_not_zero() -> None:
    (arm,) = summarise([episode("teacher", i, success=False) for i in range(3)], TABLE).arms
    assert (arm.success, arm.cost_of_pass_usd, arm.cost_of_pass_ci_usd) == (0, None, None)


def test_broken_episodes_are_failures_and_unjudged_ones_are_unknown() -> None:
    error = ErrorRecord(kind="EnvCrashed", message="gone")
    unjudged = msgspec.structs.replace(episode("teacher", 2), outcome=Outcome(success=None))
    (arm,) = summarise([episode("teacher", 0), episode("teacher", 1, error=error), unjudged], TABLE).arms
    assert (arm.n, arm.errors, arm.unknown_outcomes, arm.success) == (3, 1, 1, 0.5)


def test_a_control_without_calls_costs_nothing_and_that_is_known() -> None:
    steps = (step(0, Answerer.CONTROL),)
    control = [episode("copy", i, kind=TrajectoryKind.CONTROL, steps=steps) for i in range(2)]
    (arm,) = summarise(control, TABLE).arms
    assert (arm.cost_usd, arm.cost_of_pass_usd, arm.teacher_cost_share, arm.cache_hit_rate) == (0, 0, None, None)
    assert arm.teacher_step_share == 0


def test_caches_policies() -> None:
    reported = usage(4000, 0, cache_read_tokens=3000, cache_reported=True)
    steps = (step(0, Answerer.TEACHER, (call(TEACHER, tokens=reported),)),)
    run = [episode("teacher", 0, steps=steps)]
    rates = {}
    for cache in ("reported", "simulated", "none"):
        (arm,) = summarise(run, TABLE, Options(cache=cache)).arms
        rates[cache] = (arm.cache_hit_rate, arm.cost_per_episode_usd, arm.uncached.cost_per_episode_usd)
    cached, uncached = pytest.approx(0.0023), pytest.approx(0.008)
    assert rates == {
        "reported": (0.75, cached, uncached),
        "simulated": (0.75, cached, uncached),
        "none": (None, uncached, uncached),
    }
    (silent,) = summarise([episode("teacher", 0)], TABLE, Options(cache="reported")).arms
    assert silent.cache_hit_rate is None


def test_priced_as_is_always_said() -> None:
    expert = call("expert:rooms", tokens=usage(estimated=True, counted_by="local:small"), priced_as=TEACHER)
    found = summarise([episode("teacher", 0, steps=(step(0, Answerer.TEACHER, (expert,)),))], TABLE)
    assert found.arms[0].priced_as == (
        "expert:rooms priced as anthropic/claude-sonnet-5-5, tokens counted by local:small",
    )
    assert "expert:rooms priced as anthropic/claude-sonnet-5-5, tokens counted by local:small" in found.notes
    dearer = summarise(study(), TABLE, Options(pricing=Pricing(student_as="claude-opus-5-5")))
    assert arms(dearer)["zero-shot"].cost_per_episode_usd == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("kind", {"teacher / find", "teacher / fetch"}),
        ("environment", {"teacher / rooms"}),
        ("split", {"teacher / test"}),
        ("student", {"teacher / (no student)"}),
    ],
)
def test_groups(by: str, labels: set[str]) -> None:
    found = summarise(study(), TABLE, Options(by=by))
    assert {arm.arm for arm in found.arms if arm.arm.startswith("teacher")} == labels
    assert all(arm.versus is None or arm.versus.arm.endswith(arm.group or "") for arm in found.arms)


def test_wrong_questions() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'kind'"):
        summarise(study(), TABLE, Options(by="kinds"))
    with pytest.raises(UnknownName, match="No arm named 'teecher'"):
        summarise(study(), TABLE, Options(reference="teecher"))
    with pytest.raises(ConfigError, match="no episodes"):
        summarise([], TABLE)
    with pytest.raises(UnknownPrice):
        summarise([episode("t", 0, steps=(step(0, Answerer.TEACHER, (call("what", tokens=usage()),)),))], TABLE)


# --- the JSON contract ------------------------------------------------------------------------------------------------


def test_json_contract(measured: Measurement) -> None:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(measured.to_json()))
    assert (found["schema"], found["prices_date"]) == (1, DATE)
    assert found["break_even_episodes"] is None
    for arm in found["arms"]:
        assert set(CONTRACT) <= set(arm)
        assert {"cost_per_episode_usd", "cost_of_pass_usd", "cost_of_pass_ci_usd"} <= set(arm["uncached"])
    teacher = next(arm for arm in found["arms"] if arm["arm"] == "teacher")
    assert teacher["seeds"] == 1
    assert teacher["success_ci"] == pytest.approx([0.596, 0.982], abs=1e-3)
    low, high = teacher["cost_of_pass_ci_usd"]
    assert low <= teacher["cost_of_pass_usd"] <= high


def test_unknown_is_null_and_never_left_out() -> None:
    blind = episode("teacher", 0, success=None, steps=(step(0, Answerer.TEACHER, (call(TEACHER, tokens=None),)),))
    (arm,) = summarise([blind], TABLE).to_json()["arms"]
    unknown = [key for key in CONTRACT if arm[key] is None]
    assert unknown == [
        "success",
        "success_ci",
        "cost_per_episode_usd",
        "cost_of_pass_usd",
        "cost_of_pass_ci_usd",
        "teacher_cost_share",
        "cache_hit_rate",
    ]


def test_every_key_is_documented(measured: Measurement) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "measure-json.md"
    documented = set(re.findall(r"`([a-z0-9_]+)`", page.read_text(encoding="utf-8")))
    found = measured.to_json()
    missing = (set(found) | {key for arm in found["arms"] for key in arm}) - documented
    assert not missing


def test_the_same_episodes_give_the_same_json(measured: Measurement) -> None:
    assert summarise(iter(study()), TABLE).to_json() == measured.to_json()
