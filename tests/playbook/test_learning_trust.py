"""What a lesson may do by the trust in it: nothing goes live by way of a batch, a live bullet, or a second vote."""

from __future__ import annotations

import msgspec
import pytest
from learning_world import TOOLS, TOPICS, ByRule, Counts, episode, recorded, roles, tasks, topic_of

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.credit.decide import Act
from potstill.distill.playbook.credit.report import report
from potstill.distill.playbook.learn.contract import Recorded
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.settings import Mode, Refinement, Settings
from potstill.distill.playbook.operations import Add, Batch, Merge, Remove, Stage, Tag, Update
from potstill.distill.playbook.roles.contract import Curating
from potstill.trajectories import Store
from potstill.types import Outcome, OutcomeSource


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "book")


def taught(book: Playbook, *contents: str, stage: Stage = Stage.LIVE) -> None:
    rules = tuple(Add(section="strategies", content=content, stage=stage) for content in contents)
    book.apply(Batch(operations=rules, actor="ana"))


# --- a batch of several episodes ------------------------------------------------------------------------------------


class Opinions(ByRule):
    """Has a lesson to tell also where nobody said how it went."""

    async def reflect(self, case, bullets, previous=None):
        said = await super().reflect(case, bullets, previous)
        insight = f"For {TOPICS[topic_of(case.goal)]} take the {TOOLS[topic_of(case.goal)]}."
        return msgspec.structs.replace(said, reflection=msgspec.structs.replace(said.reflection, key_insight=insight))


async def test_one_judged_episode_of_a_batch_lets_nothing_out_that_others_taught(book):
    for n, task in enumerate(tasks(4)):
        book.store.append(episode(task, f"e-{n}", (), known=n == 0))
    ids = [f"e-{n}" for n in range(4)]
    await learn(book, Recorded(ids=ids), roles(reflector=Opinions()), Settings(mode=Mode.BATCH, batch=4), run="r")
    shadow = [one for one in book.bullets().values() if one.stage is Stage.SHADOW]
    assert len(shadow) == 3
    assert not any(line.decision.act is Act.TRY for line in report(book).lines)
    for id in ids[1:]:
        book.store.set_outcome(id, Outcome(success=False, source=OutcomeSource.HUMAN))
    assert [line.decision.act for line in report(book).lines].count(Act.TRY) == 3


# --- live bullets and lessons that begin as canary ------------------------------------------------------------------


class Says(Counts):
    def __init__(self, make):
        super().__init__()
        self._make = make

    async def curate(self, lessons, bullets, objections=()):
        return Curating(operations=(self._make(bullets),), reasoning="So.")


ONE, TWO, NEW = "Ask for the number.", "Ask for the number!", "Ask for the number first."
CHANGES = {
    "update": (lambda b: Update(id="b-1", content=NEW, revision=b["b-1"].revision), [NEW, TWO]),
    "merge": (lambda b: Merge(into="b-1", ids=("b-2",), content=NEW, revisions=(1, 1)), [NEW]),
    "remove": (lambda b: Remove(id="b-1"), [ONE, TWO]),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_canary_lesson_makes_a_canary_of_the_live_bullet_that_it_changes(book, change):
    make, left = CHANGES[change]
    taught(book, ONE, TWO)
    settings = Settings(refinement=Refinement.NEVER)
    await learn(book, recorded(book, 1), roles(curator=Says(make)), settings, run="r")
    bullets = [one for one in book.bullets().values() if not one.removed]
    assert [one.content for one in bullets] == left
    assert bullets[0].stage is Stage.CANARY
    assert all(one.stage is Stage.LIVE for one in bullets[1:])


@pytest.mark.parametrize("change", CHANGES)
async def test_a_lesson_that_begins_live_changes_what_is_live_and_removes_nothing(book, change):
    make, left = CHANGES[change]
    taught(book, ONE, TWO)
    settings = Settings(execution_stage=Stage.LIVE, refinement=Refinement.NEVER)
    await learn(book, recorded(book, 1), roles(curator=Says(make)), settings, run="r")
    assert [one.content for one in book.bullets().values() if not one.removed] == left
    assert book.bullets()["b-1"].stage is (Stage.CANARY if change == "remove" else Stage.LIVE)


async def test_a_live_bullet_survives_one_in_shadow_and_is_a_canary_with_its_new_text(book):
    taught(book, ONE, stage=Stage.SHADOW)
    taught(book, TWO)
    make, _ = CHANGES["merge"]
    await learn(book, recorded(book, 1), roles(curator=Says(make)), run="r")
    assert (book.bullets()["b-2"].content, book.bullets()["b-2"].stage) == (NEW, Stage.CANARY)
    assert book.bullets()["b-1"].merged_into == "b-2"


async def test_where_lessons_begin_in_shadow_nothing_that_is_shown_changes(book):
    make, _ = CHANGES["update"]
    taught(book, "one", "two")
    settings = Settings(execution_stage=Stage.SHADOW)
    result = await learn(book, recorded(book, 1), roles(curator=Says(make)), settings, run="r")
    assert result.refused == {"staged": 1}
    assert book.bullets()["b-1"].content == "one"


async def test_a_removal_holds_for_the_bullet_that_was_read(book):
    taught(book, "one", stage=Stage.CANARY)
    result = await learn(book, recorded(book, 1), roles(curator=Says(lambda b: Remove(id="b-1"))), run="r")
    assert result.applied == {"REMOVE": 1}
    assert book.log()[-1].batch.operations == (Remove(id="b-1", revision=1),)


# --- votes ----------------------------------------------------------------------------------------------------------


async def test_an_episode_votes_once_however_often_it_is_learnt_from(book):
    taught(book, "For copper take the burin. (1)", "For copper wear gloves. (1)")
    shown = list(book.bullets().values())
    for n in range(2):
        book.store.append(episode(tasks(1)[0], f"e-{n}", shown))
    for run in ("monday", "tuesday", "wednesday"):
        await learn(book, Recorded(ids=["e-0"]), roles(), Settings(epochs=2), run=run)
    assert [one.helpful for one in book.bullets().values()] == [1, 1]
    await learn(book, Recorded(ids=["e-1"]), roles(), run="thursday")
    assert [one.helpful for one in book.bullets().values()] == [2, 2]
    assert not any(isinstance(one, Tag) for entry in book.log()[2:-1] for one in entry.batch.operations)
