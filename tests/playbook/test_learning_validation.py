"""Validation while learning: the book that did best stays, others' work is not undone, and patience ends a run."""

from __future__ import annotations

import pytest
from learning_world import TOPICS, Agent, Counts, roles, tasks

from potstill.distill.playbook import undo
from potstill.distill.playbook.apply import MAX_NAME_CHARACTERS
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Tasks
from potstill.distill.playbook.learn.journal import Journal, Kind
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.plan import Turn
from potstill.distill.playbook.learn.result import Stopped
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.learn.writing import Tools
from potstill.distill.playbook.operations import Add, Batch, Remove, Stage, Tag
from potstill.distill.playbook.roles.contract import Curating
from potstill.trajectories import Store


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "book")


def validated(book: Playbook, count: int, *, known: bool = True) -> Tasks:
    return Tasks(generator=Agent(book, known=known), tasks=tasks(count), validation=tasks(10, start=100))


class Spoils(Counts):
    """After so many lessons it takes out what the book has, a bullet at a time; of what is not live, as it may."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    async def curate(self, lessons, bullets, objections=()):
        said = await super().curate(lessons, bullets, objections)
        if len(self.lessons) <= self._after:
            return said
        return Curating(operations=tuple(Remove(id=id) for id in list(bullets)[:2]))


async def test_before_and_after_are_measured_on_other_tasks(book):
    result = await learn(book, validated(book, 10), roles(), run="r")
    assert [(one.episodes, one.succeeded) for one in result.validations] == [(10, 0), (10, 10)]
    assert (result.before.share, result.after.share, result.back_to) == (0.0, 1.0, None)
    assert {one.part: one.calls for one in result.spent}["validation"] == 20
    assert {source for one in book.bullets().values() for source in one.sources} <= set(book.store.ids())
    assert len(book.bullets()) == 10  # nothing was learnt from validation


async def test_the_book_that_did_best_stays(book):
    settings = Settings(validate_every=3, execution_stage=Stage.CANARY)
    result = await learn(book, validated(book, 12), roles(curator=Spoils(6)), settings, run="r")
    assert [one.succeeded for one in result.validations] == [0, 3, 6, 0, 0]
    best = result.validations[2]
    assert (result.back_to, result.after) == (best.revision, best)
    now, then = book.bullets(), book.as_of(best.revision)
    assert {id: (one.content, one.stage) for id, one in now.items() if not one.removed} == {
        id: (one.content, one.stage) for id, one in then.items()
    }
    assert book.log()[-1].batch.reason == f"back to revision {best.revision}"
    assert book.check() == []


async def test_equally_good_books_are_not_gone_back_to(book):
    result = await learn(book, validated(book, 20), roles(), Settings(validate_every=5), run="r")
    assert [one.succeeded for one in result.validations] == [0, 5, 10, 10, 10]
    assert result.back_to is None


async def test_without_keeping_the_best_the_last_one_stays(book):
    settings = Settings(validate_every=3, keep_best=False, execution_stage=Stage.CANARY)
    result = await learn(book, validated(book, 12), roles(curator=Spoils(6)), settings, run="r")
    assert (result.back_to, result.after.succeeded) == (None, 0)


@pytest.mark.parametrize(
    ("operation", "gone_back"),
    [(Add(section="others", content="Wear gloves.", stage=Stage.LIVE), False), (Tag(id="b-1", helpful=5), True)],
)
async def test_what_others_wrote_meanwhile_is_not_undone(book, operation, gone_back):
    class Meanwhile(Spoils):
        async def curate(self, lessons, bullets, objections=()):
            if len(self.lessons) == 8:
                book.apply(Batch(operations=(operation,), actor="ana"))
            return await super().curate(lessons, bullets, objections)

    settings = Settings(validate_every=3, execution_stage=Stage.CANARY)
    result = await learn(book, validated(book, 12), roles(curator=Meanwhile(6)), settings, run="r")
    assert (result.back_to is not None) is gone_back
    if not gone_back:
        assert "is not gone back to: ana wrote since" in result.not_taken[-1].message
        assert not any(entry.batch.reason.startswith("back to") for entry in book.log())


async def test_a_long_way_back_takes_several_batches(book, monkeypatch):
    monkeypatch.setattr(undo, "MAX_OPERATIONS", 2)
    settings = Settings(validate_every=3, execution_stage=Stage.CANARY)
    result = await learn(book, validated(book, 12), roles(curator=Spoils(6)), settings, run="r")
    best = result.validations[2]
    assert result.back_to == best.revision
    assert sum(entry.batch.reason.startswith("back to") for entry in book.log()) > 1
    assert len([one for one in book.bullets().values() if not one.removed]) == 6


async def test_patience_ends_a_run_that_gets_no_better(book):
    settings = Settings(validate_every=2, patience=2)
    result = await learn(book, validated(book, 40), roles(), settings, run="r")
    assert result.stopped is Stopped.PATIENCE
    assert [one.succeeded for one in result.validations] == [0, 2, 4, 6, 8, 10, 10, 10]
    assert result.episodes == 14
    again = await learn(book, validated(book, 40), roles(), settings, run="r")
    assert again == result


async def test_nobody_says_how_it_went(book):
    result = await learn(book, validated(book, 5, known=False), roles(), Settings(patience=1), run="r")
    assert [one.share for one in result.validations] == [None, None]
    assert (result.stopped, result.back_to) == (Stopped.DONE, None)


@pytest.mark.parametrize("mode", [Mode.ONLINE, Mode.SAMPLE, Mode.BATCH])
async def test_other_modes_validate_too(book, mode):
    settings = Settings(mode=mode, execution_stage=Stage.LIVE, window=5, batch=5)
    result = await learn(book, validated(book, 10), roles(), settings, run="r")
    assert [one.succeeded for one in result.validations] == [0, len(TOPICS)]


def test_keys_fit_into_a_batch():
    tools = Tools(None, Journal(None, "r" * 500), None, Settings(), None, None, False)
    key = tools.key(Turn(1, Kind.LEARN), ["x" * 100] * 1000)
    assert key.startswith(tools.prefix)
    assert len(key) <= MAX_NAME_CHARACTERS
