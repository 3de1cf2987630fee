"""Is a student's answer one that the client could use at all? What is not counts as disagreement.

What it knows: the tools that the client offered, what their schemas require, which answers the request allows. What it
does not do: judge whether an answer is good, execute anything, or check all of JSON Schema: types, required fields,
enums and forbidden fields are looked at, and what else a schema says passes.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from potstill.decide import agreement_rule
from potstill.protocols import AgreementRule
from potstill.types import Action, FinishReason, Reply, ToolCall
from potstill.wire.neutral import ChoiceMode, Prompt, Tool

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CUT_OFF = frozenset({FinishReason.LENGTH, FinishReason.CONTENT_FILTER})
_DEEPEST = 32


class ValidAnswers:
    """An agreement rule for one request: the key of an answer that the request does not allow is None.

    Structured output is compared as JSON under the rule ``json``: white space and the order of keys say nothing.
    """

    def __init__(self, rule: str, prompt: Prompt) -> None:
        self._rule: AgreementRule = agreement_rule(rule)
        self._prompt = prompt
        self._tools = {tool.name: tool.parameters or {} for tool in prompt.tools if isinstance(tool, Tool)}

    @property
    def name(self) -> str:
        return self._rule.name

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        try:
            return None if self.why_not(reply) is not None else self._rule.key(self._as_call(reply), admissible)
        except RecursionError:  # arguments nested a thousand deep: nobody's tool takes them
            return None

    def action(self, reply: Reply, admissible: Sequence[str] | None) -> Action:
        return self._rule.action(reply, admissible)

    def why_not(self, reply: Reply) -> str | None:
        """What is wrong with an answer, in words; None if nothing is."""
        if reply.finish_reason in _CUT_OFF:
            return f"it ended with {reply.finish_reason}"
        if not reply.tool_calls and not reply.text.strip():
            return "it is empty"
        return self._choice(reply) or self._format(reply) or self._calls(reply.tool_calls)

    def _choice(self, reply: Reply) -> str | None:
        """Against ``tool_choice`` and ``parallel_tool_calls``."""
        wanted, calls = self._prompt.tool_choice, reply.tool_calls
        if self._prompt.parallel_tool_calls is False and len(calls) > 1:
            return f"it calls {len(calls)} tools at once, and one is allowed"
        if wanted is None or wanted.mode is ChoiceMode.AUTO:
            return None
        if wanted.mode is ChoiceMode.NONE:
            return "it calls a tool, and none is allowed" if calls else None
        if not calls:
            return "it calls no tool, and one is required"
        other = [call.name for call in calls if wanted.mode is ChoiceMode.TOOL and call.name != wanted.name]
        return f"it calls '{other[0]}' and not '{wanted.name}'" if other else None

    def _format(self, reply: Reply) -> str | None:
        form = self._prompt.format
        if form is None or reply.tool_calls:
            return None
        try:
            value = _loads(reply.text)
        except (ValueError, RecursionError):
            return "its text is not JSON"
        if form.kind == "json_object" and not isinstance(value, dict):
            return "its text is not a JSON object"
        return misfit(value, form.schema or {}, "the answer")

    def _calls(self, calls: Sequence[ToolCall]) -> str | None:
        for call in calls:
            if call.name not in self._tools:
                return f"there is no tool '{call.name}'"
            try:
                arguments = _loads(call.arguments or "{}")
            except (ValueError, RecursionError):
                return f"the arguments of '{call.name}' are not JSON"
            if not isinstance(arguments, dict):
                return f"the arguments of '{call.name}' are not a JSON object"
            wrong = misfit(arguments, self._tools[call.name], call.name)
            if wrong is not None:
                return wrong
        return None

    def _as_call(self, reply: Reply) -> Reply:
        """Structured output as the arguments of a nameless call: the rule's way to compare JSON."""
        if self._prompt.format is None or reply.tool_calls or self._rule.name != "json":
            return reply
        wrapped = json.dumps({"value": _loads(reply.text)})
        return Reply(tool_calls=(ToolCall(id="", name="", arguments=wrapped),))


def misfit(value: Any, schema: Mapping[str, Any], where: str, depth: int = 0) -> str | None:
    """What of ``value`` does not fit the schema's ``type``, ``enum``, ``const``, ``required``, ``properties``,
    ``additionalProperties`` or ``items``; None if nothing of that.

    >>> misfit({"city": 3}, {"required": ["city"], "properties": {"city": {"type": "string"}}}, "weather")
    'weather.city is not of type string'
    """
    if depth > _DEEPEST or not isinstance(schema, Mapping):
        return None
    kinds = schema.get("type")
    allowed = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if allowed and not any(_is(value, kind) for kind in allowed):
        return f"{where} is not of type {' or '.join(map(str, allowed))}"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"{where} is none of the allowed values"
    if "const" in schema and value != schema["const"]:
        return f"{where} is not the allowed value"
    if isinstance(value, dict):
        return _object(value, schema, where, depth)
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, Mapping):
        found = (misfit(item, items, f"{where}[{index}]", depth + 1) for index, item in enumerate(value))
        return next((wrong for wrong in found if wrong is not None), None)
    return None


def _object(value: dict[str, Any], schema: Mapping[str, Any], where: str, depth: int) -> str | None:
    required = schema.get("required")
    wanted = required if isinstance(required, list) else []
    missing = [name for name in wanted if isinstance(name, str) and name not in value]
    if missing:
        return f"{where}.{missing[0]} is missing"
    known = schema.get("properties")
    properties: Mapping[str, Any] = known if isinstance(known, Mapping) else {}
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        strange = [name for name in value if name not in properties]
        if strange:
            return f"{where} has no '{strange[0]}'"
    found = (
        misfit(value[name], part, f"{where}.{name}", depth + 1) for name, part in properties.items() if name in value
    )
    return next((wrong for wrong in found if wrong is not None), None)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a JSON type; names that JSON does not know allow everything."""
    if not isinstance(kind, str) or kind not in _TYPES:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
