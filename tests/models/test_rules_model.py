"""Certified rules as a model: where they answer, who does elsewhere, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import policy_files as files
from potstill.decide.agreement import agreement_rule
from potstill.decide.cascade import AskStudent, AskTeacher, decide_step
from potstill.decide.policy import CascadeState, Policy, PolicyKind, Signal
from potstill.errors import BadModelFile, ConfigError, ModelError, UnknownName
from potstill.models.check import check_model
from potstill.models.registry import list_models, open_model
from potstill.models.rule_list import Answer, Certificate, Condition, Of, Rule, RuleList, answer, rules_sha256
from potstill.models.rules import read_rules
from potstill.protocols import CandidateScorer, Model
from potstill.types import Message, Request, Situation

ACTIONS = tuple(files.ACTIONS)
RULES = (Rule(when=(Condition(of=Of.GOAL, has="museum"), Condition(has=ACTIONS[1]))),)


def certified(rules: tuple[Rule, ...] = RULES) -> RuleList:
    proof = Certificate(
        rules_sha256=rules_sha256(RULES), tasks=59, wrong=0, lower=0.95, precision=0.95, confidence=0.95, share=0.5
    )
    return RuleList(rules=rules, certificate=proof)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "house.rules.json"
    file.write_bytes(msgspec.json.encode(certified()))
    return file


def request(goal: str = "For a museum", **changed: Any) -> Request:
    asked = Request(messages=(Message(role="user", content="?"),), admissible=ACTIONS, situation=Situation(goal=goal))
    return msgspec.structs.replace(asked, **changed)


async def test_a_rule_answers_with_its_certified_probability(path: Path) -> None:
    model = open_model(f"rules:{path}")
    assert isinstance(model, Model)
    assert isinstance(model, CandidateScorer)
    done = await model.score(request())
    (reply,) = done.replies
    assert reply.text == ACTIONS[1]
    assert math.exp(dict(reply.candidates)[ACTIONS[1]]) == pytest.approx(0.95)
    assert math.fsum(math.exp(value) for _, value in reply.candidates) == pytest.approx(1)
    assert {text for text, _ in reply.candidates} == set(ACTIONS)
    assert done.calls[0].model == f"rules:{path}"
    drawn = await model.sample(request(temperature=2.0), 5)
    assert [one.text for one in drawn.replies] == [ACTIONS[1]] * 5


async def test_elsewhere_the_student_answers_under_its_own_name(path: Path, tmp_path: Path) -> None:
    student = files.write_policy(tmp_path / "student.policy")
    model = open_model(f"rules:{path}#policy:{student}")
    assert model.name == f"rules:{path}#policy:{student}"
    by_rule, by_student = await model.score(request()), await model.score(request("For a shop"))
    assert by_rule.calls[0].model == f"rules:{path}"
    assert by_student.calls[0].model == f"policy:{student}"
    alone = await open_model(f"policy:{student}").sample(request("For a shop"))
    assert by_student.replies[0].candidates == alone.replies[0].candidates
    report = await check_model(model)
    assert report.passed, report
    await model.aclose()


async def test_without_a_student_nobody_answers_so_the_teacher_does(path: Path) -> None:
    model = open_model(f"rules:{path}")
    for asked in (model.sample(request("For a shop")), model.score(request("For a shop"))):
        with pytest.raises(ModelError, match=r"No rule .* type for example: rules:.*#policy:student.policy"):
            await asked


async def test_a_cascade_trusts_a_rule_as_far_as_it_is_certified(path: Path) -> None:
    model = open_model(f"rules:{path}")
    for threshold, trusted in ((0.94, True), (0.96, False)):
        policy = Policy(kind=PolicyKind.CASCADE, signal=Signal.LIKELIHOOD, threshold=threshold)
        steps = decide_step(policy, CascadeState(), agreement_rule("exact"), ACTIONS)
        asked = next(steps)
        assert isinstance(asked, AskStudent)
        replies = (await model.score(request())).replies
        if trusted:
            with pytest.raises(StopIteration) as ended:
                steps.send(replies)
            assert ended.value.value.action.text == ACTIONS[1]
        else:
            assert isinstance(steps.send(replies), AskTeacher)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (msgspec.json.encode(RuleList(rules=RULES)), ConfigError, "have no certificate.*distill rules --rules"),
        (msgspec.json.encode(certified((*RULES, *RULES))), ConfigError, "were changed after they were certified"),
        (b"{}", BadModelFile, "holds no rules"),
        (b'{"rules": [{"when": []}]}', BadModelFile, "a rule needs a condition"),
        (b'{"rules": [], "format": "other"}', BadModelFile, "is 'other' version 1"),
        (b"\x00", BadModelFile, "holds no rules"),
    ],
)
def test_what_is_no_certified_list_is_one_line(tmp_path: Path, content: bytes, error: type, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(error, match=said) as told:
        open_model(f"rules:{file}")
    assert "\n" not in str(told.value)


def test_names_and_options_are_checked(path: Path) -> None:
    for spec, said in (("rules:", "rules:house.rules.json"), ("rules:none.json", "Cannot read the rules none.json")):
        with pytest.raises(ConfigError, match=said):
            open_model(spec)
    with pytest.raises(UnknownName, match="option of rules"):
        open_model(f"rules:{path}", temperature=1)
    with pytest.raises(ConfigError, match="Cannot read the policy"):
        open_model(f"rules:{path}#policy:none.policy")
    assert any(kind.spec.startswith("rules:") for kind in list_models())


def test_the_guide_s_rules_by_hand_are_rules(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "ways-to-learn.md"
    block, *_ = re.findall(r"^```json\n(.*?)^```", guide.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    file = tmp_path / "hand.json"
    file.write_text(block)
    seen = Situation(goal="customer: a museum\nquantity: 29")
    assert answer(read_rules(file).rules, seen, ["dry it overnight", "wash it"]) == Answer("dry it overnight", 0)


async def test_rules_without_a_certificate_are_taken_if_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "hand.json"
    file.write_bytes(msgspec.json.encode(RuleList(rules=RULES)))
    reply = (await open_model(f"rules:{file}", uncertified=True).score(request())).replies[0]
    assert math.exp(dict(reply.candidates)[ACTIONS[1]]) == pytest.approx(0.5)
