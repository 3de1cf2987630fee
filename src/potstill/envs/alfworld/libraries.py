"""The one place that touches alfworld, textworld and fast-downward: imports, versions, private names.

It knows which releases the fast game was compared with, byte for byte. With any other release the stock classes of
textworld play the game: slower, never different. The packages load on the first game, not with potstill.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module, metadata
from typing import Any

from potstill.errors import MissingExtra

COMPARED_WITH = {"alfworld": "0.4.2", "textworld": "1.7.0", "fast_downward_textworld": "20.6.4"}
"""Package releases whose observations the fast game was proved to reproduce."""

FEATURE = "ALFWorld (its packages jericho and fast-downward-textworld build with a C compiler: gcc, g++, make)"


@lru_cache(maxsize=1)
def installed_versions() -> dict[str, str]:
    """Releases that are installed. Raises ``MissingExtra`` if one of the packages is absent."""
    versions = {}
    for package in COMPARED_WITH:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise MissingExtra(FEATURE, "alfworld") from None
    return versions


@lru_cache(maxsize=1)
def fast_path_allowed() -> bool:
    """Whether the installed releases are the ones compared; warns once where they are not."""
    installed = installed_versions()
    other = [f"{name} {version}" for name, version in installed.items() if version != COMPARED_WITH[name]]
    if other:
        expected = ", ".join(f"{name} {version}" for name, version in COMPARED_WITH.items())
        warnings.warn(
            f"ALFWorld runs on its stock classes (about ten times slower): {', '.join(other)} is installed, "
            f"the fast path was compared with {expected}.",
            RuntimeWarning,
            stacklevel=2,
        )
    return not other


def load(module: str) -> Any:
    """A module of the extra, by name; its types are not annotated."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{FEATURE}: {error}", "alfworld") from error


@contextmanager
def _restored_argv() -> Iterator[None]:
    """The translator writes its own command line into ``sys.argv``; put the caller's back."""
    argv = sys.argv
    try:
        yield
    finally:
        sys.argv = argv


def pddl_to_sas(domain: str, problem: str) -> tuple[Any, str]:
    """The parsed task and its SAS text."""
    with _restored_argv():
        task, sas = load("fast_downward").pddl2sas(domain, problem)
    return task, sas


def parse_document(text: str) -> Any:
    """A game's grammar document: an object with ``actions`` and production rules."""
    return load("textworld.envs.pddl.logic").GameLogic(domain="", grammar=text)


def production_rules(logic: Any) -> dict[str, list[Any]]:
    return dict(logic.grammar._rules)


def parse_symbols(text: str) -> list[Any]:
    """One right-hand side or template of the context-sensitive grammar, as textworld's own parser reads it."""
    symbols: list[Any] = load("textworld.envs.pddl.textgen")._parse_and_convert(text, rule_name="symbols")
    return symbols


def parse_query(text: str) -> list[Any]:
    """The predicates of a conjunctive query such as ``openable(r:receptacle) & opened(r:receptacle)``."""
    return list(load("textworld.logic").Rule.parse_conjunctive_query(text).preconditions)


def type_hierarchy(types: tuple[tuple[str, tuple[str, ...]], ...]) -> Any:
    """textworld's hierarchy; a type that is declared twice keeps its first declaration, as in the stock game."""
    logic = load("textworld.logic")
    hierarchy = logic.TypeHierarchy()
    for name, parents in types:
        try:
            hierarchy.add(logic.Type(name, parents))
        except ValueError:
            continue
    return hierarchy


def shown_names(entities: dict[str, Any]) -> dict[str, str]:
    """ALFWorld's names for the PDDL ids (``drawer 3``), unshuffled."""
    demangler = load("alfworld.agents.utils.misc").Demangler(game_infos=entities, shuffle=False)
    return {identifier: demangler.demangle_alfred_name(identifier) for identifier in entities}


_free_engines: list[Any] = []


def borrow_engine() -> Any:
    """A copy of fast-downward's shared library; it holds one game. Give it back with ``return_engine``."""
    return _free_engines.pop() if _free_engines else load("fast_downward").load_lib()


def return_engine(engine: Any) -> None:
    """Keep the library for the next game: unloading it (fast-downward's ``close_lib``) crashes the process later."""
    _free_engines.append(engine)


def stock_environment() -> Any:
    """textworld's and alfworld's own classes, with the facts that the expert needs."""
    textworld = load("textworld")
    pddl = load("textworld.envs").PddlEnv
    infos = textworld.EnvInfos(feedback=True, won=True, admissible_commands=True, facts=True)
    return load("alfworld.agents.environment.alfred_tw_env").AlfredDemangler(pddl(infos), shuffle=False)
