"""Rules: what singles out an action, what held-out tasks certify, and what a tree makes of a teacher's decisions."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.decide.bounds import binomial_p_value
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.rules.certifying import NotCertified, certify, layers
from potstill.distill.weights.rules.learning import learn_rules, tried_on
from potstill.errors import ConfigError, MissingExtra
from potstill.models.rule_list import Answer, Condition, Measure, Of, Rule, answer, rules_sha256
from potstill.types import Past, Situation

needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="the extra 'rules' is missing")
MUSEUM = Rule(name="museum", when=(Condition(of=Of.GOAL, has="museum"), Condition(has="dry")))
SHIP = Rule(name="ship", when=(Condition(has="ship"),))


def decision(
    task: int, goal: str, action: str, admissible: tuple[str, ...] = ("dry it", "ship it", "wait")
) -> Labelled:
    return Labelled(
        environment="house",
        task_id=f"t{task}",
        trajectory_id=f"e{task}",
        step_index=0,
        situation=Situation(goal=goal, observation="On the desk."),
        admissible=("dry it", "ship it", "wait"),
        action=action,
    )


def test_a_rule_answers_only_where_it_singles_out_one_action() -> None:
    seen = Situation(goal="For a museum", past=(Past(observation="", action="wash it"),))
    assert answer([MUSEUM, SHIP], seen, ["dry it", "ship it"]) == Answer("dry it", 0)
    assert answer([MUSEUM, SHIP], seen, ["dry it", "dry it twice", "ship it"]) == Answer("ship it", 1)
    assert answer([MUSEUM], Situation(goal="For a shop"), ["dry it"]) is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition(of=Of.GOAL, number_after="quantity", above=28.5), True),
        (Condition(of=Of.GOAL, number_after="quantity", above=29.0), False),
        (Condition(of=Of.GOAL, number_after="museum", above=0.0), False),
        (Condition(of=Of.DONE, has="wash it"), True),
        (Condition(of=Of.DONE, has="it dry"), False),  # words of two texts are not in a row
        (Condition(of=Of.LAST, has="dry"), True),
        (Condition(of=Of.LAST, has="wash"), False),
        (Condition(of=Of.OFFERED, has="go home"), True),
        (Condition(has="wash", holds=False), True),
        (Condition(measure=Measure.TIMES_DONE, above=0.5), False),
        (Condition(measure=Measure.IN_GOAL, above=0.5, holds=False), True),
    ],
)
def test_each_condition(condition: Condition, holds: bool) -> None:
    seen = Situation(
        goal="For a museum.\nquantity: 29",
        past=(Past(observation="", action="wash it"), Past(observation="", action="dry it")),
    )
    assert (answer([Rule(when=(condition,))], seen, ["go home"]) is not None) is holds


@pytest.mark.parametrize("wrong", [{}, {"has": "a", "above": 1.0}, {"measure": Measure.IN_GOAL}, {"has": "..."}])
def test_a_condition_that_means_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="a condition has one of"):
        Condition(**wrong)


# --- certifying -----------------------------------------------------------------------------------------------------


def held_out(tasks: int, wrong: int) -> list[Labelled]:
    return [decision(n, "museum", "wait" if n < wrong else "dry it") for n in range(tasks)]


def test_what_is_certified_is_the_exact_bound_over_tasks() -> None:
    """0 of 59 wrong: .95^59 = .0485 <= .05, so 95 % is certified; 58 are one too few. The bound is .05^(1/59)."""
    made = certify([MUSEUM], held_out(59, 0))
    assert made.certificate is not None
    assert made.certificate.lower == pytest.approx(0.05 ** (1 / 59))
    assert (made.certificate.tasks, made.certificate.wrong, made.certificate.share) == (59, 0, 1.0)
    assert made.certificate.rules_sha256 == rules_sha256(made.rules)
    with pytest.raises(NotCertified, match=r"answer in 58 held-out tasks, and .* takes 59 without an error"):
        certify([MUSEUM], held_out(58, 0))


def test_a_task_with_many_steps_counts_once() -> None:
    many = [one for n in range(40) for one in [decision(n, "museum", "dry it")] * 10]
    with pytest.raises(NotCertified, match="40 held-out tasks"):
        certify([MUSEUM], many)


def test_the_list_is_cut_where_it_is_no_longer_sure() -> None:
    good = held_out(100, 0)
    bad = [decision(200 + n, "shop", "wait" if n % 2 else "ship it") for n in range(60)]
    made = certify([MUSEUM, SHIP], good + bad)
    assert [rule.name for rule in made.rules] == ["museum"]
    assert made.certificate is not None
    assert made.certificate.share == 100 / 160


def test_even_the_surest_rules_may_fail() -> None:
    with pytest.raises(NotCertified, match="Even the surest 1 rules were wrong in 20 of the 100"):
        certify([MUSEUM], held_out(100, 20))


@pytest.mark.parametrize("wrong", [{"precision": 1.0}, {"confidence": 0.0}])
def test_shares_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        certify([MUSEUM], held_out(59, 0), **wrong)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(0, 10), st.sampled_from([0.8, 0.9, 0.95]))
def test_certified_is_what_the_exact_test_rejects(tasks: int, wrong: int, precision: float) -> None:
    wrong = min(wrong, tasks)
    passes = binomial_p_value(wrong, tasks, 1 - precision) <= 0.05 + 1e-12
    try:
        made = certify([MUSEUM], held_out(tasks, wrong), precision=precision)
    except NotCertified:
        assert not passes
    else:
        assert passes
        assert made.certificate is not None
        assert made.certificate.lower >= precision - 1e-9


def test_each_layer_has_its_share_and_its_error() -> None:
    some = [
        decision(1, "museum", "dry it"),
        decision(2, "museum", "wait"),
        decision(3, "shop", "wait"),
        decision(4, "shop", "dry it"),
    ]
    sure = {"t3": 0.9, "t4": 0.5}

    def student(one: Labelled) -> dict[str, float]:
        p = sure[one.task_id]
        return {"dry it": (1 - p) / 2, "ship it": (1 - p) / 2, "wait": p}

    found = {one.layer: one for one in layers([MUSEUM], some, student, threshold=0.8)}
    assert {name: (one.share, one.wrong, one.error) for name, one in found.items()} == {
        "rules": (0.5, 1, 0.5),
        "student": (0.25, 0, 0.0),
        "teacher": (0.25, 0, 0.0),
    }
    assert [one.layer for one in layers([MUSEUM], some)] == ["rules", "teacher"]


# --- learning -------------------------------------------------------------------------------------------------------


def lessons(count: int) -> list[Labelled]:
    """A museum's order is dried, an order of more than 20 is shipped, any other waits."""
    made = []
    for n in range(count):
        museum, quantity = n % 3 == 0, 5 + 7 * (n % 6)
        action = "dry it" if museum else "ship it" if quantity > 20 else "wait"
        goal = f"customer: a {'museum' if museum else 'shop'}\nquantity: {quantity}"
        made.append(decision(n, goal, action))
    return made


@needs_sklearn
def test_a_tree_finds_the_rules_of_the_house() -> None:
    tried = learn_rules(lessons(90))
    assert all(one.right == one.fired for one in tried)
    new = lessons(400)[90:]
    found = [answer([one.rule for one in tried], one.situation, one.admissible) for one in new]
    assert all(one is not None for one in found)
    assert all(one.action == lesson.action for one, lesson in zip(found, new, strict=True))  # type: ignore[union-attr]
    assert [one.bound for one in tried] == sorted((one.bound for one in tried), reverse=True)
    assert learn_rules(lessons(90)) == tried


@needs_sklearn
def test_what_cannot_be_learnt_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="no decision to learn rules from"):
        learn_rules([])
    with pytest.raises(ConfigError, match="leaves is 1"):
        learn_rules(lessons(9), leaves=1)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"potstill\[rules\]"):
        learn_rules(lessons(9))


def test_a_rule_is_tried_alone() -> None:
    tried = tried_on(SHIP, lessons(12))
    assert (tried.fired, tried.right) == (12, sum(one.action == "ship it" for one in lessons(12)))
