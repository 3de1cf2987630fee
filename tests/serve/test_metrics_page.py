"""The page that Prometheus scrapes: what happened is counted, in labels of which there are few."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store

ADMIN_KEY = "oX7-2kfLqP9zR4tVbN8wAa"
LINE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    found = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            labels = re.findall(r'"((?:[^"\\]|\\.)*)"', match[2] or "")
            found[match[1].removeprefix("potstill_"), *labels] = float(match[3])
    return found


def student(request: Request) -> Any:
    words = request.json["messages"][-1]["content"]
    if "crash" in words:
        return reply({"error": {"message": "no GPU"}}, 500)
    texts = [f"{number if 'differ' in words else 0}" for number in range(request.json.get("n", 1))]
    answer = chat_answer("")
    answer["choices"] = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    return reply(answer)


def settings(far: str, near: str, db: Path) -> Any:
    both = {"teacher": "big", "student": "small", "shadow_share": 1.0}
    tables = {
        "gateway": {"db": str(db), "keys_required": True},
        "upstreams": {"far": {"base_url": far}, "near": {"base_url": near, "n_shares_prompt": True}},
        "models": {
            "big": {"upstream": "far", "model": "gpt-5"},
            "small": {"upstream": "near", "model": "gpt-5-nano"},
        },
        "routes": {
            "auto": {**both, "mode": "cascade", "rollout": False},
            "beside": {**both, "mode": "shadow"},
        },
    }
    return settings_file.parse(tables, "here")


def until(wanted: Callable[[], bool]) -> bool:
    end = time.monotonic() + 120
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_who_answers_and_why_is_counted_and_clients_make_no_labels(start: Any, tmp_path: Path) -> None:
    db = tmp_path / "gateway.db"
    with Store.open(db) as store:
        key, text = keys.create("team", time.time())
        StoreRows(store).put(key)
    own = {"authorization": f"Bearer {text}"}
    with Upstream(lambda request: reply(chat_answer("0"))) as far, Upstream(student) as near:
        gateway = start(settings(far.url, near.url, db), db=str(db), admin_key=ADMIN_KEY)

        def ask(model: str, words: str, key: str = text, **more: Any) -> int:
            body = {"model": model, "messages": [{"role": "user", "content": words}], **more}
            return int(gateway.post("/v1/chat/completions", body, authorization=f"Bearer {key}").status)

        def page() -> str:
            return gateway.get("/metrics").body.decode()

        for words in ("agree", "agree again", "differ", "crash"):
            assert ask("auto", words) == 200
        for number in range(30):
            tool = {"type": f"made-up-{number}", f"made-up-{number}": {"name": "x"}}
            ask("auto", "use it", tools=[tool])
            assert ask(f"made-up-{number}", "hello") == 404
            assert ask("auto", "hello", key=f"psk_made-up-{number}") == 401
            gateway.get(f"/made-up-{number}")
            gateway.post(f"/v1/episodes/made-up-{number}/outcome", {"success": True, "made-up": number}, **own)
        assert ask("beside", "agree") == ask("beside", "differ") == 200
        assert until(lambda: samples(page()).get(("shadow_jobs_total", "done")) == 2)

        told, text_of = samples(page()), page()
        status = gateway.get("/v1/potstill/status", authorization=f"Bearer {ADMIN_KEY}").json
        gateway.server.stop()
    assert told["decisions_total", "auto", "student", "agreed"] == 2
    assert told["decisions_total", "auto", "teacher", "disagreed"] == 1
    assert told["decisions_total", "auto", "teacher", "student-failed"] == 1
    assert told["decisions_total", "auto", "teacher", "request"] == 30
    assert told["decisions_total", "beside", "teacher", "stage"] == 2
    assert told["student_asked_total", "auto", "student"] == 2
    assert told["student_asked_total", "auto", "teacher"] == 2, "half of the steps were escalated"
    assert told["fail_open_total", "student"] == 1
    assert told["shadow_total", "beside", "acted", "agreed"] == 1
    assert told["shadow_total", "beside", "abstained", "agreed"] == 1, "its most common answer is the teacher's"
    assert told["gate_refused_total", "authentication"] == 30
    assert told["gate_problems_total", "store_failures"] == 0
    # gpt-5: 11 x 1.25 and 3 x 10 millionths of a dollar; gpt-5-nano: 11 x 0.05 and 3 x 0.4
    answers = sum(value for (name, *labels), value in told.items() if name == "requests_total" and "200" in labels)
    assert answers == 4 + 30 + 2
    assert told["cost_usd_total", "beside", "teacher"] == pytest.approx(2 * 43.75e-6)
    assert told["cost_usd_total", "beside", "shadow"] == pytest.approx(2 * 1.75e-6)
    assert told["rollout_stage", "beside", "shadow"] == 1
    assert told["rollout_stage", "beside", "live"] == 0
    assert told["killed",] == 0
    assert told["warnings",] == 1
    assert "no calibration" in status["warnings"][0]
    assert "made-up" not in text_of
    assert len(told) < 400


def test_every_family_is_described_in_the_guide(start: Any, repository: Path) -> None:
    guide = (repository / "docs" / "guides" / "gateway.md").read_text()
    with Upstream(lambda request: reply(chat_answer("0"))) as far, Upstream(student) as near:
        gateway = start(settings_file.from_flags(f"{far.url}#big-1", f"{near.url}#small-1"))
        page = gateway.get("/metrics").body.decode()
        gateway.server.stop()
    names = re.findall(r"^# TYPE potstill_(\w+) ", page, re.MULTILINE)
    assert len(names) > 25
    assert [name for name in names if f"`{name}`" not in guide] == []


def test_numbers_that_others_keep_are_read_when_the_page_is() -> None:
    metrics, kept = Metrics(), {("a", 'say "x"\\'): 1.0}
    metrics.tell("potstill_kept_total", "Kept.", ("who", "what"), lambda: kept)
    kept["b", "y"] = 0.25
    assert (
        metrics.text()
        .decode()
        .endswith(
            "# HELP potstill_kept_total Kept.\n# TYPE potstill_kept_total counter\n"
            'potstill_kept_total{who="a",what="say \\"x\\"\\\\"} 1\n'
            'potstill_kept_total{who="b",what="y"} 0.25\n'
        )
    )
