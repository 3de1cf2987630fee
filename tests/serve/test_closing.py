"""When an episode is over: some seconds after its outcome, when the gateway stops, and never twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from upstream_double import Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.serve.recording import closing
from potstill.serve.recording.closing import AFTER_OUTCOME_S, Closer, close_open
from potstill.serve.server import GatewayServer
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.store import Store
from potstill.types import Outcome, OutcomeSource

WON = Outcome(success=True, source=OutcomeSource.CHECKER)


def exchange(episode: str, turn: int, at: float) -> Exchange:
    messages = [{"role": "user", "content": "the task"}]
    for done in range(turn):
        messages += [{"role": "assistant", "content": f"say {done}"}, {"role": "user", "content": f"next {done}"}]
    said = {"id": "r", "model": "m", "choices": [{"index": 0, "message": {"content": f"say {turn}"}}]}
    return Exchange(
        namespace="default",
        episode_id=episode,
        route="m",
        dialect="openai-chat",
        started_at=at,
        request=json.dumps({"model": "m", "messages": messages}).encode(),
        response=json.dumps(said).encode(),
    )


def closer(store: Store, at: float) -> Closer:
    return Closer(store, 1800.0, clock=lambda: at)


def test_an_outcome_ends_an_episode_once_it_is_idle_for_some_seconds(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        store.record([exchange("told", 0, 100.0), exchange("untold", 0, 100.0)])
        assert closer(store, 100.0 + AFTER_OUTCOME_S + 1).close_idle() == 0
        store.set_episode_outcome("default", "told", WON)
        assert closer(store, 100.0 + AFTER_OUTCOME_S - 1).close_idle() == 0
        assert closer(store, 100.0 + AFTER_OUTCOME_S + 1).close_idle() == 1
        assert [one.episode_id for one in store.open_episodes()] == ["untold"]
        (trajectory,) = store.select()
        assert trajectory.outcome == WON


def test_a_call_after_the_outcome_joins_the_trajectory(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        store.record([exchange("e", 0, 100.0)])
        store.set_episode_outcome("default", "e", WON)
        assert closer(store, 110.0).close_idle() == 1
        store.record([exchange("e", 1, 120.0)])
        assert closer(store, 200.0).close_idle() == 0
        assert closer(store, 2000.0).close_idle() == 1
        (trajectory,) = store.select()
        assert len(trajectory.steps) == 2
        assert trajectory.outcome == WON


def test_what_is_open_at_the_end_is_folded_as_far_as_time_allows(tmp_path: Path) -> None:
    ticks = iter((0.0, 1.0, 2.0, 9.0))
    with Store.open(tmp_path / "s.db") as store:
        store.record([exchange(f"e-{number}", 0, 100.0 + number) for number in range(5)])
        assert close_open(store, within_s=5.0, clock=lambda: next(ticks)) == 2
        assert len(store.open_episodes()) == 3
        assert close_open(store) == 3
        assert close_open(store) == 0


def test_a_gateway_folds_after_an_outcome_and_when_it_stops(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(closing, "AFTER_OUTCOME_S", 0.05)
    folded = threading.Event()
    made = closing.fold_episode

    def noted(*told):
        trajectory = made(*told)
        folded.set()
        return trajectory

    monkeypatch.setattr(closing, "fold_episode", noted)
    db = str(tmp_path / "s.db")
    with Upstream(lambda request: reply(json.dumps(chat_answer("hi")).encode())) as upstream:
        settings = settings_file.from_flags(f"{upstream.url}#big-1", port=0, db=db)
        with GatewayServer(settings, fold_at_end=True) as server:
            for episode in ("told", "untold"):
                _post(server.url, "/v1/chat/completions", {"model": "m", "messages": []}, episode)
            _post(server.url, "/v1/episodes/told/outcome", {"success": True}, "told")
            assert folded.wait(20.0)
            with Store.read(db) as store:
                assert [row.success for row in store.summaries()] == [True]
    with Store.open(db) as store:
        assert len(store.summaries()) == 2
        assert store.open_episodes() == []


def _post(url: str, path: str, body: object, episode: str) -> None:
    import urllib.request

    headers = {"content-type": "application/json", "x-potstill-episode": episode}
    asked = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=120) as answered:
        assert answered.status == 200
