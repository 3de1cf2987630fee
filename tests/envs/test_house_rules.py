"""A workshop with hidden rules: rules agree with each other, the expert keeps them, and nobody is told them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.envs.check import Status, check_environment
from potstill.envs.house_rules import HouseRulesEnvironment, HouseRulesTasks
from potstill.envs.house_rules.house import MAX_RULES, Asks, House, Rule, Term, draw_house, draw_order
from potstill.envs.house_rules.tasks import goal_of
from potstill.envs.house_rules.words import FIELDS, TROUBLES
from potstill.envs.registry import describe, factory, open_source
from potstill.errors import BadTask, ConfigError, EnvError, TaskNotFound, UnknownName
from potstill.types import Action, Task

SEEDS = st.integers(0, 10**9)


def task(rules_seed: int, order: int, rules: int = 10) -> Task:
    return Task(
        id=f"{rules_seed}/{order}",
        environment="house-rules",
        data={"rules_seed": rules_seed, "rules": rules, "seed": order},
    )


def play(environment: HouseRulesEnvironment, one: Task, actions: Sequence[str]) -> str:
    """Everything that was said."""
    said = [environment.reset(one, 0).text]
    said += [environment.step(Action(text=action)).text for action in actions]
    return "\n".join(said)


def by_expert(environment: HouseRulesEnvironment, one: Task) -> int:
    observation, steps = environment.reset(one, 0), 0
    while not observation.done:
        action = environment.expert_action()
        assert action is not None
        assert action.text in (observation.admissible or ())
        observation, steps = environment.step(action), steps + 1
    return steps


@pytest.mark.parametrize("feedback", ["symptom", "result", "none"])
def test_it_keeps_the_contract(feedback: str) -> None:
    tasks = open_source("house-rules", rules_seed=5, train=6).tasks("train")
    made = factory("house-rules", feedback=feedback)
    findings = check_environment(made, tasks, max_steps=describe("house-rules").max_steps)
    assert [one for one in findings if one.status is Status.FAILED] == []
    assert findings[-1].detail.startswith("6 of 6")


@given(SEEDS, st.integers(0, MAX_RULES), SEEDS)
@settings(max_examples=200)
def test_the_expert_gets_every_order_out_of_every_house(rules_seed: int, rules: int, order: int) -> None:
    environment = HouseRulesEnvironment()
    assert by_expert(environment, task(rules_seed, order, rules)) <= environment.max_steps
    assert environment.outcome().success is True
    assert environment.outcome().score == 1.0


@given(SEEDS, SEEDS)
@settings(max_examples=100)
def test_the_expert_goes_on_from_wherever_somebody_went(rules_seed: int, order: int) -> None:
    environment, chance = HouseRulesEnvironment(), random.Random(order)
    observation = environment.reset(task(rules_seed, order), 0)
    for _ in range(chance.randrange(8)):
        if not observation.done:
            observation = environment.step(Action(text=chance.choice(observation.admissible or ())))
    for _ in range(environment.max_steps):
        if not observation.done:
            observation = environment.step(environment.expert_action() or Action())
    assert observation.done


@given(SEEDS, st.integers(0, MAX_RULES))
@settings(max_examples=100)
def test_no_two_rules_of_a_house_can_contradict_each_other(rules_seed: int, rules: int) -> None:
    house = draw_house(rules_seed, rules)
    assert len(house.rules) == rules
    acts = [rule.action for rule in house.rules if rule.asks in (Asks.BEFORE, Asks.WITHOUT)]
    assert len(acts) == len(set(acts))
    for order in map(draw_order, range(40)):
        for stage in house.stages:
            ways = [one for one in house.rules if one.stage == stage and one.asks in (Asks.ONLY, Asks.NOT)]
            assert sum(one.applies(order) for one in ways) <= 1


def test_another_seed_is_another_house() -> None:
    drawn = [str([*map(str, draw_house(seed).rules)]) for seed in range(200)]
    assert len(set(drawn)) == 200
    kinds = [rule.asks for seed in range(200) for rule in draw_house(seed).rules]
    assert all(kinds.count(kind) > 100 for kind in Asks)


HOUSE = House(
    seed=0,
    stages={"cut": ("cut by hand", "cut with the laser"), "ship": ("ship by van", "ship by sea")},
    acts=("weigh it", "stamp the back"),
    rules=(
        Rule(
            when=(Term(field="material", values=("oak", "wool")), Term(field="quantity", above=30)),
            asks=Asks.ONLY,
            stage="cut",
            action="cut by hand",
            trouble="it smelled burnt",
        ),
        Rule(
            when=(Term(field="destination", values=("Norway",)),),
            asks=Asks.BEFORE,
            stage="ship",
            action="weigh it",
            trouble="a lamp blinked twice",
        ),
        Rule(
            when=(Term(field="customer", values=("a school",)),),
            asks=Asks.WITHOUT,
            stage="ship",
            action="stamp the back",
            trouble="the gate stayed shut",
        ),
    ),
)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = {
        1: {"material": "oak", "quantity": 31, "destination": "Norway", "customer": "a school"},
        2: {"material": "oak", "quantity": 30, "destination": "Chile", "customer": "a shop"},
    }
    monkeypatch.setattr("potstill.envs.house_rules.environment.draw_house", lambda seed, rules: HOUSE)
    monkeypatch.setattr("potstill.envs.house_rules.environment.draw_order", orders.__getitem__)


@pytest.mark.usefixtures("house")
def test_a_worked_example_of_trouble() -> None:
    """Two troubles that can be mended and one that cannot: each stage counts once, and nothing names a rule."""
    environment = HouseRulesEnvironment()
    said = play(environment, task(0, 1), ["cut with the laser", "cut by hand", "stamp the back", "ship by van"])
    assert said == (
        "The order lies on the desk. Stages: cut, ship.\nNext stage: cut.\n"
        "You cut with the laser.\nTrouble: it smelled burnt. To cut has to be done again.\nNext stage: cut.\n"
        "You cut by hand.\nNext stage: ship.\n"
        "You stamp the back.\nNext stage: ship.\n"
        "You ship by van.\nTrouble: a lamp blinked twice. To ship has to be done again.\nNext stage: ship."
    )
    environment.step(Action(text="weigh it"))
    last = environment.step(Action(text="ship by van"))
    assert last.text.splitlines()[1:] == [
        "Trouble: the gate stayed shut. It cannot be mended, and the order goes on as it is.",
        "The order came back.",
    ]
    assert last.done
    outcome = environment.outcome()
    assert (outcome.success, outcome.score) == (False, 0.0)
    assert outcome.detail == "cut: it smelled burnt; ship: a lamp blinked twice; ship: the gate stayed shut"


@pytest.mark.usefixtures("house")
def test_a_condition_has_all_its_parts() -> None:
    environment = HouseRulesEnvironment()
    assert "Trouble" not in play(environment, task(0, 2), ["cut with the laser", "stamp the back", "ship by sea"])
    assert environment.outcome().success is True


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("feedback", "end"), [("result", "The order came back."), ("none", "The order has left the house.")]
)
def test_silence_tells_at_the_end_or_never_and_the_truth_is_the_same(feedback: str, end: str) -> None:
    environment = HouseRulesEnvironment(feedback=feedback)  # type: ignore[arg-type]
    said = play(environment, task(0, 1), ["cut with the laser", "ship by sea"])
    assert "Trouble" not in said
    assert said.endswith(end)
    outcome = environment.outcome()
    assert (outcome.success, outcome.score, outcome.detail) == (False, 0.0, "")


@given(SEEDS, SEEDS)
@settings(max_examples=100)
def test_with_no_feedback_a_good_episode_and_a_bad_one_read_alike(rules_seed: int, order: int) -> None:
    """Whatever is done, what is said depends on the actions alone."""
    environment, chance = HouseRulesEnvironment(feedback="none"), random.Random(order)
    house = draw_house(rules_seed)
    ways = [chance.choice(house.stages[stage]) for stage in house.stages]
    said = play(environment, task(rules_seed, order), ways)
    stages = list(house.stages)
    expected = [f"The order lies on the desk. Stages: {', '.join(stages)}.\nNext stage: {stages[0]}."]
    expected += [f"You {way}.\nNext stage: {after}." for way, after in zip(ways, stages[1:], strict=False)]
    assert said == "\n".join([*expected, f"You {ways[-1]}.\nThe order has left the house."])


@given(SEEDS, SEEDS)
@settings(max_examples=100)
def test_what_is_said_never_holds_a_rule(rules_seed: int, order: int) -> None:
    """A trouble comes from the fixed list, and names no field's value and nothing that was not done."""
    environment, chance, done = HouseRulesEnvironment(), random.Random(rules_seed), []
    observation = environment.reset(task(rules_seed, order), 0)
    while not observation.done and len(done) < environment.max_steps:
        done.append(chance.choice(observation.admissible or ()))
        observation = environment.step(Action(text=done[-1]))
        for line in observation.text.splitlines():
            assert not any(value in line for values in FIELDS.values() for value in values)
            assert not any(str(rule) in line for rule in draw_house(rules_seed).rules)
            if line.startswith("Trouble: "):
                assert line.removeprefix("Trouble: ").partition(".")[0] in TROUBLES
                house = draw_house(rules_seed)
                actions = [*house.acts, *(way for ways in house.stages.values() for way in ways)]
                assert not any(action in line for action in actions)
    goal = goal_of(draw_order(order))
    assert not any(way in goal for ways in draw_house(rules_seed).stages.values() for way in ways)


def test_tasks_hold_what_they_need_and_splits_share_no_order_seed() -> None:
    source = HouseRulesTasks(rules_seed=7, rules=3, train=4, valid=3, test=2)
    seeds = {split: [one.data["seed"] for one in source.tasks(split)] for split in source.splits()}
    assert [len(each) for each in seeds.values()] == [4, 3, 2]
    assert len({seed for each in seeds.values() for seed in each}) == 9
    first = source.tasks("train")[0]
    assert (first.id, first.data["rules_seed"], first.data["rules"]) == ("7.3/0", 7, 3)
    assert first.goal.splitlines()[1].startswith("material: ")


def test_bad_input_says_what_is_wrong() -> None:
    environment = HouseRulesEnvironment()
    with pytest.raises(EnvError, match="call reset first"):
        environment.outcome()
    with pytest.raises(BadTask, match="names no rules_seed, rules and seed"):
        environment.reset(Task(id="x", environment="house-rules", data={"rules_seed": 1}), 0)
    with pytest.raises(ConfigError, match=r"cannot have 17 rules\. Allowed: 0 to 16"):
        HouseRulesTasks(rules=17)
    with pytest.raises(ConfigError, match="0 to 1000000 orders"):
        HouseRulesTasks(train=-1)
    with pytest.raises(UnknownName, match="feedback"):
        HouseRulesEnvironment(feedback="loud")  # type: ignore[arg-type]
    with pytest.raises(TaskNotFound, match="Available: train, valid, test"):
        HouseRulesTasks().tasks("dev")
    said = play(environment, task(0, 1), ["fly away"])
    assert "You cannot do that now: 'fly away'." in said
