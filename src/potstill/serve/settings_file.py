"""The gateway's TOML file and the flags that stand for one, as ``settings.Gateway``, checked.

What it knows: the file's tables and every rule between them. What it does not do: keys' values, sockets, or calibration
files. Every mistake is told with the place, what is allowed and the nearest name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from potstill.errors import ConfigError, one_of
from potstill.models.tuned_file import SCHEME, place_of, read_tuned
from potstill.record.offers import checked as check_actions
from potstill.serve.admin_key import is_loopback
from potstill.serve.clients.problems import CHAT
from potstill.serve.settings import Gateway, Mode, Model, Playbook, Route, Upstream
from potstill.serve.upstreams.shaping import NEEDED
from potstill.wire import dialect

TABLES = ("gateway", "upstreams", "models", "routes", "tenants", "limits", "recording", "otel")
_LISTS = ("upstreams", "models", "routes", "tenants")
_FRAMING = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive"}
    | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that say how a message is sent, and to whom."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ANY = "any"
"""Name of the route that flags make: every model's name leads to it."""


def read(path: str | Path) -> Gateway:
    """Raises ``ConfigError``, ``UnknownName``.

    ``[gateway]`` holds what has no table of its own; ``[upstreams.NAME]``, ``[models.NAME]``, ``[routes."NAME"]`` and
    ``[tenants.NAME]`` one thing each; ``[limits]``, ``[recording]`` and ``[otel]`` the rest.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The gateway's file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The gateway's file {path} is not TOML: {error}.") from None
    return parse(tables, str(path))


def parse(tables: dict[str, Any], where: str) -> Gateway:
    for name in tables:
        one_of(f"table in {where}", name, TABLES)
    flat = dict(tables.get("gateway", {}))
    for name in _LISTS:
        flat[name] = [
            {"name": key, **_table(value, f"{name}.{key}", where)} for key, value in _named(tables, name, where)
        ]
    for name in ("limits", "recording", "otel"):
        if name in tables:
            flat[name] = tables[name]
    _known(flat, Gateway, where)
    try:
        return checked(msgspec.convert(flat, Gateway, strict=True), where)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}.") from None


def from_flags(
    teacher: str,
    student: str | None = None,
    *,
    dialect: str = "openai-chat",
    mode: Mode | None = None,
    key_env: str | None = None,
    playbook: str | None = None,
    tuned: str | None = None,
    allow_demonstrations: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    db: str = "potstill.db",
) -> Gateway:
    """A gateway with one route for every model's name. ``teacher`` and ``student``: ``URL#MODEL``; without ``#MODEL``
    the teacher is asked under the name that the client asks for. ``playbook``: what the student is shown.
    ``tuned``: the folder of a student that was tuned."""
    if tuned is not None and student is None:
        raise ConfigError(f"--tuned {tuned} says what the student is, and there is none. Type: --student URL#MODEL")
    if playbook is not None:
        _check_shown(playbook, student, mode)
    upstream, model = _spec("teacher", teacher, dialect, key_env)
    upstreams, models = [upstream], [Model(name="teacher", upstream="teacher", model=model)] if model else []
    if student is not None:
        told = Model(name="student", tuned=tuned, allow_demonstrations=allow_demonstrations)
        if student.startswith(SCHEME):
            if tuned is not None:
                raise ConfigError(f"--student {student} says what the student is. Leave --tuned {tuned} away.")
            models.append(msgspec.structs.replace(told, tuned=student))
        else:
            one, name = _spec("student", student, "openai-chat", None)
            if not name:
                raise ConfigError(f"The student '{student}' names no model. Type: --student {student}#MODEL")
            upstreams.append(one)
            models.append(msgspec.structs.replace(told, upstream="student", model=name))
    if not model:
        if student is not None:
            raise ConfigError(f"With a student, the teacher needs a model's name. Type: --teacher {teacher}#MODEL")
        settings = Gateway(host=host, port=port, db=db, upstreams=tuple(upstreams), passthrough="teacher")
    else:
        mode = mode or (Mode.RECORD if student is None else Mode.SHADOW)
        shown = Playbook(name=playbook or "")
        route = Route(name=ANY, teacher="teacher", student="student" if student else None, mode=mode, playbook=shown)
        settings = Gateway(
            host=host,
            port=port,
            db=db,
            upstreams=tuple(upstreams),
            models=tuple(models),
            routes=(route,),
            default_route=ANY,
        )
    return checked(settings, "the command line")


def _check_shown(playbook: str, student: str | None, mode: Mode | None) -> None:
    """Raises ``ConfigError`` for a playbook that nobody would be shown."""
    if not playbook.strip():
        raise ConfigError(f"--playbook {playbook!r} is no name. Type: potstill playbook list")
    if student is None:
        raise ConfigError(
            f"--playbook {playbook}: students are shown playbooks, and there is none. Type: --student URL#MODEL"
        )
    if mode is Mode.RECORD:
        raise ConfigError(
            f"--playbook {playbook}: in mode record the student is never asked, so nobody would be shown it. Type: "
            "--mode shadow, cascade or student"
        )


def checked(settings: Gateway, where: str) -> Gateway:
    """The settings, if every name leads somewhere. Raises ``ConfigError``, ``UnknownName``."""
    settings = msgspec.structs.replace(settings, models=tuple(map(_without_scheme, settings.models)))
    upstreams, models = _names(settings.upstreams), _names(settings.models)
    routes = _names(settings.routes)
    for upstream in settings.upstreams:
        _check_upstream(upstream, settings, where)
    for model in settings.models:
        _check_model(model, where)
        if model.runs_here:
            continue
        _check_fields(model, next((one for one in settings.upstreams if one.name == model.upstream), None), where)
        one_of(f"upstream (of the model '{model.name}' in {where})", model.upstream, upstreams)
    for route in settings.routes:
        one_of(f"model (teacher of the route '{route.name}' in {where})", route.teacher, models)
        _check_policies(route, settings.models, where)
        if route.student is not None:
            one_of(f"model (student of the route '{route.name}' in {where})", route.student, models)
        elif route.mode is not Mode.RECORD:
            raise ConfigError(f"{where}: the route '{route.name}' is in mode {route.mode.value} and has no student.")
        _check_tuned(route, settings, where)
        if not 0.0 <= route.shadow_share <= 1.0:
            raise ConfigError(f"{where}: shadow_share of '{route.name}' is {route.shadow_share:g}; allowed is 0 to 1.")
    if settings.default_route is not None:
        one_of(f"route (default_route in {where})", settings.default_route, routes)
    if settings.passthrough is not None:
        one_of(f"upstream (passthrough in {where})", settings.passthrough, upstreams)
    if not settings.routes and settings.passthrough is None:
        raise ConfigError(f'{where} has no route. Write: [routes."gpt-6.1-sol"] with teacher = "..."')
    for tenant in settings.tenants:
        for name in tenant.models:
            if not name or "*" in name[:-1]:
                raise ConfigError(
                    f"{where}: models of the tenant '{tenant.name}' hold '{name}'; allowed: a name that clients ask "
                    "for, or the beginning of such names and '*'."
                )
    _check_variable(settings.admin_key_env, "admin_key_env", where)
    _check_numbers(settings, where)
    _check_otel(settings, where)
    return settings


def _without_scheme(model: Model) -> Model:
    """A tuned student's place may be written as commands name it (``tuned:PATH``)."""
    return model if model.tuned is None else msgspec.structs.replace(model, tuned=model.tuned.removeprefix(SCHEME))


def _check_model(model: Model, where: str) -> None:
    """A policy and a tuned student may be run here, everything else is a name at an upstream."""
    if model.policy and (model.upstream or model.model):
        raise ConfigError(
            f"{where}: the model '{model.name}' is the policy {model.policy}, which this process runs itself. Leave "
            "upstream and model out."
        )
    if not model.runs_here and not (model.upstream and model.model):
        raise ConfigError(
            f"{where}: the model '{model.name}' has no {'upstream' if model.model else 'model'}. Write: upstream = "
            '"NAME" and model = "NAME", or policy = "FILE" for a trained policy, or tuned = "PATH" for a tuned model.'
        )
    if model.tuned is not None and model.runs_here and model.model:
        raise ConfigError(
            f"{where}: the model '{model.name}' has tuned = \"{model.tuned}\" and a model without an upstream. Leave "
            "model out to have this process run it, or name the upstream that serves it."
        )


def _check_policies(route: Route, models: Sequence[Model], where: str) -> None:
    ours = {model.name: model for model in models if model.runs_here}
    at = f"{where}: the route '{route.name}'"
    if route.teacher in ours:
        kind = "policy" if ours[route.teacher].policy else "tuned model"
        raise ConfigError(
            f"{at} has the {kind} '{route.teacher}' as teacher; it is run here and answers only what it learnt, so it "
            "can be the student alone."
        )
    if route.actions is not None:
        check_actions(route.actions, at)
    elif route.student in ours and ours[route.student].policy:
        raise ConfigError(
            f"{at} has the policy '{route.student}' as student, and does not say where its requests list the actions. "
            'Write for example: actions = { tool = "act", argument = "action" }'
        )


def _check_tuned(route: Route, settings: Gateway, where: str) -> None:
    """Nothing is added to the prompts of a student that was tuned without it, unless that is wanted."""
    student = next((model for model in settings.models if model.name == route.student), None)
    if student is None or student.tuned is None:
        return
    tuned = read_tuned(place_of(student.tuned))
    shown = "a playbook" if route.playbook.name else "demonstrations" if route.context.k else None
    at = f"{where}: the route '{route.name}'"
    if route.actions is not None and student.runs_here:
        if shown is not None:
            raise ConfigError(
                f"{at} shows its student {shown}, and {student.title} weighs the listed actions after goal, history "
                "and observation alone. Leave it out, or leave actions out and let it write."
            )
        if tuned.voice.reasoning != "none" and tuned.voice.history_turns != 0:
            raise ConfigError(
                f"{at} has actions to weigh, and {student.title} was tuned on past turns with the reasoning of each, "
                "which no client shows. Tune it without past turns (potstill distill weights --history 0), or leave "
                "actions out and let it write."
            )
    if shown is None or student.allow_demonstrations or (tuned.demonstrations and not route.playbook.name):
        return
    raise ConfigError(
        f"{at} shows its student {shown}, and {student.tuned} was tuned without: that "
        "made a tuned SmolLM2-135M half as good. Leave it out, or say allow_demonstrations = true of the model "
        f"'{student.name}' (or type: --allow-demonstrations)."
    )


def _check_upstream(upstream: Upstream, settings: Gateway, where: str) -> None:
    one_of(f"dialect (of the upstream '{upstream.name}' in {where})", upstream.dialect, dialect.NAMES)
    parts = urlsplit(upstream.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"{where}: base_url of the upstream '{upstream.name}' is '{upstream.base_url}'; it must look like "
            "https://HOST/v1, without '?' and '#'."
        )
    if parts.username or parts.password:
        raise ConfigError(f"{where}: base_url of '{upstream.name}' holds a key. Put it into key_env's variable.")
    if upstream.pass_key and (settings.keys_required or settings.tenants or not is_loopback(settings.host)):
        raise ConfigError(
            f"{where}: pass_key of '{upstream.name}' would send the gateway's own keys to it. "
            'Write: key_env = "NAME" (or type: --key-env NAME).'
        )
    _check_fields(upstream, upstream, where)
    for name in (*upstream.headers, *upstream.forward_headers):
        if name.lower() in _FRAMING:
            raise ConfigError(
                f"{where}: '{name}' of '{upstream.name}' belongs to one connection and cannot be set. Leave it out."
            )
    _check_variable(upstream.key_env, f"key_env of the upstream '{upstream.name}'", where)
    if upstream.retries < 0:
        raise ConfigError(f"{where}: retries of '{upstream.name}' is {upstream.retries}; allowed is 0 and more.")


def _check_variable(name: str | None, what: str, where: str) -> None:
    """What is no name of a variable is not repeated: it may be a key."""
    if name is not None and not _VARIABLE.fullmatch(name):
        raise ConfigError(
            f"{where}: {what} must be the name of an environment variable: letters, digits and '_'. If it is the key "
            "itself, take it out, put it into a variable and name that."
        )


def _check_fields(told: Upstream | Model, upstream: Upstream | None, where: str) -> None:
    for name in told.omit:
        if name in NEEDED:
            raise ConfigError(f"{where}: omit of '{told.name}' holds '{name}', which every request needs. Take it out.")
    if told.max_tokens_field is not None and upstream is not None and upstream.dialect != CHAT:
        raise ConfigError(
            f"{where}: max_tokens_field of '{told.name}' is for upstreams of the dialect '{CHAT}'; this one speaks "
            f"'{upstream.dialect}', which has one name for it. Leave it out."
        )


def _check_numbers(settings: Gateway, where: str) -> None:
    if not 0 <= settings.port <= 65535:
        raise ConfigError(f"{where}: port is {settings.port}; allowed is 0 (any free one) to 65535.")
    for name in settings.limits.__struct_fields__:
        if getattr(settings.limits, name) <= 0:
            raise ConfigError(f"{where}: limits.{name} is {getattr(settings.limits, name)}; it must be above 0.")


def _check_otel(settings: Gateway, where: str) -> None:
    told = settings.otel
    parts = urlsplit(told.endpoint)
    named = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    if told.endpoint and not named:
        raise ConfigError(f"{where}: otel.endpoint is '{told.endpoint}'; it must look like http://HOST:4318.")
    if parts.username or parts.password:
        raise ConfigError(
            f"{where}: otel.endpoint holds a key. Put it into a variable and write: "
            'headers_env = { authorization = "NAME" }'
        )
    for name in ("timeout_s", "max_queue_bytes"):
        if getattr(told, name) <= 0:
            raise ConfigError(f"{where}: otel.{name} is {getattr(told, name)}; it must be above 0.")


def _spec(role: str, spec: str, dialect_name: str, key_env: str | None) -> tuple[Upstream, str]:
    spec = spec.removeprefix("http:") if spec.startswith(("http:http://", "http:https://")) else spec
    url, _, model = spec.partition("#")
    if spec.startswith(SCHEME):
        raise ConfigError(f"{spec} can be the student alone: the {role} is asked over HTTP. Type: --student {spec}")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"The {role} '{spec}' is no address. Type: --{role} http://HOST:PORT/v1#MODEL")
    pass_key = key_env is None and role == "teacher"
    return Upstream(name=role, base_url=url, dialect=dialect_name, key_env=key_env, pass_key=pass_key), model


def _named(tables: dict[str, Any], name: str, where: str) -> Iterable[tuple[str, Any]]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: write [{name}.NAME], one table for each.")
    return table.items()


def _table(value: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: [{name}] must be a table.")
    if "name" in value:
        raise ConfigError(f"{where}: [{name}] is named by its heading; leave 'name' out.")
    return value


def _known(value: Any, struct: Any, where: str, path: str = "") -> None:
    """Raise ``UnknownName`` for a field that the structs do not have: a typing error must not go unnoticed."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, inner in value.items():
        one_of(f"setting at {path or 'gateway'} in {where}", key, fields)
        at = f"{path}.{key}" if path else key
        item = _struct_in(fields[key])
        if item is not None:
            for one in inner if isinstance(inner, list) else [inner]:
                if isinstance(one, dict):
                    _known(one, item, where, f"{at}.{one.get('name', '')}".rstrip("."))


def _struct_in(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    return next(
        (arg for arg in getattr(hint, "__args__", ()) if isinstance(arg, type) and issubclass(arg, msgspec.Struct)),
        None,
    )


def _names(rows: Sequence[Upstream | Model | Route]) -> list[str]:
    return [row.name for row in rows]
