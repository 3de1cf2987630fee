"""A book that became worse goes back to the last good revision, and nothing that was put out of sight comes back."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook_logs import Log, add, logs

from potstill.decide.evidence import needed
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import replay
from potstill.distill.playbook.credit.back import way_back
from potstill.distill.playbook.credit.guard import GuardPlan, Kind, Regression, regression
from potstill.distill.playbook.credit.past import ACTOR, last_back
from potstill.distill.playbook.credit.use import Use
from potstill.distill.playbook.history import as_of
from potstill.distill.playbook.operations import Stage
from potstill.errors import ConfigError

PLAN = GuardPlan()


def uses(spans: list[tuple[int, int, float]], *, trial_share: float = 0.0, seed: int = 0, trial_rate: float = 0.5):
    """Episodes: (revision, how many, chance of success)."""
    drawn, found = random.Random(seed), []
    for revision, count, rate in spans:
        for _ in range(count):
            trial = drawn.random() < trial_share
            success = drawn.random() < (trial_rate if trial else rate)
            seq = len(found) + 1
            found.append(Use(episode=f"t-{seq}", seq=seq, revision=revision, trial=trial, success=success))
    return found


def test_a_fall_is_found_with_the_last_good_revision() -> None:
    found = regression(uses([(3, 200, 0.8), (7, 100, 0.3)]), PLAN)
    assert (found.kind, found.good) == (Kind.SINCE, 3)
    assert (found.better.n, found.worse.n) == (200, 100)
    assert found.sentence == (
        f"{found.worse.successes} of 100 episodes after revision 3 succeeded, "
        f"{found.better.successes} of 200 before it."
    )
    assert found.log_evidence >= needed(PLAN.alpha / 2)


def test_the_checkpoint_nearest_to_the_fall_is_named() -> None:
    spans = [(n, 60, 0.8) for n in range(1, 6)] + [(n, 60, 0.3) for n in range(6, 9)]
    assert regression(uses(spans), PLAN).good == 5


@pytest.mark.parametrize(
    "spans",
    [[(1, 200, 0.5), (2, 200, 0.9)], [(1, 400, 0.5)], [(1, 200, 0.7), (2, 200, 0.7)], [], [(1, 20, 1.0), (2, 20, 0.0)]],
    ids=["rises", "never-changed", "stays", "nothing", "few-before"],
)
def test_nothing_is_brought_back_without_a_fall(spans: list[tuple[int, int, float]]) -> None:
    assert regression(uses(spans), PLAN) is None


def test_what_was_before_the_last_way_back_does_not_count() -> None:
    seen = uses([(3, 200, 0.8), (7, 100, 0.3)])
    assert regression(seen, PLAN, after=7) is None


def test_unknown_outcomes_and_the_order_of_arrival_do_not_matter() -> None:
    seen = uses([(3, 200, 0.8), (7, 100, 0.3)])
    unknown = [Use(episode=f"u-{n}", seq=1000 + n, revision=7) for n in range(300)]
    mixed = [*seen, *unknown]
    random.Random(1).shuffle(mixed)
    assert regression(mixed, PLAN) == regression(seen, PLAN)


def test_a_book_that_is_worse_than_half_of_itself_is_noticed() -> None:
    """No revision is accused: somebody has to look."""
    found = regression(uses([(4, 1500, 0.3)], trial_share=0.2, trial_rate=0.7), PLAN)
    assert (found.kind, found.good) == (Kind.WHOLE, None)
    assert "trials with half of it" in found.sentence
    assert way_back([], {}, found, last=1) == ()


def test_a_whole_that_is_worse_goes_back_where_a_fall_can_be_seen() -> None:
    seen = uses([(2, 150, 0.6), (4, 110, 0.35)], trial_share=0.4, trial_rate=0.85)
    found = regression(seen, PLAN)
    assert (found.kind, found.good) == (Kind.WHOLE, 2)


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.full)], ids=["few", "many"]
)
def test_a_book_that_stays_as_it_is_is_rarely_brought_back_however_often_one_looks(seeds: range) -> None:
    wrong = 0
    for seed in seeds:
        seen = uses([(n, 60, 0.6) for n in range(1, 9)], trial_share=0.1, trial_rate=0.6, seed=seed)
        wrong += any(regression(seen[:end], PLAN) is not None for end in range(120, len(seen) + 1, 60))
    assert wrong <= 2 * PLAN.alpha * len(seeds) + 3 * (2 * PLAN.alpha * len(seeds)) ** 0.5


@pytest.mark.parametrize("fields", [{"alpha": 0.0}, {"margin": 1.0}, {"every": 0}, {"window": 0}])
def test_impossible_guards_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        GuardPlan(**fields)


# --- the way back ---------------------------------------------------------------------------------------------------


def accused(good: int) -> Regression:
    found = regression(uses([(good, 200, 0.8), (good + 1, 100, 0.3)]), PLAN)
    assert found is not None
    return found


def test_the_way_back_by_hand() -> None:
    log = Log()
    old, gone, pinned = log.do(*(add(f"Old {n}.", stage=Stage.LIVE) for n in range(3)))
    (new,) = log.do(add("New.", stage=Stage.LIVE))
    log.do(ops.Update(id=old, content="Changed.", revision=1), ops.Remove(id=gone), ops.Pin(id=pinned))
    log.do(ops.Update(id=pinned, content="By hand.", revision=2), actor="ana")
    (batch,) = way_back(log.entries, log.bullets, accused(1), last=300)
    assert (batch.actor, batch.base) == (ACTOR, 4)
    assert batch.reason.startswith("The book became worse: ")
    log.append(batch)
    assert log.bullets[old].content == "Old 0."
    assert not log.bullets[gone].removed
    assert log.bullets[new].quarantined
    assert not log.bullets[new].removed
    assert (log.bullets[pinned].content, log.bullets[pinned].pinned) == ("By hand.", True)
    assert last_back(log.entries) == 5
    assert way_back(log.entries, log.bullets, accused(1), last=301) == ()


def test_no_quarantine_is_lifted_and_no_stage_raised() -> None:
    log = Log()
    bad, low = log.do(add("Bad.", stage=Stage.LIVE), add("Low.", stage=Stage.LIVE))
    log.do(ops.Quarantine(id=bad), ops.SetStage(id=low, stage=Stage.CANARY), actor=ACTOR)
    (new,) = log.do(add("New.", stage=Stage.LIVE))
    (batch,) = way_back(log.entries, log.bullets, accused(1), last=300)
    log.append(batch)
    assert log.bullets[bad].quarantined
    assert log.bullets[low].stage is Stage.CANARY
    assert log.bullets[new].quarantined


def test_what_was_out_of_sight_then_and_now_is_not_left_in_sight_by_a_merge_that_cannot_be_done() -> None:
    """Both were merged then; going back would merge them again, which a pin on one of them forbids by now."""
    log = Log()
    into, gone, kept = log.do(*(add(f"Rule {n}.", stage=Stage.LIVE) for n in range(3)))
    log.do(ops.Merge(into=into, ids=(gone, kept), content="All.", revisions=(1, 1, 1)))
    log.do(ops.Restore(id=gone), ops.Restore(id=kept))
    log.do(ops.Pin(id=kept), ops.Remove(id=gone), actor="ana")
    for batch in way_back(log.entries, log.bullets, accused(2), last=300):
        log.append(batch)
    assert log.bullets[gone].removed or log.bullets[gone].quarantined
    assert not log.bullets[kept].removed


def test_a_long_way_back_goes_in_parts_of_what_a_batch_may_have() -> None:
    log = Log()
    (old,) = log.do(add("Old.", stage=Stage.LIVE))
    for k in range(2):
        log.do(*(add(f"Bad {k} {n}.", stage=Stage.LIVE) for n in range(600)), actor="import")
    log.do(ops.Update(id=old, content="Changed.", revision=1))
    parts = way_back(log.entries, log.bullets, accused(1), last=300)
    assert [len(part.operations) for part in parts] == [1000, 201]
    for part in parts:
        assert last_back(log.entries) == 0
        log.append(part)
    assert last_back(log.entries) == 6
    assert log.bullets[old].content == "Old."
    assert all(bullet.quarantined for id, bullet in log.bullets.items() if id != old)
    assert way_back(log.entries, log.bullets, accused(1), last=300) == ()


def test_a_way_back_that_ended_in_the_middle_is_gone_on_with() -> None:
    """What hides bullets comes first, so the part that was done protects already."""
    log = Log()
    (old,) = log.do(add("Old.", stage=Stage.LIVE))
    new = log.do(*(add(f"New {n}.", stage=Stage.LIVE) for n in range(3)))
    log.do(ops.Update(id=old, content="Changed.", revision=1))
    first, *_ = way_back(log.entries, log.bullets, accused(1), last=300, most=2)
    assert [type(one) for one in first.operations] == [ops.Quarantine] * 2
    log.append(first)
    log.do(ops.Pin(id=new[2]), actor="ana")
    for part in way_back(log.entries, log.bullets, accused(1), last=300, most=2):
        log.append(part)
    assert [log.bullets[id].quarantined for id in new] == [True, True, False]
    assert log.bullets[old].content == "Old."
    assert last_back(log.entries) == len(log.entries)


def whatever(bullets: dict) -> dict:
    """Bullets without what the number of batches decides."""
    return {id: msgspec.structs.replace(one, changed_in=0, added_in=0) for id, one in bullets.items()}


@settings(max_examples=60)
@given(logs(), st.data())
def test_the_book_takes_any_way_back_and_shows_nothing_more_by_it(log: Log, data: st.DataObject) -> None:
    good = data.draw(st.integers(0, len(log.entries)))
    found = Regression(kind=Kind.SINCE, good=good, worse=accused(1).worse, better=accused(1).better, log_evidence=9.0)
    before, then = log.bullets, replay(as_of(log.entries, good))
    parted = Log()
    parted.bullets, parted.entries = dict(log.bullets), list(log.entries)
    parts = way_back(log.entries, before, found, last=7, most=data.draw(st.integers(1, 3)))
    for batch in way_back(log.entries, before, found, last=7):
        log.append(batch)
    for part in parts:
        parted.append(part)
    assert whatever(parted.bullets) == whatever(log.bullets)
    height = list(Stage)
    for id, one in before.items():
        after = log.bullets[id]
        assert after.quarantined >= one.quarantined
        assert height.index(after.stage) <= height.index(one.stage)
        if (one.removed or one.quarantined) and (id not in then or then[id].removed or then[id].quarantined):
            assert after.removed or after.quarantined
        if one.pinned:
            assert (after.content, after.pinned, after.removed) == (one.content, True, one.removed)
