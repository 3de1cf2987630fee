"""The tool objects of one episode and how a call reaches them: by name from a list, with JSON arguments.

What it knows: which names are offered and which may be called, what an error reads like. What it does not do: judge
the outcome.

The package turns a model's call into Python source and evaluates it. Here nothing that a model wrote is ever source:
the name must be a documented tool of the task, the arguments must be a JSON object, the method is called with them. A
tool that is not offered yet answers all the same, as in the package (the solution of ``multi_turn_miss_func_49``
depends on it).
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from potstill.envs.bfcl.data import Entry, GoldCall, new_instance, tools_of
from potstill.types import ToolCall, ToolSpec

ERROR = "Error during execution: "
"""How the package begins the answer to a call that failed."""


class Toolbox:
    """The stateful tools of a task, made new."""

    def __init__(self, entry: Entry) -> None:
        self.instances = {name: new_instance(name, entry) for name in entry.classes}
        self._entry = entry
        self._owner = {
            tool.name: self.instances[class_name] for class_name in entry.classes for tool in tools_of(class_name)
        }

    def offered(self, turn: int) -> tuple[ToolSpec, ...]:
        """The tools that the agent may use in a turn."""
        hidden = {name for first, names in self._entry.missing.items() if turn < first for name in names}
        tools = [tool for class_name in self._entry.classes for tool in tools_of(class_name)]
        return tuple(tool for tool in tools if tool.name not in hidden)

    def call(self, call: ToolCall) -> str:
        """Execute what a model wrote. A wrong call is answered with an error text, it never raises."""
        if call.name not in self._owner:
            return f"{ERROR}name '{call.name}' is not defined"
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as error:
            return f"{ERROR}the arguments are not valid JSON: {error}"
        if not isinstance(arguments, dict):
            return f"{ERROR}the arguments must be a JSON object, not {type(arguments).__name__}"
        return self._execute(call.name, arguments)

    def call_gold(self, call: GoldCall) -> str:
        """Execute a call of the reference solution."""
        return self._execute(call.name, self.named(call))

    def named(self, call: GoldCall) -> dict[str, Any]:
        """The arguments of a gold call, all by name."""
        method = getattr(self._owner[call.name], call.name)
        names = list(inspect.signature(method).parameters)
        return {**dict(zip(names, call.positional, strict=False)), **call.arguments}

    def _execute(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            result = getattr(self._owner[name], name)(**arguments)
        except Exception as error:  # whatever a tool raises is its answer, as in the package
            return f"{ERROR}{error}"
        if isinstance(result, dict):
            try:
                return json.dumps(result)
            except (TypeError, ValueError):
                return str(result)
        return str(result)
