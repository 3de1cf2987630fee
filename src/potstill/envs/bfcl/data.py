"""The multi-turn tasks of the Berkeley Function Calling Leaderboard as the package ``bfcl-eval`` ships them.

What it knows: where its files are, how a task reads, its tools as JSON Schema, its gold calls. What it does not do:
execute.

Of the package only the data, the tool classes and two comparison functions are used; that takes ``mpmath`` and none of
its other dependencies. Source: BFCL v3, "Multi-Turn", https://gorilla.cs.berkeley.edu/blogs/13_bfcl_v3_multi_turn.html.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from potstill.errors import BadTask, ConfigError
from potstill.types import Struct, ToolSpec

CATEGORIES = ("base", "miss_func", "miss_param", "long_context")
NEW_TOOLS_MESSAGE = "I have updated some more functions you can choose from. What about now?"
"""What the user says in the turn that brings the missing tool (the package's own prompt)."""

_PACKAGE = "bfcl_eval"
_SCHEMA_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


class GoldCall(Struct, frozen=True, kw_only=True):
    """A call of the reference solution; ``arguments`` by name, ``positional`` in order."""

    name: str
    positional: tuple[Any, ...] = ()
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class Entry(Struct, frozen=True, kw_only=True):
    """One task: what the user says turn by turn, the state at the start, the gold calls of each turn."""

    id: str
    category: str
    turns: tuple[str, ...]
    gold: tuple[tuple[GoldCall, ...], ...]
    classes: tuple[str, ...]
    initial: dict[str, Any]
    missing: dict[int, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Tools that the agent gets only from that turn on."""


def number_of(entry_id: str) -> int:
    """Tasks of the four categories with the same number are variants of one another."""
    return int(entry_id.rsplit("_", 1)[1])


@functools.cache
def entries(category: str) -> Mapping[str, Entry]:
    """All tasks of a category by id, in the package's order."""
    rows = _lines(f"data/BFCL_v4_multi_turn_{category}.json")
    gold = {
        row["id"]: row["ground_truth"] for row in _lines(f"data/possible_answer/BFCL_v4_multi_turn_{category}.json")
    }
    return {row["id"]: _entry(row, gold[row["id"]], category) for row in rows}


@functools.cache
def tools_of(class_name: str) -> tuple[ToolSpec, ...]:
    """The documented tools of a class."""
    files = _module("constants.executable_backend_config").MULTI_TURN_FUNC_DOC_FILE_MAPPING
    return tuple(
        ToolSpec(name=row["name"], description=row["description"], parameters=_json_schema(row["parameters"]))
        for row in _lines(f"data/multi_turn_func_doc/{files[class_name]}")
    )


def new_instance(class_name: str, entry: Entry) -> Any:
    """A tool object in the state that the task starts from."""
    config = _module("constants.executable_backend_config")
    path = config.CLASS_FILE_PATH_MAPPING[class_name].removeprefix(f"{_PACKAGE}.")
    instance = getattr(_module(path), class_name)()
    if class_name not in config.STATELESS_CLASSES:
        state = copy.deepcopy(entry.initial.get(class_name, {}))
        instance._load_scenario(state, long_context=entry.category == "long_context")
    return instance


def checker() -> Any:
    """The package's module with ``state_checker`` and ``response_checker``."""
    return _module("eval_checker.multi_turn_eval.multi_turn_checker")


def parse_gold(text: str) -> GoldCall:
    """Read a call such as ``sort('a.txt')`` as data: a name and literals, nothing is evaluated."""
    node = ast.parse(text.strip(), mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise BadTask(f"A gold call of bfcl-eval is not a plain call: {text}")
    return GoldCall(
        name=node.func.id,
        positional=tuple(ast.literal_eval(value) for value in node.args),
        arguments={str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords},
    )


# --- inside ---------------------------------------------------------------------------------------------------------


def _entry(row: dict[str, Any], gold: list[list[str]], category: str) -> Entry:
    missing = {int(turn): tuple(names) for turn, names in row.get("missed_function", {}).items()}
    turns = tuple(
        "\n".join(message["content"] for message in turn) if turn else NEW_TOOLS_MESSAGE for turn in row["question"]
    )
    return Entry(
        id=row["id"],
        category=category,
        turns=turns,
        gold=tuple(tuple(parse_gold(call) for call in turn) for turn in gold),
        classes=tuple(row["involved_classes"]),
        initial=row["initial_config"],
        missing=missing,
    )


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The package's parameter types as JSON Schema types."""
    result = dict(schema)
    if "type" in result:
        result["type"] = _SCHEMA_TYPES.get(result["type"], result["type"])
    if "properties" in result:
        result["properties"] = {name: _json_schema(part) for name, part in result["properties"].items()}
    if "items" in result:
        result["items"] = _json_schema(result["items"])
    return result


def _lines(path: str) -> list[dict[str, Any]]:
    text = (_folder() / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


@functools.cache
def _folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise _not_installed(_PACKAGE)
    return Path(found.origin).parent


def _module(path: str) -> Any:
    _folder()
    try:
        return importlib.import_module(f"{_PACKAGE}.{path}")
    except ModuleNotFoundError as error:
        raise _not_installed(str(error.name)) from error


def _not_installed(name: str) -> ConfigError:
    return ConfigError(
        f"The environment 'bfcl' needs the package '{name}'. "
        "Type: pip install mpmath && pip install --no-deps 'bfcl-eval==2026.3.23'"
    )
