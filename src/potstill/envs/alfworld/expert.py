"""Teachers of ALFWorld: its hand-coded expert, and the walkthrough that each game's file holds.

Both may take over in mid-episode: they are told of every step, whoever chose it. The hand-coded expert sees what a
player sees and a few facts (what is carried, what was done to it, what lies where); the planner, to which both fall back when
lost, and the walkthrough know where everything is. It does not act; ``AlfworldEnvironment`` asks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from potstill.envs.alfworld import libraries
from potstill.envs.alfworld.game import Fact, Frame, Game
from potstill.envs.alfworld.gamefile import Parameters

WATCHED = frozenset({"holds", "ishot", "iscool", "isclean", "inreceptacle"})
"""The predicates that the hand-coded expert reads."""
MAX_EXPERT_STEPS = 10_000
"""The expert's own time-out is left to the runner's step limit."""
PATIENCE = 2
"""How often the expert may choose the same command in the same state before it counts as lost."""


class Advice(StrEnum):
    """Where an action came from."""

    HANDCODED = "handcoded"
    WALKTHROUGH = "walkthrough"
    PLANNER = "planner"


class Expert(Protocol):
    source: Advice
    """Where the last action came from."""

    def observe(self, command: str | None, frame: Frame) -> None:
        """A command (None: the reset) led to this frame."""

    def action(self) -> str | None:
        """The next command in the present state, or None where nothing wins any more."""


class Planned:
    """Commands that win, replanned whenever the episode left the plan."""

    def __init__(self, game: Game, walkthrough: tuple[str, ...] = ()) -> None:
        self._game = game
        self._commands = list(walkthrough)
        self._next = 0
        self._is_walkthrough = bool(walkthrough)
        self.source = Advice.WALKTHROUGH if walkthrough else Advice.PLANNER

    def observe(self, command: str | None, frame: Frame) -> None:
        self._frame = frame
        if command is None:
            return
        if self._next < len(self._commands) and command.strip() == self._commands[self._next]:
            self._next += 1
        else:
            self._forget()

    def action(self) -> str | None:
        if not self._admissible():
            self._forget()
            self._commands = self._game.plan()
        return self._commands[self._next] if self._admissible() else None

    def _admissible(self) -> bool:
        return self._next < len(self._commands) and self._commands[self._next] in self._frame.admissible

    def _forget(self) -> None:
        self._commands, self._next, self.source = [], 0, Advice.PLANNER


class _Seen(NamedTuple):
    command: str
    frame: Frame
    facts: list[Fact]


class Handcoded:
    """ALFWorld's ``HandCodedTWAgent``, told of every step as ALFWorld's own wrapper tells it.

    Steps are queued and only worked through when an action is asked for. What it carries is set from the facts before
    each step (its own bookkeeping does not know the command ``move``). Where it raises, names a command that does not
    exist, or repeats itself in a state that it has been in, the planner takes the rest of the episode.
    """

    def __init__(self, game: Game, parameters: Parameters, seed: int, *, replan: bool = True) -> None:
        self._game = game
        self._agent = _agent(parameters)
        self._random = random.Random(seed)
        self._replan = replan
        self._queue: list[_Seen] = []
        self._tried: dict[tuple[str, str], int] = {}
        self._suggestion = "look"
        self._planned: Planned | None = None
        self.source = Advice.HANDCODED

    def observe(self, command: str | None, frame: Frame) -> None:
        self._frame = frame
        if self._planned is not None:
            self._planned.observe(command, frame)
            return
        if command is None:
            self._agent.observe(frame.feedback)
        else:
            self._queue.append(_Seen(command, frame, self._game.facts(WATCHED)))

    def action(self) -> str | None:
        if self._planned is None and not self._work_through():
            self.source = Advice.PLANNER
            self._planned = Planned(self._game)
            self._planned.observe(None, self._frame)
        return self._suggestion if self._planned is None else self._planned.action()

    def _work_through(self) -> bool:
        """Tell the agent of the queued steps; False once it is lost."""
        for seen in self._queue:
            try:
                with _seeded(self._random):
                    self._suggestion = _ask(self._agent, seen)
            except Exception:  # the agent fails in many ways (its own errors, IndexError, KeyError): all mean lost
                self._suggestion = ""
        self._queue.clear()
        if self._suggestion not in self._frame.admissible:
            self._suggestion = "look"
            return not self._replan
        return not self._replan or not self._repeats()

    def _repeats(self) -> bool:
        state = "|".join(map(repr, self._game.facts(WATCHED | {"atlocation", "opened", "istoggled"})))
        key = (state, self._suggestion)
        self._tried[key] = self._tried.get(key, 0) + 1
        return self._tried[key] > PATIENCE


def _agent(parameters: Parameters) -> Any:
    agent = libraries.load("alfworld.agents.expert").HandCodedTWAgent(max_steps=MAX_EXPERT_STEPS)
    lamp = parameters.kind == "look_at_obj_in_light"
    agent.task_params = {
        "task_type": parameters.kind,
        "object_target": parameters.object.lower(),
        "parent_target": "" if lamp else parameters.receptacle.lower(),
        "toggle_target": parameters.receptacle.lower() if lamp else "",
        "mrecep_target": parameters.movable_receptacle.lower(),
        "object_sliced": False,
    }
    agent.policy = agent.get_task_policy(agent.task_params)(agent.task_params, max_steps=MAX_EXPERT_STEPS)
    return agent


def _ask(agent: Any, seen: _Seen) -> str:
    agent.policy.inventory = [fact.names[1].strip() for fact in seen.facts if fact.name == "holds"]
    state = {"feedback": seen.frame.feedback, "admissible_commands": seen.frame.admissible, "facts": seen.facts}
    command: str = agent.act(state, 0, seen.frame.won, seen.command)
    return command


@contextmanager
def _seeded(own: random.Random) -> Iterator[None]:
    """The agent draws from the global generator: lend it ours, and give the caller's back."""
    outer = random.getstate()
    random.setstate(own.getstate())
    try:
        yield
    finally:
        own.setstate(random.getstate())
        random.setstate(outer)
