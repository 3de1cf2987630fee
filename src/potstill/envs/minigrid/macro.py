"""Errands in words ('pick up the grey key') on a BabyAI world: which make sense now, and how each is carried out.

What it knows: the grammar of the errands, the shortest way to carry one out over what has been seen. What it does not
do: know the mission; choose (``expert``).

An errand yields the world's own actions one at a time and looks again after each, so that the caller can stop in the
middle when the mission ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from potstill.envs.minigrid.world import (
    DROP,
    PICKUP,
    TOGGLE,
    WAIT,
    Cell,
    Thing,
    World,
    direction_to,
    neighbours,
)

EXPLORE = "explore"
DROP_IT = "drop it"
_WAIT = "wait"


class Place(NamedTuple):
    """Where to stand and which neighbouring cell to face."""

    stand: Cell
    face: Cell


class Errand(NamedTuple):
    """An action in words with what it means: a verb, and the thing that it is about."""

    words: str
    verb: str
    thing: Thing | None = None


def go_to(thing: Thing) -> str:
    return f"go to the {thing.name}"


def pick_up(thing: Thing) -> str:
    return f"pick up the {thing.name}"


def open_door(thing: Thing) -> str:
    return f"open the {thing.name}"


def close_door(thing: Thing) -> str:
    return f"close the {thing.name}"


def put_next_to(thing: Thing) -> str:
    return f"put it next to the {thing.name}"


def errands(world: World) -> list[Errand]:
    """The errands that can be begun now; never empty. A locked door may be tried without its key: it stays shut."""
    before = world.reach()
    held = world.carrying
    found = []
    for thing in world.things():
        if standing_place(world, thing.cell, before) is None:
            continue
        found.append(Errand(go_to(thing), "go", thing))
        if thing.is_door:
            if thing.object.is_open:
                found.append(Errand(close_door(thing), "close", thing))
            else:
                found.append(Errand(open_door(thing), "open", thing))
        elif held is None and thing.object.can_pickup():
            found.append(Errand(pick_up(thing), "pick", thing))
        if held is not None and dropping_place(world, before, beside=thing.cell) is not None:
            found.append(Errand(put_next_to(thing), "put", thing))
    if held is not None and dropping_place(world, before) is not None:
        found.append(Errand(DROP_IT, "drop"))
    if world.frontier(before) is not None:
        found.append(Errand(EXPLORE, EXPLORE))
    return sorted(found or [Errand(_WAIT, _WAIT)], key=lambda errand: errand.words)


def carry_out(world: World, errand: Errand) -> Iterator[int]:
    """The world's own actions of an errand, each computed after the one before it was done."""
    if errand.verb == EXPLORE:
        yield from _explore(world)
    elif errand.verb == _WAIT:
        yield WAIT
    elif errand.verb in ("drop", "put"):
        beside = errand.thing.cell if errand.thing else None
        place = dropping_place(world, world.reach(), beside=beside)
        yield from _face(world, place)
        yield DROP
    else:
        assert errand.thing is not None
        place = standing_place(world, errand.thing.cell, world.reach())
        yield from _face(world, place)
        yield {"go": WAIT, "pick": PICKUP, "open": TOGGLE, "close": TOGGLE}[errand.verb]


def outcome_words(world: World, errand: Errand, known_before: int) -> str:
    """What came of an errand, told after it was carried out."""
    thing = errand.thing
    if errand.verb == "open" and thing is not None and thing.object.is_locked:
        return f"The {thing.name} is locked: it needs the {thing.colour} key."
    if errand.verb == EXPLORE:
        more = len(world.things()) - known_before
        return f"You look around and find {more} new {'thing' if more == 1 else 'things'}."
    past = {
        "go": "You go to the {}.",
        "pick": "You pick up the {}.",
        "open": "You open the {}.",
        "close": "You close the {}.",
        "put": "You put it next to the {}.",
        "drop": "You drop it.",
        _WAIT: "You wait.",
    }
    return past[errand.verb].format(thing.name if thing else "")


def standing_place(world: World, target: Cell, before: dict[Cell, Cell | None]) -> Place | None:
    """The nearest reached cell from which ``target`` is one step ahead; None where there is none."""
    beside = [cell for cell in neighbours(target) if cell in before]
    if not beside:
        return None
    if world.agent in beside:
        return Place(world.agent, target)
    order = {cell: position for position, cell in enumerate(before)}
    return Place(min(beside, key=order.__getitem__), target)


def dropping_place(world: World, before: dict[Cell, Cell | None], *, beside: Cell | None = None) -> Place | None:
    """The nearest empty cell to put the carried thing down (next to ``beside``), cutting nothing off where possible."""
    order = {cell: position for position, cell in enumerate(before)}
    cells = neighbours(beside) if beside else list(before)
    empty = [cell for cell in cells if cell in before and world.content(cell) is None]
    empty.sort(key=order.__getitem__)
    fallback = None
    for cell in empty:
        stands = [stand for stand in neighbours(cell) if stand in before and stand != cell]
        if not stands:
            continue
        place = Place(min(stands, key=order.__getitem__), cell)
        if not _cuts_off(world, before, cell):
            return place
        fallback = fallback or place
    return fallback


def _cuts_off(world: World, before: dict[Cell, Cell | None], cell: Cell) -> bool:
    """Whether a thing in ``cell`` would shut off cells that can be reached now, or the last access to a thing."""
    beside = next((other for other in neighbours(cell) if other in before), None)
    start = beside if cell == world.agent else world.agent
    if start is None:
        return True
    left = _flood(before, start, cell)
    if len(left) < len(before) - 1:
        return True
    for other in neighbours(cell):
        thing = world.thing_at(other)
        if thing is not None and not any(access in left for access in neighbours(other)):
            return True
    return False


def _flood(cells: dict[Cell, Cell | None], start: Cell, blocked: Cell) -> set[Cell]:
    left, queue = {start}, [start]
    while queue:
        for following in neighbours(queue.pop()):
            if following in cells and following != blocked and following not in left:
                left.add(following)
                queue.append(following)
    return left


def _face(world: World, place: Place | None) -> Iterator[int]:
    if place is None:
        return
    yield from world.walk(world.reach(), place.stand)
    yield from world.turn_to(direction_to(world.agent, place.face))


def _explore(world: World) -> Iterator[int]:
    """Walk to the nearest unseen cell, again and again, until something new is seen or all that can be reached was."""
    known = len(world.things())
    while len(world.things()) == known:
        before = world.reach()
        target = world.frontier(before)
        if target is None:
            return
        place = standing_place(world, target, before)
        for action in _face(world, place):
            yield action
            if world.is_seen(target) or len(world.things()) != known:
                break
