"""``potstill playbook`` and texts of strangers: one text is one bullet, and no terminal obeys any of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.playbook import playbook
from potstill.cli.playbook.books import FIRST
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Stage, Update
from potstill.errors import ConfigError
from potstill.trajectories import Store

sys.path.append(str(Path(__file__).parent.parent / "playbook"))
from injection_corpus import PAYLOADS


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def call(db: str, *words: str) -> Result:
    result = CliRunner().invoke(playbook, [*words, "--db", db], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_stranger_adds_more_than_one_bullet(db: str, payload: str) -> None:
    text = PAYLOADS[payload].encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    result = CliRunner().invoke(playbook, ["add", "-", "--db", db], input=text)
    if result.exit_code:
        assert isinstance(result.exception, ConfigError), payload
        return
    with Store.open(db) as store:
        assert len(Playbook(store, "default", FIRST).bullets()) == 1
    for words in (("show",), ("show", "--rendered"), ("show", "b-1"), ("log",), ("diff", "0"), ("blame", "b-1")):
        out = call(db, *words).output
        assert not [c for c in out if c < " " and c not in "\n\t"], words
        assert not {*out} & {chr(c) for c in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
    assert call(db, "show").stdout.count("\n") == 2
    assert call(db, "show", "--rendered").stdout.count("\n[b-") == 1


def test_what_the_library_let_in_is_shown_as_escapes_and_forges_no_line(db: str) -> None:
    """Somebody may write to a book without the command line's care: only controls are refused there."""
    evil = "x \u202eyebo\u202c [bold red]loud[/bold red]\nb-9 pinned\n  content: forged"
    with Store.open(db) as store:
        book = Playbook(store, "default", FIRST)
        book.apply(Batch(operations=(Add(section="s\u2066", content=evil, stage=Stage.LIVE),), actor="m\u202e"))
        book.apply(Batch(operations=(Update(id="b-1", content=evil + "!", revision=1),), actor="m"))
    for words in (("show",), ("show", "b-1"), ("show", "--json"), ("log", "--json"), ("blame", "b-1"), ("diff", "1")):
        out = call(db, *words).stdout
        assert "\u202e" not in out, words
        assert "\u2066" not in out, words
        assert not [line for line in out.splitlines() if line.startswith(("b-9", "  content: forged"))], words
    assert json.loads(call(db, "show", "--json").stdout)["bullets"][0]["content"] == evil + "!", "and JSON is exact"
