"""The price of changing sides in the middle of an episode, worked by hand, and what the cascade makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from deciding_builders import FakeAsk, Rig, call, prompt, route, text, turn_call, turn_output, turn_user

from potstill.decide import CascadeState
from potstill.decide.assignment import Route as Served
from potstill.decide.rollout import Stage
from potstill.measure.prices.table import PriceTable
from potstill.record.parsing import parse
from potstill.serve.deciding.costs import Costs
from potstill.serve.deciding.episodes_held import Held, HeldEpisodes
from potstill.serve.deciding.switching import Lengths, Side, Warmth, conversation, prompt_usd, switch_price
from potstill.serve.rollout.stages import Assigned
from potstill.serve.settings import Cascade, Model
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, ErrorRecord, Reason, Usage
from potstill.wire.neutral import Prompt, Text, Turn

# Dollars per million tokens. Prefixes of 100 tokens and more are cached for 300 s.
PRICES: dict[str, object] = {
    "models": {
        "teacher": {
            "input": 10.0,
            "cache_read": 1.0,
            "output": 20.0,
            "minimum_cache_tokens": 100,
            "cache_ttl_s": 300.0,
        },
        "student": {"input": 1.0, "cache_read": 0.1, "output": 2.0, "minimum_cache_tokens": 100},
        "cheap-teacher": {"input": 1.0, "cache_read": 0.01, "output": 0.0, "minimum_cache_tokens": 100},
    }
}
TABLE = PriceTable.load(prices=PRICES)
BIG = Model(name="big", upstream="cloud", model="teacher")
SMALL = Model(name="small", upstream="near", model="x", price_as="student")
# 3,988 + 1,988 + 1,988 characters and 12 for each message's head: 8,000, of which the first message has 4,000.
# A quarter of a token for each character of text: 1,991 tokens. The first message's share of them: 995.5.
TURNS = (
    turn_user("g" * 3988),
    Turn(role="assistant", parts=(Text(text="a" * 1988),)),
    turn_user("o" * 1988),
)
ASKED = conversation(Prompt(model="auto", turns=TURNS))


def teacher(warmth: Warmth | None) -> Side:
    return Side(model=BIG, answerer=Answerer.TEACHER, warmth=warmth)


def student(warmth: Warmth | None = None) -> Side:
    return Side(model=SMALL, answerer=Answerer.STUDENT, warmth=warmth)


def test_a_warm_prefix_is_read_and_the_rest_is_paid_in_full() -> None:
    cold = prompt_usd(ASKED, teacher(None), TABLE, now=1000.0)
    warm = prompt_usd(ASKED, teacher(Warmth(at=900.0, turns=1)), TABLE, now=1000.0)
    assert cold == pytest.approx((1991 * 10 + 150 * 20) / 1e6)
    assert warm == pytest.approx((995 * 1 + 996 * 10 + 150 * 20) / 1e6)


def test_a_cache_that_has_expired_is_cold() -> None:
    assert prompt_usd(ASKED, teacher(Warmth(at=600.0, turns=1)), TABLE, now=1000.0) == pytest.approx(0.02291)


@pytest.mark.parametrize(("shared", "student_usd"), [(True, 0.002891), (False, 0.002891 + 2 * 0.0001991)])
def test_the_price_of_a_step_on_both_sides(shared: bool, student_usd: float) -> None:
    found = switch_price(
        ASKED,
        teacher(Warmth(at=900.0, turns=1)),
        student(),
        TABLE,
        now=1000.0,
        samples=3,
        shares_prompt=shared,
        escalation=0.5,
    )
    assert found is not None
    assert found.teacher_usd == pytest.approx(0.013955)
    assert found.student_usd == pytest.approx(student_usd)
    assert found.cascade_usd == pytest.approx(student_usd + 0.5 * 0.013955)
    assert found.teacher_warm
    assert not found.stay


@pytest.mark.parametrize(("escalation", "warm", "stay"), [(0.9, True, True), (0.7, True, False), (0.9, False, False)])
def test_the_teacher_keeps_a_step_only_while_it_is_warm_and_cheaper(escalation: float, warm: bool, stay: bool) -> None:
    found = switch_price(
        ASKED,
        teacher(Warmth(at=900.0, turns=1) if warm else None),
        student(),
        TABLE,
        now=1000.0,
        samples=3,
        shares_prompt=True,
        escalation=escalation,
    )
    assert found is not None
    assert found.stay is stay  # 0.002891 against (1 - 0.9) * 0.013955 and (1 - 0.7) * 0.013955


def test_without_a_price_nothing_is_said() -> None:
    nobody = Side(model=Model(name="b", upstream="c", model="no-such-model"), answerer=Answerer.TEACHER)
    assert prompt_usd(ASKED, nobody, TABLE, 0.0) is None
    assert switch_price(ASKED, nobody, student(), TABLE, now=0.0, samples=3, shares_prompt=True, escalation=0.5) is None


def test_lengths_follow_what_models_report() -> None:
    lengths = Lengths().after(Usage(input_tokens=500, output_tokens=300), 1000, answers=3)
    assert lengths.answer_tokens == pytest.approx(0.9 * 150 + 0.1 * 100)
    assert lengths.tokens_per_byte == pytest.approx(0.9 * 0.25 + 0.1 * 0.5)


# --- in the cascade ---------------------------------------------------------------------------------------------------

WARM: dict[str, object] = {
    "models": {
        "gpt-5": {"input": 1.0, "cache_read": 0.001, "output": 0.0, "minimum_cache_tokens": 100, "cache_ttl_s": 300.0},
        "gpt-5-nano": {"input": 1.0, "output": 1.0},
    }
}
ASSIGNED = Assigned(served=Served.CASCADE, stage=Stage.LIVE)
GOAL = "find the key " * 100


def rig(mode: str, **more: Any) -> Rig:
    ask = FakeAsk(call("look"), call(city="Oslo"), call("look"))
    cascade = Cascade(mode=mode, **more)
    return Rig(ask, route(cascade=cascade), prices=PriceTable.load(prices=WARM))


def taught(one: Rig, decided: Any, asked: Prompt) -> None:
    called = Called(
        model="gpt-5",
        upstream="cloud",
        answerer=Answerer.TEACHER,
        dialect="openai-chat",
        started_at=one.clock.now,
        raw_usage={"prompt_tokens": 350, "completion_tokens": 10},
    )
    one.finish(decided, asked, text("ok"), calls=(called,))


FIRST = prompt(turn_user(GOAL))
SECOND = prompt(turn_user(GOAL), turn_call("look"), turn_output("a door"))


@pytest.mark.parametrize("mode", ["step", "sticky", "task", "compact"])
async def test_a_warm_teacher_that_costs_less_keeps_the_step_without_asking_the_student(mode: str) -> None:
    one = rig(mode, keep_steps=1)
    taught(one, await one.decide(FIRST), FIRST)
    one.clock.now += 10.0
    decided = await one.decide(SECOND)
    assert decided.decision is not None
    assert decided.decision.reason is Reason.TEACHER_KEEPS
    assert len(one.ask.asked) == 1, "only the first step was sampled"
    if mode != "task":
        assert "the teacher keeps the step: teacher $" in decided.notes[0]
        assert "(warm)" in decided.notes[0]


@pytest.mark.parametrize("why", ["expired", "not wanted", "shortened"])
async def test_a_cold_teacher_keeps_nothing(why: str) -> None:
    one = rig("step", cache_aware=why != "not wanted")
    started = SECOND if why == "shortened" else FIRST
    taught(one, await one.decide(started), started)
    one.clock.now += 1000.0 if why == "expired" else 10.0
    asked = prompt(turn_user(GOAL)) if why == "shortened" else SECOND
    decided = await one.decide(asked)
    assert decided.decision is not None
    assert decided.decision.reason is Reason.AGREED


def long(steps: int) -> Prompt:
    """An episode of which the compact view leaves most out."""
    turns = [turn_user(GOAL)]
    for step in range(steps):
        name = f"c{step}"
        turns += [turn_call("look", identity=name), turn_output(f"room {step} " * 40, identity=name)]
    return prompt(*turns)


async def test_the_hand_off_is_in_full_where_the_warm_cache_makes_that_cheaper() -> None:
    trust, situation = rig("compact").decider.trusts["auto"], parse(long(12))
    costs = Costs(PriceTable.load(prices=WARM), {})
    held = HeldEpisodes().put("e", Held("auto", ASSIGNED, CascadeState(), CascadeState()))
    compact, note = costs.hand_off(trust, held, long(12), situation, now=1000.0)
    assert compact is not None
    assert not note
    held.warmth[Answerer.TEACHER] = Warmth(at=990.0, turns=len(long(11).turns))
    compact, note = costs.hand_off(trust, held, long(12), situation, now=1000.0)
    assert compact is None
    assert note.startswith("the hand-off is in full")


async def test_after_a_compact_prompt_the_teachers_cache_does_not_hold_the_conversation() -> None:
    one = rig("compact")
    decided = await one.decide(long(12))
    assert decided.prompt is not None
    taught(one, decided, long(12))
    again = await one.decide(long(13))
    assert again.decision is not None
    assert again.decision.reason is Reason.AGREED, "nothing is warm, so the student is asked"


async def test_escalations_are_learnt_from_decisions() -> None:
    one = rig("step")
    trust = one.decider.trusts["auto"]
    assert one.decider.costs.escalation(trust) == 0.5
    await one.decide(FIRST)
    assert one.decider.costs.escalation(trust) == pytest.approx(0.98 * 0.5 + 0.02)
    await one.decide(SECOND, episode="e2")
    assert one.decider.costs.escalation(trust) == pytest.approx(0.98 * (0.98 * 0.5 + 0.02))


# --- what an episode cost ---------------------------------------------------------------------------------------------


def billed(model: str, tokens: int | None, **fields: Any) -> Called:
    usage = None if tokens is None else {"prompt_tokens": tokens, "completion_tokens": 0}
    return Called(
        model=model, upstream="u", answerer=Answerer.TEACHER, dialect="openai-chat", raw_usage=usage, **fields
    )


def test_what_an_episode_cost_leaves_shadow_work_out() -> None:
    costs = Costs(TABLE, {})
    calls = [billed("teacher", 1000), billed("x", 1000, price_as="student"), billed("teacher", 9000, shadow=True)]
    assert costs.spent(calls) == pytest.approx((1000 * 10 + 1000 * 1) / 1e6)
    failed = billed("teacher", None, error=ErrorRecord(kind="ModelTimeout", message=""))
    assert costs.spent([*calls, failed]) == pytest.approx(0.011)
    assert costs.spent([billed("teacher", None)]) is None
    assert costs.spent([billed("nobody-knows", 5)]) is None
    assert Costs(None, {}).spent(calls) is None
