"""Which environments there are, by name: our own and those of other packages (entry points ``potstill.environments``).

What it knows: where each one's classes are, without importing them, and which options they take. What it does not do:
run one.

Another package registers an ``EnvironmentPlugin`` under the group; ``module:ATTRIBUTE`` of a plugin, or of an
environment class that lists no tasks, works without registration.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, NamedTuple

import msgspec

from potstill import plugins
from potstill.errors import ConfigError, MissingExtra, UnknownName
from potstill.options import checked_options
from potstill.protocols import Environment, TaskSource
from potstill.types import Struct

GROUP = plugins.GROUPS["environment"]


class EnvironmentPlugin(Struct, frozen=True, kw_only=True):
    """Where an environment lives. ``environment`` and ``source`` are ``module:Class``, imported when first used.

    The environment class has ``instructions: str`` and ``max_steps: int`` (of the class, or of an instance where
    options change them).
    """

    environment: str
    source: str
    summary: str = ""
    rule: str = "normalized"
    """The agreement rule that fits its actions."""
    extra: str = ""
    """The extra of potstill that installs what it needs."""
    also: str = ""
    """What pip must be asked for beside the extra."""


class About(NamedTuple):
    """What the episode loop must know of an environment before it runs one."""

    name: str
    instructions: str
    max_steps: int
    rule: str
    summary: str


BUILT_IN = {
    "acrobot": EnvironmentPlugin(
        environment="potstill.envs.control:AcrobotEnvironment",
        source="potstill.envs.control:AcrobotTasks",
        summary="Acrobot-v1 of gymnasium: two links swing up; vectors, for policies in weights.",
        extra="control",
    ),
    "cart-pole": EnvironmentPlugin(
        environment="potstill.envs.control:CartPoleEnvironment",
        source="potstill.envs.control:CartPoleTasks",
        summary="CartPole-v1 of gymnasium: balance a pole; vectors, for policies in weights.",
        extra="control",
    ),
    "lunar-lander": EnvironmentPlugin(
        environment="potstill.envs.control:LunarLanderEnvironment",
        source="potstill.envs.control:LunarLanderTasks",
        summary="LunarLander-v3 of gymnasium and its rules as expert; vectors, for policies in weights.",
        extra="control",
    ),
    "alfworld": EnvironmentPlugin(
        environment="potstill.envs.alfworld.environment:AlfworldEnvironment",
        source="potstill.envs.alfworld.tasks:AlfworldTasks",
        summary="Household tasks in text, games from a folder (arXiv 2010.03768).",
        extra="alfworld",
    ),
    "bfcl": EnvironmentPlugin(
        environment="potstill.envs.bfcl:BfclEnvironment",
        source="potstill.envs.bfcl:BfclTasks",
        summary="Multi-turn function calling with real tools and checked state (BFCL v3/v4).",
        rule="json",
        extra="bfcl",
        also="--no-deps bfcl-eval==2026.3.23",
    ),
    "house-rules": EnvironmentPlugin(
        environment="potstill.envs.house_rules:HouseRulesEnvironment",
        source="potstill.envs.house_rules:HouseRulesTasks",
        summary="Orders through a workshop whose rules, drawn by a seed, stand in no prompt.",
    ),
    "finance": EnvironmentPlugin(
        environment="potstill.envs.finance:FinanceEnvironment",
        source="potstill.envs.finance:FinanceTasks",
        summary="Questions of FiNER and Formula from files of yours, numbers graded with a tolerance.",
    ),
    "minigrid": EnvironmentPlugin(
        environment="potstill.envs.minigrid:MinigridEnvironment",
        source="potstill.envs.minigrid:MinigridTasks",
        summary="BabyAI grid worlds in text, from wheels alone (arXiv 1810.08272).",
        extra="minigrid",
    ),
    "textworld": EnvironmentPlugin(
        environment="potstill.envs.textworld:TextworldEnvironment",
        source="potstill.envs.textworld:TextworldTasks",
        summary="Text games made on the spot with an exact teacher (arXiv 1806.11532).",
        extra="textworld",
    ),
}


class Factory(Struct, frozen=True, kw_only=True):
    """Makes an environment when called. Plain data, so that it travels to a worker as JSON."""

    name: str
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    def __call__(self) -> Environment:
        environment: Environment = _environment_class(self.name)(**self.options)
        return environment


def environment_names() -> list[str]:
    """All names, sorted; nothing of them is imported."""
    return sorted({*BUILT_IN, *plugins.names("environment")})


def plugin(name: str) -> EnvironmentPlugin:
    """Where an environment lives. Raises ``UnknownName``."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in plugins.names("environment"):
        found = plugins.load("environment", name)
        if not isinstance(found, EnvironmentPlugin):
            raise ConfigError(f"The entry point '{name}' of {GROUP} must be an EnvironmentPlugin, not {found!r}.")
        return found
    if ":" in name:
        found = _load(name)
        if isinstance(found, EnvironmentPlugin):
            return found
        if isinstance(found, type):
            return EnvironmentPlugin(environment=name, source="")
    raise UnknownName("environment", name, environment_names())


def factory(name: str, **options: Any) -> Factory:
    """What makes the environment ``name``. Options that only its task source takes are left out.

    Raises ``UnknownName`` and, for an option that neither takes, ``ConfigError``.
    """
    return Factory(name=name, options=_split(name, options)[0])


def open_source(name: str, *, directory: str | None = None, **options: Any) -> TaskSource:
    """The tasks of the environment ``name``. Options that only the environment takes are left out."""
    if directory is not None:
        options["directory"] = directory
    target = plugin(name).source
    if not target:
        raise ConfigError(f"The environment '{name}' lists no tasks.")
    chosen = _split(name, options)[1]
    source_class = _load(target, name)
    missing = _required(source_class) - set(chosen)
    if missing:
        raise ConfigError(f"The environment '{name}' needs {_options_hint(missing)}.")
    source: TaskSource = source_class(**chosen)
    return source


def describe(name: str, **options: Any) -> About:
    """Instructions, step limit and agreement rule; options may change them (``action_space``)."""
    found = plugin(name)
    subject: Any = _environment_class(name)
    if options:
        subject = factory(name, **options)()
    return About(name, subject.instructions, subject.max_steps, found.rule, found.summary)


# --- inside ---------------------------------------------------------------------------------------------------------


def _environment_class(name: str) -> Any:
    return _load(plugin(name).environment, name)


def _load(target: str, name: str = "") -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        own = bool(error.name) and module_name.startswith(str(error.name))
        if own or not (name in BUILT_IN and BUILT_IN[name].extra):
            raise ConfigError(f"There is no module '{error.name}' for the environment '{name or target}'.") from error
        raise MissingExtra(f"The environment '{name}'", BUILT_IN[name].extra, BUILT_IN[name].also) from error
    if not hasattr(module, attribute):
        raise UnknownName(f"attribute of {module_name}", attribute, [n for n in vars(module) if n[0].isupper()])
    return getattr(module, attribute)


def _split(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options for the environment and for its task source; one that both take goes to both."""
    found = plugin(name)
    for_environment = _accepted(_load(found.environment, name))
    for_source = _accepted(_load(found.source, name)) if found.source else set()
    for option in options:
        if option not in for_environment | for_source:
            if option == "directory":
                raise ConfigError(f"The environment '{name}' has no games in files: leave out --tasks DIR.")
            raise UnknownName(f"option of the environment '{name}'", option, for_environment | for_source)
    return (
        _typed(name, found.environment, {key: value for key, value in options.items() if key in for_environment}),
        _typed(name, found.source, {key: value for key, value in options.items() if key in for_source}),
    )


def _typed(name: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
    return checked_options(f"the environment '{name}'", _load(target, name), options) if options else options


def _parameters(kind: Any) -> list[inspect.Parameter]:
    return [
        p for p in inspect.signature(kind).parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _accepted(kind: Any) -> set[str]:
    return {parameter.name for parameter in _parameters(kind)}


def _required(kind: Any) -> set[str]:
    return {parameter.name for parameter in _parameters(kind) if parameter.default is parameter.empty}


def _options_hint(missing: set[str]) -> str:
    words = {"directory": "a folder with its games (--tasks DIR)"}
    return ", ".join(words.get(name, f"--option {name}=...") for name in sorted(missing))
