"""What other packages add: entry points by group and name, loaded only when asked for.

It knows the groups and how to blame the right package. It does not know the built-in parts; their owners pass the
names along, so that a mistyped name is compared with everything there is.

A package adds an environment with, in its ``pyproject.toml``::

    [project.entry-points."potstill.environments"]
    warehouse = "warehouse_agent.environment:Warehouse"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from potstill.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = {
    "model": "potstill.models",
    "environment": "potstill.environments",
    "embedder": "potstill.embedders",
    "checker": "potstill.checkers",
}
"""What may be added, and the entry-point group that it is found under."""


def names(what: str) -> list[str]:
    """Names that installed packages add, sorted. ``what`` is a key of ``GROUPS``."""
    return sorted({entry.name for entry in _entries(what)})


def origin(what: str, name: str) -> str:
    """The package and version that registered a name; nothing is loaded. Raises ``UnknownName``."""
    for entry in _entries(what):
        if entry.name == name:
            return _package(entry)
    raise UnknownName(what, name, names(what))


def load(what: str, name: str, built_in: Iterable[str] = ()) -> Any:
    """The object that a package registered under this name.

    Raises ``UnknownName`` (comparing with ``built_in`` too) if there is none, and ``ConfigError`` naming the package
    if it cannot be imported or if two packages claim the name.
    """
    entries = _entries(what)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        raise UnknownName(what, name, {*built_in, *(entry.name for entry in entries)})
    if len({entry.value for entry in found}) > 1:
        packages = " and ".join(sorted({_package(entry) for entry in found}))
        raise ConfigError(f"The {what} '{name}' is registered by {packages}. Uninstall all but one of them.")
    try:
        return found[0].load()
    except Exception as error:
        raise ConfigError(
            f"The {what} '{name}' of the package {_package(found[0])} cannot be loaded: "
            f"{type(error).__name__}: {error}. Update or uninstall that package."
        ) from error


def _entries(what: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    if what not in GROUPS:
        raise UnknownName("kind of plug-in", what, GROUPS)
    return list(entry_points(group=GROUPS[what]))


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
