"""Which bullets are retired, sent back and let up, and what reaches the book of it."""

from __future__ import annotations

import msgspec
import pytest
from playbook_logs import Log, add

from potstill.decide.evidence import Arm
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.credit.decide import Act, CreditPlan, CreditReason, Decision, batches, decide
from potstill.distill.playbook.credit.effect import Trials
from potstill.distill.playbook.credit.multiple import Errors
from potstill.distill.playbook.credit.past import ACTOR, Begun
from potstill.distill.playbook.credit.tally import Counts
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.roles.contract import Signal
from potstill.errors import ConfigError

HARMFUL = Trials(shown=Arm(n=200, successes=70), withheld=Arm(n=200, successes=130))
SUSPECT = Trials(shown=Arm(n=100, successes=37), withheld=Arm(n=100, successes=63))
"""Its interval lies below zero, and among many bullets that is no proof."""
HELPFUL = Trials(shown=HARMFUL.withheld, withheld=HARMFUL.shown)


def bullet(number: int = 1, stage: Stage = Stage.LIVE, **fields) -> Bullet:
    return Bullet(id=f"b-{number}", number=number, section="s", content="x", stage=stage, **fields)


def decided(one: Bullet, counts: Counts, others: int = 0, *, begun: Begun = Begun(), **fields) -> Decision:  # noqa: B008
    bullets = {one.id: one, **{f"b-{number}": bullet(number) for number in range(2, 2 + others)}}
    quiet = Counts(trials=Trials(shown=Arm(n=10, successes=5), withheld=Arm(n=10, successes=5)))
    seen = {id: counts if id == one.id else quiet for id in bullets}
    return decide(bullets, seen, {one.id: begun}, fields.pop("plan", CreditPlan()), fields.pop("support", None))[0]


def act(*arguments, **fields) -> tuple[Act, CreditReason]:
    found = decided(*arguments, **fields)
    return found.act, found.reason


def test_a_bullet_that_does_harm_is_retired_and_says_by_what() -> None:
    found = decided(bullet(), Counts(trials=HARMFUL))
    assert (found.act, found.reason) == (Act.QUARANTINE, CreditReason.HARMFUL)
    assert found.sentence.startswith(
        "Does harm: 70 of 200 trials with it succeeded, 130 of 200 without it: -30.0 points ("
    )


def test_a_single_doubt_sends_back_and_proof_among_all_retires() -> None:
    counts = Counts(trials=SUSPECT)
    assert act(bullet(), counts, others=30) == (Act.DEMOTE, CreditReason.SUSPECT)
    assert act(bullet(), counts, others=30, plan=CreditPlan(errors=Errors.EACH))[0] is Act.QUARANTINE
    assert act(bullet(stage=Stage.CANARY), counts, others=30) == (Act.KEEP, CreditReason.SUSPECT)
    assert act(bullet(), counts, others=0)[0] is Act.QUARANTINE


def test_nothing_is_retired_while_its_interval_reaches_zero() -> None:
    unlucky = Counts(trials=Trials(shown=Arm(n=20, successes=6), withheld=Arm(n=20, successes=13)))
    found = decided(bullet(), unlucky)
    assert (found.act, found.reason) == (Act.KEEP, CreditReason.UNDECIDED)
    assert found.effect.fixed_interval is not None
    assert found.effect.fixed_interval[1] < 0 < found.effect.interval[1]


def test_votes_play_no_part() -> None:
    hated = bullet(harmful=10_000)
    assert act(hated, Counts(trials=HELPFUL)) == (Act.KEEP, CreditReason.HELPFUL)


@pytest.mark.parametrize("stage", Stage)
def test_a_pinned_bullet_is_left_alone(stage: Stage) -> None:
    seen = Counts(trials=HARMFUL, at_stage=Arm(n=500, successes=10), beside=Arm(n=500, successes=10))
    support = {"b-1": Signal.LABEL}
    assert act(bullet(stage=stage, pinned=True), seen, support=support) == (Act.KEEP, CreditReason.PINNED)


@pytest.mark.parametrize("fields", [{"removed": True}, {"quarantined": True}])
def test_what_is_closed_stays_closed(fields: dict[str, bool]) -> None:
    assert act(bullet(**fields), Counts(trials=HARMFUL)) == (Act.KEEP, CreditReason.CLOSED)


def test_arms_that_even_lots_do_not_explain_are_not_compared() -> None:
    lost = Trials(shown=Arm(n=150, successes=10), withheld=Arm(n=20, successes=19))
    for stage in (Stage.LIVE, Stage.CANARY):
        assert act(bullet(stage=stage), Counts(trials=lost)) == (Act.KEEP, CreditReason.UNEVEN)


def test_a_canary_goes_live_after_enough_episodes() -> None:
    one = bullet(stage=Stage.CANARY)
    beside = Arm(n=100, successes=50)
    assert act(one, Counts(at_stage=Arm(n=19, successes=9), beside=beside))[1] is CreditReason.GATHERING
    enough = Counts(at_stage=Arm(n=20, successes=9), beside=beside)
    assert act(one, enough) == (Act.PROMOTE, CreditReason.NO_HARM_SEEN)
    assert decided(one, enough, begun=Begun(demotions=2)).sentence.startswith("20 of 80 canary episodes.")


def test_a_canary_whose_episodes_fail_is_held_back_but_not_retired() -> None:
    failing = Counts(at_stage=Arm(n=60, successes=10), beside=Arm(n=600, successes=400))
    assert act(bullet(stage=Stage.CANARY), failing) == (Act.KEEP, CreditReason.WORSE_BESIDE)
    assert act(bullet(stage=Stage.LIVE), failing)[0] is Act.KEEP


def test_shadow_waits_for_a_signal() -> None:
    one = bullet(stage=Stage.SHADOW)
    assert act(one, Counts()) == (Act.KEEP, CreditReason.NO_SIGNAL)
    for signal in (Signal.LABEL, Signal.EXECUTION):
        assert act(one, Counts(), support={"b-1": signal}) == (Act.TRY, CreditReason.SUPPORTED)
    shelved = act(one, Counts(), support={"b-1": Signal.LABEL}, begun=Begun(shelved=True))
    assert shelved == (Act.KEEP, CreditReason.SHELVED)


def test_what_was_retired_stays_in_the_family() -> None:
    """Two at .025 need 40 each together, and 80 alone: the one that was retired before lends its place."""
    bullets = {"b-1": bullet(1, quarantined=True), "b-2": bullet(2)}
    counts = {"b-1": Counts(trials=HARMFUL), "b-2": Counts(trials=SUSPECT)}
    assert decide(bullets, counts, {}, CreditPlan())[1].act is Act.QUARANTINE


def test_decisions_come_in_the_order_of_the_bullets() -> None:
    bullets = {f"b-{number}": bullet(number) for number in (10, 2, 1)}
    assert [one.id for one in decide(bullets, {}, {}, CreditPlan())] == ["b-1", "b-2", "b-10"]
    assert decide({}, {}, {}, CreditPlan()) == ()


@pytest.mark.parametrize("fields", [{"alpha": 0.0}, {"alpha": 1.0}, {"canary_margin": 0.0}, {"canary_episodes": 0}])
def test_impossible_plans_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        CreditPlan(**fields)


# --- as batches -----------------------------------------------------------------------------------------------------


def book() -> tuple[Log, tuple[Decision, ...]]:
    """One of each kind, decided upon."""
    log = Log()
    log.do(
        *(
            add(f"Rule {n}.", stage=stage)
            for n, stage in enumerate((Stage.LIVE, Stage.LIVE, Stage.CANARY, Stage.SHADOW))
        )
    )
    counts = {
        "b-1": Counts(trials=HARMFUL),
        "b-2": Counts(trials=HELPFUL),
        "b-3": Counts(at_stage=Arm(n=40, successes=20), beside=Arm(n=40, successes=20)),
    }
    return log, decide(log.bullets, counts, {}, CreditPlan(), {"b-4": Signal.EXECUTION})


def test_a_batch_is_what_the_book_takes() -> None:
    log, decisions = book()
    (batch,) = batches(decisions, base=1, last=99)
    assert (batch.actor, batch.base) == (ACTOR, 1)
    assert batch.reason == "outcomes of episodes: quarantine 1, promote 1, try 1"
    assert [type(one) for one in batch.operations] == [ops.Quarantine, ops.SetStage, ops.SetStage]
    log.append(batch)
    stages = [(one.stage, one.quarantined) for one in log.bullets.values()]
    assert stages == [
        (Stage.LIVE, True),
        (Stage.LIVE, False),
        (Stage.LIVE, False),
        (Stage.CANARY, False),
    ]
    assert not any(one.removed for one in log.bullets.values())


def test_the_same_decision_has_the_same_key_and_another_has_another() -> None:
    _, decisions = book()
    (batch,) = batches(decisions, base=1, last=99)
    assert batches(tuple(reversed(decisions)), base=1, last=99)[0].operations[0] == batch.operations[0]
    assert batches(decisions, base=1, last=99) == (batch,)
    keys = {
        batch.key,
        *(batches(some, base=b, last=n)[0].key for some, b, n in ((decisions, 2, 99), (decisions, 1, 98))),
    }
    assert len(keys | {batches(decisions[:1], base=1, last=99)[0].key}) == 4


def test_nothing_to_do_is_no_batch_and_much_is_several() -> None:
    _, decisions = book()
    assert batches(decisions[1:2], base=1, last=1) == ()
    many = [msgspec.structs.replace(decisions[2], id=f"b-{number}") for number in range(1500)]
    many.append(msgspec.structs.replace(decisions[0], id="b-9999"))
    first, second = batches(many, base=1, last=1)
    assert (len(first.operations), len(second.operations)) == (1000, 501)
    assert first.operations[0] == ops.Quarantine(id="b-9999", reason=decisions[0].sentence, revision=1)
