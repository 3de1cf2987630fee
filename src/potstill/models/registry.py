"""Opens a model by the text that names it, such as ``openai:gpt-6-luna`` or ``local:smollm2-135m``.

What it knows: which kind a prefix means, and that other packages add kinds (entry points, group ``potstill.models``).
What it does not do: import a kind before it is opened, read configuration, or fetch weights.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from potstill import plugins
from potstill.errors import ConfigError, UnknownName
from potstill.models.limits import RetryPolicy, Timeouts
from potstill.models.providers import PROVIDERS
from potstill.options import checked_options
from potstill.protocols import Model
from potstill.types import Struct

Opener = Callable[..., Model]


class ModelKind(Struct, frozen=True, kw_only=True):
    """A way to name a model."""

    spec: str
    kind: str
    description: str
    available: bool | None = None
    """Weights are in the cache, or a key is set; None where there is nothing to tell before it is asked."""


def open_model(spec: str, **options: Any) -> Model:
    """The model that ``spec`` names.

    ==========================  ====================================================================================
    ``http:URL#MODEL``          any OpenAI-compatible endpoint (``URL#MODEL`` alone too)
    ``PROVIDER:MODEL``          a row of ``models.providers``: ``openai:``, ``anthropic:``, ``deepseek:``, ``vllm:`` ...
    ``PROVIDER:URL#MODEL``      that provider's facts at another address
    ``local:NAME_OR_PATH``      llama.cpp in this process: a known name or a GGUF file
    ``torch:NAME_OR_PATH``      the same weights in PyTorch, fast at scoring actions (extra ``lm``)
    ``tuned:PATH``              a language model that was tuned on a teacher's episodes: its folder or its export
    ``policy:FILE``             a small trained policy, run with numpy; chooses among admissible actions only
    ``rules:FILE[#STUDENT]``    certified rules, and whoever is asked where none answers (any model of this list)
    ``expert``                  the environment's own expert (options ``counter``, ``priced_as``)
    ``replay:FILE[#MODEL]``     recorded answers
    ``python:MODULE:FUNC#NAME`` what a function of yours opens: ``FUNC(NAME, **options)``
    ==========================  ====================================================================================

    ``options`` go to the model's constructor. Raises ``UnknownName``, ``ConfigError``, and what the kind itself raises.
    """
    if spec.startswith(("http://", "https://")):
        return _open_http("http", spec, options)
    prefix, colon, rest = spec.partition(":")
    if prefix in PROVIDERS:
        return _open_http(prefix, rest, options)
    if prefix in _KINDS:
        if not rest and prefix != "expert":
            raise ConfigError(f"'{spec}' names no model. Type for example: {_EXAMPLES[prefix]}")
        return _with_options(spec, _KINDS[prefix], (rest,), options)
    added = plugins.names("model")
    if prefix in added:
        opener: Opener = plugins.load("model", prefix)
        return _with_options(spec, opener, (rest,), options)
    if not colon and prefix in _local_names():
        raise ConfigError(f"'{spec}' is a local model. Type: local:{spec}")
    raise UnknownName("kind of model", prefix, [*_KINDS, *PROVIDERS, *added])


def list_models() -> list[ModelKind]:
    """Everything that can be named, for the command line: local models first, then providers, experts, plug-ins."""
    from potstill.models.packages import known_packages, path_of

    models = [
        ModelKind(
            spec=f"local:{package.name}",
            kind="local",
            description=f"{package.description} ({package.licence}, {package.size_bytes / 1e6:.0f} MB)",
            available=path_of(package.name) is not None,
        )
        for package in known_packages()
    ]
    models.append(ModelKind(spec="local:FILE.gguf", kind="local", description="any GGUF file"))
    torch = "a local model by name, file or folder in PyTorch: fast at scoring actions (extra lm)"
    models.append(ModelKind(spec="torch:NAME_OR_PATH", kind="local", description=torch))
    tuned = "a language model tuned by 'distill weights --student lm' (extra lm), or its export to GGUF or CTranslate2"
    models.append(ModelKind(spec="tuned:PATH", kind="local", description=tuned))
    policy = "a small trained policy, run with numpy: chooses among admissible actions only"
    models.append(ModelKind(spec="policy:FILE", kind="local", description=policy))
    rules = "certified rules (potstill distill rules), and a student where none answers: rules:FILE#policy:FILE"
    models.append(ModelKind(spec="rules:FILE[#STUDENT]", kind="local", description=rules))
    models += [_provider_row(name) for name in PROVIDERS]
    models.append(
        ModelKind(spec="expert", kind="expert", description="the environment's own expert, priced as a named model")
    )
    models.append(ModelKind(spec="replay:FILE[#MODEL]", kind="replay", description="recorded answers"))
    models.append(ModelKind(spec="python:MODULE:FUNCTION#NAME", kind="python", description="a model of your own"))
    for name in plugins.names("model"):
        models.append(ModelKind(spec=f"{name}:...", kind="plug-in", description=plugins.origin("model", name)))
    return models


def _provider_row(name: str) -> ModelKind:
    from potstill.models.keys import find_key

    provider = PROVIDERS[name]
    facts = ["one prompt for n samples" if provider.n_shares_prompt else "samples asked for apart"]
    facts += ["reports its cache"] if provider.reports_cache else []
    facts += [provider.note] if provider.note else []
    key = f"key: {provider.key_variables[0]}" if provider.key_variables else ""
    return ModelKind(
        spec="http:URL#MODEL" if name == "http" else f"{name}:MODEL",
        kind="endpoint",
        description="; ".join([*facts, key] if provider.key_required else facts),
        available=find_key(provider.key_variables) is not None if provider.key_required else None,
    )


def _open_http(provider: str, rest: str, options: dict[str, Any]) -> Model:
    from potstill.models.http import HttpModel

    url, _, model = rest.partition("#") if rest.startswith(("http://", "https://")) else ("", "", rest)
    if not model or (not url and not PROVIDERS[provider].base_url and "base_url" not in options):
        example = f"{provider}:MODEL" if PROVIDERS[provider].base_url else "http:http://localhost:8000/v1#MODEL"
        raise ConfigError(
            f"'{provider}:{rest}' lacks {'an address' if model else 'a model'}. Type for example: {example}"
        )
    if url:
        options = {"base_url": url, **options}
    options = _gathered("timeouts", options, Timeouts)
    for option, struct in (("timeouts", Timeouts), ("retry", RetryPolicy)):
        if isinstance(options.get(option), dict):
            options = {**options, option: _converted(option, options[option], struct)}
    return _with_options(f"{provider}:{rest}", HttpModel, (model,), {"provider": provider, **options})


def _gathered(option: str, options: dict[str, Any], struct: type[Struct]) -> dict[str, Any]:
    """Fields of a struct that were given as options of their own (``idle_s=300``) put into the option for it."""
    given = {name: options[name] for name in struct.__struct_fields__ if name in options}
    if not given or not isinstance(options.get(option) or {}, dict):
        return options
    rest = {name: value for name, value in options.items() if name not in given}
    return {**rest, option: {**(options.get(option) or {}), **given}}


def _converted(option: str, value: dict[str, Any], struct: type[Struct]) -> Struct:
    """An option from a command line or a file as the struct that the model takes."""
    unknown = sorted(set(value) - set(struct.__struct_fields__))
    if unknown:
        raise UnknownName(f"setting of {option}", unknown[0], struct.__struct_fields__)
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{option} = {value} is not valid: {error}.") from None


def _open_local(rest: str, **options: Any) -> Model:
    opener: Opener = importlib.import_module("potstill.models.local").open_local
    return _with_options(f"local:{rest}", opener, (rest,), options)


def _open_torch(rest: str, **options: Any) -> Model:
    opener: Opener = importlib.import_module("potstill.models.torch_lm").open_torch
    return _with_options(f"torch:{rest}", opener, (rest,), options)


def _open_tuned(rest: str, **options: Any) -> Model:
    opener: Opener = importlib.import_module("potstill.models.tuned").open_tuned
    return _with_options(f"tuned:{rest}", opener, (rest,), options)


def _open_policy(rest: str, **options: Any) -> Model:
    opener: Opener = importlib.import_module("potstill.models.policy").open_policy
    return _with_options(f"policy:{rest}", opener, (rest,), options)


def _open_rules(rest: str, *, uncertified: bool = False, **options: Any) -> Model:
    """``options`` are the student's."""
    path, _, spec = rest.partition("#")
    if options and not spec:
        raise UnknownName(f"option of rules:{rest}", next(iter(options)), ["uncertified"])
    opener: Opener = importlib.import_module("potstill.models.rules").open_rules
    student = open_model(spec, **options) if spec else None
    return _with_options(f"rules:{rest}", opener, (path,), {"student": student, "uncertified": uncertified})


def _open_expert(rest: str, **options: Any) -> Model:
    from potstill.models.expert import EstimateCounter, ExpertModel

    if rest:
        raise ConfigError(f"'expert:{rest}' is not a model: the expert is the environment's. Type: expert")
    counter = options.pop("counter", None) or EstimateCounter()
    return _with_options("expert", ExpertModel, (counter,), options)


def _open_replay(rest: str, **options: Any) -> Model:
    from potstill.models.replay import ReplayModel

    path, _, model = rest.partition("#")
    return _with_options(f"replay:{rest}", ReplayModel.from_file, (path,), {"model": model or None, **options})


def _open_python(rest: str, **options: Any) -> Model:
    target, _, name = rest.partition("#")
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"'python:{rest}' names no function. Type for example: {_EXAMPLES['python']}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"There is no module '{error.name}' for 'python:{rest}'. Is its folder on PYTHONPATH?"
        ) from error
    if not callable(getattr(module, attribute, None)):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UnknownName(f"function of {module_name}", attribute, functions)
    return _with_options(f"python:{rest}", getattr(module, attribute), (name,), options)


_KINDS: dict[str, Opener] = {
    "local": _open_local,
    "torch": _open_torch,
    "tuned": _open_tuned,
    "policy": _open_policy,
    "rules": _open_rules,
    "expert": _open_expert,
    "replay": _open_replay,
    "python": _open_python,
}
_EXAMPLES = {
    "local": "local:smollm2-135m",
    "torch": "torch:smollm2-135m",
    "tuned": "tuned:student-lm",
    "policy": "policy:student.policy",
    "rules": "rules:house.rules.json",
    "replay": "replay:episodes.jsonl",
    "python": "python:own_model:open_matcher#words",
}


def _with_options(spec: str, opener: Opener, arguments: tuple[Any, ...], options: dict[str, Any]) -> Model:
    """Call the opener; an option that it does not take is the user's error and names what it does take."""
    parameters = inspect.signature(opener).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for option in options:
            if option not in parameters:
                known = [name for name in list(parameters)[len(arguments) :] if name != "provider"]
                known += Timeouts.__struct_fields__ if "timeouts" in known else ()
                raise UnknownName(f"option of {spec}", option, known)
    return opener(*arguments, **checked_options(spec, opener, options))


def _local_names() -> set[str]:
    from potstill.models.packages import known_packages

    return {package.name for package in known_packages()}
