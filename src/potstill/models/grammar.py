"""GBNF, llama.cpp's grammar notation: an answer that must be one of these texts, or a call of one of these tools.

Pure text in, text out. Knows the escapes of GBNF and the part of JSON Schema that tool parameters use (typed
properties, required, enum, arrays, nested objects); anything else becomes "any JSON value". Emits JSON without
free whitespace, which small models otherwise repeat until they run out of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.errors import ConfigError
from potstill.types import ToolSpec

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_JSON_RULES = r"""
json-value ::= json-string | json-number | json-object | json-array | "true" | "false" | "null"
json-object ::= "{" ( json-member ("," " "? json-member)* )? "}"
json-member ::= json-string ":" " "? json-value
json-array ::= "[" ( json-value ("," " "? json-value)* )? "]"
json-string ::= "\"" json-char* "\""
json-char ::= [^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] )
json-integer ::= "-"? ( "0" | [1-9] [0-9]* )
json-number ::= json-integer ( "." [0-9]+ )? ( [eE] [-+]? [0-9]+ )?
json-boolean ::= "true" | "false"
"""

_TYPES = {
    "string": "json-string",
    "integer": "json-integer",
    "number": "json-number",
    "float": "json-number",
    "boolean": "json-boolean",
    "array": "json-array",
    "object": "json-object",
    "dict": "json-object",
    "null": '"null"',
}


def literal(text: str) -> str:
    """The text as a quoted GBNF literal.

    >>> literal('say "hi"')
    '"say \\\\"hi\\\\""'
    """
    parts = []
    for char in text:
        if char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif char == "\0" or "\ud800" <= char <= "\udfff":
            raise ConfigError(f"The action {text!r} holds {char!r}, which no model can write. Remove the character.")
        elif char.isprintable():
            parts.append(char)
        else:
            code = ord(char)
            parts.append(f"\\x{code:02X}" if code < 0x80 else f"\\U{code:08X}")
    return '"' + "".join(parts) + '"'


def one_of(texts: Iterable[str], *, prefix: str = "") -> str:
    """A grammar whose answers are exactly these texts, each behind ``prefix`` (a space, after a cue)."""
    alternatives = list(dict.fromkeys(texts))
    if not alternatives or "" in alternatives:
        raise ConfigError(f"Admissible actions must be one or more texts that are not empty; got {alternatives!r}.")
    choices = " | ".join(literal(text) for text in alternatives)
    return f"root ::= {literal(prefix)} ({choices})" if prefix else f"root ::= {choices}"


def tool_calls(tools: Sequence[ToolSpec]) -> str:
    """A grammar for either one ``{"name": ..., "arguments": {...}}`` of these tools or a text without a brace first."""
    rules: dict[str, str] = {}
    names = []
    for index, tool in enumerate(tools):
        names.append(f"tool-{index}")
        head = '{"name": ' + json.dumps(tool.name) + ', "arguments": '
        body = _object(tool.parameters, f"tool-{index}", rules)
        rules[names[-1]] = f'{literal(head)} {body} "}}"'
    lines = [f"root ::= {' | '.join(names)} | text", r"text ::= [^{\x00] [^\x00]*"]
    lines += [f"{name} ::= {body}" for name, body in rules.items()]
    return "\n".join(lines) + _JSON_RULES


def _value(schema: Any, name: str, rules: dict[str, str]) -> str:
    if not isinstance(schema, dict):
        return "json-value"
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return "(" + " | ".join(literal(json.dumps(value)) for value in schema["enum"]) + ")"
    kind = schema.get("type")
    if kind in ("object", "dict") and isinstance(schema.get("properties"), dict):
        return _object(schema, name, rules)
    if kind == "array" and "items" in schema:
        item = _value(schema["items"], f"{name}-item", rules)
        rules[f"{name}-list"] = f'"[" ( {item} ("," " "? {item})* )? "]"'
        return f"{name}-list"
    return _TYPES.get(kind, "json-value") if isinstance(kind, str) else "json-value"


def _object(schema: dict[str, Any], name: str, rules: dict[str, str]) -> str:
    """Properties in the order of the schema: the required ones always, each other one or not."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return '"{}"' if isinstance(properties, dict) else "json-object"
    required = set(schema.get("required") or ())
    order = [key for key in properties if key in required] + [key for key in properties if key not in required]
    members = []
    for index, key in enumerate(order):
        value = _value(properties[key], f"{name}-p{index}", rules)
        members.append((literal(json.dumps(key) + ": ") + " " + value, key in required))
    return f'"{{" {_members(members)} "}}"'


def _members(members: Sequence[tuple[str, bool]]) -> str:
    """Comma-separated members of which the leading ones are required: no comma too many, whatever is left out."""
    needed = [text for text, required in members if required]
    optional = [text for text, required in members if not required]
    body = ' ", " '.join(needed)
    if needed:
        return body + "".join(f' (", " {text})?' for text in optional)
    choices = [
        text + "".join(f' (", " {later})?' for later in optional[index + 1 :]) for index, text in enumerate(optional)
    ]
    return f"( {' | '.join(choices)} )?"
