"""PDDL to SAS, the slow part of loading a game: once per domain and problem, then from disk.

It knows what of the planner's parsed task a game needs while it is played, and writes that with the SAS text as JSON.
It does not play, and leaves out the second translation that the stock game makes for planning.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from potstill.envs.alfworld import libraries
from potstill.envs.alfworld.cache import TextCache, default_directory
from potstill.types import Struct

FORMAT = "1"
MEMORY_ENTRIES = 32
"""Translations kept in memory (about 0.3 MB each); older ones are read from disk again."""

Atom = tuple[str, tuple[str, ...]]


class Translation(Struct, frozen=True, kw_only=True):
    """One game as the planner sees it. ``parameters``: per action its (name, type) pairs, names without ``?``."""

    sas: str
    types: tuple[tuple[str, tuple[str, ...]], ...]
    objects: dict[str, str]
    parameters: dict[str, tuple[tuple[str, str], ...]]
    initial: tuple[Atom, ...]


class Translator:
    """Translates with a memory of the last games and a disk cache that outlives the process."""

    def __init__(self, cache_directory: Path | None = None) -> None:
        self._disk = TextCache((cache_directory or default_directory()) / "alfworld-sas")
        self._memory: OrderedDict[str, Translation] = OrderedDict()
        self.memory_entries = MEMORY_ENTRIES

    def __len__(self) -> int:
        """How many translations are in memory."""
        return len(self._memory)

    def translate(self, domain: str, problem: str) -> Translation:
        key = _key(domain, problem)
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        translation = self._from_disk(key)
        if translation is None:
            translation = _translate(domain, problem)
            self._disk.put(key, msgspec.json.encode(translation).decode())
        self._memory[key] = translation
        if len(self._memory) > self.memory_entries:
            self._memory.popitem(last=False)
        return translation

    def _from_disk(self, key: str) -> Translation | None:
        text = self._disk.get(key)
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=Translation)
        except msgspec.DecodeError:
            return None


def _key(domain: str, problem: str) -> str:
    digest = hashlib.sha256()
    versions = [f"{name}={version}" for name, version in sorted(libraries.installed_versions().items())]
    for part in (FORMAT, *versions, domain, problem):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _translate(domain: str, problem: str) -> Translation:
    task, sas = libraries.pddl_to_sas(domain, problem)
    return Translation(
        sas=sas,
        types=tuple((kind.name, tuple(kind.supertype_names)) for kind in task.types),
        objects={item.name: item.type_name for item in task.objects},
        parameters={
            action.name: tuple((parameter.name.strip("?"), parameter.type_name) for parameter in action.parameters)
            for action in task.actions
        },
        initial=tuple(atom for atom in map(_atom, task.init) if atom is not None),
    )


def _atom(item: Any) -> Atom | None:
    """A fact of the initial state; equalities, costs and distances are not facts of the game."""
    if type(item).__name__ == "Atom":
        return None if item.predicate == "=" else (item.predicate, tuple(item.args))
    name = str(item.expression.value)
    if item.fluent.symbol == "total-cost" or name.isdigit():
        return None
    return name, tuple(item.fluent.args)
