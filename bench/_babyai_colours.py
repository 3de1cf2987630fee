"""More decisions out of the same labels: the colours of BabyAI's things are swapped, in the mission and in every grid.

Levels draw colours evenly and no rule depends on one, so the bot would have done the same thing in the swapped world.
Walls and what is unseen keep theirs. Knows the form of the observation (``envs.minigrid.symbols``).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import msgspec

from potstill.distill.weights.data import Labelled

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
"""By their numbers in ``minigrid.core.constants``."""
_THING = re.compile(r"\[([4-7]),(\d),(\d)\]")
"""A cell with a door, a key, a ball or a box: object, colour, state."""
_WORD = re.compile(rf"\b({'|'.join(COLOURS)})\b")


def swapped(decisions: Sequence[Labelled], copies: int, seed: int) -> list[Labelled]:
    """The decisions themselves, and ``copies - 1`` times each in other colours."""
    chance = random.Random(seed)
    others = [in_colours(one, chance.sample(range(6), 6)) for _ in range(copies - 1) for one in decisions]
    return [*decisions, *others]


def in_colours(decision: Labelled, now: Sequence[int]) -> Labelled:
    """The decision where what had colour ``c`` has ``now[c]``."""

    def cells(text: str) -> str:
        return _THING.sub(lambda cell: f"[{cell[1]},{now[int(cell[2])]},{cell[3]}]", text)

    situation = decision.situation
    goal = _WORD.sub(lambda word: COLOURS[now[COLOURS.index(word[0])]], situation.goal)
    past = tuple(msgspec.structs.replace(turn, observation=cells(turn.observation)) for turn in situation.past)
    seen = msgspec.structs.replace(situation, goal=goal, observation=cells(situation.observation), past=past)
    return msgspec.structs.replace(decision, situation=seen)
