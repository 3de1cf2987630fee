"""From a store to a report and back into the book: real episodes, a real book, real prices."""

from __future__ import annotations

import json
import tracemalloc

import msgspec
import pytest

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Refused, Why
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.credit.decide import Act, CreditPlan
from potstill.distill.playbook.credit.guard import GuardPlan
from potstill.distill.playbook.credit.past import ACTOR
from potstill.distill.playbook.credit.read import Reader, support
from potstill.distill.playbook.credit.report import Report, as_json, made, report, rows
from potstill.distill.playbook.operations import Batch, Stage
from potstill.distill.playbook.roles.contract import Signal
from potstill.distill.playbook.roles.evidence import case_of
from potstill.measure.prices import PriceTable
from potstill.retrieval.tokens import EstimatedTokens
from potstill.trajectories import Store
from potstill.types import (
    Action,
    Answerer,
    Call,
    Observation,
    Outcome,
    OutcomeSource,
    PlaybookUse,
    Reply,
    Step,
    Task,
    ToolCall,
    Trajectory,
    TrajectoryKind,
    Usage,
)

MODEL = {"input": 1.0, "output": 10.0, "cache_read": 0.1}


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def table() -> PriceTable:
    return PriceTable.load(prices={"models": {"made-up": MODEL, "dear": MODEL}}, date="2026-11-21")


def call(answerer: Answerer = Answerer.STUDENT, said: str = "go", model: str = "made-up", **tokens: int) -> Call:
    usage = Usage(**{"input_tokens": 1000, "cache_read_tokens": 500, "output_tokens": 10, **tokens})
    return Call(model=model, answerer=answerer, replies=(Reply(text=said),), usage=usage)


def episode(
    number: int,
    use: PlaybookUse | None,
    success: bool | None = True,
    calls: tuple[tuple[Call, ...], ...] = ((),),
    *,
    source: OutcomeSource = OutcomeSource.ENVIRONMENT,
    bullets: tuple[tuple[str, ...], ...] = (),
) -> Trajectory:
    steps = tuple(
        Step(
            index=index,
            observation=Observation(text="You see [b-2]."),
            action=Action(text="go"),
            answerer=Answerer.STUDENT,
            calls=some,
            bullets=bullets[index] if bullets else (),
        )
        for index, some in enumerate(calls)
    )
    return Trajectory(
        id=f"t-{number}",
        task=Task(id="task", environment="e"),
        kind=TrajectoryKind.STUDENT,
        steps=steps,
        playbook=use,
        outcome=Outcome(success=success, source=source),
    )


def shown(*ids: str, trial: bool = False, withheld: tuple[str, ...] = (), revision: int = 1) -> PlaybookUse:
    return PlaybookUse(name="book", revision=revision, shown=ids, withheld=withheld, trial=trial)


def filled(store: Store, stages: tuple[Stage, ...], sources: tuple[str, ...] = ()) -> Playbook:
    book = Playbook(store, "default", "book")
    adds = tuple(ops.Add(section="s", content=f"Rule {n}.", stage=stage) for n, stage in enumerate(stages))
    book.apply(Batch(operations=adds, actor="curator", sources=sources))
    return book


def test_an_episode_is_read_with_its_outcome_cost_and_rent(store: Store, table: PriceTable) -> None:
    """1,000 input tokens, half of them cached: $0.00055, and 10 of output: $0.0001. A token of the page costs $0.55 a
    million in each of the student's two calls; the teacher's call is on the bill and holds no page."""
    teacher = call(Answerer.TEACHER, "Follow [b-1].", "dear")
    store.append(
        episode(1, shown("b-1", "b-2", "b-3"), True, ((call(said="By [b-2].", reasoning_tokens=0), teacher), (call(),)),
                bullets=((), ("b-3",)))
    )  # fmt: skip
    (use,) = Reader(store, "default", "book", table=table).uses()
    assert (use.episode, use.success, use.shown, use.revision) == ("t-1", True, ("b-1", "b-2", "b-3"), 1)
    assert use.cited == ("b-2",)
    assert use.cost_usd == pytest.approx(3 * 0.00065)
    assert (use.charge.calls, use.charge.unpriced_calls) == (2, 0)
    assert use.charge.usd_per_token == pytest.approx(2 * 0.55e-6)
    ((id, beside),) = use.step_charges
    assert (id, beside.calls) == ("b-3", 1)
    assert beside.usd_per_token == pytest.approx(0.55e-6)


def test_credit_and_roles_look_for_ids_in_the_same_words(store: Store, table: PriceTable) -> None:
    """An argument of a tool is the student's word, and was not looked at where prices are read."""
    made_ = ToolCall(id="c", name="note", arguments='{"why": "b-2"}')
    one = msgspec.structs.replace(episode(1, shown("b-1", "b-2")), plan="First [b-1].")
    acted = msgspec.structs.replace(one.steps[0], action=Action(text="go", tool_calls=(made_,)))
    store.append(one := msgspec.structs.replace(one, steps=(acted,)))
    (use,) = Reader(store, "default", "book", table=table).uses()
    assert use.cited == case_of(one).cited == ("b-1", "b-2")


def test_without_prices_no_dollars_are_made_up(store: Store) -> None:
    store.append(episode(1, shown("b-1"), True, ((call(), call()),)))
    (use,) = Reader(store, "default", "book").uses()
    assert (use.cost_usd, use.cited, use.charge.calls, use.charge.unpriced_calls) == (None, (), 2, 2)


def test_a_model_without_a_price_is_named_and_costs_nobody_knows_what(store: Store, table: PriceTable) -> None:
    store.append(episode(1, shown("b-1"), True, ((call(model="nobody-sells-this"), call()),)))
    reader = Reader(store, "default", "book", table=table)
    (use,) = reader.uses()
    assert use.cost_usd is None
    assert (use.charge.calls, use.charge.unpriced_calls) == (2, 2)
    assert "nobody-sells-this" in next(iter(reader.notes))


@pytest.mark.parametrize("source", OutcomeSource)
def test_a_judge_is_nobody(store: Store, source: OutcomeSource) -> None:
    store.append(episode(1, shown("b-1"), False, source=source))
    (use,) = Reader(store, "default", "book").uses()
    assert use.success is (None if source is OutcomeSource.JUDGE else False)


def test_a_late_outcome_counts_and_other_books_do_not(store: Store) -> None:
    store.append(episode(1, shown("b-1"), None))
    store.append(episode(2, msgspec.structs.replace(shown("b-1"), name="another")))
    store.append(episode(3, None))
    other = msgspec.structs.replace(episode(4, shown("b-1")), namespace="tenant")
    store.append(other)
    reader = Reader(store, "default", "book")
    assert [(use.episode, use.success) for use in reader.uses()] == [("t-1", None)]
    store.set_outcome("t-1", Outcome(success=True, source=OutcomeSource.HUMAN))
    (use,) = reader.uses()
    assert use.success is True
    assert list(reader.uses(after=use.seq)) == []


def test_what_a_lesson_stands_on(store: Store) -> None:
    store.append(episode(1, None, None))
    store.append(episode(2, None, False, source=OutcomeSource.JUDGE))
    book = filled(store, (Stage.SHADOW, Stage.LIVE), sources=("t-1", "t-2"))
    bullets = book.bullets()
    assert support(store, "default", bullets) == {"b-1": Signal.NONE}
    store.set_outcome("t-1", Outcome(success=False, source=OutcomeSource.HUMAN))
    assert support(store, "default", bullets) == {"b-1": Signal.NONE}
    assert support(store, "default", bullets, labelled=["t-2"]) == {"b-1": Signal.EXECUTION}
    assert support(store, "default", bullets, labelled=["t-1", "t-2"]) == {"b-1": Signal.LABEL}
    assert support(store, "tenant", bullets) == {"b-1": Signal.NONE}


# --- the whole way --------------------------------------------------------------------------------------------------


def played(store: Store, episodes: int = 256) -> Playbook:
    """A book of a harmful bullet, one that helps, a canary and a shadow; every episode is a trial, by fixed lots."""
    store.append(episode(0, None, True))
    book = filled(store, (Stage.LIVE, Stage.LIVE, Stage.CANARY, Stage.SHADOW), sources=("t-0",))
    ids = ("b-1", "b-2", "b-3")
    for number in range(1, episodes + 1):
        lots = [bool(number >> bit & 1) for bit in range(3)]
        score = 5 - 4 * lots[0] + 3 * lots[1]
        success = number // 8 % 8 < score
        use = shown(
            *(id for id, lot in zip(ids, lots, strict=True) if lot),
            trial=True,
            withheld=tuple(id for id, lot in zip(ids, lots, strict=True) if not lot),
        )
        store.append(episode(number, use, success, ((call(),),)))
    return book


def by_id(found: Report) -> dict[str, Act]:
    return {line.bullet.id: line.decision.act for line in found.lines}


def test_the_report_says_everything_and_the_book_takes_it(store: Store, table: PriceTable) -> None:
    book = played(store)
    before = book.state_hash()
    found = report(book, reader=Reader(store, "default", "book", table=table), value_of_success_usd=0.01)
    assert book.state_hash() == before
    assert by_id(found) == {"b-1": Act.QUARANTINE, "b-2": Act.KEEP, "b-3": Act.PROMOTE, "b-4": Act.TRY}
    assert (found.episodes, found.trials, found.prices_date, found.regression) == (256, 256, "2026-11-21", None)
    one, two = found.lines[:2]
    assert one.decision.effect.difference == pytest.approx(-0.5)
    assert two.rent.calls == 128
    assert two.rent.usd == pytest.approx(two.rent.tokens * 128 * 0.55e-6)
    assert two.worth.value_usd == pytest.approx(two.decision.effect.difference * 128 * 0.01)
    assert two.worth.break_even_usd is not None
    assert one.worth.break_even_usd is None
    for batch in found.batches:
        book.apply(batch)
    bullets = book.bullets()
    assert bullets["b-1"].quarantined
    assert [bullets[id].stage for id in ("b-2", "b-3", "b-4")] == [Stage.LIVE, Stage.LIVE, Stage.CANARY]
    assert book.check() == []
    assert book.log()[-1].batch.actor == ACTOR


def test_asking_again_changes_nothing(store: Store) -> None:
    book = played(store)
    first = report(book)
    again = report(book)
    assert first.batches == again.batches
    done = [book.apply(batch) for batch in first.batches]
    repeated = [book.apply(batch) for batch in again.batches]
    assert [one.repeated for one in done] == [False]
    assert [one.repeated for one in repeated] == [True]
    assert report(book).batches == ()


def test_what_was_decided_about_a_bullet_that_changed_meanwhile_is_refused(store: Store) -> None:
    """Its trials are of another text; the next look counts for the new one."""
    book = played(store)
    found = report(book)
    read = book.bullets()["b-1"]
    better = ops.Update(id="b-1", content="A corrected rule.", revision=read.revision)
    book.apply(Batch(operations=(better, ops.Pin(id="b-1")), actor="ana"))
    for batch in found.batches:
        with pytest.raises(Refused) as refused:
            book.apply(batch)
        assert (refused.value.why, refused.value.id) == (Why.STALE, "b-1")
    assert not book.bullets()["b-1"].quarantined
    again = report(book)
    assert [one.id for batch in again.batches for one in batch.operations] == ["b-3", "b-4"]
    for batch in again.batches:
        book.apply(batch)


def test_votes_make_no_decision_stale(store: Store) -> None:
    book = played(store)
    found = report(book)
    book.apply(Batch(operations=(ops.Tag(id="b-1", helpful=3),), actor="reflector"))
    for batch in found.batches:
        book.apply(batch)
    assert book.bullets()["b-1"].quarantined


def test_who_restores_a_bullet_is_not_overruled_by_the_old_trials(store: Store) -> None:
    book = played(store)
    for batch in report(book).batches:
        book.apply(batch)
    book.apply(Batch(operations=(ops.Restore(id="b-1"),), actor="ana"))
    found = report(book)
    assert found.lines[0].decision.effect.trials.n == 0
    assert found.batches == ()


def test_a_pinned_bullet_is_reported_and_left(store: Store) -> None:
    book = played(store)
    book.apply(Batch(operations=(ops.Pin(id="b-1"),), actor="ana"))
    found = report(book, plan=CreditPlan(canary_episodes=1000))
    assert by_id(found)["b-1"] is Act.KEEP
    assert found.lines[0].decision.effect.interval[1] < 0


def test_a_book_that_became_worse_is_brought_back_once(store: Store) -> None:
    book = filled(store, (Stage.LIVE,))
    for number in range(1, 121):
        store.append(episode(number, shown("b-1"), number % 5 > 0))
    book.apply(Batch(operations=(ops.Add(section="s", content="Worse.", stage=Stage.LIVE),), actor="curator"))
    for number in range(121, 181):
        store.append(episode(number, shown("b-1", "b-2", revision=2), number % 5 == 0))
    found = report(book)
    assert found.regression is not None
    assert found.regression.good == 1
    (batch,) = found.batches
    book.apply(batch)
    assert book.bullets()["b-2"].quarantined
    assert not book.bullets()["b-1"].quarantined
    assert report(book).regression is None


def fallen(store: Store, revision: int = 2) -> Playbook:
    """A book that was good in revision 1 and is bad in this one."""
    book = filled(store, (Stage.LIVE,))
    for number in range(1, 101):
        store.append(episode(number, shown("b-1"), True))
    for k in range(2):
        adds = tuple(ops.Add(section="s", content=f"Worse {k} {n}.", stage=Stage.LIVE) for n in range(600))
        book.apply(Batch(operations=adds, actor="import"))
    for number in range(101, 201):
        store.append(episode(number, shown("b-1", "b-2", revision=revision), False))
    return book


def test_a_book_that_grew_by_more_than_a_batch_is_brought_back_too(store: Store) -> None:
    book = fallen(store, 3)
    found = report(book)
    assert found.regression is not None
    assert [len(batch.operations) for batch in found.batches] == [1000, 200]
    for batch in found.batches:
        book.apply(batch)
    assert [id for id, bullet in book.bullets().items() if not bullet.quarantined] == ["b-1"]
    assert book.check() == []
    assert report(book).batches == ()


def test_episodes_of_revisions_that_the_log_does_not_have_stop_nothing(store: Store) -> None:
    """Such as those that were imported from another store, whose book of this name has another log."""
    book = filled(store, (Stage.LIVE, Stage.SHADOW), sources=("t-1",))
    for number in range(1, 201):
        revision = 7 if number <= 100 else 8
        store.append(episode(number, shown("b-1", revision=revision), number <= 100))
    found = report(book)
    assert found.regression is not None
    assert "cannot be brought back" in found.notes[-1]
    assert by_id(found)["b-2"] is Act.TRY
    assert len(found.batches) == 1


def test_a_report_keeps_little_of_each_use(store: Store) -> None:
    """Some hundred bullets, shown to each episode: their ids are read, counted and let go."""
    ids = tuple(f"b-{n}" for n in range(1, 301))
    book = filled(store, (Stage.LIVE,) * 300)
    for number in range(600):
        half = ids[number % 7 :]
        store.append(episode(number, shown(*half, trial=number % 10 == 0, withheld=ids[: number % 7]), number % 3 > 0))

    def uses():
        yield from Reader(store, "default", "book").uses()
        held.append(tracemalloc.get_traced_memory()[0] - before)

    held: list[int] = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made(book.bullets(), book.log(), uses(), plan=CreditPlan(), guard=GuardPlan(), signals={},
             counter=EstimatedTokens())  # fmt: skip
    finally:
        tracemalloc.stop()
    assert held[0] < 600 * 4_000


def test_rows_are_plain_and_tell_causes_from_observations(store: Store, table: PriceTable) -> None:
    found = report(played(store, 16), reader=Reader(store, "default", "book", table=table))
    told = json.loads(json.dumps(as_json(found)))
    assert told["bullets"] == json.loads(json.dumps(rows(found)))
    row = told["bullets"][0]
    assert {"effect", "effect_interval", "rent_usd", "tokens", "act", "reason", "sentence"} <= row.keys()
    assert (row["trials_with"], row["trials_without"], row["observed_shown"]) == (8, 8, 8)
    assert row["value_usd"] is None
    assert told["operations"] == [msgspec.to_builtins(one) for batch in found.batches for one in batch.operations]


def test_an_empty_book_and_one_without_episodes_are_no_error(store: Store) -> None:
    empty = Playbook(store, "default", "book")
    assert report(empty).lines == ()
    book = filled(store, (Stage.LIVE, Stage.SHADOW))
    found = report(book)
    assert by_id(found) == {"b-1": Act.KEEP, "b-2": Act.KEEP}
    assert found.batches == ()
