"""What ``--dry-run`` prints: how the agents of this run speak, and how long an episode is to be expected."""

from __future__ import annotations

import json

import pytest

from command_line import Here
from potstill.measure.prices import PriceTable

WORLD = ("--env", "house-rules", "--n", "2", "--db", "none.db", "--dry-run", "--json")
TEACHER = ("--teacher", "local:smollm2-135m", "--price-teacher-as", "gpt-4.1")


@pytest.mark.parametrize(
    ("words", "read", "written", "said"),
    [
        # 15 steps, half of 30: 15 * (120 + 150 + 60) + 60 * (0 + 1 + .. + 14) read, 15 * 12 written
        ((), 11_250, 180, "15 steps an episode, 50.0% escalation, nothing cached"),
        # all three: 3 * 330 + 60 * 3
        (("--max-steps", "3"), 1_170, 36, "3 steps an episode"),
        (("--max-steps", "1"), 330, 12, "1 step an episode"),
        # 60 for each past reasoning: 105 * 60 more
        (("--reasoning", "with-action"), 17_550, 1_080, "60 tokens a reasoning (to be expected; the limits are"),
        (("--reasoning", "separate"), 2 * 17_550 + 900, 1_080, "60 tokens a reasoning"),
        (("--plan",), 11_250 + 1_200 + 180, 260, "80 tokens a plan"),
        (("--reasoning", "with-action", "--first-thought"), 17_610, 1_280, "200 tokens a first thought"),
    ],
)
def test_a_teacher_is_priced_as_it_is_asked(
    words: tuple[str, ...], read: int, written: int, said: str, here: Here
) -> None:
    done = here("distill", "context", *WORLD, *TEACHER, *words)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert (row["teacher_input_tokens"], row["teacher_output_tokens"]) == (2 * read, 2 * written)
    rates, _ = PriceTable.load().price("gpt-4.1").rates_for(0)
    assert rates.output is not None
    assert row["uncached_cost_usd"] == pytest.approx((2 * read * rates.input + 2 * written * rates.output) / 1e6)
    assert said in done.err


def test_an_expert_neither_plans_nor_reasons_where_its_student_does(here: Here) -> None:
    sides = ("--student", "openai:gpt-6-luna", "--teacher", "expert", "--price-teacher-as", "gpt-4.1")
    words = ("run", *WORLD, *sides, "--arm", "teacher,zero-shot")
    plain, speaking = (json.loads(here(*words, *more).out) for more in ((), ("--plan", "--reasoning", "separate")))
    assert speaking[0] == plain[0]
    assert speaking[1]["student_input_tokens"] > 2 * plain[1]["student_input_tokens"]
