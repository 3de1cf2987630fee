"""Lots: shares, independence, the same answer every time, and what a trial does to an episode's text."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import Both, PlaybookConfig, PlaybookContext
from potstill.distill.playbook.holdout import Lots, draw
from potstill.distill.playbook.operations import Batch, Stage
from potstill.protocols import ContextBlock, ContextQuery
from potstill.trajectories import Store
from potstill.types import Task

IDS = tuple(f"b-{number}" for number in range(1, 9))


def query(episode="e1", task="t1", namespace="default", **more):
    where = Task(id=task, environment="house")
    return ContextQuery(task=where, goal="do it", namespace=namespace, episode=episode, **more)


def add(content, stage=Stage.LIVE):
    return ops.Add(section="others", content=content, stage=stage)


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "support")


def change(book, *operations):
    book.apply(Batch(operations=operations, actor="ana"))


def blocks(context, **more):
    return [asyncio.run(context.for_task(query(f"e{number}", **more))) for number in range(300)]


# --- the lots -------------------------------------------------------------------------------------------------------


def test_a_tenth_are_trials_and_each_bullet_is_left_out_of_half_of_them():
    lots = [draw(query(f"e{number}"), IDS, share=0.1) for number in range(20_000)]
    trials = [one for one in lots if one.trial]
    assert 1_850 <= len(trials) <= 2_150, "2,000 are expected, with a deviation of 42"
    assert all(not one.withheld for one in lots if not one.trial)
    counts = Counter(id for one in trials for id in one.withheld)
    assert all(0.45 <= counts[id] / len(trials) <= 0.55 for id in IDS)
    pairs = Counter((a, b) for one in trials for a in one.withheld for b in one.withheld if a < b)
    assert all(0.21 <= count / len(trials) <= 0.29 for count in pairs.values()), (
        "each for itself: a quarter has both out"
    )
    assert len(pairs) == 28


def test_nobody_or_everybody_is_a_trial_and_nothing_or_everything_is_left_out():
    assert draw(query(), IDS, share=0.0) == Lots(False, frozenset())
    assert all(draw(query(f"e{n}"), IDS, share=1.0).trial for n in range(100))
    assert draw(query(), IDS, share=1.0, inside=1.0).withheld == frozenset(IDS)
    assert draw(query(), IDS, share=1.0, inside=0.0) == Lots(True, frozenset())


def test_the_lot_is_the_same_on_every_machine():
    """Fixed by its hash: another one would mix two experiments in stores that hold the first."""
    lots = [draw(query(f"e{number}"), IDS, share=0.5) for number in range(4)]
    drawn = [sorted(one.withheld) if one.trial else None for one in lots]
    assert drawn == [None, ["b-1", "b-6", "b-8"], None, ["b-1", "b-2", "b-3", "b-4", "b-8"]]


@given(st.permutations(IDS), st.integers(0, 8), st.integers(0, 50), st.text(max_size=5))
def test_a_bullets_lot_depends_on_no_other_bullet_and_on_no_step(order, count, number, seen):
    everything = draw(query(f"e{number}"), IDS, share=0.5).withheld
    asked = query(f"e{number}", step_index=number, observation=seen)
    assert draw(asked, order[:count], share=0.5).withheld == everything & set(order[:count])


def test_episodes_tasks_tenants_and_seeds_draw_for_themselves():
    def drawn(asked, seed=0):
        return draw(asked, [f"b-{number}" for number in range(64)], share=1.0, seed=seed).withheld

    others = (query("e2"), query(task="t2"), query(namespace="acme"))
    assert len({drawn(query()), *map(drawn, others), drawn(query(), seed=1)}) == 5


# --- what an episode is shown ---------------------------------------------------------------------------------------


def test_a_trial_leaves_lines_out_and_says_which(book):
    change(book, *(add(f"lesson {number}") for number in range(6)), add("kept"))
    change(book, ops.Pin(id="b-7"))
    context = PlaybookContext(book, PlaybookConfig(holdout_share=0.3))
    given = blocks(context)
    whole = {block.text for block in given if not block.trial}
    assert len(whole) == 1
    assert 60 <= sum(block.trial for block in given) <= 120
    for block in given:
        assert sorted((*block.bullets, *block.withheld)) == sorted(f"b-{number}" for number in range(1, 8))
        assert "b-7" in block.bullets, "what is pinned is never withheld"
        assert all((f"[{id}]" in block.text) is (id in block.bullets) for id in (*block.bullets, *block.withheld))
    assert any(len(block.withheld) >= 4 for block in given)


def test_nothing_comes_in_for_what_is_withheld(book):
    """Its absence is all that is compared: canaries that found no room behind the whole page find none in a trial."""
    change(book, add("x" * 40), add("y" * 40, stage=Stage.CANARY), add("z", stage=Stage.CANARY))
    config = PlaybookConfig(budget=Budget(tokens=18), canary_share=1, holdout_share=1)
    given = blocks(PlaybookContext(book, config))
    assert {frozenset((*block.bullets, *block.withheld)) for block in given} == {frozenset(("b-1", "b-3"))}
    assert {block.bullets for block in given} == {(), ("b-1",), ("b-3",), ("b-1", "b-3")}


def test_the_steps_of_an_episode_and_its_beginning_agree(book):
    change(book, add("red mug"), *(add(f"mug {number} " * 20) for number in range(8)))
    context = PlaybookContext(book, PlaybookConfig(budget=Budget(tokens=20), top_k=3, holdout_share=1))
    for number in range(40):
        first = query(f"e{number}")
        task = asyncio.run(context.for_task(first))
        step = asyncio.run(context.for_step(msgspec.structs.replace(first, observation="a mug", step_index=3)))
        assert len((*step.bullets, *step.withheld)) == 3, "the nearest three, and no fourth in a withheld one's place"
        assert task.trial
        assert step.trial
        nearest = (*step.bullets, *step.withheld)
        assert frozenset(step.withheld) == draw(first, nearest, share=1.0).withheld
        assert not {*task.bullets, *task.withheld} & {*nearest}


def test_both_contexts_say_what_was_withheld(book):
    change(book, add("one"), add("two"), add("three"))
    playbook = PlaybookContext(book, PlaybookConfig(holdout_share=1))
    alone = asyncio.run(playbook.for_task(query()))
    both = asyncio.run(Both(playbook, Demonstrations()).for_task(query()))
    assert (both.withheld, both.trial, both.bullets) == (alone.withheld, True, alone.bullets)
    assert alone.withheld


class Demonstrations:
    name = "demonstrations"

    async def for_task(self, asked):
        return ContextBlock(text="Example 1")
