"""Commands on a store in PostgreSQL: what they print can be typed again and holds no password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from click.testing import CliRunner
from trajectory_fakes import episode

from postgres_server import PASSWORD
from potstill.cli.main import cli, main
from potstill.errors import ConfigError
from potstill.trajectories.opening import open_store

pytestmark = pytest.mark.postgres


def typed(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, (result.output, result.exception)
    assert PASSWORD not in result.output
    assert quote(PASSWORD) not in result.output
    return result.output


def test_a_run_is_recorded_listed_and_measured(postgres, url, monkeypatch):
    schema = url.rpartition("=")[2]
    secret = f"postgresql://potstill:{quote(PASSWORD)}@127.0.0.1:{postgres.port}/postgres?schema={schema}"
    world = ["--env", "minigrid", "--n", "2", "--arm", "teacher", "--teacher", "expert"]
    said = typed("run", *world, "--run", "r", "--price-teacher-as", "gpt-4.1", "--db", secret)
    assert f"potstill@127.0.0.1:{postgres.port}/postgres?schema={schema}" in said
    assert len(typed("trajectories", "list", "--db", secret).splitlines()) == 3
    assert "teacher" in typed("measure", "--db", secret, "--run", "r")
    with open_store(url) as store:
        store.append(episode("mine", started_at=86_400.0))
    assert "mine" in typed("trajectories", "export", "--db", secret)
    typed("trajectories", "prune", "--before", "2020-01-01", "--db", secret)
    with open_store(url) as store:
        assert "mine" not in store.ids()


def test_no_help_no_setting_and_no_error_shows_a_password(monkeypatch, tmp_path, capsys):
    secret = f"postgresql://potstill:{quote(PASSWORD)}@127.0.0.1:1/postgres"
    monkeypatch.setenv("POTSTILL_DB", secret)
    monkeypatch.chdir(tmp_path)
    for words in (["config", "show"], ["measure", "--help"], ["run", "--help"], ["trajectories", "list", "--help"]):
        assert "***@127.0.0.1:1/postgres" in "".join(typed(*words).split()), words
    loose = f"postgresql://potstill:{PASSWORD}@127.0.0.1:1/postgres"
    for words in (
        ["measure", secret],
        ["audit", secret],
        ["calibrate", secret, "--student", "a", "--teacher", "b"],
        ["plan", "--teacher", "a", "--student", "b", "--from", secret],
        ["compare", secret, "b"],
        ["compare", "a", "b"],
        ["keys", "list"],
        ["trajectories", "import", secret],
        ["trajectories", "list", "--db", loose],
        ["trajectories", "list", "--db", loose + "?password=" + quote(PASSWORD)],
        ["serve", "--teacher", "http://127.0.0.1:9/v1#m", "--db", secret],
    ):
        with pytest.raises(SystemExit):
            main(words)
        said = "".join(capsys.readouterr())
        assert "error" in said, words
        assert PASSWORD not in said, words
        assert quote(PASSWORD) not in said, words


def test_what_the_commands_read_may_be_a_database(url):
    with open_store(url) as store:
        for number in range(3):
            store.append(episode(f"e{number}", started_at=86_400.0))
    assert "potstill store" in typed("audit", url)
    said = typed("plan", "--teacher", "gpt-4.1", "--student", "gpt-4.1-mini", "--from", url)
    assert said


def test_one_sitting_of_a_run_at_a_time(url):
    world = ["--env", "minigrid", "--n", "1", "--arm", "teacher", "--teacher", "expert", "--run", "r", "--db", url]
    with open_store(url) as store, store.alone("run/r") as mine:
        assert mine
        result = CliRunner().invoke(cli, ["run", *world, "--price-teacher-as", "gpt-4.1"])
        assert isinstance(result.exception, ConfigError)
        assert "Another process is recording the run r" in str(result.exception)
    typed("run", *world, "--price-teacher-as", "gpt-4.1")
