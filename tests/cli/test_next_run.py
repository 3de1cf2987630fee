"""The command that is named after a training: it has the options of the world that was learnt in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Here
from potstill.cli.next_run import next_run
from potstill.cli.run_plan import pairs, typed
from potstill.trajectories import Store
from potstill.types import TrajectoryKind

WORLD = ("--env", "house-rules", "--split", "train", "--n", "2", "--teacher", "expert", "--db", "taught.db")


def filters(**more: Any) -> dict[str, Any]:
    return {"kind": TrajectoryKind.TEACHER, "split": "train", "namespace": "default", "success": True, **more}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record(here: Here, name: str, *options: str) -> None:
    words = tuple(word for option in options for word in ("--option", option))
    done = here("distill", "context", *WORLD, "--run", name, *words)
    assert done.code == 0, done.err


def test_it_has_the_options_that_all_runs_had_and_works_when_typed(here: Here) -> None:
    record(here, "first", "rules_seed=7", "rules=5", "feedback=none")
    record(here, "second", "rules_seed=7", "rules=6")
    one = next_run("taught.db", filters(run_id="first"), "house-rules", "local:smollm2-135m")
    assert shlex.split(one) == [
        *("potstill", "run", "--env", "house-rules"),
        *("--option", "rules_seed=7", "--option", "rules=5", "--option", "feedback=none"),
        *("--student", "local:smollm2-135m", "--arm", "zero-shot"),
    ]
    estimated = here(*shlex.split(one)[1:], "--dry-run")
    assert estimated.code == 0, estimated.err
    both = next_run("taught.db", filters(), "house-rules", "policy:a student.policy")
    assert (
        both
        == "potstill run --env house-rules --option rules_seed=7 --student 'policy:a student.policy' --arm zero-shot"
    )


def test_episodes_of_no_run_name_no_options(db: str) -> None:
    with Store.open(db) as store:
        (episode, *_) = store.select()
        store.put_run(episode.run_id, {"environment_options": {"rules_seed": 7}}, replace=True)
    assert "rules_seed=7" in next_run(db, filters(), "house-rules", "policy:a")
    with Store.open(db) as store:
        store.append(msgspec.structs.replace(episode, id="imported", run_id=""))
    plain = "potstill run --env house-rules --student policy:a --arm zero-shot"
    assert next_run(db, filters(), "house-rules", "policy:a") == plain


def test_a_folder_of_games_has_an_option_of_its_own(db: str) -> None:
    with Store.open(db) as store:
        (episode, *_) = store.select()
        store.put_run("games", {"environment_options": {"directory": "my games", "level": "1", "view": None}})
        store.append(msgspec.structs.replace(episode, id="game", run_id="games"))
    command = next_run(db, filters(run_id="games"), "house-rules", "policy:a")
    assert "--tasks 'my games' --option 'level=\"1\"' --student" in command
    assert "view" not in command


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
        st.one_of(
            st.text(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
        ),
    )
)
def test_options_are_read_back_as_they_were(options: dict[str, Any]) -> None:
    """Also texts that look like numbers, and such with space around them."""
    read = pairs(typed(options), "")
    assert read == options
    assert [type(value) for value in read.values()] == [type(value) for value in options.values()]
