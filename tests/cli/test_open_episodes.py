"""Episodes that may still go on: the commands that do not show them say so and what to type, and that works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill.cli.main import cli as main
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Outcome


def exchange(episode: str, turn: int = 0, namespace: str = "default") -> Exchange:
    messages = [{"role": "user", "content": "the task"}]
    for done in range(turn):
        messages += [{"role": "assistant", "content": f"say {done}"}, {"role": "user", "content": f"next {done}"}]
    said = {"id": "r", "model": "gpt-6.1-sol", "choices": [{"index": 0, "message": {"content": f"say {turn}"}}]}
    call = Upstream(
        model="gpt-6.1-sol",
        upstream="u",
        answerer=Answerer.TEACHER,
        dialect="openai-chat",
        status=200,
        raw_usage={"prompt_tokens": 90, "completion_tokens": 9, "total_tokens": 99},
    )
    return Exchange(
        namespace=namespace,
        episode_id=episode,
        route="any",
        dialect="openai-chat",
        started_at=1_790_000_000.0 + turn,
        request=json.dumps({"model": "gpt-6.1-sol", "messages": messages}).encode(),
        response=json.dumps(said).encode(),
        calls=(call,),
    )


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = str(tmp_path / "s.db")
    with Store.open(path) as store:
        store.record([exchange("e-1"), exchange("e-1", 1), exchange("e-2"), exchange("f-1", namespace="team-a")])
    return path


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("words", [("trajectories", "list", "--db"), ("measure", "--db"), ("audit",)])
def test_commands_that_read_say_how_many_episodes_are_open_and_what_to_type(db: str, words: tuple[str, ...]) -> None:
    said = typed(*words, db)
    told = said.output + str(said.exception or "")
    assert "2 episodes are still open" in told
    assert f"potstill trajectories fold --db {db}" in told
    assert "potstill run" not in told
    assert "Nothing in the files was understood" not in told


def test_fold_makes_trajectories_of_them_for_every_command(db: str) -> None:
    assert typed("trajectories", "fold", "--db", db, "--json").exit_code == 0
    with Store.open(db) as store:
        assert sorted(row.namespace for row in store.summaries(namespace=None)) == ["default", "default"]
        assert [one.namespace for one in store.open_episodes()] == ["team-a"]
    listed = typed("trajectories", "list", "--db", db, "--json")
    assert len(json.loads(listed.stdout)) == 2
    assert "still open" not in listed.output
    assert typed("measure", "--db", db).exit_code == 0
    assert typed("audit", db).exit_code == 0


def test_an_episode_that_goes_on_after_a_fold_stays_one_trajectory(db: str) -> None:
    assert typed("trajectories", "fold", "--db", db, "--all-namespaces").exit_code == 0
    with Store.open(db) as store:
        store.record([exchange("e-1", 2)])
    assert "1 episode is still open" in typed("trajectories", "list", "--db", db).output
    assert typed("trajectories", "fold", "--db", db).exit_code == 0
    with Store.open(db) as store:
        assert sorted(row.steps for row in store.summaries()) == [1, 3]
        assert store.open_episodes() == []


def test_fold_leaves_what_was_called_lately(db: str) -> None:
    assert typed("trajectories", "fold", "--db", db, "--idle", "1e12").exit_code == 0
    with Store.open(db) as store:
        assert len(store.open_episodes()) == 3


def test_who_asked_for_all_tenants_is_not_told_to(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.db")
    Store.open(path).close()
    assert "--namespace" not in typed("trajectories", "list", "--db", path, "--all-namespaces").output
    assert "--namespace" in typed("trajectories", "list", "--db", path).output


def test_measure_says_how_many_episodes_its_success_is_of(db: str) -> None:
    assert typed("trajectories", "fold", "--db", db, "--json").exit_code == 0
    with Store.open(db) as store:
        one, *_ = store.summaries()
        store.set_outcome(one.id, Outcome(success=True))
    assert "2 (1 judged)" in typed("measure", "--db", db).output
