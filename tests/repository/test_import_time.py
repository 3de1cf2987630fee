"""What a user waits for before anything happens: CPU seconds of a fresh process, best of five."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LIMIT_CPU_S = 0.3
HEAVY = ("torch", "transformers", "aiohttp", "rich", "matplotlib", "sqlite3", "xllamacpp", "textworld", "bm25s")


def cpu_seconds(command: list[str]) -> float:
    """CPU time of one process and what it waited for; unlike wall time, other work on the machine hardly moves it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("arguments", [["-c", "import potstill"], ["-m", "potstill", "--help"]], ids=["import", "help"])
def test_starts_within_the_limit(arguments: list[str]) -> None:
    best = min(cpu_seconds([sys.executable, *arguments]) for _ in range(5))
    assert best < LIMIT_CPU_S


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom potstill.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
