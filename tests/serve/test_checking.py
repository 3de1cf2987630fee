"""Checker plug-ins tell how episodes ended: found by their entry points, run off the loop, and never in the way."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import Upstream, chat_answer, reply

from potstill.errors import ConfigError, UnknownName
from potstill.serve import settings_file
from potstill.serve.recording.checking import Checkers, loaded
from potstill.serve.settings import Gateway
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, Outcome, OutcomeSource, Trajectory

PLUGIN = """
from potstill.types import Outcome

def judge(trajectory):
    said = trajectory.steps[-1].action.text
    if said == "crash":
        raise RuntimeError("no such table, key sk-" + "proj-" + "a" * 40)
    if said == "nonsense":
        return "yes"
    if said == "score":
        return Outcome(success=True, score=0.75, detail="three of four")
    return {"done": True, "wrong": False}.get(said)

not_callable = 7
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with checkers, as pip would have installed it."""
    place = tmp_path / "site"
    metadata = place / "judging_agent-1.2.dist-info"
    metadata.mkdir(parents=True)
    (place / "judging_agent.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: judging_agent\nVersion: 1.2\n")
    entries = "[potstill.checkers]\njudge = judging_agent:judge\nseven = judging_agent:not_callable\n"
    (metadata / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(str(place))
    importlib.invalidate_caches()


def settings(url: str, db: Path, checker: str) -> Gateway:
    tables = {
        "gateway": {"db": str(db)},
        "limits": {"idle_episode_s": 0.3},
        "upstreams": {"up": {"base_url": url}},
        "models": {"big": {"upstream": "up", "model": "big-1"}},
        "routes": {"auto": {"teacher": "big", "checker": checker}},
    }
    return settings_file.parse(tables, "here")


def until(wanted: Callable[[], Any], within_s: float = 15.0) -> Any:
    end = time.monotonic() + within_s
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_a_checker_says_how_episodes_ended_and_its_failures_are_noted(start: Any, tmp_path: Path, plugin: None) -> None:
    with Upstream(lambda request: reply(chat_answer(request.json["messages"][-1]["content"]))) as upstream:
        gateway = start(settings(upstream.url, db := tmp_path / "g.db", "judge"), db=str(tmp_path / "g.db"))
        for words in ("done", "wrong", "cannot tell", "crash", "nonsense", "score", "known"):
            body = {"model": "auto", "messages": [{"role": "user", "content": words}]}
            gateway.post("/v1/chat/completions", body, x_potstill_episode=words.replace(" ", "-"))
        assert gateway.post("/v1/episodes/known/outcome", {"success": True, "source": "judge"}).status == 200

        def outcomes() -> dict[str, Outcome] | None:
            with Store.read(db) as store:
                found = {one.metadata["episode_id"]: one.outcome for one in store.select()}
            return found if len(found) == 7 and all(found.values()) else None

        told = until(outcomes)
        metrics = gateway.get("/metrics").body.decode()
        gateway.server.stop()
    assert told is not None
    assert {name: one.success for name, one in told.items()} == {
        "done": True,
        "wrong": False,
        "cannot-tell": None,
        "crash": None,
        "nonsense": None,
        "score": True,
        "known": True,
    }
    assert told["known"].source is OutcomeSource.JUDGE, "who asks is never overruled by a plug-in"
    assert (told["score"].score, told["score"].detail) == (0.75, "checker 'judge': three of four")
    assert told["done"] == Outcome(success=True, source=OutcomeSource.CHECKER, detail="checker 'judge'")
    assert told["crash"].detail.startswith("checker 'judge' failed: RuntimeError: no such table")
    assert "aaaa" not in told["crash"].detail, "what looks like a key is masked in errors too"
    assert "returned a str" in told["nonsense"].detail
    assert 'potstill_checks_total{said="error"} 2' in metrics
    assert 'potstill_checks_total{said="success"} 2' in metrics


def test_a_checker_that_cannot_be_used_is_refused_at_the_start(start: Any, tmp_path: Path, plugin: None) -> None:
    with pytest.raises(UnknownName, match=r"No checker named 'juge'. Did you mean 'judge'"):
        start(settings("http://127.0.0.1:9/v1", tmp_path / "g.db", "juge"))
    with pytest.raises(ConfigError, match=r"'seven' of judging_agent 1.2 is a int; it must be a function"):
        loaded(settings("http://127.0.0.1:9/v1", tmp_path / "g.db", "seven"))


def folded(store: Store, episode: str, outcome: Outcome | None = None) -> Trajectory:
    from potstill.record.folding import fold_episode

    call = Called(model="m", upstream="u", answerer=Answerer.TEACHER, dialect="openai-chat", status=200)
    exchange = Exchange(
        namespace="default",
        episode_id=episode,
        route="auto",
        dialect="openai-chat",
        started_at=time.time(),
        request=b'{"model":"auto","messages":[{"role":"user","content":"go"}]}',
        response=msgspec.json.encode(chat_answer("done")),
        calls=(call,),
    )
    store.record([exchange])
    if outcome is not None:
        store.set_episode_outcome("default", episode, outcome)
    trajectory = fold_episode(store, "default", episode)
    assert trajectory is not None
    return trajectory


def test_episodes_that_a_stop_left_unchecked_are_checked_at_the_next_start(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    with Store.open(tmp_path / "g.db") as store:
        folded(store, "left")
        folded(store, "labelled", Outcome(success=False, source=OutcomeSource.HUMAN))
        checkers = Checkers({"auto": ("yes", lambda trajectory: True)}, store, lambda *one: told.append(one))
        checkers.catch_up()
        assert until(lambda: told)
        checkers.close()
        assert told == [("default", "left")]
        assert [one.outcome.success for one in store.select() if one.outcome is not None] == [True, False]


def test_a_checker_that_hangs_holds_up_nobody_and_what_waits_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.serve.recording.checking.MOST", 3)
    go = threading.Event()
    with Store.open(tmp_path / "g.db") as store:
        made = [folded(store, f"e-{number}") for number in range(5)]
        checkers = Checkers({"auto": ("slow", lambda trajectory: go.wait(30))}, store, lambda *one: None)
        assert [checkers.folded(one) for one in made] == [True, True, True, False, False]
        assert checkers.counts == {"dropped": 2}
        go.set()
        assert until(lambda: checkers.counts["success"] == 3)
        checkers.close()
        assert not checkers.folded(made[4]), "the gateway is on its way down"
        assert checkers.counts["dropped"] == 3


def test_a_checker_is_asked_again_about_an_episode_that_went_on_and_overrules_only_itself(tmp_path: Path) -> None:
    said = iter([False, True])
    with Store.open(tmp_path / "g.db") as store:
        checkers = Checkers({"auto": ("fickle", lambda trajectory: next(said))}, store, lambda *one: None)
        for wanted in ("checker 'fickle'False", "checker 'fickle'True"):
            assert checkers.folded(folded(store, "long"))
            assert until(lambda wanted=wanted: said_of(store) == wanted)
        store.set_episode_outcome("default", "long", Outcome(success=False, source=OutcomeSource.CHECKER))
        assert not checkers.folded(folded(store, "long")), "a client's own checker is another one"
        checkers.close()


def said_of(store: Store) -> str:
    (trajectory,) = store.select()
    return "" if trajectory.outcome is None else trajectory.outcome.detail + str(trajectory.outcome.success)
