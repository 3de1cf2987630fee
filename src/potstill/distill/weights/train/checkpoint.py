"""What a killed run goes on from: one file that is always whole, and that says which run it belongs to.

It holds weights, the optimizer's moments, the generator of random numbers, the position and the best weights so far.
Written beside and renamed, after an fsync: a kill leaves the earlier one. Read without running any code in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.distill.weights.policies.pytorch import load_torch
from potstill.durable import replacing
from potstill.errors import ConfigError

FORMAT = 1
NAMED = 4
"""Differences from another training that are told."""


def write_checkpoint(path: Path, identity: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Replace the file as a whole. ``identity``: everything that must be equal in the run that goes on from it."""
    content = {"format": FORMAT, "identity": dict(identity), **state}
    with replacing(path) as file:
        load_torch().save(content, file)


def read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote. Raises ``ConfigError`` for another run's, or something that is no checkpoint."""
    try:
        content = load_torch().load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"There is no checkpoint {path} to resume. Leave --resume away to begin anew.") from None
    except Exception as error:
        raise ConfigError(
            f"{path} is not a checkpoint that can be read ({type(error).__name__}). Remove it to begin anew."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path} is no checkpoint of this version (format {FORMAT}). Remove it to begin anew.")
    _must_be_equal(path, content["identity"], identity)
    return content


def _must_be_equal(path: Path, written: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    different = differences(_fields(written), _fields(wanted))
    if different:
        more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        raise ConfigError(
            f"The checkpoint {path} belongs to another training (its value / this one's): "
            f"{', '.join(different[:NAMED])}{more}. Give the same options and data, or remove it to begin anew."
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
            value = json.loads(text)
        except ValueError:
            value = text
        found |= {f"{name}: {key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _short(value: Any) -> str:
    if isinstance(value, list) and len(str(value)) > 40:
        return f"{len(value)} entries"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
