"""What a resumed making must have in common with the one that it goes on from: its identity, names with values as text.

Checkpoints and searches keep one. What it does not do: read or write files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from potstill.errors import ConfigError

NAMED = 4
"""Differences that are told."""


def must_be_equal(what: str, written: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises ``ConfigError`` that names what differs, with both values. ``what``: such as 'The checkpoint FILE'."""
    different = differences(_fields(written), _fields(wanted))
    if different:
        more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        raise ConfigError(
            f"{what} (its value / this one's): {', '.join(different[:NAMED])}{more}. Give the same options and data, "
            "or remove it to begin anew."
        )


def differences(written: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What is not equal, each with both values; of what is too long to be read the length, or where it differs.

    >>> differences({"width": 64, "seed": 0, "steps": 9}, {"width": 32, "seed": 0})
    ['steps 9 / absent', 'width 64 / 32']
    """
    names = [name for name in sorted({*written, *wanted}) if written.get(name) != wanted.get(name)]
    return [" / ".join(_told(name, written, wanted)) for name in names]


def _told(name: str, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str]:
    ours, theirs = (_short(some[name]) if name in some else "absent" for some in (written, wanted))
    return (f"{name} {ours}", theirs) if ours != theirs else (f"{name} {ours}", f"another of {theirs}")


def _fields(identity: Mapping[str, str]) -> dict[str, Any]:
    """The same, with the fields of values that are JSON objects by themselves: a network's width, not the network."""
    found: dict[str, Any] = {}
    for name, text in identity.items():
        try:
            found |= _flat(name, json.loads(text))
        except ValueError:
            found[name] = text
    return found


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {path: one for key, inner in value.items() for path, one in _flat(f"{name}: {key}", inner).items()}


def _short(value: Any) -> str:
    if isinstance(value, list) and len(str(value)) > 40:
        return f"{len(value)} entries"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
