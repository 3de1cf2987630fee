"""Assignment: which episode the student may act in, by a stable hash of its id.

What it knows: ids, shares, stages. What it does not do: remember anything. The same id always gets the same answer on
every machine, and an episode that is in at 5 % is in at every larger share, so that a rising canary never takes an
episode back.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from potstill.decide.rollout import RolloutPlan, RolloutState, Stage, share_of


class Route(StrEnum):
    """How one episode is served."""

    TEACHER = "teacher"
    """The teacher answers; the student is not asked."""
    SHADOW = "shadow"
    """The teacher answers; the student is asked and recorded."""
    CASCADE = "cascade"
    """The student may act where it is trusted."""


def route(
    plan: RolloutPlan, state: RolloutState, episode_id: str, *, salt: str = "", shadow_share: float = 1.0
) -> Route:
    """How to serve an episode under the present state."""
    return assign(episode_id, state.serving, share_of(plan, state), salt, shadow_share=shadow_share)


def assign(episode_id: str, stage: Stage, share: float, salt: str = "", *, shadow_share: float = 1.0) -> Route:
    """The same episode always gets the same answer, and one that is in at 5 % is in at every larger share.

    ``shadow_share`` of the episodes that the teacher answers are shadowed. Change ``salt`` to draw another sample.
    """
    if stage in (Stage.OFF, Stage.KILLED):
        return Route.TEACHER
    if stage is not Stage.SHADOW and drawn(episode_id, share, salt, "canary"):
        return Route.CASCADE
    return Route.SHADOW if drawn(episode_id, shadow_share, salt, "shadow") else Route.TEACHER


def drawn(unit_id: str, share: float, salt: str, purpose: str) -> bool:
    """True for a stable random ``share`` of all ids; draws for different purposes are independent (blake2b)."""
    text = "\x1f".join(f"{len(part)}:{part}" for part in (purpose, salt, unit_id))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
