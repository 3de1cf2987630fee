"""The teacher that speaks in errands: from a BabyAI mission and what has been seen to the next errand.

What it knows: the mission's own structure (``minigrid.envs.babyai.core.verifier``) and which parts of it are done.
What it does not do: look at cells that the agent has not seen. It keeps no plan: every call starts from the present
state, so a student may have done anything before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.envs.minigrid import macro
from potstill.envs.minigrid.world import Cell, Thing, World, neighbours


def next_errand(world: World) -> str | None:
    """The words of the next errand of a shortest sensible plan; None where nothing that was seen helps."""
    return _do(world, current_instruction(world.env.instrs)) or _drop(world)


def current_instruction(instruction: Any) -> Any:
    """The single instruction that is to be done now."""
    kind = type(instruction).__name__
    if kind == "BeforeInstr":
        first, second, done = instruction.instr_a, instruction.instr_b, instruction.a_done
    elif kind == "AfterInstr":
        first, second, done = instruction.instr_b, instruction.instr_a, instruction.b_done
    elif kind == "AndInstr":
        first, second, done = instruction.instr_a, instruction.instr_b, instruction.a_done
    else:
        return instruction
    return current_instruction(second if done == "success" else first)


def _do(world: World, instruction: Any) -> str | None:
    kind = type(instruction).__name__
    if kind == "GoToInstr":
        return _reach_then(world, instruction.desc, macro.go_to)
    if kind == "OpenInstr":
        return _open(world, instruction.desc)
    if kind == "PickupInstr":
        return _fetch(world, instruction.desc)
    return _put_next(world, instruction)


def _open(world: World, description: Any) -> str | None:
    doors = _known(world, description)
    door = _nearest(world, [door for door in doors if not door.object.is_locked]) or _nearest(world, doors)
    if door is None:
        return _free(world, doors) if doors else _discover(world)
    if door.object.is_open:
        return macro.close_door(door)
    return _unlock(world, door) if door.object.is_locked else macro.open_door(door)


def _unlock(world: World, door: Thing, without: tuple[Thing, ...] = ()) -> str | None:
    """Fetch the key of a locked door that can be reached, or open the door with it."""
    held = world.carrying
    if held is not None and held.kind == "key" and held.colour == door.colour:
        return macro.open_door(door)
    keys = [thing for thing in world.things() if thing.kind == "key" and thing.colour == door.colour]
    if not keys:
        return _discover(world, without=(*without, door))
    return _drop(world) or _approach(world, keys, macro.pick_up)


def _put_next(world: World, instruction: Any) -> str | None:
    held = world.carrying
    targets = [t for t in _known(world, instruction.desc_fixed) if held is None or t.object is not held.object]
    if not targets:
        return _drop(world) if _is_one_of(held, instruction.desc_fixed) else _discover(world)
    near = _nearest(world, targets, beside=True)
    if _is_one_of(held, instruction.desc_move):
        return macro.put_next_to(near) if near is not None else _drop(world)
    if near is None:  # make way or room before both hands are needed
        standing = _nearest(world, [target for target in targets if target.object.can_pickup()])
        return _free(world, targets) if standing is None else _drop(world) or macro.pick_up(standing)
    return _fetch(world, instruction.desc_move)


def _fetch(world: World, description: Any) -> str | None:
    """Pick up a thing of a description, hands free first."""
    known = _known(world, description)
    if _is_one_of(world.carrying, description):
        return _drop(world)  # it only counts when it is picked up now
    if not known:
        return _discover(world)
    near = _nearest(world, known)
    return _free(world, known) if near is None else _drop(world) or macro.pick_up(near)


def _reach_then(world: World, description: Any, words: Any) -> str | None:
    known = _known(world, description)
    return _approach(world, known, words) if known else _discover(world)


def _approach(world: World, things: Sequence[Thing], words: Any) -> str | None:
    near = _nearest(world, things)
    return str(words(near)) if near is not None else _free(world, things)


def _discover(world: World, without: tuple[Thing, ...] = ()) -> str | None:
    """See more: walk, open a door, unlock one (none of ``without``: their keys are sought), move what is in the way."""
    if world.frontier(world.reach()) is not None:
        return macro.EXPLORE
    doors = [thing for thing in world.things() if thing.is_door and not thing.object.is_open]
    unlocked = [door for door in doors if not door.object.is_locked]
    shut = _nearest(world, unlocked)
    if shut is not None:
        return macro.open_door(shut)
    way = _free(world, unlocked, unseen=True)
    if way is not None:
        return way
    sought = [door.object for door in without]
    locked = [door for door in doors if door.object.is_locked and not any(door.object is other for other in sought)]
    near = _nearest(world, locked)
    return _unlock(world, near, without) if near is not None else _free(world, locked, unseen=True)


def _free(world: World, targets: Sequence[Thing], *, unseen: bool = False) -> str | None:
    """Take away the first thing in the way to one of the targets (or to what was never seen); None: nothing is."""
    before = world.reach_past_things()
    goals = [cell for thing in targets for cell in neighbours(thing.cell) if cell in before]
    if unseen and (hidden := world.frontier(before)) is not None:
        goals.extend(cell for cell in neighbours(hidden) if cell in before)
    if not goals:
        return None if unseen else _discover(world)
    order = {cell: position for position, cell in enumerate(before)}
    path: list[Cell] = [min(goals, key=order.__getitem__)]
    while (previous := before[path[-1]]) is not None:
        path.append(previous)
    blockers = [thing for cell in reversed(path) if (thing := world.thing_at(cell)) and not thing.is_door]
    return _drop(world) or macro.pick_up(blockers[0]) if blockers else None


def _drop(world: World) -> str | None:
    return macro.DROP_IT if world.carrying is not None else None


def _is_one_of(thing: Thing | None, description: Any) -> bool:
    return thing is not None and any(thing.object is wanted for wanted in description.obj_set)


def _known(world: World, description: Any) -> list[Thing]:
    """The things of a description that have been seen and are not carried."""
    wanted = {id(thing) for thing in description.obj_set}
    return [thing for thing in world.things() if id(thing.object) in wanted]


def _nearest(world: World, things: Sequence[Thing], *, beside: bool = False) -> Thing | None:
    """The thing that takes the fewest steps to face (``beside``: to put something next to)."""
    before = world.reach()
    order = {cell: position for position, cell in enumerate(before)}
    best: tuple[int, Thing] | None = None
    for thing in things:
        if beside:
            place = macro.dropping_place(world, before, beside=thing.cell)
        else:
            place = macro.standing_place(world, thing.cell, before)
        if place is not None and (best is None or order[place.stand] < best[0]):
            best = (order[place.stand], thing)
    return best[1] if best else None
