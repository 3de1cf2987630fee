"""Groups, joined proposals, plans, settings and waiting: the parts of a learning run that decide without a store."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook.apply import named
from potstill.distill.playbook.learn.bill import Bill, Part, cost_usd
from potstill.distill.playbook.learn.groups import grouped, joined
from potstill.distill.playbook.learn.journal import Kind
from potstill.distill.playbook.learn.live import Alike
from potstill.distill.playbook.learn.plan import turns
from potstill.distill.playbook.learn.policy import permitted
from potstill.distill.playbook.learn.settings import Mode, Refinement, Settings, digest_of
from potstill.distill.playbook.learn.together import finished, together
from potstill.distill.playbook.operations import Add, Bullet, Merge, Remove, Stage, Update
from potstill.distill.playbook.roles.contract import Signal
from potstill.distill.playbook.twins import Gate
from potstill.types import Answerer, Call, Usage

# --- groups ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 4), st.text(max_size=5))
def test_each_item_is_in_as_many_groups_as_there_are_copies(items, groups, copies, seed):
    made = grouped(range(items), groups, copies, seed)
    assert made == grouped(range(items), groups, copies, seed)
    if not items:
        assert made == []
        return
    many = min(groups, items)
    assert len(made) == many
    for item in range(items):
        assert sum(item in group for group in made) == min(copies, many)
    sizes = [len(group) for group in made]
    assert max(sizes) - min(sizes) <= min(copies, many)
    assert all(group == sorted(set(group)) for group in made)


def test_copies_meet_other_companions():
    made = grouped(range(64), 8, 2, "0")
    together = [frozenset(a) & frozenset(b) for a in made for b in made if a is not b]
    assert max(map(len, together)) < 8


@pytest.mark.parametrize(("lessons", "groups"), [(0, 1), (1, 1), (2, 1), (4, 2), (10, 3), (16, 4), (100, 10)])
def test_about_the_square_root_of_the_number(lessons, groups):
    assert Settings().groups_of(lessons) == groups


# --- joined proposals -----------------------------------------------------------------------------------------------

ids = st.sampled_from(["b-1", "b-2", "b-3", "b-4"])
texts = st.sampled_from(["one", "two", "three"])
changes = st.one_of(
    st.builds(Add, section=st.just("s"), content=texts, stage=st.sampled_from(Stage)),
    st.builds(Update, id=ids, content=texts, revision=st.integers(1, 2)),
    st.builds(Remove, id=ids, reason=texts),
    st.lists(ids, min_size=2, max_size=3, unique=True).flatmap(
        lambda few: st.builds(
            Merge, into=st.just(few[0]), ids=st.just(tuple(few[1:])), content=texts, revisions=st.just((1,) * len(few))
        )
    ),
)


@given(st.lists(st.lists(changes, max_size=5), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_joining_does_not_depend_on_the_order_and_changes_no_bullet_twice(proposals, rng):
    made = joined(proposals)
    shuffled = [rng.sample(one, len(one)) for one in rng.sample(proposals, len(proposals))]
    assert joined(shuffled) == made
    changed = [id for operation in made.operations for id in named(operation)]
    assert len(changed) == len(set(changed))
    said = {operation for proposal in proposals for operation in proposal}
    assert {*made.operations, *made.against} == said
    assert len(made.operations) + len(made.against) == len(said)
    for lost in made.against:
        assert set(named(lost)) & set(changed)


def test_the_more_frequent_proposal_wins_and_else_the_milder_one():
    update, remove = Update(id="b-1", content="x", revision=1), Remove(id="b-1")
    assert joined([[remove], [remove], [update]]).operations == (remove,)
    assert joined([[remove], [update]]).operations == (update,)
    assert joined([[remove], [update]]).against == (remove,)


def test_one_proposal_stays_as_it_is():
    update, add = Update(id="b-1", content="x", revision=1), Add(section="s", content="y")
    assert joined([[update, add]]).operations == (update, add)


# --- what may be written --------------------------------------------------------------------------------------------

bullets = st.builds(
    Bullet,
    id=ids,
    number=st.integers(1, 4),
    section=st.just("s"),
    content=texts,
    stage=st.sampled_from(Stage),
    pinned=st.booleans(),
    revision=st.integers(1, 2),
)


@given(st.lists(changes, max_size=6), st.lists(bullets, max_size=4), st.sampled_from(Signal), st.booleans())
def test_the_learning_gate(operations, held, signal, recorded):
    """Without a signal nothing that anybody is shown comes from it, whatever the settings say."""
    shown = {one.id: one for one in held}
    settings = Settings(execution_stage=Stage.LIVE, label_stage=Stage.LIVE)
    made = permitted(operations, shown, signal, settings, Alike(Gate()), recorded)
    assert len(made.operations) + len(made.refused) == len(operations)
    for operation in made.operations:
        for id in named(operation):
            assert not shown[id].pinned
            assert signal is not Signal.NONE or shown[id].stage is Stage.SHADOW
        if isinstance(operation, Add):
            assert operation.stage is (Stage.SHADOW if signal is Signal.NONE else Stage.LIVE)


# --- plans ----------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(Mode),
    st.integers(0, 40),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_episode_is_learnt_from_once_an_epoch(mode, count, epochs, window, every, play, validate, shuffle):
    epochs = epochs if mode in (Mode.OFFLINE, Mode.BATCH) else 1
    settings = Settings(mode=mode, epochs=epochs, window=window, batch=window, validate_every=every, shuffle=shuffle)
    plan = list(turns(settings, count, play=play, validate=validate))
    assert [turn.position for turn in plan] == list(range(len(plan)))
    assert (plan[0].kind, plan[-1].kind) == (Kind.BEGIN, Kind.END)
    for kind in (Kind.LEARN, *([Kind.PLAY] if play else [])):
        for epoch in range(epochs):
            items = [item for turn in plan if (turn.kind, turn.epoch) == (kind, epoch) for item in turn.items]
            assert sorted(items) == list(range(count))
    validations = [turn.number for turn in plan if turn.kind is Kind.VALIDATE]
    assert validations == (list(range(len(validations))) if validate else [])
    if validate and count:
        last_learn = max(turn.position for turn in plan if turn.kind is Kind.LEARN)
        assert any(turn.position > last_learn for turn in plan if turn.kind is Kind.VALIDATE)
    seen: set[int] = set()
    for turn in plan:  # nothing is learnt from before it was played
        if turn.kind is Kind.PLAY:
            seen = set(turn.items)
        assert turn.kind is not Kind.LEARN or not play or set(turn.items) <= seen


def test_without_refinement_there_is_no_step_for_it():
    plan = turns(Settings(refinement=Refinement.NEVER), 5, play=True, validate=False)
    assert not [turn for turn in plan if turn.kind is Kind.REFINE]


def test_what_may_change_when_a_run_goes_on():
    same = {digest_of(Settings(parallel=n, max_cost_usd=n * 1.0), ["a"], []) for n in (1, 2)}
    assert len(same) == 1
    others = [
        digest_of(Settings(seed=1), ["a"], []),
        digest_of(Settings(), ["b"], []),
        digest_of(Settings(), ["a"], ["a"]),
        digest_of(Settings(), ["a", "b"], []),
    ]
    assert len({*same, *others}) == 5


# --- waiting --------------------------------------------------------------------------------------------------------


async def test_results_come_in_order_and_no_more_at_once_than_allowed():
    going = most = 0

    async def work(n: int) -> int:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(random.Random(n).random() * 0.01)
        going -= 1
        return n

    assert await together((work(n) for n in range(20)), 4) == list(range(20))
    assert most == 4


async def test_the_first_error_is_raised_as_it_is_and_the_others_are_cancelled():
    cancelled = []

    async def work(n: int) -> None:
        if n == 1:
            raise KeyError(n)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise

    with pytest.raises(KeyError):
        await together((work(n) for n in range(6)), 3)
    assert {0, 2} <= set(cancelled) <= {0, 2, 3}  # whoever had begun by then


async def test_a_write_is_waited_for_when_cancelled():
    done = []

    def write() -> None:
        import time

        time.sleep(0.05)
        done.append(True)

    going = asyncio.ensure_future(finished(write))
    await asyncio.sleep(0.01)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert done == [True]


# --- the bill -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(Part), st.sampled_from("ab"), st.integers(0, 9) | st.none()), max_size=20))
def test_the_bill_adds_up(said):
    bill = Bill(lambda call: None if call.usage is None else call.usage.output_tokens * 0.5)
    for part, model, tokens in said:
        usage = None if tokens is None else Usage(output_tokens=tokens)
        bill.add(part, [Call(model=model, answerer=Answerer.NOBODY, usage=usage)])
    total = bill.total()
    assert sum(one.calls for one in total) == len(said)
    assert cost_usd(total) == sum(tokens * 0.5 for *_, tokens in said if tokens is not None)
    unknown = [tokens for *_, tokens in said if tokens is None]
    assert sum(one.without_price for one in total) == sum(one.without_tokens for one in total) == len(unknown)
    assert [(one.part, one.model) for one in total] == sorted({(part, model) for part, model, _ in said})
    bill.clear()
    assert bill.total() == ()
