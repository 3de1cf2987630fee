"""Multi-turn function calling as an ``Environment``: a user's turns, real tools with state, a checked outcome.

What it knows: when a turn ends, what the gold solution would do, how the package judges. What it does not do: execute
calls (``tools``).

A turn ends when the agent answers with text and no calls; the text itself is not judged. After each turn the tools'
states and answers are compared with those of the gold calls by the package's own functions, so the outcome is the
leaderboard's.
"""

from __future__ import annotations

import json
from typing import Any

from potstill.envs.bfcl import data
from potstill.envs.bfcl.data import CATEGORIES, Entry
from potstill.envs.bfcl.tools import Toolbox
from potstill.errors import BadTask, ConfigError, EnvError
from potstill.types import Action, Blob, Observation, Outcome, Task, ToolCall, ToolResult

MAX_STEPS_PER_TURN = 20
"""The leaderboard fails a task whose turn takes more steps with calls."""


class BfclEnvironment:
    """One task of ``bfcl-eval`` at a time.

    ``expert_calls``: how the expert plays the gold calls, ``one`` a step (each sees the answer of the one before) or
    the whole ``turn`` in one step (two tasks have more gold calls in a turn than steps are allowed: always so there).
    The seed of ``reset`` changes nothing: the tools draw from seeds in the task.
    """

    instructions = (
        "You serve a user by calling the tools that are offered. Work out what is needed from the tools' answers, "
        "call only what the request needs, and when the request is done, or cannot be done with what you have, "
        "answer in words without calling a tool; the user then goes on."
    )
    max_steps = 40

    def __init__(self, *, expert_calls: str = "one") -> None:
        if expert_calls not in ("one", "turn"):
            raise ConfigError(f"No expert_calls '{expert_calls}'. Available: one, turn.")
        self._expert_calls = expert_calls
        self._entry: Entry | None = None

    @property
    def name(self) -> str:
        return "bfcl"

    def reset(self, task: Task, seed: int) -> Observation:
        self._entry = _find(task)
        self._tools, self._reference = Toolbox(self._entry), Toolbox(self._entry)
        self._turn = self._steps = self._calls = 0
        self._answers: list[str] = []
        self._made: list[tuple[str, str]] = []
        self._failure = ""
        return self._user_speaks()

    def step(self, action: Action) -> Observation:
        entry = self._playing()
        if self._is_over:
            raise EnvError("The episode is over: call reset before the next step.")
        if not action.tool_calls:
            self._judge_turn(entry)
            self._turn += 1
            self._steps, self._made = 0, []
            return self._user_speaks()
        self._steps += 1
        offered = self._tools.offered(self._turn)
        results = []
        for call in action.tool_calls:
            text = self._tools.call(call)
            self._answers.append(text)
            self._made.append((call.name, canonical(call.arguments)))
            results.append(ToolResult(call_id=call.id, text=text))
        if self._steps > MAX_STEPS_PER_TURN:
            self._failure = self._failure or f"turn {self._turn}: more than {MAX_STEPS_PER_TURN} steps"
            self._turn = len(entry.turns)
        return Observation(tool_results=tuple(results), tools=() if self._is_over else offered, done=self._is_over)

    def outcome(self) -> Outcome:
        """Success once all turns are over and each was right; ``score``: share of turns before the first wrong one."""
        entry = self._playing()
        success = self._is_over and not self._failure
        detail = self._failure or ("" if success else f"turn {self._turn} of {len(entry.turns)} is not finished")
        return Outcome(success=success, score=self._score(entry), detail=detail)

    def expert_action(self) -> Action | None:
        """The gold calls of this turn that were not made yet, then a closing word. None after the end.

        What was already done wrong is not undone: gold calls are a fixed list, no plan.
        """
        entry = self._playing()
        if self._is_over:
            return None
        made = list(self._made)
        due = []
        for call in entry.gold[self._turn]:
            arguments = json.dumps(self._reference.named(call))
            key = (call.name, canonical(arguments))
            if key in made:
                made.remove(key)
            else:
                due.append((call.name, arguments))
        if not due:
            said = "Done." if entry.gold[self._turn] else "I cannot do that with what I have. What is missing?"
            return Action(text=said)
        if self._expert_calls == "one" and len(due) <= MAX_STEPS_PER_TURN - self._steps:
            due = due[:1]
        first = len(self._answers)
        return Action(
            tool_calls=tuple(
                ToolCall(id=f"call_{first + position}", name=name, arguments=arguments)
                for position, (name, arguments) in enumerate(due)
            )
        )

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        self._entry = None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _playing(self) -> Entry:
        if self._entry is None:
            raise EnvError("No episode was started: call reset first.")
        return self._entry

    @property
    def _is_over(self) -> bool:
        return self._turn >= len(self._playing().turns)

    def _user_speaks(self) -> Observation:
        entry = self._playing()
        if self._is_over:
            return Observation(done=True, score=self._score(entry))
        return Observation(
            text=entry.turns[self._turn], tools=self._tools.offered(self._turn), score=self._score(entry)
        )

    def _score(self, entry: Entry) -> float:
        return self._right_turns(entry) / len(entry.turns)

    def _right_turns(self, entry: Entry) -> int:
        if not self._failure:
            return self._turn
        return int(self._failure.split(":")[0].removeprefix("turn "))

    def _judge_turn(self, entry: Entry) -> None:
        """Play the turn's gold calls on the reference and compare, as the leaderboard does."""
        gold = entry.gold[self._turn]
        expected = [self._reference.call_gold(call) for call in gold]
        if not gold or self._failure:
            return
        reason = self._difference(expected)
        if reason:
            self._failure = f"turn {self._turn}: {reason}"

    def _difference(self, expected: list[str]) -> str:
        if not self._made:
            return "no tool was called"
        checker = data.checker()
        results: list[dict[str, Any]] = [
            checker.state_checker(self._tools.instances, self._reference.instances),
            checker.response_checker(self._answers, expected, self._turn),
        ]
        wrong = next((result for result in results if not result["valid"]), None)
        return "" if wrong is None else f"{wrong['error_type'].removeprefix('multi_turn:')}: {wrong['error_message']}"


def canonical(arguments: str) -> str:
    """JSON arguments with sorted keys; text that is not JSON stays itself."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _find(task: Task) -> Entry:
    category, entry_id = task.data.get("category"), task.data.get("id")
    if category not in CATEGORIES or entry_id not in data.entries(str(category)):
        raise BadTask(f"Task '{task.id}' names no task of bfcl-eval in its data: {task.data}")
    return data.entries(str(category))[str(entry_id)]
