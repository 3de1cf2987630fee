"""What a book has forgotten is not learnt again: not by a late batch, a run in progress, the next or a resumed one."""

from __future__ import annotations

import pytest
from learning_world import ByRule, Counts, played, recorded, roles

from potstill.distill.playbook.apply import Refused, Why
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Recorded, Tasks
from potstill.distill.playbook.learn.journal import Journal, Kind
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Stopped
from potstill.distill.playbook.learn.settings import Mode, Settings
from potstill.distill.playbook.operations import Add, Batch
from potstill.errors import KeyRefused
from potstill.trajectories import Store
from potstill.trajectories.learning import forgotten_mark


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def book(store):
    return Playbook(store, "default", "book")


def late(*sources: str, key: str = "") -> Batch:
    return Batch(operations=(Add(section="rules", content="late"),), actor="curator", sources=sources, key=key)


def sources_of(book: Playbook) -> set[str]:
    return {source for one in book.bullets().values() for source in one.sources}


async def test_a_late_batch_is_refused_whole(book):
    await learn(book, recorded(book, 3), roles(), run="r")
    book.forget_source("e-1", actor="ana")
    before = book.revision
    with pytest.raises(Refused, match="this book has forgotten the source 'e-1'") as refused:
        book.apply(late("e-0", "e-1"))
    assert (refused.value.why, refused.value.id, refused.value.index) == (Why.FORGOTTEN, "e-1", None)
    assert (book.revision, book.forgotten(["e-0", "e-1", "e-2"])) == (before, {"e-1"})
    book.apply(late("e-0"))
    Playbook(book.store, "default", "another").apply(late("e-1"))  # each book forgets for itself


async def test_the_next_run_leaves_it_out(book):
    episodes = recorded(book, 3)
    await learn(book, episodes, roles(), run="monday")
    book.forget_source("e-1", actor="ana")
    result = await learn(book, episodes, roles(), run="tuesday")
    assert result.episodes == 2
    assert [(one.episode, one.why) for one in result.skipped] == [(forgotten_mark("e-1"), "forgotten")]
    assert sources_of(book) == {"e-0", "e-2"}
    assert book.forget_source("e-1", actor="ana")[1] == ()


@pytest.mark.parametrize("mode", [Mode.OFFLINE, Mode.BATCH])
async def test_what_is_forgotten_while_it_is_learnt_from_is_not_written(book, mode):
    """Before the book's first batch: only the run's journal knows of the episode."""

    class Forgets(Counts):
        async def curate(self, lessons, bullets, objections=()):
            said = await super().curate(lessons, bullets, objections)
            if "e-1" in self.lessons[-1]:
                book.forget_source("e-1", actor="ana")
            return said

    settings = Settings(mode=mode, batch=3)
    curator = Forgets()
    result = await learn(book, recorded(book, 3), roles(curator=curator), settings, run="r")
    assert (result.stopped, result.episodes) == (Stopped.DONE, 2)
    assert "forgotten" in [one.why for one in result.skipped]
    assert sources_of(book) == {"e-0", "e-2"}
    assert book.forget_source("e-1", actor="ana")[1] == ()
    assert book.check() == []


async def test_a_run_goes_on_after_its_settings_lost_the_id(book):
    class Stops(ByRule):
        async def reflect(self, case, bullets, previous=None):
            if case.id == "e-1":
                raise KeyRefused("401")
            return await super().reflect(case, bullets, previous)

    store = book.store
    recorded(book, 3)
    config = {"namespace": "default", "learning": {"book": "book", "episodes": ["e-0", "e-1", "e-2"]}}
    store.put_run("r", config)
    store.put_run("of-another", {**config, "learning": {**config["learning"], "book": "another"}})
    with pytest.raises(KeyRefused):
        await learn(book, Recorded(ids=config["learning"]["episodes"]), roles(reflector=Stops()), run="r")
    assert "runs.config of r" in dict(store.learning_texts("default", "book"))
    book.forget_source("e-1", actor="ana")
    kept = {row.run_id: row.config for row in store.runs()}
    ids = kept["r"]["learning"]["episodes"]
    assert ids == ["e-0", forgotten_mark("e-1"), "e-2"]
    assert kept["of-another"]["learning"]["episodes"] == config["learning"]["episodes"]
    result = await learn(book, Recorded(ids=ids), roles(), run="r")
    assert (result.stopped, result.episodes, sources_of(book)) == (Stopped.DONE, 2, {"e-0", "e-2"})


async def test_an_unknown_source_is_no_row(book):
    await learn(book, recorded(book, 1), roles(), run="r")
    before = book.revision
    book.forget_source("never-seen", actor="ana")
    assert book.revision == before


async def test_episodes_that_validated_a_book_are_known(book):
    four = played(book, 4)
    episodes = Tasks(generator=four.generator, tasks=four.tasks[:2], validation=four.tasks[2:])
    await learn(book, episodes, roles(), run="r")
    rows = [row for _, row in Journal(book, "r").rows() if row.kind is Kind.VALIDATE]
    assert [len(row.episodes) for row in rows] == [2, 2]
    assert {book.store.get(id).task.id for row in rows for id in row.episodes} == {"t-2", "t-3"}
