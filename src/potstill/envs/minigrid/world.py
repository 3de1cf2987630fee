"""One BabyAI world and what its agent has seen of it: cells, names of things, ways to walk.

What it knows: the grid of the ``minigrid`` package, the mask of cells seen since the start, a stable name for each
thing. What it does not do: words of an observation (``text``), choices (``macro``, ``expert``), the ``Environment``
protocol.

Coordinates are ``(x, y)`` in cells, y grows downwards; a direction is 0 right, 1 down, 2 left, 3 up. Memory needs no
copy of the grid: only the agent changes the world, so a cell that was seen once still holds what it held.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import os
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from potstill.errors import BadTask, MissingExtra, UnknownName

Cell = tuple[int, int]
DIRECTIONS: tuple[Cell, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, WAIT = range(7)
"""The world's own actions by number (``minigrid.core.actions.Actions``)."""

_ORDINALS = ("", "second ", "third ", "fourth ", "fifth ", "sixth ", "seventh ", "eighth ")
_NO_LIMIT = 1_000_000


class Thing(NamedTuple):
    """A thing that the agent has seen. ``name`` is its own for the whole episode ('red ball', 'second red ball')."""

    name: str
    kind: str
    colour: str
    cell: Cell
    object: Any

    @property
    def is_door(self) -> bool:
        return self.kind == "door"


def level_names() -> list[str]:
    """The BabyAI levels that the installed ``minigrid`` registers, and our own."""
    registry = _gymnasium().registry
    return sorted(name for name in registry if name.startswith(("BabyAI-", "Potstill-")))


def full_name(level: str) -> str:
    """'GoToLocal' is 'BabyAI-GoToLocal-v0'. Raises ``UnknownName`` for a level that is not registered."""
    names = level_names()
    for name in (level, f"Potstill-{level}-v0", f"BabyAI-{level}-v0", f"BabyAI-{level}-v1"):
        if name in names:
            return name
    raise UnknownName("minigrid level", level, [name.split("-", 1)[1].rsplit("-", 1)[0] for name in names])


class World:
    """A level of BabyAI, made again for each seed.

    Raises ``MissingExtra`` without the package, ``UnknownName`` for a level that is not registered.
    """

    def __init__(self, level: str) -> None:
        self.level = level = full_name(level)
        with contextlib.redirect_stdout(io.StringIO()):
            self._env: Any = _gymnasium().make(level, disable_env_checker=True).unwrapped
        self.failed = self.succeeded = False
        self._names: dict[int, str] = {}
        self._seen = np.zeros((0, 0), dtype=bool)

    def reset(self, seed: int) -> None:
        """Build the world of ``seed``. Its own step limit is switched off: the environment counts."""
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints its rejected samples
            try:
                observation, _ = self._env.reset(seed=seed)
            except (AssertionError, ValueError) as error:
                raise BadTask(f"Level {self.level} cannot be built with seed {seed}: {error}") from error
        self.native_max_steps = int(self._env.max_steps)
        self._env.max_steps = _NO_LIMIT
        self.failed = self.succeeded = False
        self._names = {}
        self._kept: list[Any] = []
        self._counts: dict[str, int] = {}
        self._seen = np.zeros((self._env.width, self._env.height), dtype=bool)
        self._look(observation["image"])

    def act(self, action: int) -> None:
        """One of the world's own actions. Sets ``succeeded`` or ``failed`` when the mission says so."""
        observation, reward, terminated, _, _ = self._env.step(action)
        if terminated:
            self.succeeded = reward > 0
            self.failed = not self.succeeded
        self._look(observation["image"])

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.succeeded or self.failed

    @property
    def env(self) -> Any:
        """The package's own environment, for its bot and its renderer."""
        return self._env

    @property
    def mission(self) -> str:
        return str(self._env.mission)

    @property
    def agent(self) -> Cell:
        x, y = self._env.agent_pos
        return int(x), int(y)

    @property
    def direction(self) -> int:
        return int(self._env.agent_dir)

    @property
    def front(self) -> Cell:
        return neighbour(self.agent, self.direction)

    @property
    def carrying(self) -> Thing | None:
        held = self._env.carrying
        return None if held is None else Thing(self._name(held), held.type, held.color, (-1, -1), held)

    @property
    def seen(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Mask of the cells seen so far, shape (width, height)."""
        return self._seen

    def content(self, cell: Cell) -> Any:
        """The thing in a cell, None for an empty one. Ask only about cells that were seen."""
        return self._env.grid.get(*cell)

    def is_seen(self, cell: Cell) -> bool:
        x, y = cell
        return 0 <= x < self._seen.shape[0] and 0 <= y < self._seen.shape[1] and bool(self._seen[x, y])

    def things(self) -> list[Thing]:
        """Everything seen and not carried, by name."""
        return sorted(self._things(), key=lambda thing: (thing.kind, thing.colour, len(thing.name), thing.name))

    def thing_at(self, cell: Cell) -> Thing | None:
        content = self.content(cell) if self.is_seen(cell) else None
        if content is None or content.type == "wall":
            return None
        return Thing(self._name(content), content.type, content.color, cell, content)

    def visible_now(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Mask of the cells in view at this moment, shape (width, height)."""
        return self._visible

    @property
    def view(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """What is in view as the package codes it, shape (7, 7, 3); see ``symbols``."""
        return self._view

    # --- walking ----------------------------------------------------------------------------------------------------

    def passable(self, cell: Cell) -> bool:
        """Whether a seen cell can be walked on: empty or an open door."""
        if not self.is_seen(cell):
            return False
        content = self.content(cell)
        return content is None or (content.type == "door" and content.is_open)

    def reach(self) -> dict[Cell, Cell | None]:
        """Breadth-first from the agent over passable cells: each reached cell with the one before it, nearest first."""
        before: dict[Cell, Cell | None] = {self.agent: None}
        queue = deque([(self.agent, self.direction)])
        while queue:
            cell, direction = queue.popleft()
            for turn in (0, 1, 3, 2):
                facing = (direction + turn) % 4
                following = neighbour(cell, facing)
                if following not in before and self.passable(following):
                    before[following] = cell
                    queue.append((following, facing))
        return before

    def reach_past_things(self) -> dict[Cell, Cell | None]:
        """Like ``reach``, but walking over things that can be carried away, over as few of them as possible."""
        before: dict[Cell, Cell | None] = {}
        queue: list[tuple[int, int, Cell, Cell | None]] = [(0, 0, self.agent, None)]
        while queue:
            moved, steps, cell, previous = heapq.heappop(queue)
            if cell in before:
                continue
            before[cell] = previous
            for following in neighbours(cell):
                if self.passable(following):
                    heapq.heappush(queue, (moved, steps + 1, following, cell))
                elif (thing := self.thing_at(following)) is not None and thing.object.can_pickup():
                    heapq.heappush(queue, (moved + 1, steps + 1, following, cell))
        return before

    def frontier(self, before: dict[Cell, Cell | None]) -> Cell | None:
        """The nearest cell that was never seen and can be looked at from a reached cell."""
        for cell in before:
            for unseen in neighbours(cell):
                x, y = unseen
                if 0 <= x < self._seen.shape[0] and 0 <= y < self._seen.shape[1] and not self._seen[x, y]:
                    return unseen
        return None

    def turn_to(self, direction: int) -> Iterator[int]:
        """The turns that make the agent look in a direction."""
        turns = (direction - self.direction) % 4
        yield from {0: (), 1: (RIGHT,), 2: (RIGHT, RIGHT), 3: (LEFT,)}[turns]

    def walk(self, before: dict[Cell, Cell | None], goal: Cell) -> Iterator[int]:
        """The actions that bring the agent to a reached cell."""
        path = [goal]
        while (previous := before[path[-1]]) is not None:
            path.append(previous)
        for cell in reversed(path[:-1]):
            yield from self.turn_to(direction_to(self.agent, cell))
            yield FORWARD

    # --- inside -----------------------------------------------------------------------------------------------------

    def _look(self, image: np.ndarray[Any, Any]) -> None:
        """Add the cells in view to what was seen; ``image`` is the package's view, shape (7, 7, 3), 0: not seen."""
        env, size = self._env, self._env.agent_view_size
        self._view = image
        forward, right = np.asarray(env.dir_vec), np.asarray(env.right_vec)
        corner = np.asarray(env.agent_pos) + forward * (size - 1) - right * (size // 2)
        rights, backs = np.nonzero(image[:, :, 0])
        cells = corner + np.outer(rights, right) - np.outer(backs, forward)
        inside = ((cells >= 0) & (cells < self._seen.shape)).all(axis=1)
        cells = cells[inside]
        self._visible = np.zeros_like(self._seen)
        self._visible[cells[:, 0], cells[:, 1]] = True
        self._seen |= self._visible
        for _ in self._things():
            continue

    def _things(self) -> Iterator[Thing]:
        for x, y in zip(*np.nonzero(self._seen), strict=True):
            cell = (int(x), int(y))
            thing = self.thing_at(cell)
            if thing is not None:
                yield thing

    def _name(self, thing: Any) -> str:
        """The second red ball that is met is 'second red ball' from then on."""
        if id(thing) not in self._names:
            plain = f"{thing.color} {thing.type}"
            count = self._counts.get(plain, 0)
            ordinal = _ORDINALS[count] if count < len(_ORDINALS) else f"{count + 1}th "
            self._counts[plain] = count + 1
            self._names[id(thing)] = ordinal + plain
            self._kept.append(thing)  # an id is unique only while its object lives
        return self._names[id(thing)]


def neighbour(cell: Cell, direction: int) -> Cell:
    step = DIRECTIONS[direction % 4]
    return cell[0] + step[0], cell[1] + step[1]


def neighbours(cell: Cell) -> list[Cell]:
    return [neighbour(cell, direction) for direction in range(4)]


def direction_to(start: Cell, end: Cell) -> int:
    """The direction of a neighbouring cell."""
    return DIRECTIONS.index((end[0] - start[0], end[1] - start[1]))


def _gymnasium() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import gymnasium
        import minigrid  # noqa: F401  (registers the levels)
    except ImportError as error:
        raise MissingExtra("The environment 'minigrid'", "minigrid") from error
    from potstill.envs.minigrid import levels

    levels.register()
    return gymnasium
