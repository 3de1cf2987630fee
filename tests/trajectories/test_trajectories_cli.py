"""``potstill trajectories`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from exchange_fakes import exchange
from trajectory_fakes import episode

from potstill.cli.main import main
from potstill.cli.trajectories import trajectories
from potstill.errors import ConfigError, StoreError
from potstill.trajectories import Store
from potstill.types import Decision, DemonstrationRef, ErrorRecord, Outcome, PlaybookUse, Reason, Vote


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.append(episode("a", steps=2, started_at=1_700_000_000.0))
        store.append(episode("b", steps=1, outcome=Outcome(success=False), arm="student"))
        store.append(episode("c", steps=1, namespace="acme"))
    return str(path)


def call(*words: str, input: bytes | None = None, code: int = 0):
    result = CliRunner().invoke(trajectories, list(words), input=input, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refused(*words: str) -> Exception:
    result = CliRunner().invoke(trajectories, list(words))
    assert result.exception is not None
    return result.exception


def test_list_in_a_pipe_is_tab_separated_newest_first(db):
    lines = call("list", "--db", db).stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["id", "task_id"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["b", "a"]
    assert "2023-11-14T22:13:20Z" in lines[2]


def test_list_filters_and_json(db, monkeypatch):
    monkeypatch.setenv("POTSTILL_DB", db)
    rows = json.loads(call("list", "--json", "--success").stdout)
    assert [(row["id"], row["success"], row["steps"]) for row in rows] == [("a", True, 2)]
    assert len(json.loads(call("list", "--json", "--all-namespaces").stdout)) == 3
    assert [r["id"] for r in json.loads(call("list", "--json", "--namespace", "acme").stdout)] == ["c"]
    assert [r["id"] for r in json.loads(call("list", "--json", "--until", "2024-01-01").stdout)] == ["a"]
    assert "No episode matches" in call("list", "--arm", "none").stderr
    assert isinstance(refused("list", "--since", "yesterday"), ConfigError)


def test_list_says_which_episodes_broke_and_how(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        store.append(
            episode("a", steps=1, outcome=None, error=ErrorRecord(kind="BadTask", message="game 7 is cut off"))
        )
    (row,) = json.loads(call("list", "--json", "--db", str(tmp_path / "s.db")).stdout)
    assert (row["success"], row["error"]) == (None, "BadTask")


def test_list_without_a_store_makes_none(tmp_path):
    error = refused("list", "--db", str(tmp_path / "none.db"))
    assert isinstance(error, StoreError)
    assert "No store at" in str(error)
    assert not (tmp_path / "none.db").exists()


def test_show_says_who_answered_and_why(tmp_path):
    import msgspec

    base = episode("x", steps=1)
    decision = Decision(
        answerer="teacher", reason=Reason.DISAGREED, agreement=0.5, votes=(Vote(key="look"), Vote(key=None, text="hm"))
    )
    shown = (DemonstrationRef(trajectory_id="d1", start=2, stop=5, score=1.5),)
    step = msgspec.structs.replace(base.steps[0], decision=decision, demonstrations=shown, reasoning="Because.")
    with Store.open(tmp_path / "s.db") as store:
        store.append(msgspec.structs.replace(base, steps=(step,), goal="fake\nstep 7\x1b[31m"))
    out = call("show", "x", "--db", str(tmp_path / "s.db")).stdout
    for expected in (
        "teacher, disagreed (agreement 0.50)",
        "vote: look",
        "vote: (not valid) hm",
        "shown: d1 steps 2-5",
        "reasoning: Because.",
        "action: go north",
        "50 tokens in, 4 out",
        "outcome: success",
    ):
        assert expected in out
    assert [line for line in out.splitlines() if line.startswith("step")] == ["step 0"]
    assert "\x1b" not in out
    assert "system: You are in a house" in call("show", "x", "--prompts", "--db", str(tmp_path / "s.db")).stdout
    assert json.loads(call("show", "x", "--json", "--db", str(tmp_path / "s.db")).stdout)["id"] == "x"


def test_show_says_which_bullets_of_a_playbook_were_shown(tmp_path):
    import msgspec

    base = episode("x", steps=1)
    use = PlaybookUse(name="support\x1b[31m", revision=4, shown=("b-2", "b-1"), withheld=("b-3",), trial=True)
    step = msgspec.structs.replace(base.steps[0], bullets=("b-1",))
    with Store.open(tmp_path / "s.db") as store:
        store.append(msgspec.structs.replace(base, steps=(step,), playbook=use))
        store.append(episode("y", steps=1))
    out = call("show", "x", "--db", str(tmp_path / "s.db")).stdout
    for expected in ("revision 4, a trial", "shown: b-2, b-1", "withheld: b-3", "bullets: b-1"):
        assert expected in out
    assert "\x1b" not in out
    assert "cited" not in out
    assert "playbook" not in call("show", "y", "--db", str(tmp_path / "s.db")).stdout


def test_export_then_import_then_rm(db, tmp_path):
    file, other = tmp_path / "out.jsonl", str(tmp_path / "other.db")
    call("export", "--db", db, "-o", str(file))
    assert len(file.read_bytes().splitlines()) == 2
    assert call("export", "--db", db).stdout_bytes == file.read_bytes()
    assert json.loads(call("import", str(file), "--db", other, "--json").stdout)[0]["added"] == 2
    assert isinstance(refused("rm", "a", "zzz", "--db", other), ConfigError)
    assert call("rm", "a", "--db", other).stdout.splitlines()[1].startswith("1\t")
    with Store.open(other) as store:
        assert store.ids() == ["b"]


def test_export_for_fine_tuning_and_parquet(db, tmp_path):
    line = json.loads(call("export", "--db", db, "--format", "openai-chat").stdout)
    assert line["messages"][-1]["role"] == "assistant"
    pytest.importorskip("pyarrow")
    call("export", "--db", db, "--format", "parquet", "-o", str(tmp_path / "x.parquet"))
    assert (tmp_path / "x.parquet").read_bytes()[:4] == b"PAR1"


def test_prune(db):
    plan = call("prune", "--before", "2024-01-01", "--dry-run", "--db", db).stdout.splitlines()
    assert plan[1:] == ["2023-11-14\t1\t2\t0\t0"]
    assert call("prune", "--before", "2024-01-01", "--db", db).stdout.splitlines()[1].startswith("1\t")
    with Store.open(db) as store:
        assert store.ids(namespace=None) == ["b", "c"]
    assert call("prune", "--before", "2100-01-01", "--db", db).stdout.splitlines()[1].startswith("1\t")
    with Store.open(db) as store:
        assert store.ids(namespace=None) == ["c"]
    call("prune", "--before", "2100-01-01", "--all-namespaces", "--db", db)
    with Store.open(db) as store:
        assert store.ids(namespace=None) == []


def test_a_dry_run_lists_what_prune_would_take_out_of_the_journal(tmp_path):
    db = str(tmp_path / "j.db")
    with Store.open(db) as store:
        store.append(episode("old", started_at=86_400.0))
        store.record([exchange("open", turn, started_at=86_400.0 + turn) for turn in range(3)])
        store.record([exchange("later", 0, started_at=5 * 86_400.0)])
        store.record([exchange("others", 0, started_at=86_400.0, namespace="acme")])
    words = ("prune", "--before", "1970-01-04", "--db", db)
    header, *rows = call(*words, "--dry-run").stdout.splitlines()
    assert header.split("\t") == ["day", "episodes", "steps", "open_episodes", "exchanges"]
    assert rows == ["1970-01-02\t1\t3\t1\t3"]
    assert call(*words, "--dry-run", "--all-namespaces").stdout.splitlines()[1:] == ["1970-01-02\t1\t3\t2\t4"]
    header, row = call(*words).stdout.splitlines()
    assert (
        dict(zip(header.split("\t"), row.split("\t"), strict=True)).items()
        >= {"removed": "1", "exchanges": "3"}.items()
    )
    assert call(*words, "--dry-run").stdout.splitlines()[1:] == []


def typed(capsys, *words: str) -> tuple[int, str, str]:
    """The whole command line, with its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(list(words))
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_an_import_keeps_the_good_lines_and_names_the_bad_ones(db, tmp_path, capsys):
    file, other = tmp_path / "out.jsonl", str(tmp_path / "other.db")
    call("export", "--db", db, "-o", str(file))
    file.write_bytes(b"nonsense\n" + file.read_bytes())
    code, out, err = typed(capsys, "trajectories", "import", str(file), "--db", other)
    assert (code, out.splitlines()[1]) == (1, "2\t0\t1")
    first, last = err.splitlines()
    assert first.startswith("line 1: ")
    assert last == f"error: 1 line of {file} could not be read; the other episodes are kept"


def test_an_import_of_another_kind_of_file_is_a_few_lines(tmp_path, capsys):
    file = tmp_path / "noise.bin"
    file.write_bytes(bytes(range(256)) * 300)
    code, out, err = typed(capsys, "trajectories", "import", str(file), "--db", str(tmp_path / "s.db"))
    assert (code, out.splitlines()[1]) == (1, "0\t0\t301")
    assert len(err.splitlines()) == 11
    assert err.splitlines()[-1].startswith(f"error: No line of {file} is an episode (301 bad lines, the first 10")


def test_no_command_shows_or_removes_an_episode_of_another_tenant(db):
    """Not even by its id, and without telling whether it exists."""
    assert "No trajectory 'c' in namespace 'default'" in str(refused("show", "c", "--db", db))
    with Store.open(db) as store, pytest.raises(StoreError, match="id 'c' and namespace 'default'"):
        store.get("c", namespace="default")
    assert isinstance(refused("rm", "c", "--db", db), ConfigError)
    assert isinstance(refused("rm", "a", "--namespace", "acme", "--db", db), ConfigError)
    assert call("show", "c", "--namespace", "acme", "--db", db).stdout.startswith("episode: c")
    with Store.open(db) as store:
        assert len(store.ids(namespace=None)) == 3
    call("rm", "c", "--namespace", "acme", "--db", db)
    with Store.open(db) as store:
        assert store.ids(namespace=None) == ["a", "b"]


READING = (["list"], ["show", "a"], ["export"], ["prune", "--before", "2024-01-01", "--dry-run"])


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_commands_that_read_change_no_file(db, tmp_path, words):
    empty, before = tmp_path / "empty.db", Path(db).read_bytes()
    empty.touch()
    assert "is empty" in str(refused(*words, "--db", str(empty)))
    assert "No store at" in str(refused(*words, "--db", str(tmp_path / "none.db")))
    call(*words, "--db", db)
    assert empty.stat().st_size == 0
    assert Path(db).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "store.db"]
