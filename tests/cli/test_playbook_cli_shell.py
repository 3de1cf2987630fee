"""``potstill playbook`` in a real shell: editors, terminals, exit codes, and a store that others write to meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from terminal import environment, in_terminal, plain, potstill

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Stage, Tag
from potstill.trajectories import Store


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store with a book of one live bullet."""
    path = str(tmp_path / "store.db")
    with Store.open(path) as store:
        add = Add(section="rules", content="Weigh what is posted.", stage=Stage.LIVE)
        Playbook(store, "default", "playbook").apply(Batch(operations=(add,), actor="curator"))
    return path


def content(db: str) -> str:
    with Store.read(db) as store:
        return Playbook(store, "default", "playbook").bullets()["b-1"].content


def editor(tmp_path: Path, code: str) -> str:
    """An editor that runs Python on the ``path`` that it is given."""
    script = tmp_path / "editor.py"
    script.write_text(f"import pathlib, sys, time\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    return f"{sys.executable} {script}"


def test_the_editor_is_given_the_text_and_its_text_is_taken(db: str, tmp_path: Path) -> None:
    code = "assert path.read_text() == 'Weigh what is posted.\\n'\npath.write_text('Weigh twice.\\n')"
    done = potstill("playbook", "edit", "b-1", "--db", db, EDITOR=editor(tmp_path, code))
    assert (done.returncode, done.stdout) == (0, "book\trevision\tbullets\nplaybook\t2\tb-1\n"), done.stderr
    assert content(db) == "Weigh twice."
    left = potstill("playbook", "edit", "b-1", "--db", db, EDITOR=editor(tmp_path, ""))
    assert (left.returncode, left.stderr) == (0, "Nothing was changed: b-1 says what it said.\n")
    broken = potstill("playbook", "edit", "b-1", "--db", db, EDITOR="false")
    assert broken.returncode == 1
    assert content(db) == "Weigh twice."


def test_two_editors_at_once_and_neither_text_is_lost(db: str, tmp_path: Path) -> None:
    """The first one is still open when the second one saves."""
    waits = (
        "pathlib.Path(sys.argv[0]).with_name('open').touch()\n"
        "while not pathlib.Path(sys.argv[0]).with_name('go').exists(): time.sleep(0.02)\n"
        "path.write_text('Slow text.')"
    )
    command = [sys.executable, "-m", "potstill", "playbook", "edit", "b-1", "--db", db]
    slow = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(EDITOR=editor(tmp_path, waits), TMPDIR=str(tmp_path)),
    )
    while not (tmp_path / "open").exists():
        assert slow.poll() is None
    fast = potstill("playbook", "edit", "b-1", "--db", db, "--content", "Fast text.", "--actor", "ana")
    assert fast.returncode == 0, fast.stderr
    (tmp_path / "go").touch()
    out, err = slow.communicate(timeout=300)
    assert slow.returncode == 1
    assert out == "theirs: Fast text.\nyours: Slow text.\n"
    assert "b-1 was changed by 'ana' since you read it (revision 1, now 2): nothing was changed." in err
    assert content(db) == "Fast text."
    (kept,) = tmp_path.glob("potstill-b-1-*.txt")
    assert kept.read_text() == "Slow text."
    typed = err.strip().rpartition("type: potstill ")[2]
    assert potstill(*typed.split()).returncode == 0
    assert content(db) == "Slow text."


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "b-9"), 2),
        (("show", "--book", "none"), 2),
        (("add", " "), 2),
        (("rollback", "7"), 2),
        (("edit", "b-1", "--content", "x", "--revision", "9"), 2),
        (("check",), 0),
        (("show", "--db", "none.db"), 5),
    ],
)
def test_exit_codes_are_the_documented_ones(db: str, words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    where = () if "--db" in words else ("--db", db)
    done = potstill("playbook", *words, *where, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_terminal_is_shown_part_of_a_long_book_and_obeys_no_bullet(db: str) -> None:
    """Colours, titles and markup of a bullet are text; rows that are too many are counted."""
    evil = "[red]x[/red] \u202eevil " + "long " * 100
    with Store.open(db) as store:
        book = Playbook(store, "default", "playbook")
        for start in range(0, 200, 100):
            adds = tuple(
                Add(section="many", content=f"{n} {evil}", stage=Stage.LIVE) for n in range(start, start + 100)
            )
            book.apply(Batch(operations=adds, actor="curator"))
    code = f"from potstill.cli.main import main\nmain(['playbook', 'show', '--db', {db!r}])"
    seen = in_terminal(code)
    assert "\u202e" not in seen
    assert "[red]x[/red]" in plain(seen)
    assert "151 more. Type: --limit N, --offset 50, or pipe it: | less" in plain(seen)
    assert "b-50" in plain(seen)
    assert "b-51" not in plain(seen)
    assert len(potstill("playbook", "show", "--db", db).stdout.splitlines()) == 202


def test_control_characters_of_a_message_are_shown_and_not_sent(db: str) -> None:
    done = potstill("playbook", "show", "b-\x1b[2J\x9b1m", "--db", db)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "b-\\x1b[2J\\x9b1m" in done.stderr


def test_commands_work_while_others_write(db: str) -> None:
    """A gateway and a learning run write episodes and votes; nobody waits for long and nothing is lost."""
    stop = threading.Event()
    votes = 0

    def write() -> None:
        nonlocal votes
        with Store.open(db) as store:
            book = Playbook(store, "default", "playbook")
            while not stop.is_set():
                book.apply(Batch(operations=(Tag(id="b-1", helpful=1),), actor="reflector"))
                votes += 1
                stop.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            added = potstill("playbook", "add", f"Rule {n} of {n * 7}.", "--db", db)
            assert added.returncode == 0, added.stderr
        for words in (("show",), ("pin", "b-1"), ("check",), ("rollback", "1", "--dry-run"), ("log", "--limit", "2")):
            done = potstill("playbook", *words, "--db", db)
            assert done.returncode == 0, done.stderr
    finally:
        stop.set()
        writer.join()
    shown = json.loads(potstill("playbook", "show", "--db", db, "--json").stdout)
    assert [one["id"] for one in shown["bullets"]] == ["b-1", "b-2", "b-3", "b-4"]
    assert shown["bullets"][0]["helpful"] == votes > 0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom potstill.cli.main import cli\n"
        "for words in (['playbook', '--help'], ['playbook', 'show', '--help']):\n"
        "    assert CliRunner().invoke(cli, words).exit_code == 0\n"
        "print([name for name in ('numpy', 'sqlite3', 'rich', 'potstill.distill') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
