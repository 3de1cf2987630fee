"""Settings: ``potstill.toml``, then ``POTSTILL_*`` variables, then flags; each later one wins.

It knows the settings' names, types and where each value came from. It does not know the commands: the command line
offers each setting as the default of the option with the same name (``max_cost`` is ``--max-cost``).
Keys for endpoints are no settings: they live in the environment or a keyring, never in a file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from potstill.errors import ConfigError, UnknownName
from potstill.types import Struct

FILE_NAME = "potstill.toml"
PATH_VARIABLE = "POTSTILL_CONFIG"
PREFIX = "POTSTILL_"
NOT_SETTINGS = frozenset({PATH_VARIABLE, "POTSTILL_CACHE", "POTSTILL_DEBUG", "POTSTILL_TEST_DATA"})
"""Variables with the prefix that other parts read and that have no option; those that end in ``_KEY`` are keys."""


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting and its default. ``None``: the command's own default, or it asks for the option."""

    db: str = "potstill.db"
    namespace: str = "default"
    env: str | None = None
    tasks: str | None = None
    teacher: str | None = None
    student: str | None = None
    price_teacher_as: str | None = None
    price_student_as: str | None = None
    cpu_hour_usd: float | None = None
    max_cost: float | None = None
    jobs: int | None = None
    ranker: str | None = None


HELP = {
    "db": "The store: an SQLite file, or postgresql://user@host/database.",
    "namespace": "The tenant; demonstrations, playbooks and models never cross it.",
    "env": "Environment: alfworld, house-rules, minigrid, ... (potstill envs list) or a plug-in.",
    "tasks": "Folder with the games, where they are files.",
    "teacher": "The strong model, for example expert.",
    "student": "The cheap model, for example local:smollm2-135m.",
    "price_teacher_as": "Price the teacher as this model (needed for experts).",
    "price_student_as": "Price the student as this model.",
    "cpu_hour_usd": "Price local models by CPU time, in dollars an hour.",
    "max_cost": "Start no new episode after this many dollars.",
    "jobs": "Episodes at a time.",
    "ranker": "How demonstrations are found: bm25, onnx:PATH or http:URL#MODEL.",
}


class Source(StrEnum):
    """Where a setting's value came from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Loaded(Struct, frozen=True, kw_only=True):
    """The settings in force."""

    settings: Settings
    sources: dict[str, Source]
    """One for each setting."""
    path: str | None = None
    """The file that was read; None if there is none."""
    ignored: tuple[str, ...] = ()
    """Variables that look like settings and are none."""

    def given(self) -> dict[str, Any]:
        """Only what the user set, by name."""
        return {name: getattr(self.settings, name) for name, source in self.sources.items() if source != Source.DEFAULT}


def load(
    *,
    start: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read file, environment and flags (``None`` values of flags were not given).

    Raises ``ConfigError`` with file and line, or the variable, for a name or value that is not allowed.
    """
    variables = os.environ if environment is None else environment
    path = find(start, variables)
    values: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.__struct_fields__, Source.DEFAULT)
    from_file = {} if path is None else _read(path)
    from_environment = {
        name: variables[PREFIX + name.upper()] for name in sources if PREFIX + name.upper() in variables
    }
    from_flags = {name: value for name, value in (flags or {}).items() if value is not None}
    for name in from_flags:
        _known(name, "")
    for source, given in (
        (Source.FILE, from_file),
        (Source.ENVIRONMENT, from_environment),
        (Source.FLAG, from_flags),
    ):
        for name, value in given.items():
            values[name] = _typed(name, value, _place(source, name, path), strict=source is Source.FILE)
            sources[name] = source
    return Loaded(
        settings=Settings(**values),
        sources=sources,
        path=None if path is None else str(path),
        ignored=tuple(sorted(_strangers(variables))),
    )


def find(start: Path | None = None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The file in force: ``POTSTILL_CONFIG``, else ``potstill.toml`` here or in the nearest folder above.

    Raises ``ConfigError`` if ``POTSTILL_CONFIG`` names a file that is not there.
    """
    named = (os.environ if environment is None else environment).get(PATH_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ConfigError(f"{PATH_VARIABLE} names '{named}', which is not a file. Type: potstill config init")
        return Path(named)
    folder = (start or Path.cwd()).resolve()
    return next((place / FILE_NAME for place in (folder, *folder.parents) if (place / FILE_NAME).is_file()), None)


def template() -> str:
    """A file with every setting, commented out, to start from."""
    lines = ["# Settings of potstill. Flags and POTSTILL_* variables win over this file.", ""]
    defaults, types = Settings(), get_type_hints(Settings)
    for name in Settings.__struct_fields__:
        value = getattr(defaults, name)
        if value is None:  # something of the right type, to be replaced
            value = 1 if types[name] == int | None else 1.0 if types[name] == float | None else ""
        shown = msgspec.json.encode(value).decode()
        lines += [f"# {HELP[name]}", f"# {name} = {shown}", ""]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for name in values:
        _known(name, f"{path}:{_line(text, name)}: ")
    return values


def _known(name: str, place: str) -> None:
    if name not in Settings.__struct_fields__:
        raise ConfigError(f"{place}{UnknownName('setting', name, Settings.__struct_fields__)}")


def _line(text: str, name: str) -> int:
    """The line of a top-level key or table; 1 if it is written in a way that is not found."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _place(source: Source, name: str, path: Path | None) -> str:
    if source is Source.FILE and path is not None:
        return f"{path}:{_line(path.read_text(encoding='utf-8'), name)}: '{name}'"
    return f"{PREFIX}{name.upper()}" if source is Source.ENVIRONMENT else f"--{name.replace('_', '-')}"


def _typed(name: str, value: Any, place: str, *, strict: bool) -> Any:
    expected = next(field.type for field in msgspec.structs.fields(Settings) if field.name == name)
    try:
        return msgspec.convert(value, expected, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{place} is {value!r}: {error}") from error


def _strangers(variables: Mapping[str, str]) -> set[str]:
    settings = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    ours = {name for name in variables if name.startswith(PREFIX) and not name.endswith("_KEY")}
    return ours - settings - NOT_SETTINGS
