"""Teachers of ALFWorld: its hand-coded expert, and the walkthrough that each game's file holds.

Both may take over in mid-episode: they are told of every step, whoever chose it. The hand-coded expert sees what a
player sees and a few facts (what is carried, what was done to it, what lies where). The walkthrough, and the rules that
help either when it is lost, know where everything is. It does not act; ``AlfworldEnvironment`` asks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from potstill.envs.alfworld import libraries, replan
from potstill.envs.alfworld.game import Fact, Frame, Game
from potstill.envs.alfworld.gamefile import Parameters

WATCHED = frozenset({"holds", "ishot", "iscool", "isclean", "inreceptacle"})
"""The predicates that the hand-coded expert reads."""
MAX_EXPERT_STEPS = 10_000
"""The expert's own time-out is left to the runner's step limit."""
PATIENCE = 2
"""The expert is lost once it failed this often in a row."""


class Advice(StrEnum):
    """Where an action came from."""

    HANDCODED = "handcoded"
    WALKTHROUGH = "walkthrough"
    REPLANNED = "replanned"


class Expert(Protocol):
    source: Advice
    """Where the last action came from."""

    def observe(self, command: str | None, frame: Frame) -> None:
        """A command (None: the reset) led to this frame."""

    def action(self) -> str | None:
        """The next command in the present state, or None where the expert sees no way."""


class Walkthrough:
    """The commands of the game's file; once the episode left them, the rules of ``replan``."""

    def __init__(self, game: Game, parameters: Parameters | None, commands: tuple[str, ...] = ()) -> None:
        self._game = game
        self._parameters = parameters
        self._commands = commands
        self.source = Advice.WALKTHROUGH

    def observe(self, command: str | None, frame: Frame) -> None:
        self._frame = frame
        if command is None:
            return
        followed = self._commands[:1] == (command.strip(),)
        self._commands = self._commands[1:] if followed else ()

    def action(self) -> str | None:
        if self._commands and self._commands[0] in self._frame.admissible:
            return self._commands[0]
        self.source = Advice.REPLANNED
        if self._parameters is None:
            return None
        return replan.next_command(self._parameters, self._game.facts(replan.READS), self._frame.admissible)


class _Seen(NamedTuple):
    command: str
    frame: Frame
    facts: list[Fact]


class Handcoded:
    """ALFWorld's ``HandCodedTWAgent``, told of every step as ALFWorld's own wrapper tells it.

    Steps are queued and only worked through when an action is asked for. What it carries is set from the facts before
    each step (its own bookkeeping does not know the command ``move``). Where it is lost, the rules of ``replan`` take
    the rest of the episode, unless ``helped`` is False. It is lost where a command of its own led back to the state in
    which it chooses it again; one that somebody else did not follow says nothing.
    """

    def __init__(self, game: Game, parameters: Parameters, seed: int, *, helped: bool = True) -> None:
        self._game = game
        self._parameters = parameters
        self._agent = _agent(parameters)
        self._random = random.Random(seed)
        self._helped = helped
        self._queue: list[_Seen] = []
        self._choice = ("", "")
        """The state and the command that was chosen there last."""
        self._followed: set[tuple[str, str]] = set()
        self._failures = 0
        self._asked = False
        self._suggestion = "look"
        self._helper: Walkthrough | None = None
        self.source = Advice.HANDCODED

    def observe(self, command: str | None, frame: Frame) -> None:
        if self._asked and command == self._suggestion:
            self._followed.add(self._choice)
        self._frame = frame
        self._asked = False
        if self._helper is not None:
            self._helper.observe(command, frame)
        elif command is None:
            self._agent.observe(frame.feedback)
        else:
            self._queue.append(_Seen(command, frame, self._game.facts(WATCHED)))

    def action(self) -> str | None:
        if self._helper is None and not self._asked:
            self._work_through()
            if self._helped and self._is_lost():
                self.source = Advice.REPLANNED
                self._helper = Walkthrough(self._game, self._parameters)
                self._helper.observe(None, self._frame)
        self._asked = True
        return self._suggestion if self._helper is None else self._helper.action()

    def _work_through(self) -> None:
        """Tell the agent of the queued steps. What it cannot say is ``look``, as in ALFWorld's wrapper."""
        for seen in self._queue:
            try:
                with _seeded(self._random):
                    self._suggestion = _ask(self._agent, seen)
            except Exception:  # the agent fails in many ways (its own errors, IndexError, KeyError), all meaning lost
                self._suggestion = ""
            self._failures = 0 if self._suggestion in seen.frame.admissible else self._failures + 1
        if self._suggestion not in self._frame.admissible:
            self._suggestion = "look"
        self._queue.clear()

    def _is_lost(self) -> bool:
        state = repr(self._game.facts(WATCHED | {"atlocation", "opened", "istoggled"}))
        self._choice = (state, self._suggestion)
        return self._choice in self._followed or self._failures >= PATIENCE


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
    agent.policy.inventory = [fact.names[1] for fact in seen.facts if fact.name == "holds"]
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
