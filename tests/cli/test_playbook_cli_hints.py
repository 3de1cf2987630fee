"""What ``potstill playbook`` says when something is odd: what it names is there, and what it tells to type works."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from potstill.cli.envs import envs
from potstill.cli.playbook import playbook
from potstill.cli.playbook_distill import playbook as learn_command
from potstill.cli.run import run as run_command
from potstill.distill.playbook.book import Playbook
from potstill.envs.registry import BUILT_IN
from potstill.errors import ConfigError
from potstill.trajectories import Store


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "store.db")


def run(db: str, *words: str) -> Result:
    return CliRunner().invoke(playbook, [*words, "--db", db])


def test_a_new_store_is_said_so_once(db: str) -> None:
    first = run(db, "add", "Weigh what is posted.")
    assert f"There was no store: a new one was made at {db}" in first.stderr
    assert "new one was made" not in run(db, "add", "Open the drawer first.").stderr


def test_restore_of_a_removed_bullet_does_not_say_that_it_is_hidden(db: str) -> None:
    run(db, "add", "Weigh what is posted.")
    run(db, "remove", "b-1")
    assert "shown to nobody unless restored: b-1" in run(db, "pin", "b-1").stderr
    assert "shown to nobody" not in run(db, "restore", "b-1").stderr


def test_no_more_votes_are_taken_back_than_there_are(db: str) -> None:
    run(db, "add", "Weigh what is posted.")
    run(db, "tag", "b-1", "--helpful", "2")
    refused = run(db, "tag", "b-1", "--helpful", "-5")
    assert isinstance(refused.exception, ConfigError)
    assert "--helpful -5 would take back more votes than b-1 has: 2." in str(refused.exception)
    assert run(db, "tag", "b-1", "--helpful", "-2").exit_code == 0
    with Store.open(db) as store:
        assert Playbook(store, "default", "playbook").bullets()["b-1"].helpful == 0


def test_a_revision_of_the_future_is_not_called_a_change(db: str) -> None:
    run(db, "add", "Weigh what is posted.")
    refused = run(db, "edit", "b-1", "--content", "Weigh all.", "--revision", "77")
    assert isinstance(refused.exception, ConfigError)
    assert "b-1 is at revision 1 and never was at a later one" in str(refused.exception)


def test_hints_name_the_book(db: str) -> None:
    for book in ("one", "two"):
        run(db, "add", "Weigh what is posted.", "--book", book)
    again = run(db, "add", "Weigh what is posted!", "--book", "two")
    assert f"potstill playbook edit b-1 --db {db} --book two" in str(again.exception)
    unknown = run(db, "show", "b-9", "--book", "two")
    assert f"potstill playbook show --db {db} --book two" in str(unknown.exception)
    run(db, "stage", "shadow", "b-1", "--book", "two")
    assert f"stage live ID --db {db} --book two" in run(db, "show", "--rendered", "--book", "two").stderr


@pytest.mark.parametrize("words", [("pin", "b-9"), ("edit", "b-9", "--content", "x"), ("merge", "b-1", "b-9")])
def test_an_unknown_bullet_is_answered_with_the_store_and_tenant_that_were_typed(db: str, words: list[str]) -> None:
    run(db, "add", "Weigh what is posted.", "--namespace", "acme co")
    refused = run(db, *words, "--namespace", "acme co")
    assert f"Type: potstill playbook show --db {db} --namespace 'acme co'" in str(refused.exception)
    assert run(db, "show", "--namespace", "acme co").exit_code == 0


def test_a_tenant_without_a_book_is_told_what_to_type_on_the_same_store(db: str) -> None:
    run(db, "add", "Weigh what is posted.")
    elsewhere = run(db, "show", "--namespace", "acme")
    assert f"potstill playbook list --all-namespaces --db {db}" in str(elsewhere.exception)
    empty = str(Path(db).with_name("empty.db"))
    Store.open(empty).close()
    none = run(empty, "show", "--namespace", "acme")
    assert f"Type: potstill playbook add TEXT --db {empty} --namespace acme, or import FILE" in str(none.exception)


@pytest.mark.parametrize("command", [run_command, learn_command], ids=["run", "distill playbook"])
def test_the_help_of_env_leads_to_every_environment(command: click.Command) -> None:
    (option,) = [one for one in command.params if isinstance(one, click.Option) and "--env" in one.opts]
    assert "potstill envs list" in str(option.help)
    listed = CliRunner().invoke(envs, ["list"]).stdout
    assert [name for name in BUILT_IN if name not in listed] == []
