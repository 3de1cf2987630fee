"""A store on PostgreSQL where its packages are not installed: what to type, from every command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from potstill.errors import MissingExtra
from potstill.trajectories.opening import open_store, read_store

URL = "postgresql://me:secret@127.0.0.1:1/x"
WITHOUT = """
import runpy, sys
sys.modules[{name!r}] = None
sys.argv = {argv!r}
runpy.run_module("potstill", run_name="__main__")
"""
TYPED = "Type: pip install 'potstill[postgres]'"


@pytest.mark.parametrize("name", ["psycopg", "psycopg_pool"])
@pytest.mark.parametrize("opens", [open_store, read_store])
def test_without_its_packages_the_extra_is_named(monkeypatch, opens, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="A store on PostgreSQL needs the extra 'postgres'"):
        opens(URL)


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--teacher", "http://127.0.0.1:9/v1#m", "--port", "0"],
        ["trajectories", "list"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("name", ["psycopg", "psycopg_pool"])
def test_commands_say_what_to_type(command: list[str], name: str) -> None:
    code = WITHOUT.format(name=name, argv=["potstill", *command, "--db", URL])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert TYPED in done.stderr
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
