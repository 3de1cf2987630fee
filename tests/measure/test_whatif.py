"""What-if: ways worked by hand through the engine, the trap of caching, and what may be recommended."""

from __future__ import annotations

import functools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_builders import DATE, call, episode, step, usage

from potstill.errors import ConfigError, UnknownPrice
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.measure.ways import Assumption, Sampling, episodes, escalates, ways
from potstill.measure.whatif import Plan, Verdict, plan
from potstill.measure.workload import Workload, observe, spread
from potstill.types import Answerer, TrajectoryKind

TABLE = PriceTable.load(date=DATE)
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
BY_HAND = {
    # 20 prompts from 6,000 by 1,200 tokens: 28,800 written at $5, 319,200 read at $0.2, 6,000 answered at $20
    "teacher": (28_800 * 5 + 319_200 * 0.2 + 6_000 * 20) / 1e6,
    # 8,000 tokens of demonstrations in front, at a fortieth: $0.125, $0.01, $0.5
    "student": (36_800 * 0.125 + 471_200 * 0.01 + 6_000 * 0.5) / 1e6,
}


@functools.cache
def planned(teacher: str = OPUS, student: str = HAIKU, load: Workload | None = None, **options: object) -> Plan:
    return plan(load or Workload(), teacher=teacher, student=student, table=TABLE, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BY_HAND)
def test_one_model_alone_by_hand(name: str) -> None:
    """Within a thousandth: the last message of each prompt, three tokens, is never written."""
    assert planned().way(name).cost_usd == pytest.approx(BY_HAND[name], rel=2e-3)


def test_whole_tasks_are_shared_out_by_hand() -> None:
    found = planned(load=Workload(task_escalation=0.25))
    assert found.way("gate").cost_usd == pytest.approx(0.25 * BY_HAND["teacher"] + 0.75 * BY_HAND["student"], rel=2e-3)
    assert found.way("retry").cost_usd == pytest.approx(BY_HAND["student"] + 0.25 * BY_HAND["teacher"], rel=2e-3)


def test_escalated_steps_pay_for_what_the_teachers_cache_missed() -> None:
    """Escalated at 4, 9, 14 and 19: 28,800 written in four pieces, 10,800 + 16,800 + 22,800 read, four answers."""
    cascade = next(way for way in ways(Sampling.TWO_THEN_MORE) if way.name == "cascade-frozen")
    (made,) = episodes(cascade, Workload(), OPUS, HAIKU, phase=0.0)
    asked = [one for one in made.calls if one.answerer is Answerer.TEACHER]
    assert [one.usage.input_tokens for one in asked if one.usage] == [10_800, 16_800, 22_800, 28_800]
    assert len(made.calls) == 20 * 3 + 4
    assert made.teacher_steps == 4
    uncached = planned().way("cascade-uncached")
    # 17,400 tokens a prompt on average; the student reads 508,000 tokens three times
    by_hand = (4 * 17_400 * 4 + 4 * 300 * 20 + 3 * 508_000 * 0.1 + 3 * 6_000 * 0.5) / 1e6
    assert uncached.cost_usd == pytest.approx(by_hand, rel=1e-6)


def test_samplings_by_their_number_of_calls() -> None:
    numbers = {}
    for sampling in (Sampling.SEPARATE, Sampling.TOGETHER, Sampling.TWO_THEN_MORE, Sampling.TIE_BREAK):
        cascade = next(way for way in ways(sampling) if way.name == "cascade")
        (made,) = episodes(cascade, Workload(), "gpt-6.1-sol", "gpt-6-luna", phase=0.0)
        numbers[sampling] = sum(one.answerer is Answerer.STUDENT for one in made.calls)
    assert numbers == {
        Sampling.SEPARATE: 60,
        Sampling.TOGETHER: 20,
        Sampling.TWO_THEN_MORE: 4 * 2 + 16 * 3,
        Sampling.TIE_BREAK: 4 * 3 + 16 * 2,
    }


def test_the_trap_caching_eats_the_step_cascade() -> None:
    """Without caches a cascade seems to save 1.6 times; against a teacher that caches it loses; frozen it saves."""
    found = planned("gpt-6-astra", "gpt-6.1-terra")
    per_step = found.way("cascade-per-step")
    assert (per_step.uncached_ratio or 0) > 1.5
    assert (per_step.ratio or 9) < 1
    assert per_step.verdict is Verdict.LOSES
    assert found.way("cascade-uncached").verdict is Verdict.LOSES
    assert found.recommended == "cascade"
    assert (found.way("cascade-frozen").ratio or 0) > 1.4


@pytest.mark.parametrize(
    ("pair", "teacher_usd", "published"),
    [
        ((OPUS, HAIKU), 0.328, (3.0, 1.35, 1.63, 2.98, 4.35, 26.6)),
        (("claude-fable-5-2", HAIKU), 0.592, (3.6, 1.46, 1.63, 2.99, 4.62, 48)),
        (("gpt-6.1-sol", "gpt-6-luna"), 0.164, (2.3, 1.05, 1.43, 2.48, 3.84, 13.3)),
        (("gpt-6-astra", "gpt-6.1-terra"), 0.979, (1.5, 0.88, 1.47, 2.54, 3.55, 9.8)),
    ],
)
def test_an_independent_simulation_agrees(
    pair: tuple[str, str], teacher_usd: float, published: tuple[float, ...]
) -> None:
    """Ratios of a simulation written apart from this one, which escalated always at the same four steps."""
    found = planned(*pair)
    names = ("cascade-per-step", "cascade-frozen", "handoff", "gate", "student")
    ours = (found.way("cascade-uncached").uncached_ratio, *(found.way(name).ratio for name in names))
    assert found.way("teacher").cost_usd == pytest.approx(teacher_usd, rel=0.02)
    assert ours == pytest.approx(published, rel=0.12)
    assert [one > 1 for one in ours if one] == [other > 1 for other in published]


def test_a_cascade_that_loses_money_is_not_recommended() -> None:
    found = planned("gpt-6.1-sol", "gpt-6.1-terra", Workload(escalation=0.6))
    assert found.recommended is None
    assert "loses money" in found.reason
    assert "Stay with the teacher" in found.reason
    assert all(way.verdict is Verdict.LOSES for way in found.ways if way.assumes == (Assumption.SIGNAL,))
    assert found.break_even_escalation is None or found.break_even_escalation < 0.6


def test_the_break_even_escalation_separates_saving_from_losing() -> None:
    share = planned("gpt-6-astra", "gpt-6.1-terra").break_even_escalation
    assert share is not None
    for escalation, verdict in ((share - 0.05, Verdict.SAVES), (share + 0.05, Verdict.LOSES)):
        found = planned("gpt-6-astra", "gpt-6.1-terra", Workload(escalation=escalation))
        assert found.way("cascade").verdict is verdict


def test_what_nobody_vouched_for_is_an_alternative_and_not_recommended() -> None:
    found = planned()
    assert found.recommended == "cascade"
    assert found.alternative == "gate"
    models = "--teacher anthropic:claude-opus-5-5 --student anthropic:claude-haiku-5-5"
    assert found.measure_with == f"potstill run {models} --arm teacher,context+cascade@task"
    assert found.way("gate").unproven == (Assumption.GATE,)
    trusted = planned(assume=(Assumption.SIGNAL, Assumption.GATE))
    assert trusted.recommended == "gate"
    assert trusted.alternative == "student"
    assert planned(assume=(Assumption.STUDENT,)).recommended == "student"


def test_a_slow_pace_lets_caches_expire() -> None:
    """Ten minutes a step: each call of the teacher writes its whole prompt again, 348,000 tokens at $5."""
    slow = planned(load=Workload(step_seconds=600.0)).way("teacher")
    assert slow.cache_hit_rate == 0
    assert slow.cost_usd == pytest.approx((348_000 * 5 + 6_000 * 20) / 1e6, rel=2e-3)
    hour = planned(load=Workload(step_seconds=600.0), pricing=Pricing(cache_ttl="1h")).way("teacher")
    assert hour.cost_usd == pytest.approx((28_800 * 8 + 319_200 * 0.2 + 6_000 * 20) / 1e6, rel=2e-3)


def test_service_levels_of_one_side() -> None:
    batch = planned(pricing=Pricing(teacher_service="batch"))
    assert batch.way("teacher").cost_usd == pytest.approx(BY_HAND["teacher"] / 2, rel=2e-3)
    assert batch.way("student").cost_usd == pytest.approx(BY_HAND["student"], rel=2e-3)


def test_local_models_are_planned_as_the_models_they_are_priced_as() -> None:
    pricing = Pricing(teacher_as=OPUS, student_as=HAIKU)
    named = planned("expert", "local:small", pricing=pricing)
    assert named.way("cascade-frozen").cost_usd == pytest.approx(planned().way("cascade-frozen").cost_usd, rel=1e-9)
    with pytest.raises(UnknownPrice, match="local:small"):
        planned(OPUS, "local:small")


def test_one_prompt_for_n_samples_is_refused_where_it_is_not_sold() -> None:
    with pytest.raises(ConfigError, match="bills the prompt for every sample"):
        planned(sampling=Sampling.TOGETHER)
    assert planned("gpt-6.1-sol", "gpt-6-luna").sampling is Sampling.TOGETHER
    assert planned().sampling is Sampling.TWO_THEN_MORE


@pytest.mark.parametrize(
    "wrong",
    [
        {"escalation": 1.5},
        {"escalation": float("nan")},
        {"task_escalation": -0.1},
        {"steps": 0},
        {"steps": 1001},
        {"prefix_tokens": 0},
        {"per_step_tokens": -1},
        {"samples": 0},
        {"step_seconds": float("inf")},
    ],
)
def test_workloads_that_cannot_be_say_what_is_allowed(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        Workload(**wrong)  # type: ignore[arg-type]


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 0.999))
def test_escalations_are_spaced_evenly_and_have_their_share(steps: int, share: float, phase: float) -> None:
    found = sum(escalates(number, share, phase) for number in range(steps))
    assert abs(found - steps * share) <= 1 + 1e-6


@settings(max_examples=15)
@given(
    st.builds(
        Workload,
        steps=st.integers(1, 12),
        prefix_tokens=st.integers(1, 20_000),
        per_step_tokens=st.integers(0, 3_000),
        output_tokens=st.integers(0, 500),
        demonstrations_tokens=st.integers(0, 9_000),
        samples=st.integers(1, 4),
        escalation=st.floats(0, 1),
    ),
    st.sampled_from([(OPUS, HAIKU), ("gpt-6.1-sol", "gpt-6-luna"), ("gemini-3.1-pro-preview", "deepseek-flash")]),
)
def test_for_every_workload(load: Workload, pair: tuple[str, str]) -> None:
    found = planned(*pair, load)
    for way in found.ways:
        assert way.cost_usd == pytest.approx(way.teacher_usd + way.student_usd)
        assert 0 <= way.cache_hit_rate <= 1
        assert 0 <= way.teacher_step_share <= 1
    if found.recommended is not None:
        chosen = found.way(found.recommended)
        assert chosen.cost_usd < found.way("teacher").cost_usd
        assert not chosen.unproven


def test_recorded_episodes_become_workloads() -> None:
    grown = tuple(step(i, Answerer.TEACHER, (call(tokens=usage(1_000 + 500 * i, 40 + 10 * i)),)) for i in range(4))
    mixed = tuple(step(i, Answerer.TEACHER if i == 3 else Answerer.STUDENT) for i in range(4))
    recorded = [
        episode("teacher", 1, steps=grown),
        episode("teacher", 2, steps=(step(0, Answerer.TEACHER, (call(tokens=None),)),)),
        episode("cascade", 1, kind=TrajectoryKind.CASCADE, steps=mixed),
        episode("student", 1, kind=TrajectoryKind.STUDENT),
    ]
    found = observe(recorded, Workload(samples=5))
    (load,) = found.workloads
    assert (load.steps, load.prefix_tokens, load.per_step_tokens, load.output_tokens) == (4, 1_000, 500, 55)
    assert (load.samples, found.escalation, found.cascades, found.left_out) == (5, 0.25, 1, 1)
    with pytest.raises(ConfigError, match="token counts"):
        observe(recorded[1:3], Workload())


def test_several_workloads_are_averaged_and_many_are_thinned() -> None:
    short, long = Workload(steps=5), Workload(steps=30)
    both = plan([short, long], teacher=OPUS, student=HAIKU, table=TABLE).way("teacher").cost_usd
    apart = [planned(load=load).way("teacher").cost_usd for load in (short, long)]
    assert both == pytest.approx(sum(apart) / 2)
    many = [Workload(steps=1 + i) for i in range(1000)]
    thinned = spread(many, 100)
    assert len(thinned) == 100
    assert sum(load.steps for load in thinned) / 100 == pytest.approx(500.5, abs=1)
    assert spread([short], 5) == [short]


def test_a_plan_is_plain_data_with_every_key() -> None:
    built = planned().to_json()
    assert msgspec.json.decode(msgspec.json.encode(built)) == json.loads(json.dumps(built))
    assert {"recommended", "reason", "ways", "workload", "break_even_escalation"} <= built.keys()
    assert built["workload"]["samples"] == 3
    assert built["workload"]["task_escalation"] is None


def test_a_hand_off_by_hand_where_only_late_prompts_are_longer() -> None:
    """Prompts of 6,000 to 8,000 tokens, all escalated, hand-offs of 7,000: the first two get the history, then two
    summaries; the third prompt is as long as a summary, so it gets the history too."""
    load = Workload(steps=5, prefix_tokens=6_000, per_step_tokens=500, handoff_tokens=7_000, escalation=1.0)
    handoff = next(way for way in ways(Sampling.SEPARATE) if way.name == "handoff")
    (made,) = episodes(handoff, load, OPUS, HAIKU, phase=0.0)
    asked = [one.usage.input_tokens for one in made.calls if one.answerer is Answerer.TEACHER and one.usage]
    assert asked == [6_000, 6_500, 7_000, 7_000, 7_000]
    assert [load.hands_off(step) for step in range(5)] == [False, False, False, True, True]


def test_demonstrations_that_were_not_recorded_are_no_longer_than_a_prompt() -> None:
    grown = tuple(step(i, Answerer.TEACHER, (call(tokens=usage(1_000 + 500 * i)),)) for i in range(4))
    found = observe([episode("teacher", 1, steps=grown)], Workload())
    assert (found.workloads[0].demonstrations_tokens, found.demonstrations_tokens) == (2_500, None)
    assert (
        observe([episode("teacher", 1, steps=grown)], Workload(demonstrations_tokens=40))
        .workloads[0]
        .demonstrations_tokens
        == 40
    )


def test_demonstrations_by_first_prompts_where_no_step_has_both() -> None:
    """The student's first prompts have 1,600 and 1,800 tokens, the teacher's own 1,000: 700 more in the middle."""
    mine = [
        episode(
            "student",
            n,
            kind=TrajectoryKind.STUDENT,
            steps=(step(0, Answerer.STUDENT, (call("s", Answerer.STUDENT, usage(tokens)),), shown=("t",)),),
        )
        for n, tokens in enumerate((1_600, 1_800))
    ]
    assert observe([episode("teacher", 1), *mine], Workload()).demonstrations_tokens == 700
    assert observe(mine, Workload()).demonstrations_tokens is None
