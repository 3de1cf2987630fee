"""A world to learn in: topics that need different tools, an agent that knows only its playbook, and roles by rule.

The agent succeeds where a bullet that it is shown names the tool of the task's topic. The Reflector reads the tool from
the feedback of a failure. The Curator counts in the text how often a topic came, so that a lesson that is learnt twice,
lost, or learnt in another order leaves another book. Everything answers the same when it is asked the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Recorded, Roles, Tasks, episode_id
from potstill.distill.playbook.operations import Add, Bullet, Operation, Stage, Tag, Update
from potstill.distill.playbook.roles.contract import Case, Curating, Lesson, Reflecting
from potstill.distill.playbook.said import BulletTag, Reflection
from potstill.errors import ModelUnavailable
from potstill.types import (
    Action,
    Answerer,
    Call,
    Observation,
    Outcome,
    OutcomeSource,
    PlaybookUse,
    Purpose,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

TOPICS = ("copper", "glass", "linen", "granite", "walnut", "paraffin", "leather", "ceramic", "rubber", "plaster")
TOOLS = ("burin", "diamond wheel", "shears", "chisel", "rasp", "scraper", "awl", "kiln", "punch", "trowel")


def call(model: str, purpose: Purpose = Purpose.ACT) -> Call:
    usage = Usage(input_tokens=100, output_tokens=10)
    answerer = Answerer.STUDENT if purpose is Purpose.ACT else Answerer.TEACHER
    return Call(model=model, answerer=answerer, purpose=purpose, usage=usage, replies=(Reply(text="..."),))


def tasks(count: int, start: int = 0) -> list[Task]:
    return [
        Task(id=f"t-{n}", environment="workshop", goal=f"Shape the {TOPICS[n % len(TOPICS)]} ({n}).")
        for n in range(start, start + count)
    ]


def topic_of(goal: str) -> int:
    return next(n for n, topic in enumerate(TOPICS) if topic in goal)


def knows(bullets: Sequence[Bullet], topic: int) -> bool:
    return any(TOPICS[topic] in one.content and TOOLS[topic] in one.content for one in bullets)


def episode(
    task: Task,
    id: str,
    bullets: Sequence[Bullet],
    *,
    known: bool = True,
    told: bool = False,
    namespace: str = "default",
) -> Trajectory:
    topic = topic_of(task.goal)
    done = told or knows(bullets, topic)
    detail = "" if done else f"The {TOPICS[topic]} needs the {TOOLS[topic]}."
    shown = tuple(one.id for one in bullets)
    return Trajectory(
        id=id,
        task=task,
        kind=TrajectoryKind.STUDENT,
        namespace=namespace,
        goal=task.goal,
        steps=(
            Step(
                index=0,
                observation=Observation(text=f"On the bench: {TOPICS[topic]}."),
                action=Action(text="shape it"),
                answerer=Answerer.STUDENT,
                calls=(call("student"),),
            ),
        ),
        final_observation=Observation(text=detail, done=True),
        outcome=Outcome(success=done, source=OutcomeSource.ENVIRONMENT, detail=detail) if known else None,
        playbook=PlaybookUse(name="book", shown=shown),
    )


class Agent:
    """A Generator. ``dies``: ids of tasks that it cannot play."""

    def __init__(self, book: Playbook, *, known: bool = True, dies: Sequence[str] = ()) -> None:
        self._book = book
        self._known = known
        self._dies = dies
        self.played: list[str] = []

    async def play(self, task: Task, seed: int, *, reflection: Reflection | None, tag: str) -> Trajectory:
        if task.id in self._dies:
            error = ModelUnavailable("the student does not answer")
            error.calls = (call("student"),)
            raise error
        bullets = [one for one in self._book.bullets().values() if one.shown]
        self.played.append(task.id)
        await asyncio.sleep(0.001 * (hash_of(tag) % 5))
        told = reflection is not None and TOOLS[topic_of(task.goal)] in reflection.key_insight
        return episode(task, episode_id(tag), bullets, known=self._known, told=told, namespace=self._book.namespace)


def hash_of(text: str) -> int:
    return sum(map(ord, text))


class ByRule:
    """A Reflector. ``errors``: what to raise, by goal."""

    name = "by-rule"

    def __init__(self, errors: Mapping[str, Exception] | None = None) -> None:
        self._errors = errors or {}
        self.asked: list[str] = []

    async def reflect(
        self, case: Case, bullets: Mapping[str, Bullet], previous: Reflection | None = None
    ) -> Reflecting:
        self.asked.append(case.id)
        await asyncio.sleep(0.001 * (hash_of(case.id) % 7))
        if error := self._errors.get(case.goal):
            raise error
        topic = topic_of(case.goal)
        found = re.search(r"needs the ([a-z ]+)\.", case.feedback)
        tool = found[1] if found else ""
        insight = f"For {TOPICS[topic]} take the {tool}." if tool else ""
        votes = tuple(
            BulletTag(id=id, tag="helpful" if case.success else "neutral")
            for id, one in bullets.items()
            if TOPICS[topic] in one.content
        )
        said = Reflection(reasoning="It was so.", key_insight=insight, bullet_tags=votes)
        tags = tuple(
            Tag(id=one.id, helpful=int(one.tag == "helpful"), neutral=int(one.tag == "neutral")) for one in votes
        )
        return Reflecting(reflection=said, tags=tags, calls=(call("teacher", Purpose.REFLECT),))


class Counts:
    """A Curator: a bullet for each topic, which says how many failures taught it."""

    name = "counts"

    def __init__(self) -> None:
        self.objections: list[str] = []
        self.lessons: list[tuple[str, ...]] = []

    async def curate(
        self, lessons: Sequence[Lesson], bullets: Mapping[str, Bullet], objections: Sequence[str] = ()
    ) -> Curating:
        await asyncio.sleep(0)
        self.objections += objections
        self.lessons.append(tuple(source for one in lessons for source in one.sources))
        operations: dict[str, Operation] = {}
        for lesson in lessons:
            insight = lesson.reflection.key_insight
            if not insight:
                continue
            topic = topic_of(insight)
            held = next((one for one in bullets.values() if TOPICS[topic] in one.content), None)
            if held is None:
                operations[TOPICS[topic]] = Add(section="strategies", content=f"{insight} (1)")
            else:
                times = int(re.search(r"\((\d+)\)", held.content)[1]) + 1
                operations[held.id] = Update(id=held.id, content=f"{insight} ({times})", revision=held.revision)
        made = tuple(operations.values())
        return Curating(operations=made, reasoning="As it failed.", calls=(call("teacher", Purpose.CURATE),))


def roles(**others) -> Roles:
    return Roles(**{"reflector": ByRule(), "curator": Counts(), "price": lambda call: 0.01, **others})


def played(book: Playbook, count: int, **agent) -> Tasks:
    return Tasks(generator=Agent(book, **agent), tasks=tasks(count))


def recorded(book: Playbook, count: int, *, known: bool = True) -> Recorded:
    """Episodes of agents without any playbook, in the store."""
    made = [episode(task, f"e-{n}", (), known=known) for n, task in enumerate(tasks(count))]
    for one in made:
        book.store.append(one)
    return Recorded(ids=[one.id for one in made])


def live(book: Playbook) -> list[str]:
    return [one.content for one in book.bullets().values() if one.shown and one.stage is Stage.LIVE]
