"""``potstill serve``: settings from a file or from flags, a server, a few lines on stderr. Wiring only."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.errors import ConfigError, PotstillError

if TYPE_CHECKING:
    from potstill.serve.settings import Gateway

COLUMNS = ("route", "mode", "teacher", "teacher_at", "student", "student_at")
MODES = ("record", "shadow", "cascade", "student")
LOCAL = "local:"
ROLES = ("teacher", "student")
DIALECTS = ("openai-chat", "openai-responses", "anthropic")


@click.command()
@click.option("--teacher", metavar="URL#MODEL", help="The strong model: http://HOST/v1#MODEL. Every name leads to it.")
@click.option(
    "--student",
    metavar="URL#MODEL",
    help="The cheap model, or tuned:PATH, run by this process. Either may be local:NAME, on this machine.",
)
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    default="openai-chat",
    show_default=True,
    help="What the teacher speaks; clients may speak any.",
)
@click.option("--playbook", metavar="NAME", help="The playbook that students are shown, of each tenant its own.")
@click.option(
    "--tuned", metavar="FOLDER", help="What the student at URL#MODEL is, where 'distill weights --student lm' made it."
)
@click.option("--allow-demonstrations", is_flag=True, help="Show a tuned student what it was not tuned with.")
@click.option("--mode", type=click.Choice(MODES), help="[default: record; shadow with a student]")
@click.option(
    "--key-env", metavar="NAME", help="Variable with the teacher's key. [default: clients' keys are passed on]"
)
@click.option(
    "--config", "file", type=click.Path(dir_okay=False), help="The gateway's TOML file, for all of the above."
)
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any free one. [default: 8000]")
@click.option("--db", help="The store: an SQLite file, or postgresql://... [default: potstill.db]")
@click.option("--check", is_flag=True, help="Check the settings, print the routes and stop.")
@json_option
@click.pass_context
def serve(ctx: click.Context, /, file: str | None, check: bool, json_mode: bool, **flags: Any) -> None:
    """Stand between an agent and its models: record every call, and let the student answer where it is trusted.

    Give the agent http://HOST:PORT/v1 as its base URL (Anthropic's clients: without /v1). It speaks chat completions,
    responses and messages. Ctrl-C lets answers that are under way end.
    """
    local = _Local()
    try:
        settings = _settings(ctx, file, flags, local if not check else None)
        if check:
            _preflight(settings)
            return show(settings, json_mode=json_mode)
        _serve(settings)
    finally:
        local.close()


def show(settings: Gateway, *, json_mode: bool) -> None:
    """Print where each name leads."""
    from potstill.serve.preflight import hints_of, warnings_of
    from potstill.serve.routes import Routes
    from potstill.serve.tenants.unpriced import unpriced_before

    warnings = (*warnings_of(settings), *_without_book(settings), *unpriced_before(settings), *hints_of(settings))
    for warning in warnings:
        note(f"note: {warning}")
    rows = []
    for target in Routes(settings).targets():
        student = target.student
        rows.append(
            [
                target.route.name,
                target.route.mode.value,
                target.teacher.model,
                target.teacher.upstream,
                student.title if student else "",
                student.upstream if student else "",
            ]
        )
    if settings.passthrough is not None:
        rows.append(["(any other)", "record", "(as asked)", settings.passthrough, "", ""])
    elif settings.default_route is not None:
        note(f"note: names without a route lead to '{settings.default_route}'")
    if json_mode:
        emit_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        return
    emit_table(COLUMNS, rows, json_mode=False)


def _without_book(settings: Gateway) -> list[str]:
    """Routes whose playbook no tenant has: nobody is shown one until it is there."""
    from potstill.errors import StoreError
    from potstill.trajectories.opening import is_url, read_store, shown

    routes = [route for route in settings.routes if route.playbook.name and route.student is not None]
    if not routes:
        return []
    there: set[str] = set()
    if is_url(settings.db) or Path(settings.db).expanduser().exists():
        try:
            with read_store(settings.db) as store:
                there = {info.name for info in store.playbooks(None)}
        except StoreError:
            return []  # said by who opens it to write
    return [
        f"route '{route.name}' shows the playbook '{route.playbook.name}', which is not there yet in "
        f"{shown(settings.db)}: its student is shown none until it is"
        for route in routes
        if route.playbook.name not in there
    ]


def _preflight(settings: Gateway) -> None:
    """Raises what would keep these settings from being served."""
    from potstill.serve import preflight

    preflight.check(settings, os.environ.get(settings.admin_key_env) or None)


def _serve(settings: Gateway) -> None:
    from potstill.serve.preflight import hints_of
    from potstill.serve.server import GatewayServer
    from potstill.trajectories.opening import shown

    def started(url: str) -> None:
        gc.collect()
        gc.freeze()  # what is loaded by now stays: full collections need not walk it again and again
        note(f"potstill listens on {url}: give your agent the base URL {url}/v1")
        note(f"recording into {shown(settings.db)}; Ctrl-C stops")
        for hint in (*_without_book(settings), *hints_of(settings)):
            note(f"note: {hint}")

    def draining(requests: int) -> None:
        what = "1 request" if requests == 1 else f"{requests:,} requests"
        note(f"draining, {what}, for up to {settings.limits.drain_s:g} s; Ctrl-C again to stop at once")

    admin_key = os.environ.get(settings.admin_key_env) or None
    server = GatewayServer(settings, admin_key=admin_key, on_started=started, on_draining=draining, fold_at_end=True)
    try:
        server.run()
    except KeyboardInterrupt:
        raise click.Abort from PotstillError("answers under way were let end, and what was recorded is kept")


def _settings(ctx: click.Context, file: str | None, flags: dict[str, Any], local: _Local | None) -> Gateway:
    import msgspec

    from potstill.serve import settings_file
    from potstill.serve.settings import Mode

    changed = {name: flags.pop(name) for name in ("host", "port", "db")}
    typed = {name for name in flags if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    if file is not None:
        if typed:
            raise ConfigError(
                f"--config and --{min(typed).replace('_', '-')} exclude each other: write it into the file."
            )
        settings = settings_file.read(file)
        if ctx.get_parameter_source("db") is click.core.ParameterSource.DEFAULT_MAP:
            changed["db"] = None
    else:
        if flags["teacher"] is None:
            raise ConfigError("Nobody to ask. Type: potstill serve --teacher http://HOST/v1#MODEL, or --config FILE")
        mode = flags.pop("mode")
        ours: dict[str, dict[str, str]] = {}
        for role in ROLES:
            spec = flags[role]
            if spec is not None and spec.startswith(LOCAL):
                flags[role], ours[role] = local.start(spec) if local is not None else checked_local(spec)
        settings = settings_file.from_flags(mode=Mode(mode) if mode else None, **flags)
        settings = _of_ours(settings, ours)
    settings = msgspec.structs.replace(
        settings, **{name: value for name, value in changed.items() if value is not None}
    )
    return settings_file.checked(settings, file or "the command line")


def _of_ours(settings: Gateway, headers: dict[str, dict[str, str]]) -> Gateway:
    """Upstreams that are our own llama.cpp, by role: its port wants a key of its own, its samples share one prompt, and
    what it answers costs no money."""
    import msgspec

    replace = msgspec.structs.replace
    upstreams = tuple(
        replace(one, headers=headers[one.name], n_shares_prompt=True, pass_key=False) if one.name in headers else one
        for one in settings.upstreams
    )
    models = tuple(replace(one, price_as="free") if one.upstream in headers else one for one in settings.models)
    return replace(settings, upstreams=upstreams, models=models)


def checked_local(spec: str) -> tuple[str, dict[str, str]]:
    """What stands for a local model that is not started. Raises ``UnknownName`` or ``ConfigError`` for one that cannot
    be, ``MissingExtra`` without llama.cpp."""
    from potstill.models import packages
    from potstill.models.llama_server import needs_llama_cpp

    name = spec.removeprefix(LOCAL)
    if name.endswith(".gguf"):
        _untuned(name)
    else:
        packages.path_of(name)
    needs_llama_cpp()
    return f"http://127.0.0.1:0/v1#{_shown(name)}", {}


def _untuned(file: str) -> Path:
    """A GGUF file that may be asked anything. Raises ``ConfigError`` for one that is absent or a tuned student."""
    from potstill.models.tuned_file import refuse_tuned

    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"There is no file {file}. Type: {LOCAL}NAME ('potstill models list' shows names)")
    refuse_tuned(path)
    return path


def _shown(name: str) -> str:
    """What clients are told of a model: never where its file lies."""
    return Path(name).stem if name.endswith(".gguf") else name


class _Local:
    """llama.cpp servers of our own, one for each model, for as long as the gateway runs."""

    SLOTS = 4
    CONTEXT_TOKENS = 8192

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}

    def start(self, spec: str) -> tuple[str, dict[str, str]]:
        """Address of the model and the headers that it wants. Raises as ``models.packages.get``."""
        name = spec.removeprefix(LOCAL)
        if name not in self._servers:
            self._servers[name] = self._started(name)
        server = self._servers[name]
        return f"{server.url}/v1#{_shown(name)}", server.headers

    def _started(self, name: str) -> Any:
        from potstill.models import packages
        from potstill.models.llama_server import LlamaServer

        path = _untuned(name) if name.endswith(".gguf") else packages.get(name)
        threads = max(1, (os.cpu_count() or 2) - 1)
        note(f"loading {path.name}")
        return LlamaServer(
            path, threads=threads, context_tokens=self.CONTEXT_TOKENS, slots=self.SLOTS, alias=_shown(name)
        )

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
