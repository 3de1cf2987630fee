"""Learning runs in each mode: what is learnt, in which stage, what is counted, and that order does not matter."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from learning_world import TOOLS, TOPICS, Agent, ByRule, Counts, live, played, recorded, roles, tasks

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.learn.contract import Recorded, Tasks
from potstill.distill.playbook.learn.desk import Desk
from potstill.distill.playbook.learn.journal import Kind, settings_of
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Stopped, result_of
from potstill.distill.playbook.learn.settings import Mode, Refinement, Settings
from potstill.distill.playbook.operations import Add, Batch, Stage, Tag, Update
from potstill.distill.playbook.twins import Gate, Thresholds, keep_both
from potstill.errors import ConfigError, KeyRefused, StoreError
from potstill.trajectories import Store


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def book(store):
    return Playbook(store, "default", "book")


async def test_offline_learns_each_topic_once_and_then_succeeds(book):
    result = await learn(book, played(book, 20), roles(), Settings(epochs=2), run="r")
    assert result.stopped is Stopped.DONE
    assert (result.epochs, result.episodes, result.known, result.succeeded) == (2, 40, 40, 30)
    assert len(live(book)) == len(TOPICS)
    assert result.applied["ADD"] == len(TOPICS)
    assert (result.refused, result.skipped, result.not_taken) == ({}, (), ())
    assert book.check() == []
    assert (result.first_revision, result.revision) == (0, book.revision)
    assert result_of(book, "r") == result


async def test_votes_are_counted_once_an_episode(book):
    """The paper's release counts them once a round."""
    await learn(book, played(book, 30), roles(), Settings(rounds=3), run="r")
    assert {one.helpful for one in book.bullets().values()} == {2}  # each topic was met twice after it was learnt


async def test_without_tags_no_counter_moves(book):
    result = await learn(book, played(book, 30), roles(), Settings(tags=False), run="r")
    assert {(one.helpful, one.harmful, one.neutral) for one in book.bullets().values()} == {(0, 0, 0)}
    assert "TAG" not in result.applied


async def test_a_window_is_played_before_any_of_it_is_learnt_from(book):
    settings = Settings(mode=Mode.ONLINE, window=15, execution_stage=Stage.LIVE)
    result = await learn(book, played(book, 30), roles(), settings, run="r")
    assert (result.episodes, result.succeeded) == (30, 15)  # nothing is known in the first window
    first = [one for one in book.bullets().values() if "(2)" in one.content]
    assert len(first) == 5  # five topics failed twice in it, and the second lesson updated the first


async def test_per_sample_each_episode_is_played_with_all_that_was_learnt_before(book):
    settings = Settings(mode=Mode.SAMPLE, execution_stage=Stage.LIVE)
    result = await learn(book, played(book, 30), roles(), settings, run="r")
    assert (result.episodes, result.succeeded) == (30, 20)


async def test_a_batch_of_recorded_episodes_needs_no_generator(book):
    result = await learn(book, recorded(book, 10), roles(), Settings(mode=Mode.BATCH, batch=10), run="r")
    assert (result.episodes, result.known, len(book.bullets())) == (10, 0, 10)
    assert book.revision == 1  # one batch
    assert {one.sources for one in book.bullets().values()} == {tuple(f"e-{n}" for n in range(10))}


async def test_a_batch_asks_a_curator_for_each_group_and_shows_it_each_lesson_twice(book):
    curator = Counts()
    settings = Settings(mode=Mode.BATCH, batch=16)
    await learn(book, recorded(book, 16), roles(curator=curator), settings, run="r")
    assert sorted(map(len, curator.lessons)) == [8, 8, 8, 8]  # sqrt(16) groups of 16 * 2 / 4
    seen = [source for group in curator.lessons for source in group]
    assert {seen.count(f"e-{n}") for n in range(16)} == {2}
    assert all(len(set(group)) == len(group) for group in curator.lessons)


@pytest.mark.parametrize(
    ("mode", "stage"),
    [(Mode.OFFLINE, Stage.LIVE), (Mode.BATCH, Stage.LIVE), (Mode.ONLINE, Stage.CANARY), (Mode.SAMPLE, Stage.CANARY)],
)
async def test_where_a_bullet_begins(book, mode, stage):
    await learn(book, played(book, 5), roles(), Settings(mode=mode), run="r")
    assert {one.stage for one in book.bullets().values()} == {stage}


async def test_what_is_learnt_from_recorded_episodes_begins_as_canary(book):
    await learn(book, recorded(book, 5), roles(), Settings(), run="r")
    assert {one.stage for one in book.bullets().values()} == {Stage.CANARY}


class Opinion(ByRule):
    """Claims to know although nobody said how it ended."""

    async def reflect(self, case, bullets, previous=None):
        said = await super().reflect(case, bullets, previous)
        topic = next(n for n, name in enumerate(TOPICS) if name in case.goal)
        insight = f"For {TOPICS[topic]} take the {TOOLS[topic]}."
        tags = tuple(Tag(id=id, helpful=1) for id in bullets)
        return msgspec.structs.replace(
            said, reflection=msgspec.structs.replace(said.reflection, key_insight=insight), tags=tags
        )


@pytest.mark.parametrize("mode", list(Mode))
async def test_without_a_signal_everything_stays_in_shadow_and_nothing_shown_changes(book, mode):
    """The learning gate (arXiv 2510.04618, table 2: 67.3 with such lessons, 70.7 without any)."""
    content = f"For {TOPICS[0]} take the {TOOLS[0]}. (1)"
    book.apply(Batch(operations=(Add(section="strategies", content=content, stage=Stage.LIVE),), actor="ana"))
    settings = Settings(mode=mode, execution_stage=Stage.LIVE, label_stage=Stage.LIVE)
    result = await learn(book, played(book, 12, known=False), roles(reflector=Opinion()), settings, run="r")
    bullets = book.bullets()
    assert (bullets["b-1"].content, bullets["b-1"].revision, bullets["b-1"].helpful) == (content, 1, 0)
    assert {one.stage for id, one in bullets.items() if id != "b-1"} == {Stage.SHADOW}
    assert result.refused["no-signal"] >= 1
    assert "which agents are shown" in next(one for one in result.not_taken if one.why == "no-signal").message


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("parallel", [1, 2, 8])
async def test_what_is_done_at_the_same_time_changes_nothing(book, tmp_path, mode, parallel):
    """Whichever reflection, episode or Curator's call is done first."""
    hashes = []
    for name, reflector in (("one", ByRule()), ("two", Slow(random.Random(parallel)))):
        with Store.open(tmp_path / f"{name}.db") as store:
            other = Playbook(store, "default", "book")
            settings = Settings(mode=mode, parallel=parallel if name == "two" else 1, window=4, batch=9)
            await learn(other, played(other, 25), roles(reflector=reflector), settings, run="r")
            hashes.append((other.state_hash(), [entry.batch for entry in other.log()]))
    assert hashes[0] == hashes[1]


class Slow(ByRule):
    def __init__(self, rng):
        super().__init__()
        self._rng = rng

    async def reflect(self, case, bullets, previous=None):
        await asyncio.sleep(self._rng.random() * 0.01)
        return await super().reflect(case, bullets, previous)


async def test_replay_plays_the_task_again_with_the_reflection(book):
    agent = Agent(book)
    episodes = Tasks(generator=agent, tasks=tasks(3))
    result = await learn(book, episodes, roles(), Settings(replay=True), run="r")
    assert agent.played == ["t-0", "t-0", "t-1", "t-1", "t-2", "t-2"]
    assert (result.episodes, result.succeeded) == (3, 0)  # played again it is told, which says nothing of the book
    calls = {one.part: one.calls for one in result.spent}
    assert (calls["generator"], calls["reflector"]) == (6, 3)  # done at the second try, so there is no more to learn


async def test_what_nobody_judged_is_not_played_again(book):
    agent = Agent(book, known=False)
    await learn(book, Tasks(generator=agent, tasks=tasks(3)), roles(), Settings(replay=True), run="r")
    assert agent.played == ["t-0", "t-1", "t-2"]


async def test_another_order_in_each_epoch(book):
    agent = Agent(book)
    await learn(book, Tasks(generator=agent, tasks=tasks(8)), roles(), Settings(shuffle=True, epochs=2), run="r")
    first, second = agent.played[:8], agent.played[8:]
    assert sorted(first) == sorted(second) == [f"t-{n}" for n in range(8)]
    assert first != second != [f"t-{n}" for n in range(8)]


async def test_the_sources_are_the_episodes(book):
    await learn(book, played(book, 3), roles(), run="r")
    for bullet in book.bullets().values():
        (source,) = bullet.sources
        assert bullet.content.startswith(f"For {TOPICS[bullet.number - 1]}")
        assert book.store.get(source).task.id == f"t-{bullet.number - 1}"
    assert "t-1" not in str(book.store.learning_rows("default", "book", "r"))  # ids of episodes, no text of theirs


async def test_the_journal_holds_no_text_of_an_episode(book):
    await learn(book, played(book, 3), roles(), run="r")
    texts = {TOPICS[0], TOOLS[0], "needs the"}
    rows = book.store.learning_rows("default", "book", "r")
    assert not [row for row in rows for text in texts if text in row.body]


@pytest.mark.parametrize("mode", list(Mode))
async def test_forgetting_an_episode_leaves_no_id_of_it_in_a_journal(book, mode):
    episodes = recorded(book, 4)
    await learn(book, episodes, roles(), Settings(mode=mode, batch=2), run="r")
    forgotten, left = book.forget_source("e-1", actor="admin")
    assert (len(forgotten.entries) > 0, left) == (True, ())
    bodies = "".join(row.body for row in book.store.learning_rows("default", "book", "r"))
    assert '"e-1"' not in bodies
    assert '"e-0"' in bodies
    result = await learn(book, episodes, roles(), Settings(mode=mode, batch=2), run="r")  # and does not learn it again
    assert (result.episodes, book.check()) == (4, [])
    assert "e-1" not in {source for one in book.bullets().values() for source in one.sources}


async def test_a_run_goes_on_after_an_episode_of_its_window_was_forgotten(book):
    """It was played, and was not learnt from yet."""

    class Stops(ByRule):
        async def reflect(self, case, bullets, previous=None):
            if len(self.asked) == 2:
                raise KeyRefused("401")
            return await super().reflect(case, bullets, previous)

    settings = Settings(mode=Mode.ONLINE, rounds=1)
    with pytest.raises(KeyRefused):
        await learn(book, played(book, 5), roles(reflector=Stops()), settings, run="r")
    (fifth,) = [id for id in book.store.ids() if book.store.get(id).task.id == "t-4"]
    book.store.remove([fifth])
    book.forget_source(fifth, actor="admin")
    result = await learn(book, played(book, 5), roles(), settings, run="r")
    assert (result.stopped, result.episodes, len(book.bullets())) == (Stopped.DONE, 4, 4)


async def test_progress_is_told_after_each_step(book):
    told = []
    await learn(book, played(book, 3), roles(), run="r", progress=told.append)
    assert [one.kind for one in told if one.kind is not Kind.REFINE] == [
        Kind.BEGIN, *[Kind.PLAY, Kind.LEARN] * 3, Kind.END,
    ]  # fmt: skip
    assert told[-1].done == told[-1].steps == 11
    assert [round(one.cost_usd, 9) for one in told if one.kind is Kind.LEARN] == [0.04, 0.08, 0.12]
    assert told[2].row.applied == {"ADD": 1}


# --- what it was given ----------------------------------------------------------------------------------------------


async def test_a_run_that_is_done_does_nothing_more(book):
    agent = Agent(book)
    episodes = Tasks(generator=agent, tasks=tasks(4))
    first = await learn(book, episodes, roles(), run="r")
    assert await learn(book, episodes, roles(), run="r") == first
    assert (len(agent.played), settings_of(book, "r")) == (4, Settings())


@pytest.mark.parametrize("change", ["settings", "tasks", "validation"])
async def test_a_run_goes_on_with_what_it_was_begun_with_only(book, change):
    episodes, settings = played(book, 4), Settings()
    await learn(book, episodes, roles(), settings, run="r")
    if change == "settings":
        settings = Settings(rounds=1)
    elif change == "tasks":
        episodes = played(book, 5)
    else:
        episodes = msgspec.structs.replace(episodes, validation=tasks(2))
    with pytest.raises(ConfigError, match="other settings or other episodes"):
        await learn(book, episodes, roles(), settings, run="r")


async def test_what_a_run_was_begun_with_is_kept_whole(book):
    settings = Settings(
        mode=Mode.BATCH,
        gate=Gate(thresholds=Thresholds(lexical=0.9), sections={"others": Thresholds(semantic=0.95)}),
        sections=("House rules", "Tools"),
        budget=Budget(tokens=500),
        operations=("ADD",),
        label_stage=Stage.CANARY,
        refinement=Refinement.LAZY,
    )
    await learn(book, played(book, 2), roles(), settings, run="r")
    assert settings_of(book, "r") == settings
    assert {one.section for one in book.bullets().values()} == {"others"}


async def test_two_processes_do_not_work_on_one_run(book):
    with book.store.alone("learning/default/book/r") as has:
        assert has
        with pytest.raises(ConfigError, match="going on in another process"):
            await learn(book, played(book, 1), roles(), run="r")


async def test_a_generator_that_breaks_its_contract_is_told(book):
    class Wrong(Agent):
        async def play(self, task, seed, *, reflection, tag):
            made = await super().play(task, seed, reflection=reflection, tag=tag)
            return msgspec.structs.replace(made, **{self.field: "other"})

    agent = Wrong(book)
    for agent.field, said in (("id", "It must have the id that its tag gives"), ("namespace", "never cross tenants")):
        with pytest.raises(ConfigError, match=said):
            await learn(book, Tasks(generator=agent, tasks=tasks(1)), roles(), run=agent.field)
    assert book.revision == 0


async def test_another_tenants_episodes_are_not_there(store, book):
    ids = recorded(book, 3).ids
    other = Playbook(store, "other", "book")
    result = await learn(other, Recorded(ids=ids), roles(), run="r")
    assert [(one.episode, one.why) for one in result.skipped] == [(id, "not-in-the-store") for id in ids]
    assert (other.revision, result.episodes) == (0, 0)


def test_an_unknown_run_is_told_with_those_that_are_there(book):
    with pytest.raises(StoreError, match=r"has no learning run 'x'\. It has: none"):
        result_of(book, "x")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "'epochs' is 0"),
        ({"parallel": 0}, "'parallel' is 0"),
        ({"mode": Mode.ONLINE, "epochs": 2}, "goes through its episodes once"),
        ({"batch": 1001}, "at most 1000"),
        ({"max_cost_usd": float("nan")}, "must be 0 or more"),
        ({"operations": ("ADD", "PIN")}, "No operation of a Curator named 'PIN'"),
    ],
)
def test_impossible_settings_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Settings(**wrong)


MARBLE = "Always weigh the marble before it is put on the bench and note what it weighs."


class Rewords(Counts):
    """Makes of the second bullet what the first one says."""

    async def curate(self, lessons, bullets, objections=()):
        said = await super().curate(lessons, bullets, objections)
        if "b-2" not in bullets or MARBLE in bullets["b-2"].content:
            return said
        update = Update(id="b-2", content=f"{MARBLE} Always.", revision=bullets["b-2"].revision)
        return msgspec.structs.replace(said, operations=(*said.operations, update))


def two_bullets(book: Playbook) -> None:
    adds = (Add(section="others", content=MARBLE), Add(section="others", content="Keep the marble dry."))
    book.apply(Batch(operations=adds, actor="import"))
    book.apply(Batch(operations=(Tag(id="b-1", helpful=2), Tag(id="b-2", helpful=3)), actor="import"))


@pytest.mark.parametrize("refinement", list(Refinement))
async def test_near_duplicates_that_got_in_are_merged(book, refinement):
    """By an update that says what another bullet says, as no gate before the write can see."""
    two_bullets(book)
    settings = Settings(refinement=refinement, budget=Budget(tokens=20))
    result = await learn(book, played(book, 3), roles(curator=Rewords()), settings, run="r")
    bullets = book.bullets()
    merged = {one.id: one.merged_into for one in bullets.values() if one.merged_into}
    assert merged == ({} if refinement is Refinement.NEVER else {"b-1": "b-2"})
    assert bullets["b-2"].helpful == (3 if refinement is Refinement.NEVER else 5)
    assert result.applied.get("MERGE", 0) == len(merged)
    assert book.check() == []


async def test_lazily_nothing_is_merged_while_the_text_fits(book):
    two_bullets(book)
    await learn(book, played(book, 3), roles(curator=Rewords()), Settings(refinement=Refinement.LAZY), run="r")
    assert not any(one.merged_into for one in book.bullets().values())


async def test_texts_that_somebody_keeps_apart_are_not_merged(book):
    two_bullets(book)
    kept = frozenset({keep_both(MARBLE, f"{MARBLE} Always.")})
    await learn(book, played(book, 3), roles(curator=Rewords(), kept=kept), run="r")
    assert not any(one.merged_into for one in book.bullets().values())


async def test_what_another_worker_said_at_the_same_time_is_merged(book):
    """Two workers that gate at the same time do not see each other's lessons."""

    class Meanwhile(Counts):
        async def curate(self, lessons, bullets, objections=()):
            said = await super().curate(lessons, bullets, objections)
            self.adds = said.operations
            return said

    curator = Meanwhile()
    gated = Desk.gated

    def and_another(desk, batch):
        made = gated(desk, batch)
        book.apply(Batch(operations=curator.adds, actor="another"))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desk, "gated", and_another)
        await learn(book, played(book, 1), roles(curator=curator), run="r")
    bullets = book.bullets()
    assert (bullets["b-1"].merged_into, bullets["b-2"].stage) == ("b-2", Stage.LIVE)
