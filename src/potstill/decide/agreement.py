"""Agreement rules: when two samples are the same decision.

A rule maps a reply to a canonical key; two samples agree if their keys are equal. ``None`` is no valid action: it never
agrees with anything, itself included. arXiv 2512.02543 uses exact match on ALFWorld and a model-written verifier for
code; for tool-calling agents a canonical tool call makes that verifier unnecessary.

What it does not do: judge whether an action is good, or call a model.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import unicodedata
from collections.abc import Hashable, Sequence
from typing import Any

from potstill.errors import UnknownName
from potstill.protocols import AgreementRule
from potstill.types import Action, Reply, ToolCall


class Exact:
    """The action's text, white space at the ends aside, must be equal (and admissible where the environment lists)."""

    name = "exact"

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        if reply.tool_calls:
            return tuple((call.name, call.arguments) for call in reply.tool_calls)
        text = reply.text.strip()
        if not text or (admissible is not None and text not in admissible):
            return None
        return text

    def action(self, reply: Reply, admissible: Sequence[str] | None) -> Action:
        return Action(text=reply.text.strip(), tool_calls=reply.tool_calls)


def normalize_text(text: str) -> str:
    """Fold case, Unicode forms, white space, and quotes, marks and full stops around the text.

    >>> normalize_text(' "Go  to  Desk 1." ')
    'go to desk 1'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", folded).strip(" \t\n.!;:,'\"`*>")


class Normalized(Exact):
    """Texts are equal after folding case, white space and surrounding punctuation."""

    name = "normalized"

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        if reply.tool_calls:
            return super().key(reply, admissible)
        text = normalize_text(reply.text)
        if not text or (admissible is not None and _admissible_form(text, admissible) is None):
            return None
        return text

    def action(self, reply: Reply, admissible: Sequence[str] | None) -> Action:
        found = _admissible_form(normalize_text(reply.text), admissible or ())
        return Action(text=found or reply.text.strip(), tool_calls=reply.tool_calls)


def _admissible_form(normalized: str, admissible: Sequence[str]) -> str | None:
    return next((action for action in admissible if _normal_action(action) == normalized), None)


_normal_action = functools.lru_cache(maxsize=4096)(normalize_text)
"""An environment lists the same actions step after step, and each is compared with every sample."""


class Json(Normalized):
    """Tool calls: names and normalised arguments must be equal, order of keys and ``1`` against ``1.0`` aside.

    A text without tool calls counts as the answer in words: two of them agree as under ``normalized``.
    """

    name = "json"

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        if not reply.tool_calls:
            text = super().key(reply, admissible)
            return None if text is None else ("text", text)
        keys = [_call_key(call) for call in reply.tool_calls]
        return None if any(key is None for key in keys) else tuple(keys)


def _call_key(call: ToolCall) -> tuple[str, str] | None:
    try:
        arguments = json.loads(call.arguments or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(arguments, dict):
        return None
    return call.name, json.dumps(_plain(arguments), sort_keys=True, ensure_ascii=False)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _plain(value: Any) -> Any:
    """Whole floats become integers and strings lose surrounding white space, so that equal meanings compare equal."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


class PythonAst(Exact):
    """Python code: the syntax trees must be equal, so comments, layout and quotes do not count. Nothing is executed."""

    name = "python-ast"

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        try:
            tree = ast.parse(strip_code_fence(reply.text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        return ast.dump(tree) if tree.body else None

    def action(self, reply: Reply, admissible: Sequence[str] | None) -> Action:
        return Action(text=strip_code_fence(reply.text), tool_calls=reply.tool_calls)


def strip_code_fence(text: str) -> str:
    """The inside of the first Markdown code fence, or the text itself where there is none."""
    match = re.search(r"```[\w+-]*\n(.*?)```", text, flags=re.DOTALL)
    return match.group(1) if match else text.strip()


_RULES: dict[str, AgreementRule] = {rule.name: rule for rule in (Exact(), Normalized(), Json(), PythonAst())}


def rule_names() -> list[str]:
    return sorted(_RULES)


def agreement_rule(name: str) -> AgreementRule:
    """The rule of that name. Raises ``UnknownName`` with the nearest one."""
    if name not in _RULES:
        raise UnknownName("agreement rule", name, _RULES)
    return _RULES[name]
