"""What follows from the counts: which bullets are retired, sent back, let up. Pure; nothing is read or written.

| now | what happens | when |
|---|---|---|
| canary, live | ``QUARANTINE`` | the effect's interval lies below zero, allowing for all bullets (``multiple``) |
| live | back to canary | it lies below zero by itself |
| canary | live | enough episodes at this stage with a known outcome, no sign of harm |
| shadow | canary | each episode that it was learnt from has a known outcome |

Nothing is removed: a quarantine is lifted by ``RESTORE``, which gives the bullet a new trial. Pinned bullets are
never touched, and a bullet that somebody put into shadow stays there. Opinions play no part: counters of helpful and
harmful votes are not read.

*No sign of harm* is more cautious than proof, and may be: its worst mistake is a bullet that stays a canary. Beside the
interval it looks at episodes that were shown the bullet against those of the same time that had nothing to do with it,
which is no cause, since a task's canaries are fixed; that can hold a bullet back and never retire one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from potstill.decide.evidence import Arm, is_worse, needed
from potstill.distill.playbook.credit.effect import Effect, effects
from potstill.distill.playbook.credit.multiple import Errors, proven
from potstill.distill.playbook.credit.past import ACTOR, Begun
from potstill.distill.playbook.credit.tally import NOTHING, Counts
from potstill.distill.playbook.operations import (
    MAX_OPERATIONS,
    Batch,
    Bullet,
    Operation,
    Quarantine,
    SetStage,
    Stage,
    encode_operations,
)
from potstill.distill.playbook.roles.contract import Signal
from potstill.errors import ConfigError
from potstill.types import Struct


class CreditPlan(Struct, frozen=True, kw_only=True):
    """Fixed before anything is looked at. Raises ``ConfigError`` for impossible values."""

    alpha: float = 0.05
    """Of the two-sided intervals. Retiring is one-sided and so held to half of it."""
    errors: Errors = Errors.SHARE
    """Which mistake it limits where a bullet is retired."""
    canary_episodes: int = 20
    """With a known outcome and the bullet in them, before a canary goes live; doubled by each way back."""
    canary_margin: float = 0.1
    """A canary is held back where episodes with it are proven to succeed less often than others by more than this."""

    def __post_init__(self) -> None:
        for name in ("alpha", "canary_margin"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise ConfigError(f"A playbook's credit {name} is {value:g}; it must be above 0 and below 1.")
        if self.canary_episodes < 1:
            raise ConfigError(f"A canary needs {self.canary_episodes} episodes; it must be 1 or more.")


class Act(StrEnum):
    KEEP = "keep"
    QUARANTINE = "quarantine"
    DEMOTE = "demote"
    """From live to canary."""
    PROMOTE = "promote"
    """From canary to live."""
    TRY = "try"
    """From shadow to canary."""


class CreditReason(StrEnum):
    PINNED = "pinned"
    CLOSED = "closed"
    """Removed, or in quarantine."""
    HARMFUL = "harmful"
    SUSPECT = "suspect"
    """Its own interval lies below zero; not yet proof among all bullets."""
    WORSE_BESIDE = "worse-beside"
    """Episodes with it succeed less often than others by more than the margin; that may have other causes."""
    UNEVEN = "uneven"
    """Outcomes are missing on one side: the comparison means nothing."""
    GATHERING = "gathering"
    NO_SIGNAL = "no-signal"
    SHELVED = "shelved"
    """Somebody put it into shadow."""
    SUPPORTED = "supported"
    NO_HARM_SEEN = "no-harm-seen"
    HELPFUL = "helpful"
    UNDECIDED = "undecided"


class Decision(Struct, frozen=True, kw_only=True):
    """About one bullet."""

    id: str
    revision: int
    """The bullet's, as it was judged: what follows is refused where it has another by now."""
    act: Act
    reason: CreditReason
    sentence: str
    effect: Effect


def decide(
    bullets: Mapping[str, Bullet],
    counts: Mapping[str, Counts],
    begun: Mapping[str, Begun],
    plan: CreditPlan,
    support: Mapping[str, Signal] | None = None,
) -> tuple[Decision, ...]:
    """One decision for each bullet, in the order of their numbers. ``support``: what says how the episodes ended that a
    bullet was learnt from; one that it leaves out has none.

    Bullets that were retired before stay in the family that ``plan.errors`` speaks of, with the evidence they had.
    """
    ordered = sorted(bullets.values(), key=lambda bullet: bullet.number)
    found = effects([counts.get(bullet.id, NOTHING).trials for bullet in ordered], plan.alpha)
    tested = {
        bullet.id: one.log_harm
        for bullet, one in zip(ordered, found, strict=True)
        if one.trials.n and not one.uneven and not bullet.pinned
    }
    harmful = proven(tested, plan.alpha / 2.0, plan.errors)
    return tuple(
        _decide(
            bullet,
            one,
            counts.get(bullet.id, NOTHING),
            begun.get(bullet.id, Begun()),
            plan,
            bullet.id in harmful,
            (support or {}).get(bullet.id, Signal.NONE),
        )
        for bullet, one in zip(ordered, found, strict=True)
    )


def _decide(
    bullet: Bullet, found: Effect, counts: Counts, begun: Begun, plan: CreditPlan, harmful: bool, signal: Signal
) -> Decision:
    def say(act: Act, reason: CreditReason, sentence: str) -> Decision:
        return Decision(id=bullet.id, revision=bullet.revision, act=act, reason=reason, sentence=sentence, effect=found)

    seen = in_words(found, plan.alpha)
    if bullet.removed or bullet.quarantined:
        return say(Act.KEEP, CreditReason.CLOSED, "Removed." if bullet.removed else "In quarantine.")
    if bullet.pinned:
        return say(Act.KEEP, CreditReason.PINNED, f"Pinned: credit leaves it alone. {seen}")
    if found.uneven:
        shown, withheld = found.trials.shown.n, found.trials.withheld.n
        lots = f"{shown} trials with it have an outcome and {withheld} without it, which even lots do not explain."
        return say(Act.KEEP, CreditReason.UNEVEN, f"Not judged: {lots}")
    if harmful and bullet.stage is not Stage.SHADOW:
        return say(Act.QUARANTINE, CreditReason.HARMFUL, f"Does harm: {seen}")
    if bullet.stage is Stage.LIVE:
        return _live(found, say, seen)
    if found.interval[1] < 0.0:
        return say(Act.KEEP, CreditReason.SUSPECT, f"Held back, it may do harm: {seen}")
    if bullet.stage is Stage.SHADOW:
        return _shadow(signal, begun, say)
    return _canary(counts, begun, plan, say, seen)


def _live(found: Effect, say: _Say, seen: str) -> Decision:
    if found.interval[1] < 0.0:
        return say(Act.DEMOTE, CreditReason.SUSPECT, f"Back to canary, it may do harm: {seen}")
    if found.interval[0] > 0.0:
        return say(Act.KEEP, CreditReason.HELPFUL, f"Helps: {seen}")
    return say(Act.KEEP, CreditReason.UNDECIDED, seen)


def _shadow(signal: Signal, begun: Begun, say: _Say) -> Decision:
    if begun.shelved:
        return say(Act.KEEP, CreditReason.SHELVED, "Somebody put it into shadow, so somebody has to let it out.")
    if signal is Signal.NONE:
        none = "Of an episode that it was learnt from, nobody said how it ended."
        return say(Act.KEEP, CreditReason.NO_SIGNAL, none)
    known = "The right answer" if signal is Signal.LABEL else "The outcome"
    return say(Act.TRY, CreditReason.SUPPORTED, f"{known} of each episode that it was learnt from is known.")


def _canary(counts: Counts, begun: Begun, plan: CreditPlan, say: _Say, seen: str) -> Decision:
    wanted = plan.canary_episodes * 2**begun.demotions
    if counts.at_stage.n < wanted:
        return say(Act.KEEP, CreditReason.GATHERING, f"{counts.at_stage.n} of {wanted} canary episodes. {seen}")
    if is_worse(counts.at_stage, counts.beside, plan.canary_margin) >= needed(plan.alpha):
        arms = f"{_share(counts.at_stage)} canary episodes with it succeeded, {_share(counts.beside)} others"
        return say(Act.KEEP, CreditReason.WORSE_BESIDE, f"Held back: {arms}. {seen}")
    enough = f"{counts.at_stage.n} canary episodes and no sign of harm. {seen}"
    return say(Act.PROMOTE, CreditReason.NO_HARM_SEEN, enough)


class _Say(Protocol):
    """Makes a decision about the bullet at hand."""

    def __call__(self, act: Act, reason: CreditReason, sentence: str) -> Decision: ...


def in_words(found: Effect, alpha: float) -> str:
    """An effect as a sentence.

    >>> in_words(effects([NOTHING.trials])[0], 0.05)
    'No trials yet.'
    """
    trials = found.trials
    if not trials.n:
        return "No trials yet."
    arms = f"{_share(trials.shown)} trials with it succeeded, {_share(trials.withheld)} without it"
    if found.difference is None:
        return f"{arms}."
    low, high = (100.0 * bound for bound in found.interval)
    points = (
        f"{100.0 * found.difference:+.1f} points ({low:+.1f} to {high:+.1f} at {100.0 * (1.0 - alpha):g} %, any look)"
    )
    return f"{arms}: {points}."


def _share(arm: Arm) -> str:
    return f"{arm.successes} of {arm.n}"


# --- as operations --------------------------------------------------------------------------------------------------

_FIRST = (Act.QUARANTINE, Act.DEMOTE, Act.PROMOTE, Act.TRY)


def batches(decisions: Iterable[Decision], *, base: int, last: int) -> tuple[Batch, ...]:
    """The decisions as batches for ``Playbook.apply``, what protects first; one, unless a batch has too few places.

    ``base``: the book's revision that was read; ``last``: ``Tally.last``. The key is of what is done and on what it
    stands, so that two processes that decide alike change the book once. A batch is refused where one of its bullets
    was changed since it was read; then who decides reads and decides again.
    """
    acting = [one for one in decisions if one.act is not Act.KEEP]
    acting.sort(key=lambda one: _FIRST.index(one.act))
    parts = [acting[start : start + MAX_OPERATIONS] for start in range(0, len(acting), MAX_OPERATIONS)]
    return tuple(_batch(part, base, last) for part in parts)


def _batch(decisions: Sequence[Decision], base: int, last: int) -> Batch:
    operations = tuple(_operation(one) for one in decisions)
    acts = [one.act for one in decisions]
    counted = ", ".join(f"{act} {acts.count(act)}" for act in _FIRST if act in acts)
    return Batch(
        operations=operations,
        actor=ACTOR,
        key=f"credit-{last}-{digest(base, operations)}",
        base=base,
        reason=f"outcomes of episodes: {counted}",
    )


def _operation(decision: Decision) -> Operation:
    id, revision = decision.id, decision.revision
    match decision.act:
        case Act.QUARANTINE:
            return Quarantine(id=id, reason=decision.sentence, revision=revision)
        case Act.PROMOTE:
            return SetStage(id=id, stage=Stage.LIVE, revision=revision)
        case _:
            return SetStage(id=id, stage=Stage.CANARY, revision=revision)


def digest(base: int, operations: tuple[Operation, ...]) -> str:
    return hashlib.sha256(base.to_bytes(8, "big") + encode_operations(operations)).hexdigest()[:32]
