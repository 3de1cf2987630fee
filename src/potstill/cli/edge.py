"""``potstill edge``: run a trained policy with numpy alone, and copy what runs it to a small machine.

Callbacks parse and print; the runtime is ``potstill.edge``, which knows nothing of potstill.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from potstill.cli.output import emit_table, json_option, note, visible
from potstill.errors import BadModelFile, ConfigError

if TYPE_CHECKING:
    from potstill.edge.policy import Policy


@click.group()
def edge() -> None:
    """Run a trained policy with numpy alone."""


@edge.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--http", "port", type=click.IntRange(0, 65535), metavar="PORT", help="Serve POST /act on 127.0.0.1.")
@json_option
def run(file: Path, port: int | None, json_mode: bool) -> int:
    """Decide with the policy FILE: questions as JSON lines on stdin, one decision a line on stdout.

    \b
    A question for a policy that reads texts, and for one that reads vectors:
      {"goal": "...", "observation": "...", "past": [{"observation": "...", "action": "..."}], "admissible": ["..."]}
      {"vector": [0.1, 0.2]}

    \b
    A line on stdout is the action and its probability, or with --json all probabilities. A question that cannot be
    answered gives an empty line, or with --json {"error": "..."}; the exit code is 2 then.
    With --http the same questions are the bodies of POST /act; port 0 takes a free one.
    """
    policy = opened(file)
    if port is None:
        return _answer(policy, sys.stdin.buffer, json_mode)
    return _serve(policy, port)


@edge.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a copy that is there.")
@json_option
def copy(directory: Path, force: bool, json_mode: bool) -> None:
    """Copy the runtime as DIRECTORY/edge: a folder that needs numpy and nothing else.

    \b
    There it is started with:
      python -m edge FILE
    """
    import potstill.edge

    source, target = Path(potstill.edge.__file__).parent, directory / "edge"
    if target.exists() and not force:
        raise ConfigError(f"{target} exists. Type: potstill edge copy {directory} --force")
    try:
        target.mkdir(parents=True, exist_ok=True)
        rows = [
            (str(target / path.name), Path(shutil.copyfile(path, target / path.name)).stat().st_size)
            for path in sorted(source.glob("*.py"))
        ]
    except OSError as error:
        raise ConfigError(f"Cannot copy the runtime to {target}: {error.strerror}.") from None
    emit_table(("file", "bytes"), rows, json_mode=json_mode, title="Copied")
    note(f"Start it in {directory} with: python -m edge FILE")


def opened(file: Path) -> Policy:
    """The policy in a file. Raises ``ConfigError`` where it cannot be read, ``BadModelFile`` where it is none."""
    from potstill.edge.policy import open_policy

    try:
        return open_policy(file)
    except OSError as error:
        raise ConfigError(f"Cannot read the policy {file}: {error.strerror}.") from None
    except ValueError as error:
        raise BadModelFile(str(error)) from None


def _answer(policy: Policy, lines: Iterable[bytes], json_mode: bool) -> int:
    from potstill.edge.act import answers

    code = 0
    for number, found in enumerate(answers(policy, lines), start=1):
        if "error" in found:
            code = ConfigError.exit_code
            note(f"question {number}: {found['error']}")
        if json_mode:
            click.echo(json.dumps(found))
        elif "error" in found:
            click.echo("")
        else:
            click.echo(f"{visible(' '.join(found['action'].split()))}\t{found['probability']:.6g}")
        sys.stdout.flush()
    return code


def _serve(policy: Policy, port: int) -> int:
    from potstill.edge.server import ADDRESS, server

    try:
        listening = server(policy, port)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {ADDRESS}:{port}: {error.strerror}. Type --http 0 for a free port."
        ) from None
    note(f"POST http://{ADDRESS}:{listening.server_address[1]}/act  (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt), listening:
        listening.serve_forever()
    return 0
