"""Levels of our own on the BabyAI generator: missions of several decisions in one or two small rooms.

What it knows: how such a level draws its things and its mission. What it does not do: play.

The stock levels ask for one or two decisions, or are mazes of dozens of things. These ask for 3 to 6 right decisions
in order among about ten, and fit into a few lines of text. In all of them the mission's first part is strict: picking
up or opening the wrong thing first fails the episode.

``Potstill-PickInOrder-v0``   pick up A, then pick up B ('... after you ...' half of the time), one room, 5 things
``Potstill-PutTwo-v0``        put A next to B, then put C next to D, one room, 5 things
``Potstill-LockedRoom-v0``    open the locked door, then pick up or put something behind it; 3 keys, one fits
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any

from minigrid.core.constants import COLOR_NAMES
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    BeforeInstr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)


def register() -> None:
    """Make the levels known to gymnasium; does nothing the second time."""
    import gymnasium

    for name, level in LEVELS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=level)


class _OneRoom(RoomGridLevel):
    def __init__(self, **options: Any) -> None:
        super().__init__(room_size=8, num_rows=1, num_cols=1, **options)

    def draw_things(self, count: int) -> list[ObjDesc]:
        """Place things that all differ and the agent; describe each by colour and kind, in random order."""
        things = self.add_distractors(num_distractors=count, all_unique=True)
        self.place_agent()
        self.check_objs_reachable()
        return [_describe(thing) for thing in self._rand_subset(things, count)]


class PickInOrder(_OneRoom):
    def gen_mission(self) -> None:
        first, second, *_ = self.draw_things(5)
        strict, free = PickupInstr(first, strict=True), PickupInstr(second)
        self.instrs = BeforeInstr(strict, free) if self._rand_bool() else AfterInstr(free, strict)


class PutTwo(_OneRoom):
    def gen_mission(self) -> None:
        first, second, third, fourth, _ = self.draw_things(5)
        self.instrs = BeforeInstr(PutNextInstr(first, second), PutNextInstr(third, fourth))


class LockedRoom(RoomGridLevel):
    def __init__(self, **options: Any) -> None:
        super().__init__(room_size=6, num_rows=1, num_cols=2, **options)

    def gen_mission(self) -> None:
        colours = self._rand_subset(COLOR_NAMES, 3)
        door, _ = self.add_door(0, 0, 0, color=colours[0], locked=True)
        for colour in colours:
            self.add_object(0, 0, "key", colour)
        fixed, _ = self.add_object(0, 0, self._rand_elem(["ball", "box"]))
        moved, other = self.add_distractors(1, 0, num_distractors=2, all_unique=True)
        self.place_agent(0, 0)
        self.check_objs_reachable()
        wanted = _describe(self._rand_elem([moved, other]))
        errand = PickupInstr(wanted) if self._rand_bool() else PutNextInstr(wanted, _describe(fixed))
        self.instrs = BeforeInstr(OpenInstr(_describe(door), strict=True), errand)


LEVELS = {
    "Potstill-PickInOrder-v0": PickInOrder,
    "Potstill-PutTwo-v0": PutTwo,
    "Potstill-LockedRoom-v0": LockedRoom,
}


def _describe(thing: Any) -> ObjDesc:
    return ObjDesc(thing.type, thing.color)
