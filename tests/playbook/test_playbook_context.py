"""A playbook as a context, on a real book in a real store."""

import asyncio
import pickle
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Forgotten, Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import Both, Exposure, PlaybookConfig, PlaybookContext
from potstill.distill.playbook.forgetting import forget, source_digest
from potstill.distill.playbook.holdout import draws
from potstill.distill.playbook.operations import Batch, Bullet, Stage
from potstill.distill.playbook.shortlist import Shortlist
from potstill.errors import ConfigError, UnknownName
from potstill.protocols import BulletObserver, ContextBlock, ContextQuery
from potstill.retrieval.registry import ranker_factory
from potstill.retrieval.tokens import EstimatedTokens
from potstill.run.prompt import DEMONSTRATIONS_HEADING, PLAYBOOK_HEADING, heading_of
from potstill.trajectories import Store
from potstill.types import DemonstrationRef, Task


def query(task="t1", observation="", goal="do it", step_index=0):
    where = Task(id=task, environment="house")
    return ContextQuery(task=where, goal=goal, observation=observation, step_index=step_index)


def add(content, section="others", stage=Stage.LIVE):
    return ops.Add(section=section, content=content, stage=stage)


def run(coroutine):
    return asyncio.run(coroutine)


def everybody(**settings):
    """Nothing is withheld by lot."""
    return PlaybookConfig(**{"holdout_share": 0.0, **settings})


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "support")


def change(book, *operations):
    return book.apply(Batch(operations=operations, actor="ana")).ids


def test_an_empty_book_shows_nothing(book):
    context = PlaybookContext(book, everybody())
    assert run(context.for_task(query())) == ContextBlock(playbook="support")
    assert run(context.for_step(query())) == ContextBlock()


def test_all_episodes_are_given_the_same_text_and_told_what_is_in_it(book):
    change(book, add("look first"), add("hidden", stage=Stage.SHADOW), add("sum fees", "Formulas & Calculations"))
    context = PlaybookContext(book, everybody())
    first = run(context.for_task(query("t1")))
    assert first.text == "## FORMULAS & CALCULATIONS\n[b-3] sum fees\n\n## OTHERS\n[b-1] look first"
    assert first.bullets == ("b-3", "b-1")
    assert first.demonstrations == ()
    assert (first.playbook, first.revision, first.withheld, first.trial) == ("support", 1, (), False)
    change(book, ops.Tag(id="b-1", helpful=3))
    second = run(context.for_task(query("t2", goal="another", observation="x")))
    assert second == msgspec.structs.replace(first, revision=2)


def test_the_next_episode_sees_what_is_new_behind_the_same_bytes_and_nothing_of_what_is_quarantined(book):
    change(book, add("one"), add("two"))
    context = PlaybookContext(book, everybody(budget=Budget(slack=1.0)))
    first = run(context.for_task(query())).text
    change(book, add("three"), ops.Update(id="b-1", content="one, better", revision=1))
    second = run(context.for_task(query()))
    assert second.text == f"{first}\n[b-3] three"
    change(book, ops.Quarantine(id="b-2"))
    assert run(context.for_task(query())).text == "## OTHERS\n[b-1] one, better\n[b-3] three", (
        "most of the prefix was lost anyway"
    )
    context.compact()
    assert run(context.for_task(query())).text == "## OTHERS\n[b-1] one, better\n[b-3] three"


def test_what_a_source_taught_is_nowhere_once_it_is_forgotten(book):
    book.apply(Batch(operations=(add("the red key"), add("ask first")), actor="curator", sources=("s1",)))
    book.apply(
        Batch(
            operations=(ops.Update(id="b-2", content="ask the red key", revision=1),), actor="curator", sources=("s2",)
        )
    )
    book.apply(Batch(operations=(add("red things " * 20),), actor="curator", sources=("s2",)))
    context = PlaybookContext(book, everybody(budget=Budget(tokens=20), top_k=5))
    assert run(context.for_task(query())).text == "## OTHERS\n[b-1] the red key\n[b-2] ask the red key"
    assert run(context.for_step(query(observation="red"))).bullets == ("b-3",)

    def decide(entries, bullets):
        left = forget(entries, "s2")
        row = Batch(operations=(), actor="admin", reason="forgotten")
        return Forgotten(batch=row, digest=source_digest("s2"), entries=left.rows, bullets=left.bullets)

    book.forget(decide)
    assert run(context.for_task(query())).text == "## OTHERS\n[b-1] the red key\n[b-2] ask first"
    assert run(context.for_step(query(observation="red"))).bullets == ()
    held = pickle.dumps((context._looker.last, context._shortlist._texts, context._shortlist._ranker._vocabulary))
    assert b"red things" not in held
    assert b"things" not in held
    assert b"the red key" in held


def test_a_compaction_comes_by_itself_when_it_is_due(book):
    change(book, add("x" * 100), add("one"), add("two " * 20))
    context = PlaybookContext(book, everybody(budget=Budget(every=3)))
    old = run(context.for_task(query())).text
    change(book, ops.Update(id="b-2", content="1", revision=1))
    assert run(context.for_task(query())).text == old
    change(book, add("new"))
    assert run(context.for_task(query())).text == f"{old}\n[b-4] new"
    change(book, ops.Tag(id="b-1", helpful=1))
    assert "[b-2] 1\n" in run(context.for_task(query())).text
    assert context.page().epoch.revision == 4
    change(book, ops.Update(id="b-1", content="z" * 100, revision=1))
    assert f"[b-1] {'z' * 100}\n" in run(context.for_task(query())).text, "half of the page was out of date"
    assert context.page().epoch.revision == 5


def test_a_line_that_is_out_of_date_is_named_to_nobody(book):
    change(book, *(add(f"lesson {number}") for number in range(4)))
    for share in (0.0, 1.0):
        context = PlaybookContext(book, PlaybookConfig(holdout_share=share, budget=Budget(slack=1.0)))
        text = run(context.for_task(query())).text
        before = book.bullets()["b-2"]
        change(book, ops.Update(id="b-2", content=f"other than {share:g}", revision=before.revision))
        block = run(context.for_task(query()))
        assert f"[b-2] {before.content}" in text + block.text
        assert f"other than {share:g}" not in block.text
        assert "b-2" not in (*block.bullets, *block.withheld)
        assert {*block.bullets, *block.withheld} == {"b-1", "b-3", "b-4"}
        context.compact()
        block = run(context.for_task(query()))
        assert "b-2" in (*block.bullets, *block.withheld)


def test_a_page_whose_lines_are_all_out_of_date_is_a_playbook_still(book):
    change(book, add("one"))
    context = PlaybookContext(book, everybody(budget=Budget(slack=1.0)))
    run(context.for_task(query()))
    change(book, ops.Update(id="b-1", content="1", revision=1))
    block = run(context.for_task(query()))
    assert (block.text, block.bullets) == ("## OTHERS\n[b-1] one", ())
    assert heading_of(block) == PLAYBOOK_HEADING


def test_who_plays_to_learn_sees_what_was_just_written(book):
    change(book, *(add(f"lesson {number}, as long as lessons are") for number in range(40)))
    context = PlaybookContext.of(book, everybody())
    run(context.for_task(query()))
    epoch = context.page().epoch
    run(context.catch_up())
    change(book, ops.Tag(id="b-7", helpful=1), add("one more"))
    run(context.catch_up())
    assert context.page().epoch == epoch, "nothing is out of date"
    change(book, ops.Update(id="b-7", content="corrected", revision=1))
    assert "corrected" not in run(context.for_task(query())).text
    run(context.catch_up())
    assert "[b-7] corrected" in run(context.for_task(query())).text


class Counting:
    """A counter that counts its calls: how much of a book a look goes through."""

    name = "counting"

    def __init__(self):
        self.calls = 0

    def count(self, text):
        self.calls += 1
        return len(text) // 4


def test_a_look_after_votes_and_shadows_costs_nothing_of_the_book(book, monkeypatch):
    change(book, *(add(f"lesson {number} about things") for number in range(300)))
    change(book, add("seen by nobody", stage=Stage.SHADOW))
    counter, held, hold = Counting(), [], Shortlist.hold
    monkeypatch.setattr(Shortlist, "hold", lambda self, *given, **more: held.append(1) or hold(self, *given, **more))
    context = PlaybookContext(book, everybody(budget=Budget(tokens=100), top_k=3), counter=counter)
    context.page()
    before = counter.calls, len(held)
    for operation in (
        ops.Tag(id="b-7", helpful=1),
        add("nor this", stage=Stage.SHADOW),
        ops.Remove(id="b-301"),
        ops.Tag(id="b-200", harmful=1),
    ):
        change(book, operation)
        assert context.page().revision == book.revision
    assert (counter.calls, len(held)) == before
    assert context._looker.last.bullets == book.bullets()
    change(book, ops.SetStage(id="b-302", stage=Stage.LIVE))
    context.page()
    assert counter.calls > before[0]
    assert len(held) == 2


def test_a_measured_utility_decides_who_is_shown(book):
    change(book, add("x" * 40), add("y" * 40))
    config = everybody(budget=Budget(tokens=20))
    assert run(PlaybookContext(book, config).for_task(query())).bullets == ("b-1",)
    worth = PlaybookContext(book, config, utility=lambda bullets: {"b-1": -0.1, "b-2": 0.2})
    assert run(worth.for_task(query())).bullets == ("b-2",)


def test_canaries_stand_behind_the_page_for_their_share_of_the_tasks(book):
    change(book, add("live"), add("trial", stage=Stage.CANARY))
    context = PlaybookContext(book, everybody(canary_share=0.25))
    shown = Counter()
    for number in range(400):
        block = run(context.for_task(query(f"t{number}")))
        assert block.text.startswith("## OTHERS\n[b-1] live")
        assert block == run(context.for_task(query(f"t{number}")))
        shown.update(block.bullets)
    assert shown["b-1"] == 400
    assert 70 <= shown["b-2"] <= 130
    assert shown["b-2"] == sum(draws(query(f"t{number}"), "b-2", 0.25, 0) for number in range(400))


def test_canaries_never_break_the_budget(book):
    change(book, add("x" * 40), add("y" * 40, stage=Stage.CANARY), add("z", stage=Stage.CANARY))
    config = everybody(budget=Budget(tokens=18), canary_share=1)
    block = run(PlaybookContext(book, config).for_task(query()))
    assert block.bullets == ("b-1", "b-3")
    assert EstimatedTokens().count(block.text) <= 18


def test_nobody_or_everybody_draws_a_canary():
    assert not any(draws(query(f"t{n}"), "b-1", 0.0, 0) for n in range(50))
    assert all(draws(query(f"t{n}"), "b-1", 1.0, 0) for n in range(50))
    drawn = [
        [draws(query(f"t{n}"), id, 0.5, seed) for n in range(50)] for id, seed in (("b-1", 0), ("b-2", 0), ("b-1", 1))
    ]
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


def test_a_step_is_given_what_is_near_and_not_on_the_page(book):
    change(
        book,
        add("open the fridge first"),
        add("the fridge light helps"),
        add("wash the mug"),
        add("nobody sees the fridge", stage=Stage.SHADOW),
        add("some see the fridge", stage=Stage.CANARY),
    )
    config = everybody(budget=Budget(tokens=0), top_k=2, canary_share=1)
    context = PlaybookContext(book, config)
    assert run(context.for_task(query())).text == ""
    block = run(context.for_step(query(observation="you see a fridge")))
    assert block.text == "## OTHERS\n[b-1] open the fridge first\n[b-2] the fridge light helps"
    assert block.bullets == ("b-1", "b-2")
    assert run(context.for_step(query(observation="nothing of it"))).text == ""
    change(book, ops.Update(id="b-3", content="a fridge holds the mug", revision=1), ops.Quarantine(id="b-1"))
    run(context.for_task(query()))
    assert run(context.for_step(query(observation="fridge"))).bullets == ("b-2", "b-3")
    everything = PlaybookContext(book, everybody(top_k=2))
    assert run(everything.for_step(query(observation="fridge"))).bullets == (), "all stand on the page"


def test_a_step_has_a_budget_of_its_own(book):
    change(book, add("fridge " * 30), add("fridge two"))
    config = everybody(budget=Budget(tokens=0), top_k=5, step_tokens=10)
    assert run(PlaybookContext(book, config).for_step(query(observation="fridge"))).bullets == ("b-2",)


def test_outcomes_are_counted_once_for_each_bullet(book):
    context = PlaybookContext(book, everybody())
    assert isinstance(context, BulletObserver)
    run(context.observe_bullets(["b-1", "b-2", "b-1"], True))
    run(context.observe_bullets(["b-1"], False))
    run(context.observe([DemonstrationRef(trajectory_id="x", start=0, stop=1)], True))
    assert context.exposures == {"b-1": Exposure(shown=2, succeeded=1), "b-2": Exposure(shown=1, succeeded=1)}


def test_many_episodes_at_once_read_one_text(book):
    change(book, *(add(f"lesson {number}") for number in range(50)))
    context = PlaybookContext(book, everybody())

    async def all_at_once():
        return await asyncio.gather(*(context.for_task(query(f"t{number}")) for number in range(40)))

    assert len({block.text for block in run(all_at_once())}) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_k": -1}, "top_k is -1"),
        ({"step_tokens": -5}, "step_tokens is -5"),
        ({"canary_share": 2.0}, "canary_share is 2; it must be a share"),
        ({"holdout_share": -0.5}, "holdout_share is -0.5; it must be a share"),
    ],
)
def test_an_impossible_setting_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        PlaybookConfig(**wrong)


def test_an_unknown_ranker_is_refused_at_once(book):
    with pytest.raises(UnknownName, match="No ranker named 'bm26'"):
        PlaybookContext(book, everybody(top_k=1, ranker="bm26"))


# --- both -----------------------------------------------------------------------------------------------------------


class Demonstrations:
    """A context that shows one demonstration and knows no bullets."""

    name = "demonstrations"

    def __init__(self):
        self.observed = []

    async def for_task(self, asked):
        return ContextBlock(text="Example 1", demonstrations=(DemonstrationRef(trajectory_id="x", start=0, stop=2),))

    async def for_step(self, asked):
        return ContextBlock()

    async def observe(self, shown, success):
        self.observed.append((tuple(shown), success))


def test_a_playbook_and_demonstrations_are_one_context(book):
    change(book, add("look first"))
    playbook, demonstrations = PlaybookContext(book, everybody()), Demonstrations()
    both = Both(playbook, demonstrations)
    assert both.name == "playbook+demonstrations"
    block = run(both.for_task(query()))
    assert block.text == f"## OTHERS\n[b-1] look first\n\n{DEMONSTRATIONS_HEADING}\n\nExample 1"
    assert heading_of(block) == PLAYBOOK_HEADING
    assert (block.playbook, block.revision) == ("support", 1)
    assert [ref.trajectory_id for ref in block.demonstrations] == ["x"]
    assert block.bullets == ("b-1",)
    assert run(both.for_step(query())) == ContextBlock()
    run(both.observe(block.demonstrations, True))
    run(both.observe_bullets(block.bullets, True))
    assert demonstrations.observed == [(block.demonstrations, True)]
    assert playbook.exposures == {"b-1": Exposure(shown=1, succeeded=1)}
    assert both.cited("By [b-1], not b-2.", ("b-1", "b-2", "b-3")) == ("b-1", "b-2")


def test_the_playbook_stands_first_whichever_way_they_are_given(book):
    change(book, add("look first"))
    block = run(Both(Demonstrations(), PlaybookContext(book, everybody())).for_task(query()))
    assert block.text.startswith("## OTHERS\n[b-1] look first\n\n")


def test_an_empty_playbook_leaves_the_demonstrations_their_heading(book):
    block = run(Both(PlaybookContext(book, everybody()), Demonstrations()).for_task(query()))
    assert block.text == "Example 1"
    assert heading_of(block) == DEMONSTRATIONS_HEADING
    assert block.playbook == "support", "the episode was given the book, as empty as it was"


def test_two_playbooks_for_one_episode_are_refused(book):
    other = Playbook(book.store, "default", "sales")
    both = Both(PlaybookContext(book), PlaybookContext(other))
    with pytest.raises(ConfigError, match="one playbook, not both support and sales"):
        run(both.for_task(query()))


def test_an_episode_of_another_namespace_is_not_shown_it(book):
    change(book, add("of default alone"))
    context = PlaybookContext(book, everybody(top_k=1))
    stranger = msgspec.structs.replace(query(), namespace="acme")
    for asked in (context.for_task(stranger), context.for_step(stranger)):
        with pytest.raises(ConfigError, match="belongs to namespace 'default'"):
            run(asked)


# --- shortlist ------------------------------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["mug", "fridge", "key", "door", "lamp"]), min_size=1, max_size=4).map(" ".join)
STATES = st.lists(st.dictionaries(st.integers(1, 8), WORDS), min_size=1, max_size=6)


@given(STATES, WORDS, st.integers(0, 5))
def test_a_shortlist_finds_only_what_it_holds_now(states, words, wanted):
    shortlist = Shortlist(ranker_factory("bm25"))
    for state in states:
        shortlist.hold(Bullet(id=f"b-{n}", number=n, section="others", content=text) for n, text in state.items())
    found = shortlist.nearest(words, wanted, never={"b-1"})
    held = {n: text for n, text in states[-1].items() if n != 1 and set(text.split()) & set(words.split())}
    assert len(found) == min(wanted, len(held))
    for bullet in found:
        assert held[bullet.number] == bullet.content


def test_a_shortlist_that_changed_a_lot_is_built_anew():
    made = []

    def make():
        made.append(ranker_factory("bm25")())
        return made[-1]

    shortlist = Shortlist(make)
    for round in range(700):
        shortlist.hold([Bullet(id="b-1", number=1, section="others", content=f"lesson {round}")])
    assert [one.content for one in shortlist.nearest("699", 3)] == ["lesson 699"]
    assert len(made) == 3
    assert max(map(len, made)) <= 260
