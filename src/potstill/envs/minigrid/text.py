"""The words of a BabyAI observation: few lines in a fixed order, which a small language model can copy from.

What it knows: how to say where a thing is, seen from the agent or from where it started. What it does not do: decide.

Two renderings. ``describe_view`` is for single steps and turns: only what is in view now, each thing with its place
("a red ball 2 ahead and 1 left"). ``describe_memory`` is for whole errands ('macro'): everything seen so far, and
places only where the mission speaks of them ("the ball on your left" means: left of where the agent stood at the
start).
"""

from __future__ import annotations

from potstill.envs.minigrid.world import DIRECTIONS, Cell, Thing, World, neighbour

INSTRUCTIONS = {
    "primitive": (
        "You are in a grid of rooms with coloured balls, boxes, keys and doors. You see what is in front of you, "
        "up to 6 steps ahead and 3 to each side. Answer with one action: turn left, turn right, go forward, "
        "pick up (the thing one step ahead), drop (onto the empty cell ahead), toggle (open or close the door ahead; "
        "a locked door needs the key of its colour in your hand), wait."
    ),
    "macro": (
        "You are in a grid of rooms with coloured balls, boxes, keys and doors. You can carry one thing at a time, and "
        "a locked door opens only while you carry the key of its colour. Doing the first part of a mission with the "
        "wrong thing may end it. Answer with one action, such as: go to the red "
        "ball, pick up the grey key, open the blue door, put it next to the green box, drop it, explore."
    ),
}
GRID_INSTRUCTIONS = (
    "You are in a grid of rooms with coloured balls, boxes, keys and doors. What you see is JSON: grid[i][j] is "
    "[object, colour, state] of the cell in column i (from left to right) and row j (from far to near); you stand in "
    "column 3, row 6, and look away from that row; what you carry lies in your own cell. Objects: 0 not seen, 1 empty, "
    "2 wall, 4 door, 5 key, 6 ball, 7 box. Colours: 0 red, 1 green, 2 blue, 3 purple, 4 yellow, 5 grey. States of a "
    "door: 0 open, 1 closed, 2 locked. direction is where you look in the world: 0 right, 1 down, 2 left, 3 up. Answer "
    "with one action: turn left, turn right, go forward, pick up, drop, toggle, wait."
)


def describe_memory(world: World, start: tuple[Cell, int]) -> str:
    """What is carried and everything seen so far, one line each."""
    places = " you" in world.mission
    seen = []
    for thing in world.things():
        words = with_article(thing.name) + door_state(thing)
        if places:
            words += f" {place_from(thing.cell, *start)}"
        seen.append(words)
    return f"{_carried(world)}\nYou have seen {', '.join(seen) or 'nothing yet'}."


def describe_view(world: World) -> str:
    """What is carried, what is in view and where, and how far one can walk."""
    seen = []
    for thing in world.things():
        if world.visible_now()[thing.cell]:
            place = place_from(thing.cell, world.agent, world.direction)
            seen.append(f"{with_article(thing.name)}{door_state(thing)} {place}")
    return f"{_carried(world)}\nYou see {', '.join(seen) or 'no things'}.\n{_free_way(world)}"


def place_from(cell: Cell, origin: Cell, direction: int) -> str:
    """Where a cell lies for somebody who stands at ``origin`` and looks in ``direction``.

    >>> place_from((3, 1), (1, 2), 0)
    '2 ahead and 1 left'
    """
    forward, right = DIRECTIONS[direction], DIRECTIONS[(direction + 1) % 4]
    dx, dy = cell[0] - origin[0], cell[1] - origin[1]
    ahead = dx * forward[0] + dy * forward[1]
    aside = dx * right[0] + dy * right[1]
    parts = []
    if ahead:
        parts.append(f"{abs(ahead)} {'ahead' if ahead > 0 else 'behind'}")
    if aside:
        parts.append(f"{abs(aside)} {'right' if aside > 0 else 'left'}")
    return " and ".join(parts) or "here"


def door_state(thing: Thing) -> str:
    """' (locked)' and the like for a door, nothing for other things."""
    if not thing.is_door:
        return ""
    return " (locked)" if thing.object.is_locked else " (open)" if thing.object.is_open else " (closed)"


def with_article(name: str) -> str:
    return f"a {name}"


def _carried(world: World) -> str:
    held = world.carrying
    return f"You carry {with_article(held.name) if held else 'nothing'}."


def _free_way(world: World) -> str:
    """How many steps are free in the four directions, as far as is known."""
    words = []
    for turn, side in enumerate(("ahead", "to the right", "behind", "to the left")):
        cell, free = neighbour(world.agent, world.direction + turn), 0
        while world.passable(cell):
            cell, free = neighbour(cell, world.direction + turn), free + 1
        if not world.is_seen(cell):
            end = "then unknown"
        else:
            thing = world.thing_at(cell)
            end = f"then {with_article(thing.name)}" if thing else "then a wall"
        words.append(f"{side} {free} free {'step' if free == 1 else 'steps'} {end}")
    return f"Ways: {'; '.join(words)}."
