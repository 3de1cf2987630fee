"""What an Anthropic request asks for beside its messages: tools, their choice, thinking, output format, other fields.

What it knows: how each is said in the neutral form and which of another dialect's own fields may be left out.
What it does not do: messages (``anthropic_request``).

Thinking, read: ``budget_tokens`` gives the effort that it is worth (``effort_of``: up to 4,096 tokens low, up to 16,384
medium, more high), ``disabled`` is ``none``, ``between_tools`` is ``minimal``, ``output_config.effort`` is the effort
itself. Written: Anthropic's own as it came; another dialect's effort as ``adaptive`` thinking with
``output_config.effort`` (``minimal`` is ``low``), because models since Claude 4.6 refuse or deprecate budgets and only
manual thinking insists on signed thoughts in the history, which another dialect cannot carry; ``none`` as ``disabled``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import Untranslatable
from potstill.wire.anthropic_blocks import NAME, Malformed, fields_of
from potstill.wire.neutral import ChoiceMode, Format, OpaqueTool, Thought, Tool, ToolChoice
from potstill.wire.reading import Fields

EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}

# --- tools ------------------------------------------------------------------------------------------------------------

_TOOL_FIELDS = {"type", "name", "description", "input_schema", "strict", "cache_control"}


def read_tools(values: Sequence[Any]) -> tuple[Tool | OpaqueTool, ...]:
    return tuple(_read_tool(value, f"tools.{index}") for index, value in enumerate(values))


def _read_tool(value: Any, where: str) -> Tool | OpaqueTool:
    tool = fields_of(value, where)
    if tool.text("type") not in (None, "custom"):
        return OpaqueTool(dialect=NAME, value=value)
    return Tool(
        name=tool.need("name"),
        description=tool.text("description"),
        parameters=tool.map("input_schema"),
        strict=tool.flag("strict"),
        cache=tool.map("cache_control"),
        extra={key: held for key, held in value.items() if key not in _TOOL_FIELDS},
    )


def write_tools(tools: Sequence[Tool | OpaqueTool], *, own: bool) -> list[dict[str, Any]]:
    """Raises ``Untranslatable`` for a tool that only another dialect has."""
    return [_write_tool(tool, f"tools.{index}", own) for index, tool in enumerate(tools)]


def _write_tool(tool: Tool | OpaqueTool, where: str, own: bool) -> dict[str, Any]:
    if isinstance(tool, OpaqueTool):
        if tool.dialect != NAME:
            raise Untranslatable(
                f"{where} is a tool of type '{tool.value.get('type')}', which only the dialect '{tool.dialect}' knows. "
                f"Use a function that your program executes, or a model behind '{tool.dialect}'."
            )
        return tool.value
    written: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    schema = tool.parameters or {"type": "object", "properties": {}}
    written["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
    if tool.strict or (own and tool.strict is not None):
        written["strict"] = tool.strict
    if tool.cache is not None:
        written["cache_control"] = tool.cache
    return written | (tool.extra if own else {})


# --- choice of a tool -------------------------------------------------------------------------------------------------

_MODES = {"auto": ChoiceMode.AUTO, "any": ChoiceMode.REQUIRED, "tool": ChoiceMode.TOOL, "none": ChoiceMode.NONE}
_WORDS = {mode: word for word, mode in _MODES.items()}


def read_choice(said: Fields | None) -> tuple[ToolChoice | None, bool | None]:
    """(choice, whether calls in parallel are allowed)."""
    if said is None:
        return None, None
    kind = said.need("type")
    if kind not in _MODES:
        raise Malformed(f"'tool_choice.type' is '{kind}'; allowed: {', '.join(_MODES)}.")
    single = said.flag("disable_parallel_tool_use")
    name = said.need("name") if kind == "tool" else said.text("name")
    return ToolChoice(mode=_MODES[kind], name=name), None if single is None else not single


def write_choice(choice: ToolChoice | None, parallel: bool | None, *, tools: bool) -> dict[str, Any] | None:
    """None where nothing is to be said: Anthropic refuses a choice without tools."""
    mode = choice.mode if choice else ChoiceMode.AUTO
    if choice is None and parallel is not False:
        return None
    if not tools and mode in (ChoiceMode.AUTO, ChoiceMode.NONE):
        return None
    written: dict[str, Any] = {"type": _WORDS[mode]}
    if choice is not None and choice.name is not None and mode is ChoiceMode.TOOL:
        written["name"] = choice.name
    if parallel is not None and mode is not ChoiceMode.NONE:
        written["disable_parallel_tool_use"] = not parallel
    return written


# --- thinking ---------------------------------------------------------------------------------------------------------


def effort_of(budget_tokens: int) -> str:
    """The effort that a budget of thinking is worth."""
    return "low" if budget_tokens <= 4096 else "medium" if budget_tokens <= 16384 else "high"


def read_thought(thinking: Mapping[str, Any] | None, effort: str | None) -> Thought | None:
    """``extra`` keeps both as they came, so that the same dialect says them again unchanged."""
    if thinking is None and effort is None:
        return None
    said: dict[str, Any] = {} if thinking is None else {"thinking": dict(thinking)}
    said |= {} if effort is None else {"effort": effort}
    asked = fields_of(thinking or {}, "thinking")
    budget = asked.count("budget_tokens")
    match asked.text("type"):
        case "disabled":
            effort = "none"
        case "between_tools":
            effort = "minimal"
        case "enabled" if budget is not None:
            effort = effort or effort_of(budget)
    summary = "auto" if asked.value.get("display") == "summarized" else None
    return Thought(effort=effort, budget_tokens=budget, summary=summary, extra=said)


def write_thought(thought: Thought, *, own: bool) -> tuple[dict[str, Any] | None, str | None]:
    """(``thinking``, ``output_config.effort``). Raises ``Untranslatable`` for an effort that Anthropic has not."""
    said_thinking, said_effort = thought.extra.get("thinking"), thought.extra.get("effort")
    if own and read_thought(said_thinking, said_effort) == thought:
        return said_thinking, said_effort
    effort = thought.effort
    if effort is None and thought.budget_tokens is not None:
        effort = effort_of(thought.budget_tokens)
    if effort == "none":
        return {"type": "disabled"}, None
    if effort is not None and effort not in EFFORTS:
        allowed = ", ".join(["none", *EFFORTS])
        raise Untranslatable(f"a reasoning effort of '{effort}' has no counterpart at Anthropic; allowed: {allowed}")
    if effort is None and thought.summary is None:
        return None, None
    thinking = {"type": "adaptive"}
    if thought.summary is not None:
        thinking["display"] = "summarized"
    return thinking, None if effort is None else EFFORTS[effort]


# --- output format ----------------------------------------------------------------------------------------------------


def read_format(said: Fields | None) -> Format | None:
    if said is None:
        return None
    if said.need("type") != "json_schema":
        raise Malformed(f"'output_config.format.type' is '{said.text('type')}'; allowed: json_schema.")
    return Format(kind="json_schema", schema=said.need_inner("schema").value)


def write_format(format: Format) -> dict[str, Any]:
    """Raises ``Untranslatable`` for JSON without a schema, which Anthropic has no word for."""
    if format.kind != "json_schema" or format.schema is None:
        raise Untranslatable(
            "response_format: Anthropic's dialect has no JSON mode without a schema. "
            "Use type 'json_schema' with a schema, or ask for JSON in the prompt."
        )
    return {"type": "json_schema", "schema": format.schema}


# --- fields of other dialects -----------------------------------------------------------------------------------------

_HARMLESS = {
    "background",
    "background_options",
    "client_metadata",
    "include",
    "max_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
}
"""They change where, how fast or how cheaply an answer is made, and who sees it later, but not the answer."""
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "verbosity": ("medium",),
    "modalities": (["text"],),
    "repetition_penalty": (1, 1.0),
    "repeat_penalty": (1, 1.0),
}
"""Values that say what holds without them."""


def foreign_fields(extra: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """What of another dialect's own fields Anthropic can say (``top_k``). Raises ``Untranslatable`` for what it cannot,
    unless it changes no answer or has the value that means nothing (null, 0, false, an empty list)."""
    kept: dict[str, Any] = {}
    for name, value in extra.items():
        if not value or name in _HARMLESS or value in _DEFAULTS.get(name, ()):
            continue
        if name != "top_k":
            raise Untranslatable(
                f"the field '{name}' of the dialect '{dialect or 'unknown'}' has no counterpart in Anthropic's. "
                "Leave it out, or use a model whose upstream speaks that dialect."
            )
        kept[name] = value
    return kept
