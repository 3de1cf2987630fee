"""Which episodes count for a bullet, and since when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook_logs import Log, add

from potstill.decide.evidence import Arm
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Entry, erase
from potstill.distill.playbook.credit import tally as tally_module
from potstill.distill.playbook.credit.decide import CreditPlan, decide
from potstill.distill.playbook.credit.effect import Trials
from potstill.distill.playbook.credit.past import ACTOR, BACK, Begun, begun, last_back
from potstill.distill.playbook.credit.tally import Tally, cost_difference
from potstill.distill.playbook.credit.use import Charge, Use
from potstill.distill.playbook.forgetting import forget
from potstill.distill.playbook.operations import Bullet, Stage

IDS = ("b-1", "b-2", "b-3")


def use(number: int, shown: str = "", withheld: str = "", **fields) -> Use:
    def ids(letters: str) -> tuple[str, ...]:
        return tuple(f"b-{letter}" for letter in letters)

    return Use(episode=f"t-{number}", seq=number, shown=ids(shown), withheld=ids(withheld), **fields)


@st.composite
def uses(draw: st.DrawFn) -> list[Use]:
    found = []
    for number in range(draw(st.integers(0, 30))):
        trial = draw(st.booleans())
        lots = {id: draw(st.sampled_from("snw" if trial else "sn")) for id in IDS}
        found.append(
            Use(
                episode=f"t-{number}",
                seq=number,
                revision=draw(st.integers(0, 4)),
                shown=tuple(id for id, lot in lots.items() if lot == "s"),
                withheld=tuple(id for id, lot in lots.items() if lot == "w"),
                trial=trial,
                cited=draw(st.sampled_from(((), ("b-1",), ("b-2", "b-3")))),
                success=draw(st.sampled_from((True, False, None))),
                cost_usd=draw(st.sampled_from((None, 0.25, 0.5, 2.0))),
                charge=Charge(calls=3, unpriced_calls=1, usd_per_token=draw(st.sampled_from((0.125, 0.5)))),
            )
        )
    return found


def test_counts_by_hand() -> None:
    tally = Tally().add_all(
        [
            use(1, "12", trial=True, success=True, cost_usd=0.5, cited=("b-2",)),
            use(2, "1", "2", trial=True, success=False, cost_usd=1.5),
            use(3, "2", "1", trial=True, success=None, cost_usd=1.0),
            use(4, "12", success=True),
            use(5, "2", success=False),
        ]
    )
    one, two = tally.counts()["b-1"], tally.counts()["b-2"]
    assert one.trials == Trials(shown=Arm(n=2, successes=1), withheld=Arm())
    assert two.trials == Trials(shown=Arm(n=1, successes=1), withheld=Arm(n=1))
    assert (one.unknown_shown, one.unknown_withheld, two.unknown_shown) == (0, 1, 1)
    assert (one.shown, one.when_shown) == (3, Arm(n=3, successes=2))
    assert (two.cited, two.when_cited) == (1, Arm(n=1, successes=1))
    assert (one.at_stage, one.beside) == (Arm(n=3, successes=2), Arm(n=1))
    assert cost_difference(one) == (pytest.approx(0.0), None)
    assert (tally.episodes, tally.trials, tally.last) == (5, 3, 5)


def test_the_cost_of_a_bullet_by_hand() -> None:
    """With it 1 and 2 dollars, without it 3 and 5: -2.5, and Welch's error sqrt(.5 / 2 + 2 / 2) = 1.118."""
    known = [(1.0, "1", ""), (2.0, "1", ""), (3.0, "", "1"), (5.0, "", "1")]
    tally = Tally().add_all(
        use(number, shown, withheld, trial=True, cost_usd=usd) for number, (usd, shown, withheld) in enumerate(known)
    )
    gap, interval = cost_difference(tally.counts()["b-1"])
    assert gap == -2.5
    assert interval == pytest.approx((-2.5 - 1.959964 * 1.25**0.5, -2.5 + 1.959964 * 1.25**0.5))


def test_only_trials_compare() -> None:
    """What is withheld outside of a trial, and what is shown there, is no comparison."""
    counts = Tally().add_all([use(1, "1", success=True), use(2, "", "1", success=False)]).counts()
    assert counts["b-1"].trials == Trials()


@settings(max_examples=60)
@given(uses(), st.randoms(use_true_random=False), st.dictionaries(st.sampled_from(IDS), st.integers(0, 3)))
def test_the_order_of_episodes_does_not_matter(
    given_: list[Use], random_: random.Random, texts: dict[str, int]
) -> None:
    since = {id: Begun(text=text, stage=text) for id, text in texts.items()}
    shuffled = list(given_)
    random_.shuffle(shuffled)
    one, other = Tally(since).add_all(given_), Tally(since).add_all(shuffled)
    assert one.counts() == other.counts()
    assert one.last == other.last
    bullets = {id: Bullet(id=id, number=n, section="s", content="x", stage=Stage.LIVE) for n, id in enumerate(IDS, 1)}
    decided = decide(bullets, one.counts(), since, CreditPlan())
    assert decided == decide(dict(reversed(bullets.items())), other.counts(), since, CreditPlan())


@given(uses())
def test_arms_add_up(given_: list[Use]) -> None:
    known = sum(one.success is not None for one in given_)
    for seen in Tally().add_all(given_).counts().values():
        trials_known = seen.trials.withheld.n
        assert seen.at_stage.n + seen.beside.n + trials_known == known
        assert seen.trials.shown.n + seen.unknown_shown <= seen.shown


def test_what_was_seen_of_an_older_text_is_not_about_this_one() -> None:
    log = Log()
    (id,) = log.do(add("One way.", stage=Stage.LIVE))
    log.do(ops.Update(id=id, content="Another way.", revision=1))
    since = begun(log.entries, log.bullets)
    counts = Tally(since).add_all([use(1, "1", revision=1, trial=True, success=True), use(2, "1", revision=2)]).counts()
    assert (counts[id].shown, counts[id].trials) == (1, Trials())


def test_who_restores_a_bullet_gives_it_a_new_trial() -> None:
    log = Log()
    (id,) = log.do(add("One way.", stage=Stage.LIVE))
    log.do(ops.Quarantine(id=id), actor=ACTOR)
    log.do(ops.Restore(id=id), actor="ana")
    assert begun(log.entries, log.bullets)[id] == Begun(text=3, stage=3)


def test_stages_begin_when_they_change() -> None:
    log = Log()
    one, two = log.do(add("One way."), add("Two ways.", stage=Stage.LIVE))
    log.do(ops.SetStage(id=one, stage=Stage.CANARY), ops.SetStage(id=two, stage=Stage.LIVE), actor=ACTOR)
    log.do(ops.Tag(id=one, helpful=1), ops.SetStage(id=one, stage=Stage.LIVE), actor=ACTOR)
    log.do(ops.SetStage(id=one, stage=Stage.CANARY), actor=ACTOR)
    found = begun(log.entries, log.bullets)
    assert found[one] == Begun(text=1, stage=4, demotions=1)
    assert found[two] == Begun(text=1, stage=1)


def test_a_way_down_by_somebody_else_is_no_demotion_and_shadow_is_kept_apart() -> None:
    log = Log()
    one, two = log.do(add("One way.", stage=Stage.LIVE), add("Two ways."))
    log.do(ops.SetStage(id=one, stage=Stage.CANARY), actor="ana")
    log.do(ops.SetStage(id=one, stage=Stage.SHADOW), actor="ana")
    found = begun(log.entries, log.bullets)
    assert found[one] == Begun(text=1, stage=3, shelved=True)
    assert found[two] == Begun(text=1, stage=1)


def test_a_log_of_which_something_was_forgotten_can_be_read() -> None:
    log = Log()
    one, two = log.do(add("One way.", stage=Stage.LIVE), add("Two ways.", stage=Stage.LIVE), sources=("t-1",))
    log.do(ops.SetStage(id=two, stage=Stage.CANARY), actor=ACTOR)
    entries = [erase(log.entries[0], {two}), *log.entries[1:]]
    assert begun(entries, log.bullets)[two].demotions == 1
    assert begun(entries, log.bullets)[one].demotions == 0


def forgotten(log: Log, source: str) -> None:
    left = forget(log.entries, source)
    log.bullets = left.bullets
    saying = ops.Batch(operations=(), actor="ana")
    log.entries = [*left.entries, Entry(revision=len(log.entries) + 1, at=0.0, batch=saying, forgot=source)]


def test_what_was_seen_of_a_forgotten_text_is_not_about_the_older_one() -> None:
    """Revision 2 was shown the text that revision 3 forgot."""
    log = Log()
    one, two = log.do(add("For copper pray.", stage=Stage.LIVE), add("Two ways.", stage=Stage.LIVE))
    log.do(ops.Update(id=one, content="Another text.", revision=1), sources=("t-9",))
    forgotten(log, "t-9")
    assert log.bullets[one].content == "For copper pray."
    since = begun(log.entries, log.bullets)
    assert (since[one].text, since[two].text) == (3, 1)
    seen = [use(n, "12", revision=n, trial=True, success=True) for n in (1, 2, 3)]
    counts = Tally(since).add_all(seen).counts()
    assert (counts[one].shown, counts[two].shown) == (1, 3)


def test_the_survivor_of_a_forgotten_merge_begins_anew_and_one_that_was_written_since_does_not() -> None:
    log = Log()
    one, two, other = log.do(*(add(f"Way {n}.", stage=Stage.LIVE) for n in range(3)))
    log.do(
        ops.Merge(into=one, ids=(two,), content="A text of both.", revisions=(1, 1)),
        ops.Update(id=other, content="Words of the source.", revision=1),
        sources=("t-9",),
    )
    log.do(ops.Update(id=other, content="Something that ana says.", revision=2), actor="ana", sources=("t-1",))
    forgotten(log, "t-9")
    since = begun(log.entries, log.bullets)
    assert {id: since[id].text for id in (one, two, other)} == {one: 4, two: 1, other: 3}


def test_a_stage_that_is_back_since_another_was_forgotten_begins_with_that() -> None:
    log = Log()
    (id,) = log.do(add("One way.", stage=Stage.CANARY))
    log.do(ops.SetStage(id=id, stage=Stage.LIVE), sources=("t-9",))
    forgotten(log, "t-9")
    assert log.bullets[id].stage is Stage.CANARY
    assert begun(log.entries, log.bullets)[id] == Begun(text=1, stage=3)


@given(uses())
def test_many_pages_are_counted_as_few_are(given_: list[Use]) -> None:
    few = Tally().add_all(given_).counts()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tally_module, "MOST_IDS", 2)
        assert Tally().add_all(given_).counts() == few


def test_the_last_way_back_is_found() -> None:
    log = Log()
    log.do(add("One way."))
    assert last_back(log.entries) == 0
    log.do(ops.Tag(id="b-1", helpful=1), actor=ACTOR, key=f"{BACK}7")
    log.do(ops.Tag(id="b-1", helpful=1), actor="ana", key=f"{BACK}8")
    assert last_back(log.entries) == 2
