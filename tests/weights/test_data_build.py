"""From episodes to splits: by task, without repetition, weighed by kind, refused where nothing can be learnt."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from data_episodes import ACTIONS, answered, episode, house_episodes, scored, step
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.weights.data import Equal, Evidence, Labelled, build, refuse_leakage
from potstill.distill.weights.data.balance import factors
from potstill.distill.weights.data.checks import fixed_actions, same_environments, unseen_actions
from potstill.distill.weights.data.leakage import Leak
from potstill.errors import ConfigError
from potstill.trajectories.splits import split_of
from potstill.types import Answerer, Outcome, Task

ALL = {"train": 1.0}


def task_of(kind: str, id: str = "") -> Task:
    return Task(id=id or kind, environment="house", goal="the goal", kind=kind)


def test_a_real_environments_episodes_are_split_by_task() -> None:
    episodes = house_episodes(30)
    built = build(episodes, seed=3, equal="drop")
    assert built.report.distinct == sum(map(len, built.splits.values()))
    assert built.report.met == sum(len(one.steps) for one in episodes)
    assert built.report.episodes == 30
    tasks = {name: {one.task_id for one in some} for name, some in built.splits.items()}
    assert tasks["train"]
    assert tasks["valid"]
    assert not tasks["train"] & tasks["valid"]
    for name, some in built.splits.items():
        assert {
            split_of(Task(id=one, environment="house-rules"), {"train": 0.9, "valid": 0.1}, 3) for one in tasks[name]
        } == {name}
        assert sum(one.weight for one in some) / len(some) == pytest.approx(1)
    refuse_leakage(built.splits)
    assert build(random.Random(0).sample(episodes, 30), seed=3, equal="drop") == built


# --- equal decisions --------------------------------------------------------------------------------------------------


def test_equal_decisions_are_one_with_their_number_and_the_first_episodes_name() -> None:
    some = [episode(id, ["look", "go north"], task="t") for id in ("c", "a", "b")]
    other = episode("d", ["go south"], task="t")
    built = build([*some, other], fractions=ALL)
    assert [(one.trajectory_id, one.step_index, one.action, one.count) for one in built.splits["train"]] == [
        ("a", 0, "look", 3),
        ("a", 1, "go north", 3),
        ("d", 0, "go south", 1),
    ]
    assert (built.report.met, built.report.distinct, built.report.conflicts) == (7, 3, 1)


def test_the_best_evidence_stands_for_its_equals_and_votes_add_up() -> None:
    sampled = (answered("look", "look", "go north"),)
    likely = (scored(("go north", -1.0), ("look", -1.0), ("go south", -1.0)),)
    voted = [episode(id, [step(0, "look", calls=sampled)], task="t") for id in ("b", "c")]
    plain = episode("a", ["look"], task="t")
    end = episode("z", ["go south"], task="t")
    first = build([plain, *voted, end], fractions=ALL)
    assert (first.splits["train"][0].trajectory_id, first.splits["train"][0].votes) == ("b", (2, 0, 4))
    assert first.report.evidence == {"votes": 1, "one-hot": 1}
    scored_too = episode("y", [step(0, "look", calls=likely)], task="t")
    second = build([plain, *voted, scored_too, end], fractions=ALL).splits["train"]
    best = next(one for one in second if one.action == "look")
    assert (best.trajectory_id, best.evidence, best.votes, best.count) == ("y", Evidence.LOG_PROBABILITIES, (), 4)


def test_votes_follow_their_action_where_the_list_is_in_another_order() -> None:
    one = episode("a", [step(0, "look", calls=(answered("look", "look"),))], task="t")
    turned = step(0, "look", admissible=tuple(reversed(ACTIONS)), calls=(answered("look", "go north"),))
    built = build([one, episode("b", [turned], task="t"), episode("c", ["go south"], task="t")], fractions=ALL)
    kept = built.splits["train"][0]
    assert (kept.admissible, kept.votes) == (ACTIONS, (1, 0, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("tuv"), st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(),
)
def test_nothing_is_lost_and_the_order_of_episodes_does_not_matter(
    played: list[tuple[str, list[str]]], chance: random.Random
) -> None:
    episodes = [episode(f"e{at}", actions, task=task) for at, (task, actions) in enumerate(played)]
    episodes.append(episode("last", ["go south", "look"], task="w"))
    built = build(episodes, fractions=ALL)
    chance.shuffle(episodes)
    assert build(episodes, fractions=ALL) == built
    train = built.splits["train"]
    assert sum(one.count for one in train) == sum(len(one.steps) for one in episodes)
    assert len({(one.situation, one.action) for one in train}) == len(train)
    chosen = Counter(one.situation for one in train)
    assert built.report.conflicts == sum(times > 1 for times in chosen.values())
    assert sum(one.weight for one in train) == pytest.approx(len(train))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_kinds_weigh_the_same_and_repetitions_count() -> None:
    heat = [episode(f"h{at}", ["look", "go north"], task=f"h{at}") for at in range(3)]
    heat = [msgspec.structs.replace(one, task=task_of("heat", one.task.id)) for one in heat]
    look = msgspec.structs.replace(episode("l", ["go south", "look"]), task=task_of("look"))
    train = build([*heat, look], fractions=ALL).splits["train"]
    assert [(one.kind, one.action, one.count) for one in train] == [
        ("heat", "look", 3),
        ("heat", "go north", 3),
        ("look", "go south", 1),
        ("look", "look", 1),
    ]
    assert [one.weight for one in train] == pytest.approx([1.0, 1.0, 1.0, 1.0])  # 4 rows: 2 a kind
    flat = build([*heat, look], fractions=ALL, balanced=False).splits["train"]
    assert [one.weight for one in flat] == pytest.approx([1.5, 1.5, 0.5, 0.5])


def test_a_very_rare_kind_is_held_back() -> None:
    """990 and 10 meetings: balance would be 50 / 99 and 50; at most 10 leaves .505 and 10, scaled to a mean of 1."""
    much, rare = ("house", "much"), ("house", "rare")
    found = factors({much: 990, rare: 10}, 1000)
    assert found[rare] / found[much] == pytest.approx(10 / (50 / 99))
    assert (990 * found[much] + 10 * found[rare]) / 1000 == pytest.approx(1)
    assert factors({much: 990, rare: 10}, 1000, limit=100)[rare] == pytest.approx(50)
    assert factors({much: 990, rare: 10}, 500, balanced=False) == {much: 0.5, rare: 0.5}
    with pytest.raises(ConfigError, match="must be 1 or more"):
        factors({much: 1}, 1, limit=0.5)


# --- leaks ------------------------------------------------------------------------------------------------------------


def twins() -> list:  # type: ignore[type-arg]
    """Tasks of both splits with the same goal, so that their first decisions are equal."""
    goals = [msgspec.structs.replace(task_of("find"), id=f"t{at}") for at in range(12)]
    return [
        msgspec.structs.replace(episode(f"e{at}", ["look", step(1, "go north", sight=f"room {at}")]), task=task)
        for at, task in enumerate(goals)
    ]


def test_equal_decisions_in_two_splits_are_refused_or_taken_out_of_the_first() -> None:
    halves = {"train": 0.5, "valid": 0.5}
    with pytest.raises(Leak, match=r"'train' and 'valid' have 1 equal decision, of 1 task in 'valid' \(t\d+\)") as told:
        build(twins(), fractions=halves)
    assert told.value.exit_code == 2
    built = build(twins(), fractions=halves, equal=Equal.DROP)
    train, valid = built.splits["train"], built.splits["valid"]
    assert {one.action for one in train} == {"go north"}
    assert Counter(one.action for one in valid)["look"] == 1
    assert built.report.dropped == 1
    assert len(train) + len(valid) == 13
    refuse_leakage(built.splits)


def test_leaks_between_data_that_were_built_apart_are_named_by_task() -> None:
    ours = build([episode(f"a{at}", task=f"t{at}") for at in range(6)], fractions=ALL).splits["train"]
    theirs = build([episode(f"b{at}", ["go south", "look"], task=f"t{at}") for at in range(4)], fractions=ALL)
    with pytest.raises(Leak, match=r"'train' and 'test' share 4 tasks \(t0, t1, t2 and 1 more\)") as told:
        refuse_leakage({"train": ours, "test": theirs.splits["train"]})
    assert told.value.tasks == ("t0", "t1", "t2", "t3")
    renamed = [msgspec.structs.replace(one, task_id=f"x-{one.task_id}") for one in ours[:3]]
    with pytest.raises(Leak, match=r"have 3 equal decisions, of 2 tasks in 'test' \(x-t0, x-t1\)") as told:
        refuse_leakage({"train": ours, "test": renamed})
    assert told.value.equal == 3
    elsewhere = [msgspec.structs.replace(one, environment="other") for one in ours]
    refuse_leakage({"train": ours, "test": elsewhere})


# --- nothing to learn from --------------------------------------------------------------------------------------------

LOST = Outcome(success=False)
BAD = {
    "nothing": ([], "No episode to learn from"),
    "failures": ([episode("a", outcome=LOST)], "in 1 episodes: no episode succeeded"),
    "no step": ([episode("a", [])], "no episode has a step"),
    "students": ([episode("a", [step(0, "look", answerer=Answerer.STUDENT)])], "nobody whose answers are wanted"),
    "tools": ([episode("a", [step(0, "x", admissible=None)])], "agents that call tools do not"),
    "actions of another space": (
        [episode("a", ["jump", "dance"]), episode("b", ["sing"], outcome=LOST)],
        "the teacher's action space is another one.*1 episodes that did not succeed; 2 steps whose action",
    ),
    "one action": ([episode("a", ["look", "look"])], "All 2 decisions of 'train' choose 'look'"),
}


@pytest.mark.parametrize(("episodes", "said"), BAD.values(), ids=BAD.keys())
def test_nothing_to_learn_from_is_said_in_one_line(episodes: list, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=said) as told:
        build(episodes, fractions=ALL)
    assert "\n" not in str(told.value)


def test_too_few_tasks_for_a_split_are_said() -> None:
    with pytest.raises(ConfigError, match=r"None of the tasks fell into the split '(train|valid)'"):
        build([episode("a", ["look", "go north"])])


def test_fractions_that_do_not_add_up_are_said() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        build([episode("a")], fractions={"train": 0.5})


def some(*steps: object) -> list[Labelled]:
    return build([episode("a", [*steps, "go south"])], fractions=ALL).splits["train"]  # type: ignore[list-item]


def test_lists_of_actions_that_differ_are_named() -> None:
    assert fixed_actions(some("look")) == tuple(sorted(ACTIONS))
    with pytest.raises(ConfigError, match=r"task-a step 1 has 'look' that task task-a step 0 has not, and lacks 'sit'"):
        fixed_actions(some(step(0, "go north", admissible=("go north", "go south", "sit"))))
    with pytest.raises(ConfigError, match="No decision"):
        fixed_actions([])


def test_actions_that_were_never_learnt_are_counted() -> None:
    assert unseen_actions(some("look"), some("go north", step(1, "sit", admissible=("sit", "look")))) == {
        "go north": 1,
        "sit": 1,
    }


def test_environments_that_differ_are_said() -> None:
    same_environments({"train": {"a"}, "valid": {"a"}})
    with pytest.raises(ConfigError, match=r"train: a; valid: b"):
        same_environments({"train": {"a"}, "valid": {"b"}})
