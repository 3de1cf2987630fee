"""``potstill measure`` and ``potstill prices`` on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from measure_builders import STUDENT, TEACHER, call, episode, step, usage

from potstill.cli.main import main
from potstill.trajectories import Store
from potstill.types import Answerer, TrajectoryKind


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("store") / "p.db"
    local = call("local:small", Answerer.STUDENT, usage())
    with Store.open(path) as store:
        store.put_run("r1", {"price_student_as": STUDENT})
        for i in range(3):
            demos = episode("demonstrations", i, split="train", success=i > 0)
            store.append(type(demos)(**{n: getattr(demos, n) for n in demos.__struct_fields__} | {"run_id": "r0"}))
        for i in range(6):
            store.append(episode("teacher", i, success=i < 5))
            shown = ("demonstrations-train-1-0",)
            steps = (step(0, Answerer.STUDENT, (local,), shown),)
            store.append(episode("context", i, success=i < 4, kind=TrajectoryKind.STUDENT, steps=steps))
    return str(path)


def test_json_of_a_run_prices_as_planned_and_finds_its_demonstrations(
    db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "measure", "--db", db, "--run", "r1", "--json")
    found = json.loads(out)
    assert code == 0
    arms = {arm["arm"]: arm for arm in found["arms"]}
    assert set(arms) == {"teacher", "context"}
    assert arms["context"]["cost_per_episode_usd"] == pytest.approx(0.00015)
    assert arms["context"]["priced_as"] == ["local:small priced as anthropic/claude-haiku-5-5"]
    assert found["demonstrations"] == {"arms": ["demonstrations"], "n": 3, "cost_usd": pytest.approx(0.009)}
    assert found["break_even_episodes"] == round(0.009 / (0.003 - 0.00015))


def test_table_and_files(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs: pip install 'potstill[report]'")
    html, plot = tmp_path / "r.html", tmp_path / "p.svg"
    code, out, err = run(capsys, "measure", "--db", db, "--run", "r1", "--html", str(html), "--plot", str(plot))
    assert code == 0
    assert out.splitlines()[0].startswith("arm\tn\tseeds\tsuccess\t")
    assert "break-even: 3 episodes of 'context' instead of 'teacher'" in err
    assert "Example episodes" in html.read_text()
    assert "<svg" in plot.read_text()


def test_a_model_without_a_price_is_an_error_that_says_what_to_type(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('[prices.models."local:small"]\ninput = 1.0\noutput = 0.0\n')
    code, out, _ = run(capsys, "measure", "--db", db, "--arm", "context", "--json", "--prices", str(own))
    assert (code, json.loads(out)["arms"][0]["arm"]) == (0, "context")
    with Store.open(tmp_path / "q.db") as store:
        steps = (step(0, Answerer.STUDENT, (call("local:other", Answerer.STUDENT, usage()),)),)
        store.append(episode("zero-shot", 0, kind=TrajectoryKind.STUDENT, steps=steps))
    code, out, err = run(capsys, "measure", "--db", str(tmp_path / "q.db"))
    assert (code, out) == (2, "")
    assert "local:other" in err
    assert "--price-student-as" in err


def test_without_a_store_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent, empty = tmp_path / "absent.db", tmp_path / "empty.db"
    empty.touch()
    for path, said in ((absent, "No store at"), (empty, "is empty")):
        code, out, err = run(capsys, "measure", "--db", str(path))
        assert (code, out, len(err.splitlines())) == (5, "", 1)
        assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert empty.stat().st_size == 0


def test_a_name_that_no_episode_has_is_told_with_those_there_are(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        (("--run", "r2"), "No run named 'r2'. Did you mean 'r1'? Available: r0, r1."),
        (("--run", "r1", "--split", "tset"), "No split named 'tset'. Did you mean 'test'? Available: test."),
        (("--run", "r1", "--arm", "demonstrations"), "Available: context, teacher."),
        (("--namespace", "acme"), "There are no episodes of namespace 'acme'"),
        (("--demos-cost-usd", "-3"), "Demonstrations cannot cost -3 dollars"),
    ):
        code, out, err = run(capsys, "measure", "--db", db, *options)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert said in err


def test_a_report_that_cannot_be_written_says_which(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "absent" / "r.html"
    code, _, err = run(capsys, "measure", "--db", db, "--run", "r1", "--html", str(target))
    assert (code, err) == (1, f"error: Cannot write --html {target}: No such file or directory.\n")


def test_measuring_changes_no_file(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(db).read_bytes()
    assert run(capsys, "measure", "--db", db, "--run", "r1")[0] == 0
    assert Path(db).read_bytes() == before


def test_pooled_runs_of_different_configuration_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "pool.db")
    with Store.open(path) as store:
        for name, k in (("few", 1), ("many", 3)):
            arms = [{"name": "teacher"}, {"name": "context", "context": "retrieved"}]
            store.put_run(name, {"run_id": name, "n": k, "arms": arms, "context": {"k": k}})
            for arm, kind in (("teacher", TrajectoryKind.TEACHER), ("context", TrajectoryKind.STUDENT)):
                one = episode(arm, k, kind=kind)
                store.append(msgspec.structs.replace(one, run_id=name, config_digest=name))
    code, out, _ = run(capsys, "measure", "--db", path, "--json")
    found = json.loads(out)
    assert code == 0
    assert [arm["runs"] for arm in found["arms"]] == [["few", "many"], ["few", "many"]]
    said = "'context' pools runs of different configuration (context.k: 1, 3): 'few', 'many'; choose one with --run"
    assert [note for note in found["notes"] if "pools" in note] == [said]
    html = tmp_path / "r.html"
    assert f"note: {said}" in run(capsys, "measure", "--db", path, "--html", str(html))[2]
    assert "pools runs of different configuration (context.k: 1, 3)" in html.read_text()
    assert "pools" not in run(capsys, "measure", "--db", path, "--run", "few")[2]


def test_prices_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "prices", "show", TEACHER, "--json", "--date", "2026-11-21")
    assert code == 0
    assert json.loads(out)["rates"][0]["cache_read_usd_per_mtok"] == 0.1
    code, out, _ = run(capsys, "prices", "list", "gpt-6-luna")
    assert code == 0
    assert "openai/gpt-6-luna\t0.1\t0.01" in out
    code, _, err = run(capsys, "prices", "show", "gpt-6-lunar")
    assert code == 2
    assert "gpt-6-luna" in err


def test_prices_update_writes_a_table_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("genai_prices", reason="needs genai-prices: pip install genai-prices")
    path = tmp_path / "data" / "prices.json"
    code, _, err = run(capsys, "prices", "update", "--installed", "--output", str(path), "--date", "2026-12-01")
    assert code == 0
    assert "prices of 2026-12-01" in err
    assert json.loads(path.read_text())["date"] == "2026-12-01"
