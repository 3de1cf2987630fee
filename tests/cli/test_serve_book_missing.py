"""``potstill serve --check`` says where a route shows a playbook that is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.serve import serve
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Stage
from potstill.errors import ConfigError
from potstill.serve.settings_file import from_flags
from potstill.trajectories import Store

CONFIG = """
[gateway]
db = "{db}"
[upstreams.up]
base_url = "http://127.0.0.1:9/v1"
[models.big]
upstream = "up"
model = "big"
[models.small]
upstream = "up"
model = "small"
[routes.r]
teacher = "big"
student = "small"
mode = "student"
[routes.r.playbook]
name = "house"
"""


def test_a_book_that_is_not_there_yet_is_said_by_check(tmp_path: Path) -> None:
    db, file = tmp_path / "g.db", tmp_path / "g.toml"
    file.write_text(CONFIG.format(db=db))
    done = CliRunner().invoke(serve, ["--config", str(file), "--check"], catch_exceptions=False)
    assert "route 'r' shows the playbook 'house', which is not there yet in" in done.stderr
    assert not db.exists()
    with Store.open(db) as store:
        add = Add(section="x", content="Ask first.", stage=Stage.LIVE)
        Playbook(store, "default", "house").apply(Batch(operations=(add,), actor="ana"))
    done = CliRunner().invoke(serve, ["--config", str(file), "--check"], catch_exceptions=False)
    assert "not there yet" not in done.stderr


MODELS = ("--teacher", "http://127.0.0.1:9/v1#big", "--student", "http://127.0.0.1:9/v1#small")


def check(*words: str) -> Result:
    return CliRunner().invoke(serve, [*words, "--check"])


def test_a_flag_names_the_playbook_of_the_student(tmp_path: Path) -> None:
    done = check(*MODELS, "--playbook", "house", "--db", str(tmp_path / "g.db"))
    assert done.exit_code == 0, done.output
    assert "route 'any' shows the playbook 'house', which is not there yet in" in done.stderr
    (route,) = from_flags(MODELS[1], MODELS[3], playbook="house").routes
    assert route.playbook.name == "house"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (MODELS[:2], "students are shown playbooks, and there is none. Type: --student"),
        ((*MODELS, "--mode", "record"), "in mode record the student is never asked"),
        (("--config", "FILE"), "--config and --playbook exclude each other: write it into the file"),
    ],
)
def test_a_playbook_that_nobody_would_be_shown_is_refused(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    file = tmp_path / "g.toml"
    file.write_text(CONFIG.format(db=tmp_path / "g.db"))
    done = check(*(str(file) if word == "FILE" else word for word in words), "--playbook", "house")
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)
    empty = check(*MODELS, "--playbook", " ")
    assert "is no name" in str(empty.exception)
