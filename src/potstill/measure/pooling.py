"""Which runs an arm is made of, and a warning where they were configured differently.

What it knows: runs' configurations as plain data, as ``potstill run`` stores them, and which of their settings matter
to an arm. What it does not do: read stores, or keep such runs apart: whoever reads the numbers chooses.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

RunConfigs = Mapping[str, Mapping[str, Any]]
"""Name of a run -> its configuration."""

_HOW_MUCH = frozenset({"run_id", "n", "seed", "seeds", "max_cost_usd", "prices_date", "namespace", "arms"})
"""Settings that say which episodes are played, not how; arms are compared one by one."""
_OF_TEACHER = frozenset({"teacher", "teacher_options", "price_teacher_as"})
_OF_STUDENT = frozenset({"student", "student_options", "price_student_as"})
_OF_DEMONSTRATIONS = frozenset({"context", "demonstrations_split"})
_NO_MATTER = frozenset({"student_options.threads", "environment_options.directory"})
"""How fast, and where the same tasks lie on a disk."""
_NAMED = 4
_NOT_THERE = "default"


def pooling_note(arm: str, label: str, kind: str, runs: Mapping[str, Iterable[str]], configs: RunConfigs) -> str | None:
    """A sentence if the episodes of ``arm`` come from runs that were not configured alike, else ``None``.

    ``runs``: name of a run -> fingerprints of the configurations that its episodes carry, compared where ``configs``
    lacks a run.
    """
    if len(runs) < 2:
        return None
    if all(name in configs for name in runs):
        settings = [_settings(configs[name], arm, kind) for name in runs]
        keys = dict.fromkeys(key for one in settings for key in one)
        different = [key for key in keys if len({one.get(key, _NOT_THERE) for one in settings}) > 1]
        if not different:
            return None
        values = (
            f"{key}: {', '.join(dict.fromkeys(one.get(key, _NOT_THERE) for one in settings))}" for key in different
        )
        how = f" ({'; '.join(_first(list(values)))})"
    else:
        if len({tuple(sorted(prints)) for prints in runs.values()}) < 2:
            return None
        how = ""
    names = ", ".join(_first([f"'{name}'" for name in runs]))
    return f"'{label}' pools runs of different configuration{how}: {names}; choose one with --run"


def _first(texts: list[str]) -> list[str]:
    more = len(texts) - _NAMED
    return texts if more <= 0 else [*texts[:_NAMED], f"{more} more"]


def _settings(config: Mapping[str, Any], arm: str, kind: str) -> dict[str, str]:
    """What decides how this arm acted, flat, each value as JSON."""
    arms = config.get("arms") or ()
    own = next((one for one in arms if isinstance(one, Mapping) and one.get("name") == arm), {})
    ignored = set(_HOW_MUCH)
    if kind in ("teacher", "control"):
        ignored |= _OF_STUDENT
    if kind in ("student", "control"):
        ignored |= _OF_TEACHER
    if kind == "teacher" or (kind != "control" and own.get("context", "none") == "none"):
        ignored |= _OF_DEMONSTRATIONS
    flat = _flat({key: value for key, value in config.items() if key not in ignored}) | _flat(own, "arm.")
    return {key: value for key, value in flat.items() if key not in _NO_MATTER}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        elif inner is not None:
            found[prefix + key] = _short(inner if isinstance(inner, str) else msgspec.json.encode(inner).decode())
    return found


def _short(text: str) -> str:
    """A value to show and to compare; of a long one its start and a checksum."""
    return text if len(text) <= 40 else f"{text[:24]}... ({zlib.crc32(text.encode()):08x})"
