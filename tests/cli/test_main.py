"""Whatever goes wrong is one line on stderr and a documented exit code."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import click
import pytest
from terminal import environment, potstill

from potstill import errors
from potstill.cli import main as command_line


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> object:
    """Puts a command ``boom`` that raises the given error into the command line."""

    def arrange(error: BaseException) -> None:
        @click.command()
        def boom() -> None:
            raise error

        monkeypatch.setitem(command_line.SUBCOMMANDS, "boom", command_line.Subcommand("tests:boom", "Fails."))
        monkeypatch.setattr(command_line, "load", lambda name: boom)

    return arrange


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.ConfigError("no\nsuch"), 2, "error: no such"),
        (errors.KeyRefused("401"), 3, "error: 401"),
        (errors.BadTask("corrupt"), 4, "error: corrupt"),
        (errors.DiskFull("full"), 5, "error: full"),
        (errors.BudgetReached("$2"), 6, "error: $2"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.db"),
            5,
            "error: [Errno 28] No space left on device: 'x.db'",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'"),
        (KeyboardInterrupt(), 130, "interrupted: what was recorded is kept; --resume continues a run that had begun"),
        (KeyboardInterrupt("type: potstill run --resume"), 130, "interrupted: type: potstill run --resume"),
        (ValueError("odd"), 1, "error: unexpected ValueError: odd. 'potstill --debug ...' shows where"),
    ],
)
def test_errors_become_a_line_and_a_code(
    failing: object, error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)  # type: ignore[operator]
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["boom"])
    assert stopped.value.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == line


def test_debug_shows_where(failing: object) -> None:
    failing(errors.StoreError("broken"))  # type: ignore[operator]
    with pytest.raises(errors.StoreError, match="broken"):
        command_line.main(["--debug", "boom"])


def test_a_mistyped_command_is_compared_with_those_there_are() -> None:
    done = potstill("mesure")
    assert done.returncode == 2
    assert done.stderr.startswith("error: No command named 'mesure'. Did you mean 'measure'?")
    assert len(done.stderr.splitlines()) == 1


def test_a_mistyped_option_says_so_without_a_traceback() -> None:
    done = potstill("config", "show", "--jsn")
    assert done.returncode == 2
    assert "--json" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_module_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    missing = command_line.Subcommand("potstill.cli.not_there:x", "Not there.")
    monkeypatch.setitem(command_line.SUBCOMMANDS, "gone", missing)
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["--help"])
    assert stopped.value.code == 0
    assert "Not there." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["gone"])
    assert stopped.value.code == 1
    assert "The command 'gone' is missing from this installation" in capsys.readouterr().err


@pytest.mark.parametrize("name", command_line.SUBCOMMANDS)
def test_every_command_loads_and_its_help_agrees(name: str) -> None:
    command = command_line.load(name)
    assert command.name == name
    done = potstill(name, "--help")
    assert done.returncode == 0
    assert f"Usage: potstill {name}" in done.stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys\nfrom potstill.cli import main, output\n" + (
        "import click\n@click.command()\ndef long():\n    for i in range(100000): output.emit_text('x' * 100)\n"
        "main.SUBCOMMANDS['long'] = main.Subcommand('x:long', 'x')\nmain.load = lambda name: long\nmain.main(['long'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 1


def test_control_c_in_a_real_process_exits_with_130() -> None:
    code = "import sys, time, click\nfrom potstill.cli import main\n" + (
        "@click.command()\ndef wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "main.SUBCOMMANDS['wait'] = main.Subcommand('x:wait', 'x')\nmain.load = lambda name: wait\nmain.main(['wait'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.strip().startswith("interrupted: what was recorded is kept")
