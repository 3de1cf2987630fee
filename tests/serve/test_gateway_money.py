"""What the gateway charges a tenant is what the audit and the report say of the same episodes, to the micro-dollar."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.record.folding import fold_episode
from potstill.serve import settings_file
from potstill.serve.settings import Gateway
from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store

ADMIN_KEY = "oX7-2kfLqP9zR4tVbN8wAa"
# claude-sonnet-5-5, dollars per million: input 2, cache read 0.1, cache write 2.5, output 10:
# 100 x 2 + 2000 x 0.1 + 1000 x 2.5 + 50 x 10 = 3400 millionths of a dollar
TEACHERS_USAGE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 1000,
    "output_tokens": 50,
}
TEACHERS_MICROS, TEACHERS_TOKENS = 3400.0, 3150
# gpt-5-nano: input 0.05, cache read 0.005, output 0.4: 1976 x 0.05 + 1024 x 0.005 + 90 x 0.4 = 139.92
STUDENTS_USAGE = {
    "prompt_tokens": 3000,
    "completion_tokens": 90,
    "total_tokens": 3090,
    "prompt_tokens_details": {"cached_tokens": 1024},
}
STUDENTS_MICROS, STUDENTS_TOKENS = 139.92, 3090


def teacher(request: Request) -> Any:
    return reply(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [{"type": "text", "text": f"answer {len(request.json['messages'])}"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": TEACHERS_USAGE,
        }
    )


def student(request: Request) -> Any:
    answer = chat_answer("answer", model="gpt-5-nano", usage=STUDENTS_USAGE)
    answer["choices"] = [{**answer["choices"][0], "index": index} for index in range(request.json["n"])]
    return reply(answer)


def settings(far: str, near: str, mode: str, db: Path, **tenant: Any) -> Gateway:
    tables = {
        "gateway": {"db": str(db), "keys_required": True},
        "upstreams": {
            "far": {"base_url": far, "dialect": "anthropic"},
            "near": {"base_url": near, "n_shares_prompt": True},
        },
        "models": {
            "big": {"upstream": "far", "model": "claude-sonnet-5-5"},
            "small": {"upstream": "near", "model": "gpt-5-nano"},
        },
        "routes": {
            "auto": {
                "teacher": "big",
                "student": "small",
                "mode": mode,
                "rollout": False,
                "shadow_share": 1.0,
                "cascade": {"cache_aware": False},
            }
        },
        "tenants": {"team": tenant},
    }
    return settings_file.parse(tables, "here")


def until(wanted: Callable[[], Any], within_s: float = 15.0) -> Any:
    end = time.monotonic() + within_s
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def new_key(db: Path, **limits: Any) -> tuple[str, dict[str, str]]:
    with Store.open(db) as store:
        key, text = keys.create("team", time.time(), **limits)
        StoreRows(store).put(key)
    return key.id, {"authorization": f"Bearer {text}", "x_potstill_episode": "e-1"}


def turns(count: int) -> dict[str, Any]:
    messages = []
    for number in range(count):
        messages += [{"role": "user", "content": f"question {number}"}]
        messages += [{"role": "assistant", "content": f"answer {2 * number + 1}"}] if number < count - 1 else []
    return {"model": "auto", "max_tokens": 100, "messages": messages}


def potstill(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-m", "potstill", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mode", ["shadow", "cascade"])
def test_spend_audit_and_report_agree(start: Any, tmp_path: Path, mode: str) -> None:
    db = tmp_path / "gateway.db"
    key_id, own = new_key(db)
    with Upstream(teacher) as far, Upstream(student) as near:
        gateway = start(settings(far.url, near.url, mode, db), db=str(db), admin_key=ADMIN_KEY)
        for count in (1, 2):
            assert gateway.post("/v1/messages", turns(count), **own).status == 200
        assert until(lambda: len(near.requests) == 2)
        metrics = ""

        def counted() -> bool:
            nonlocal metrics
            metrics = gateway.get("/metrics").body.decode()
            return f'side="{"shadow" if mode == "shadow" else "student"}"' in metrics

        assert until(counted)
        gateway.server.stop()
    expected = 2 * (STUDENTS_MICROS + (TEACHERS_MICROS if mode == "shadow" else 0.0))
    tokens = 2 * (STUDENTS_TOKENS + (TEACHERS_TOKENS if mode == "shadow" else 0))
    with Store.open(db) as store:
        (spent,) = store.spend("team")
        assert (spent.key_id, spent.requests, spent.tokens) == (key_id, 2, tokens)
        assert spent.usd_micros == int(expected)
        trajectory = fold_episode(store, "team", "e-1")
    assert trajectory is not None
    assert len(trajectory.steps) == 2
    common = ("--namespace", "team", "--json")
    audited = potstill("audit", str(db), *common)
    measured = potstill("measure", "--db", str(db), "--cache", "reported", *common)
    as_ever = potstill("measure", "--db", str(db), *common)  # caches that were reported are never simulated
    for report in (measured, as_ever):
        assert sum(arm["cost_usd"] for arm in report["arms"]) == pytest.approx(expected * 1e-6, abs=1e-12)
    assert sum(group["cost_usd"] for group in audited["groups"]) == pytest.approx(expected * 1e-6, abs=1e-12)


def test_shadow_work_ends_with_the_budget_and_the_teacher_does_not_notice(start: Any, tmp_path: Path) -> None:
    db = tmp_path / "gateway.db"
    _, own = new_key(db)
    # the first request and its shadow leave 60 micro-dollars, the second request's teacher crosses the line
    budget = (TEACHERS_MICROS + STUDENTS_MICROS + 60.0) * 1e-6
    with Upstream(teacher) as far, Upstream(student) as near:
        told = settings(far.url, near.url, "shadow", db, budget_usd_per_day=budget)
        gateway = start(told, db=str(db), admin_key=ADMIN_KEY)
        assert gateway.post("/v1/messages", turns(1), **own).status == 200
        assert until(lambda: 'side="shadow"' in gateway.get("/metrics").body.decode())

        def answered() -> bool:
            """What is left is less than a request costs: it waits until nothing is held."""
            return bool(gateway.post("/v1/messages", turns(2), **own).status == 200)

        assert until(answered)
        assert until(lambda: 'potstill_shadow_jobs_total{what="no-budget"} 1' in gateway.get("/metrics").body.decode())
        refused = gateway.post("/v1/messages", turns(3), **own)
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
        gateway.server.stop()
        assert (len(far.requests), len(near.requests)) == (2, 1)
    with Store.read(db) as store:
        (spent,) = store.spend("team")
    assert spent.usd_micros == int(2 * TEACHERS_MICROS + STUDENTS_MICROS)


def test_shadow_work_is_charged_to_the_key_whose_request_it_was_asked_beside(start: Any, tmp_path: Path) -> None:
    db = tmp_path / "gateway.db"
    first, own = new_key(db)
    second, others = new_key(db)
    with Upstream(teacher) as far, Upstream(student) as near:
        told = settings(far.url, near.url, "shadow", db)
        none = msgspec.structs.replace(told.routes[0], shadow_share=0.0, name="plain")
        gateway = start(msgspec.structs.replace(told, routes=(*told.routes, none)), db=str(db))
        assert gateway.post("/v1/messages", turns(1), **own).status == 200
        assert gateway.post("/v1/messages", {**turns(1), "model": "plain"}, **others).status == 200
        assert until(lambda: 'side="shadow"' in gateway.get("/metrics").body.decode())
        gateway.server.stop()
    with Store.read(db) as store:
        spent = {row.key_id: row.usd_micros for row in store.spend("team")}
    assert spent == {first: int(TEACHERS_MICROS + STUDENTS_MICROS), second: int(TEACHERS_MICROS)}
