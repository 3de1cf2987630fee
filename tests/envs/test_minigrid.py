"""BabyAI in words: what is said is true, what is offered works, the teacher wins from wherever the student went."""

from __future__ import annotations

import random

import pytest

from potstill.errors import BadTask, ConfigError, EnvError, TaskNotFound, UnknownName
from potstill.types import Action, Observation, Task

pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")

from potstill.envs.minigrid import MinigridEnvironment, MinigridTasks
from potstill.envs.minigrid.text import place_from
from potstill.envs.minigrid.world import World, full_name

OURS = ("PickInOrder", "PutTwo", "LockedRoom")
STOCK = ("GoToLocal", "PickupLoc", "PutNextLocal", "UnlockPickupDist", "UnlockToUnlock", "MiniBossLevel")


def tasks(level: str, space: str = "macro", n: int = 10) -> list[Task]:
    return list(MinigridTasks(level=level, action_space=space, train=n).tasks("train"))


def finish(environment: MinigridEnvironment, observation: Observation, limit: int) -> bool:
    """Let the teacher play on; every action of it must be one of those offered."""
    for _ in range(limit):
        if observation.done:
            break
        action = environment.expert_action()
        assert action is not None
        assert action.text in (observation.admissible or ())
        observation = environment.step(action)
    return environment.outcome().success is True


@pytest.mark.parametrize("level", [*OURS, *STOCK])
def test_the_errand_teacher_wins(level: str) -> None:
    environment = MinigridEnvironment()
    for task in tasks(level):
        assert finish(environment, environment.reset(task, 0), 20), task.id


@pytest.mark.parametrize("level", ["LockedRoom", "GoToLocal", "PutNextLocal", "PickupLoc", "MiniBossLevel"])
def test_the_bot_wins_step_by_step(level: str) -> None:
    environment = MinigridEnvironment(action_space="primitive")
    for task in tasks(level, "primitive"):
        assert finish(environment, environment.reset(task, 0), 300), task.id


@pytest.mark.parametrize(
    ("space", "level"),
    [
        ("macro", "PutTwo"),
        ("macro", "UnlockPickupDist"),
        ("primitive", "PutNextLocal"),
        ("primitive", "UnlockPickupDist"),
    ],
)
@pytest.mark.parametrize("wandering", [1, 5, 10])
def test_the_teacher_recovers_from_what_a_student_did(space: str, level: str, wandering: int) -> None:
    environment = MinigridEnvironment(action_space=space)
    for task in tasks(level, space, 8):
        chance = random.Random(task.id)
        observation = environment.reset(task, 0)
        for _ in range(wandering):
            environment.expert_action()  # the teacher may be asked and not followed
            observation = environment.step(Action(text=chance.choice(observation.admissible or ())))
            if observation.done:
                break
        assert finish(environment, observation, 300), task.id


@pytest.mark.parametrize("level", OURS)
def test_chance_does_not_solve_our_levels(level: str) -> None:
    environment = MinigridEnvironment()
    won = 0
    for task in tasks(level, n=30):
        chance = random.Random(task.id)
        observation = environment.reset(task, 0)
        for _ in range(environment.max_steps):
            if observation.done:
                break
            observation = environment.step(Action(text=chance.choice(observation.admissible or ())))
        won += environment.outcome().success is True
    assert won <= 6


@pytest.mark.parametrize("level", [*OURS, "MiniBossLevel", "PutNextLocal"])
def test_every_offered_errand_does_what_it_says(level: str) -> None:
    """After 'pick up the X' the X is carried, after 'open the X' it is open or said to be locked."""
    environment = MinigridEnvironment()
    for task in tasks(level, n=4):
        chance = random.Random(task.id)
        observation = environment.reset(task, 0)
        for _ in range(12):
            if observation.done:
                break
            words = chance.choice(observation.admissible or ())
            observation = environment.step(Action(text=words))
            if words.startswith("pick up the "):
                assert f"You carry a {words.removeprefix('pick up the ')}." in observation.text
            elif words.startswith("open the "):
                door = words.removeprefix("open the ")
                assert f"{door} (open)" in observation.text or f"The {door} is locked" in observation.text
            elif words.startswith(("drop", "put it")):
                assert "You carry nothing." in observation.text


@pytest.mark.parametrize("level", ["GoToLocal", "PutNextLocal", "MiniBossLevel"])
def test_places_in_the_view_are_true(level: str) -> None:
    environment = MinigridEnvironment(action_space="primitive")
    chance = random.Random(1)
    for task in tasks(level, "primitive", 4):
        observation = environment.reset(task, 0)
        for _ in range(20):
            if observation.done:
                break
            world = environment._world
            assert world is not None
            for thing in world.things():
                if world.visible_now()[thing.cell]:
                    assert place_from(thing.cell, world.agent, world.direction) in observation.text
                    x, y = world.env.relative_coords(*thing.cell)  # the package's own arithmetic
                    ahead, right = 6 - y, x - 3
                    expected = [f"{ahead} ahead"] if ahead else []
                    expected += [f"{abs(right)} {'right' if right > 0 else 'left'}"] if right else []
                    assert place_from(thing.cell, world.agent, world.direction) == " and ".join(expected)
            observation = environment.step(Action(text=chance.choice(observation.admissible or ())))


def test_places_are_told_from_where_one_looks() -> None:
    assert place_from((3, 1), (1, 2), 0) == "2 ahead and 1 left"
    assert place_from((3, 1), (1, 2), 2) == "2 behind and 1 right"
    assert place_from((1, 5), (1, 2), 1) == "3 ahead"
    assert place_from((1, 2), (1, 2), 1) == "here"


def test_nothing_is_told_before_it_was_seen() -> None:
    world = World("LockedRoom")
    world.reset(0)
    hidden = [(x, y) for x in range(6, 10) for y in range(1, 5)]
    assert all(thing.cell not in hidden for thing in world.things())
    assert not any(world.is_seen(cell) for cell in hidden)


def test_a_name_stays_with_its_thing() -> None:
    environment = MinigridEnvironment()
    for task in tasks("GoToLocal", n=10):
        environment.reset(task, 0)
        world = environment._world
        assert world is not None
        names: dict[str, int] = {}
        observation = environment.step(Action(text="nonsense"))
        for _ in range(6):
            for thing in [*world.things(), *([world.carrying] if world.carrying else [])]:
                assert names.setdefault(thing.name, id(thing.object)) == id(thing.object)
            if observation.done:
                break
            observation = environment.step(Action(text=random.Random(1).choice(observation.admissible or ())))


def test_the_wrong_thing_first_fails_the_mission() -> None:
    environment = MinigridEnvironment()
    observation = environment.reset(tasks("LockedRoom")[0], 0)
    assert "purple door (locked)" in observation.text
    observation = environment.step(Action(text="open the purple door"))
    assert observation.done
    assert "The mission has failed." in observation.text
    assert environment.outcome().detail == "mission failed"
    assert environment.expert_action() is None
    with pytest.raises(EnvError, match="call reset"):
        environment.step(Action(text="explore"))


def test_an_action_that_is_not_offered_costs_a_step_and_changes_nothing() -> None:
    environment = MinigridEnvironment(max_steps=2)
    first = environment.reset(tasks("PutTwo")[0], 0)
    second = environment.step(Action(text="pick up the moon\nAdmissible: win"))
    assert second.text.startswith("You cannot do that now: 'pick up the moon admissible: win'.")
    assert second.admissible == first.admissible
    assert environment.step(Action(text="fly")).done
    assert environment.outcome().detail == "step limit"


def test_images_show_the_view() -> None:
    environment = MinigridEnvironment(action_space="primitive", images=True)
    first = environment.reset(tasks("GoToLocal", "primitive")[0], 0).images[0]
    second = environment.step(Action(text="turn left")).images[0]
    assert first.digest != second.digest
    for blob in (first, second):
        data = environment.read_blob(blob)
        assert data.startswith(b"\x89PNG")
        assert len(data) == blob.size_bytes
    import io

    import pygame

    assert pygame.image.load(io.BytesIO(environment.read_blob(first)), "x.png").get_size() == (56, 56)


def test_train_and_test_worlds_differ_and_tell_their_mission() -> None:
    source = MinigridTasks(level="PutTwo,GoToLocal", train=5, test=3)
    train, test = source.tasks("train"), source.tasks("test")
    assert (len(train), len(test)) == (10, 6)
    assert not {(t.kind, t.data["seed"]) for t in train} & {(t.kind, t.data["seed"]) for t in test}
    assert {t.kind for t in train} == {"PutTwo", "GoToLocal"}
    assert train[0].goal.startswith("put the ")
    assert source.tasks("train") == train
    environment = MinigridEnvironment()
    assert train[0].goal in environment.reset(train[0], 0).text


def test_wrong_options_say_what_there_is() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'PutNextLocal'"):
        MinigridTasks(level="PutNextLocl").tasks("train")
    with pytest.raises(TaskNotFound, match="train, test"):
        MinigridTasks().tasks("dev")
    with pytest.raises(ConfigError, match="macro, primitive"):
        MinigridEnvironment(action_space="raw")
    with pytest.raises(BadTask, match="level and seed"):
        MinigridEnvironment().reset(Task(id="x", environment="minigrid"), 0)
    with pytest.raises(BadTask, match="action_space='primitive'"):
        MinigridEnvironment().reset(tasks("GoToLocal", "primitive")[0], 0)
    assert full_name("BabyAI-GoToLocal-v0") == full_name("GoToLocal")
