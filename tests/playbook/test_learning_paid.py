"""What was paid for is on the bill, however a step ends; whose bullets an episode was shown; what a retry proves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from learning_world import ByRule, Counts, call, episode, played, recorded, roles, tasks

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Recorded
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Stopped, result_of
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.operations import Add, Batch, Stage
from potstill.distill.playbook.roles.choosing import Listed
from potstill.distill.playbook.roles.contract import Lesson, Signal
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.distill.playbook.roles.prompts import curator_messages
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.said import Reflection
from potstill.distill.playbook.sections import DEFAULT
from potstill.errors import ModelUnavailable
from potstill.protocols import Capabilities
from potstill.retrieval.tokens import EstimatedTokens
from potstill.trajectories import Store
from potstill.types import Answerer, Call, Completion, Reply, Request, Usage


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "book")


async def test_a_round_that_was_answered_is_paid_although_the_next_was_interrupted(book):
    class Waits(ByRule):
        async def reflect(self, case, bullets, previous=None):
            if previous is not None:
                waiting.set()
                await asyncio.sleep(60)
            return await super().reflect(case, bullets, previous)

    waiting = asyncio.Event()
    recorded(book, 1)
    going = asyncio.ensure_future(learn(book, Recorded(ids=["e-0"]), roles(reflector=Waits()), run="r"))
    await waiting.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert [(one.part, one.calls) for one in result_of(book, "r").spent] == [("reflector", 1)]


class Prose:
    """A model whose answers nobody can use; from the ``last`` on it does what it is told."""

    name = "prose"
    capabilities = Capabilities()

    def __init__(self, last: int, then) -> None:
        self._left, self._then = last, then

    async def sample(self, request: Request, n: int = 1) -> Completion:
        self._left -= 1
        if self._left < 0:
            await self._then()
        replies, usage = (Reply(text="Hm."),), Usage(input_tokens=5)
        made = Call(model=self.name, answerer=Answerer.NOBODY, usage=usage, replies=replies)
        return Completion(replies=replies, calls=(made,))

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("part", ["reflector", "curator"])
async def test_an_answer_that_was_to_be_repaired_is_paid_although_the_next_was_interrupted(book, part):
    async def wait():
        waiting.set()
        await asyncio.sleep(60)

    waiting = asyncio.Event()
    role = (ModelReflector if part == "reflector" else ModelCurator)(Prose(2, wait), repairs=5)
    recorded(book, 1)
    going = asyncio.ensure_future(learn(book, Recorded(ids=["e-0"]), roles(**{part: role}), run="r"))
    await waiting.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert {(one.part, one.model): one.calls for one in result_of(book, "r").spent}[part, "prose"] == 2


async def test_each_answer_is_on_the_bill_once(book):
    """A role that is played by a model and by a script of its own around it."""

    class Twice(ModelCurator):
        async def curate(self, lessons, bullets, objections=()):
            said = await super().curate(lessons, bullets, objections)
            return msgspec.structs.replace(said, calls=(call("own"), *said.calls))

    async def never():
        raise ModelUnavailable("it is gone")

    recorded(book, 2)
    curator = Twice(Prose(6, never), repairs=2)
    result = await learn(book, Recorded(ids=["e-0", "e-1"]), roles(curator=curator), run="r")
    spent = {(one.part, one.model): (one.calls, one.cost_usd) for one in result.spent}
    assert spent["curator", "prose"] == (6, pytest.approx(0.06))
    assert spent["curator", "own"] == (2, pytest.approx(0.02))
    assert result.spent == result_of(book, "r").spent


CHILD = """
import asyncio, os, signal, sys
from learning_world import Counts, recorded, roles
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.settings import Settings
from potstill.trajectories import Store

class Dies(Counts):
    async def curate(self, lessons, bullets, objections=()):
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(sys.argv[1]) as store:
    book = Playbook(store, "default", "book")
    paid = roles(curator=Dies(), price=lambda call: 1.0)
    result = asyncio.run(learn(book, recorded(book, 2), paid, Settings(max_cost_usd=5.0), run="r"))
    print(result.stopped)
"""


def test_a_run_that_is_killed_again_and_again_keeps_to_its_limit(tmp_path):
    """Each sitting pays for two rounds and dies in the Curator; the fourth does not begin."""
    path = tmp_path / "s.db"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ends = []
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", CHILD, str(path)], env=here, capture_output=True, text=True)
        ends.append((done.returncode, done.stdout.strip()))
    assert ends == [(-9, "")] * 3 + [(0, Stopped.BUDGET)]
    with Store.open(path) as store:
        result = result_of(Playbook(store, "default", "book"), "r")
    assert (result.cost_usd, result.episodes) == (6.0, 0)


KILLED = """
import asyncio, os, signal, sys
from learning_world import recorded, roles
from test_learning_paid import Prose
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.roles.reflector import ModelReflector
from potstill.distill.playbook.roles.curator import ModelCurator
from potstill.trajectories import Store

async def die():
    os.kill(os.getpid(), signal.SIGKILL)

role = {"reflector": ModelReflector, "curator": ModelCurator}[sys.argv[2]](Prose(3, die), repairs=9)
with Store.open(sys.argv[1]) as store:
    book = Playbook(store, "default", "book")
    asyncio.run(learn(book, recorded(book, 1), roles(**{sys.argv[2]: role}), Settings(), run="r"))
"""


@pytest.mark.parametrize("part", ["reflector", "curator"])
def test_answers_of_a_run_that_was_killed_are_on_its_bill(tmp_path, part):
    path = tmp_path / "s.db"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), part], env=here, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    with Store.open(path) as store:
        spent = result_of(Playbook(store, "default", "book"), "r").spent
    assert {(one.part, one.model): one.calls for one in spent}[part, "prose"] == 3


# --- whose bullets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "votes"), [("book", 1), ("another", 0)])
async def test_a_vote_is_for_a_bullet_of_the_book_that_was_shown(book, name, votes):
    rule = Add(section="strategies", content="For copper take the burin. (1)", stage=Stage.LIVE)
    book.apply(Batch(operations=(rule,), actor="ana"))
    made = episode(tasks(1)[0], "e-0", list(book.bullets().values()))
    assert made.playbook is not None
    book.store.append(msgspec.structs.replace(made, playbook=msgspec.structs.replace(made.playbook, name=name)))
    await learn(book, Recorded(ids=["e-0"]), roles(), run="r")
    assert book.bullets()["b-1"].helpful == votes


# --- what a retry proves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replay", [True, False])
async def test_a_curator_is_told_that_a_retry_proved_the_lesson(book, replay):
    class Notes(Counts):
        async def curate(self, lessons, bullets, objections=()):
            told.extend((one.success, one.proven) for one in lessons)
            return await super().curate(lessons, bullets, objections)

    told: list[tuple[bool | None, bool]] = []
    await learn(book, played(book, 11), roles(curator=Notes()), Settings(replay=replay), run="r")
    assert told == [(False, replay)] * 10 + [(True, False)]


def test_the_prompt_says_what_was_proven():
    lesson = Lesson(
        sources=("t",), goal="Go.", reflection=Reflection(key_insight="Left."), signal=Signal.EXECUTION, success=False
    )
    said = [
        curator_messages([one], Listed(), (), sections=DEFAULT, most=5, tokens=1000, counter=EstimatedTokens())[-1]
        for one in (lesson, msgspec.structs.replace(lesson, proven=True))
    ]
    assert ["was told this lesson, and it was done" in one.content for one in said] == [False, True]
