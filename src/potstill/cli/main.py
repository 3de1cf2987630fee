"""The command ``potstill``: knows every subcommand by name and one line of help, and imports only the one that is run.

It also turns what goes wrong into one line on stderr and an exit code (see ``potstill.errors``). It prints no data.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click

from potstill import __version__, config
from potstill.cli import output
from potstill.errors import DiskFull, PotstillError, UnknownName

INTERRUPTED = 130
WITHOUT_SETTINGS = frozenset({"config", "demo"})
"""``config`` must work when the settings do not; the demo is the same for everyone."""

ONLY_WHERE = {"trajectories": frozenset({"db", "namespace"})}
"""Where most options are filters: a setting must never hide recorded episodes."""


class Subcommand(NamedTuple):
    target: str
    """``module:attribute`` of the click command."""
    help: str


SUBCOMMANDS = {
    "demo": Subcommand("potstill.cli.demo:demo", "Watch a small model alone, with demonstrations, in a cascade."),
    "serve": Subcommand("potstill.cli.serve:serve", "Record an agent's calls and route them: change its base_url."),
    "run": Subcommand("potstill.cli.run:run", "Record arms on the same tasks and seeds."),
    "distill": Subcommand("potstill.cli.distill:distill", "Hand a teacher's knowledge down to a student."),
    "measure": Subcommand("potstill.cli.measure:measure", "Report success, cost and cost per success."),
    "audit": Subcommand("potstill.cli.audit:audit", "Tell from logs where the money goes and what could be saved."),
    "plan": Subcommand("potstill.cli.plan:plan", "Predict what each way to use a student would cost."),
    "calibrate": Subcommand("potstill.cli.calibrate:calibrate", "Find the threshold that keeps a share of success."),
    "replay": Subcommand("potstill.cli.replay:replay", "Replay a cascade of votes on recorded samples."),
    "compare": Subcommand("potstill.cli.compare:compare", "Compare two runs on the same tasks, with a verdict."),
    "prices": Subcommand("potstill.cli.prices:prices", "Show or refresh the dated price table."),
    "trajectories": Subcommand(
        "potstill.cli.trajectories:trajectories", "List, show, export, import and remove episodes."
    ),
    "playbook": Subcommand(
        "potstill.cli.playbook:playbook", "Look at, change, import and export what agents have learnt."
    ),
    "keys": Subcommand("potstill.cli.keys:keys", "Make, list and revoke virtual keys of a gateway's tenants."),
    "models": Subcommand("potstill.cli.models:models", "List, fetch and check models."),
    "envs": Subcommand("potstill.cli.envs:envs", "List and check environments and their tasks."),
    "edge": Subcommand("potstill.cli.edge:edge", "Run a trained policy with numpy alone."),
    "compress": Subcommand(
        "potstill.cli.compress:compress", "Make a trained student smaller, as far as the gate lets."
    ),
    "export": Subcommand("potstill.cli.export:export", "Write a trained policy for another runtime."),
    "lineage": Subcommand("potstill.cli.lineage:lineage", "Tell where a trained artefact comes from."),
    "config": Subcommand("potstill.cli.config:config", "Show the settings in force and their sources."),
}


@dataclass
class State:
    """What the group's options mean for the error handling in ``main``."""

    debug: bool = False


class LazyGroup(click.Group):
    """A group whose help needs no subcommand's module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        return load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in SUBCOMMANDS:
            raise UnknownName("command", args[0], SUBCOMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, subcommand.help) for name, subcommand in SUBCOMMANDS.items()])


def load(name: str) -> click.Command:
    """Import a subcommand. Raises ``PotstillError`` if its own module is not there."""
    module_name, _, attribute = SUBCOMMANDS[name].target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise PotstillError(
            f"The command '{name}' is missing from this installation ({module_name}). "
            "Type: pip install --force-reinstall potstill"
        ) from error
    command = getattr(module, attribute)
    assert isinstance(command, click.Command), f"{SUBCOMMANDS[name].target} is not a click command"
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="potstill %(version)s")
@click.option("--debug", is_flag=True, envvar="POTSTILL_DEBUG", help="Show tracebacks [or set POTSTILL_DEBUG=1].")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run your agent on a cheap model, escalate to the expensive one only when needed, and prove what it saved.

    Data go to stdout (a table on a terminal, tab-separated in a pipe, JSON with --json), progress and hints to stderr.
    Exit codes: 1 unexpected, 2 wrong option or setting, 3 model, 4 environment, 5 store, 6 budget reached, 130 Ctrl-C.
    """
    ctx.ensure_object(State).debug = debug
    name = ctx.invoked_subcommand
    if name is not None and name not in WITHOUT_SETTINGS:
        given = config.load().given()
        allowed = ONLY_WHERE.get(name, given.keys())
        ours = {setting: value for setting, value in given.items() if setting in allowed}
        ctx.default_map = {name: option_defaults(load(name), ours)}


def option_defaults(command: click.Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """What click takes as defaults: the user's settings under the names of the options that they belong to."""
    defaults: dict[str, Any] = {}
    for parameter in command.params:
        for option in parameter.opts:
            setting = option.removeprefix("--").replace("-", "_")
            if option.startswith("--") and setting in given and parameter.name is not None:
                several = isinstance(parameter, click.Option) and parameter.multiple
                defaults[parameter.name] = (given[setting],) if several else given[setting]
    if isinstance(command, click.Group):
        defaults |= {name: option_defaults(nested, given) for name, nested in command.commands.items()}
    return defaults


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with the documented exit code."""
    state = State(debug=bool(os.environ.get("POTSTILL_DEBUG")))
    try:
        result = cli.main(
            None if arguments is None else list(arguments), prog_name="potstill", standalone_mode=False, obj=state
        )
        sys.stdout.flush()
    except Exception as error:
        if state.debug and not isinstance(error, click.ClickException | click.Abort):
            raise
        sys.exit(report(error))
    sys.exit(result if isinstance(result, int) else 0)


def report(error: Exception) -> int:
    """Say in one line on stderr what went wrong; give the exit code."""
    match error:
        case click.Abort():
            hint = str(error.__cause__ or "") or "what was recorded is kept; --resume continues a run that had begun"
            return _say(f"interrupted: {hint}", INTERRUPTED)
        case click.UsageError():
            where = error.ctx.command_path if error.ctx is not None else "potstill"
            return _say(f"error: {error.format_message()} Type: {where} --help", error.exit_code)
        case click.ClickException():
            return _say(f"error: {error.format_message()}", error.exit_code)
        case PotstillError():
            return _say(f"error: {error}", error.exit_code)
        case BrokenPipeError():
            # The reader has gone: stdout must not be flushed again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case OSError():
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return _say(f"error: {error}", DiskFull.exit_code if full else PotstillError.exit_code)
        case _:
            text = f"error: unexpected {type(error).__name__}: {error}. 'potstill --debug ...' shows where"
            return _say(text, PotstillError.exit_code)


def _say(text: str, exit_code: int) -> int:
    click.echo(output.visible(output.without_passwords(" ".join(text.split()))), err=True)
    return exit_code
