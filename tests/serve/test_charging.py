"""What calls are charged whose price or size nobody tells, and what costs nothing at all."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.measure.prices.table import PriceTable
from potstill.serve import settings_file
from potstill.serve.settings import Gateway
from potstill.serve.tenants.guesses import FALLBACK_USD_PER_MTOK, Guesses, may_be_billed
from potstill.serve.upstreams.questions import EXCERPT
from potstill.trajectories import Store
from potstill.types import Answerer
from potstill.wire.dialect import Problem

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
# gpt-4.1, dollars per million: input 2, output 8; text-embedding-3-small: 0.02
BIG_MICROS = 2800


def tables(far: str, near: str, db: Path, **more: Any) -> dict[str, Any]:
    return {
        "gateway": {"db": str(db)},
        "upstreams": {
            "far": {"base_url": far, "retries": 0, "timeout_s": 1.0},
            "near": {"base_url": near},
            "claude": {"base_url": far.removesuffix("/v1"), "dialect": "anthropic"},
            "nowhere": {"base_url": "http://127.0.0.1:9/v1", "retries": 0},
        },
        "models": {
            "big": {"upstream": "far", "model": "gpt-4.1"},
            "unpriced": {"upstream": "near", "model": "my-own-llama"},
            "free": {"upstream": "near", "model": "my-own-llama", "price_as": "free"},
            "emb": {"upstream": "far", "model": "text-embedding-3-small"},
            "sonnet": {"upstream": "claude", "model": "claude-sonnet-4-5"},
            "gone": {"upstream": "nowhere", "model": "gpt-4.1"},
        },
        "routes": {
            "big": {"teacher": "big"},
            "emb": {"teacher": "emb"},
            "sonnet": {"teacher": "sonnet"},
            "gone": {"teacher": "gone"},
            "own": {"teacher": "big", "student": "unpriced", "mode": "student"},
            "nothing": {"teacher": "big", "student": "free", "mode": "student"},
            **more.pop("routes", {}),
        },
        "tenants": {"default": {"budget_usd_per_day": 1000.0, **more}},
    }


def answer(request: Request) -> Any:
    if request.path.endswith("/embeddings"):
        if b"BROKEN" in request.body:
            return reply({"error": {"message": "boom"}}, status=500)
        usage = {"prompt_tokens": 5000, "total_tokens": 5000}
        return reply({"object": "list", "data": [], "model": "e", "usage": usage})
    if request.path.endswith("/count_tokens"):
        return reply({"input_tokens": 7})
    if b"SLOW" in request.body:
        return [8.0, reply(chat_answer(usage=USAGE))]
    return reply(chat_answer(usage=USAGE))


def chat(model: str, text: str = "hi") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def micros(gateway: Any) -> int:
    with gateway.stop() as store:
        return sum(row.usd_micros for row in store.spend("default"))


def until(wanted: Callable[[], Any], within_s: float = 15.0) -> Any:
    end = time.monotonic() + within_s
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.fixture
def far() -> Iterable[Upstream]:
    with Upstream(answer) as double:
        yield double


def made(far: Upstream, tmp_path: Path, **more: Any) -> Gateway:
    return settings_file.parse(tables(far.url, far.url, tmp_path / "g.db", **more), "here")


def begin(start: Any, far: Upstream, tmp_path: Path, **more: Any) -> Any:
    return start(made(far, tmp_path, **more), db=str(tmp_path / "g.db"))


# --- models without a price -------------------------------------------------------------------------------------------


def test_a_student_without_a_price_is_charged_by_its_tokens(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    for _ in range(3):
        assert gateway.post("/v1/chat/completions", chat("own")).headers["x-potstill-answerer"] == "student"
    assert micros(gateway) == pytest.approx(3 * 1100 * FALLBACK_USD_PER_MTOK, abs=1)


def test_a_free_student_costs_nothing(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    assert gateway.post("/v1/chat/completions", chat("nothing")).headers["x-potstill-answerer"] == "student"
    assert micros(gateway) == 0


def test_free_is_a_price_for_measure_too() -> None:
    price = PriceTable.load(prices={}).price("free")
    assert (price.rates.input, price.rates.output) == (0.0, 0.0)


def test_priced_calls_keep_their_price_beside_unpriced_ones(start: Any, far: Upstream, tmp_path: Path) -> None:
    def disagreeing(request: Request) -> Any:
        return reply(chat_answer(f"answer {request.number}", usage=USAGE))

    told = {"mode": "cascade", "rollout": False, "cascade": {"samples": 2, "cache_aware": False}}
    with Upstream(disagreeing) as near:
        routes = {"both": {"teacher": "big", "student": "unpriced", **told}}
        named = settings_file.parse(tables(far.url, near.url, tmp_path / "g.db", routes=routes), "here")
        gateway = start(named, db=str(tmp_path / "g.db"))
        for _ in range(2):
            assert gateway.post("/v1/chat/completions", chat("both")).headers["x-potstill-answerer"] == "teacher"
        spent = micros(gateway)
    # the first: two samples of 1100 tokens at a dollar per million; then at the rate of the teacher's calls
    assert spent == pytest.approx(2 * BIG_MICROS + 2 * 1100 + 2 * BIG_MICROS, abs=2)


# --- what is passed through -------------------------------------------------------------------------------------------


def test_counting_tokens_costs_nothing(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path, budget_usd_per_day=0.001)
    for _ in range(120):
        assert gateway.post("/v1/messages/count_tokens", chat("sonnet")).status == 200
    assert micros(gateway) == 0


def test_embeddings_cost_their_tokens_and_failures_nothing(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    assert gateway.post("/v1/embeddings", {"model": "emb", "input": "hello"}).status == 200
    assert gateway.post("/v1/embeddings", {"model": "emb", "input": "BROKEN"}).status == 500
    assert gateway.post("/v1/embeddings", {"model": "gone", "input": "hello"}).status == 502
    assert micros(gateway) == 100  # 5000 tokens at 0.02 dollars per million


# --- cut off before an answer -----------------------------------------------------------------------------------------


def cancelled(gateway: Any, far: Upstream, model: str) -> None:
    before = len(far.requests)
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat(model, "SLOW")))
    assert until(lambda: len(far.requests) > before)
    connection.close()
    assert until(far.requests[-1].gone.is_set)


def test_leaving_before_the_head_is_charged_as_expected(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    assert gateway.post("/v1/chat/completions", chat("big")).status == 200
    cancelled(gateway, far, "big")
    assert micros(gateway) == 2 * BIG_MICROS


def test_leaving_as_the_very_first_costs_a_cent_at_most(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    cancelled(gateway, far, "big")
    assert micros(gateway) == 10_000


def test_a_time_out_is_charged_as_expected(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    assert gateway.post("/v1/chat/completions", chat("big")).status == 200
    assert gateway.post("/v1/chat/completions", chat("big", "SLOW")).status == 504
    assert micros(gateway) == 2 * BIG_MICROS


def test_an_upstream_that_was_not_reached_costs_nothing(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    assert gateway.post("/v1/chat/completions", chat("big")).status == 200
    assert gateway.post("/v1/chat/completions", chat("gone")).status == 502
    assert micros(gateway) == BIG_MICROS


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def test_guesses_follow_what_was_seen() -> None:
    guesses, whose = Guesses(), ("team", "auto")
    assert guesses.without_usage(whose, "small") is None
    assert guesses.without_price(whose, 2_000_000) == 2 * FALLBACK_USD_PER_MTOK
    guesses.seen(whose, "big", 0.01, 1000, priced=True)
    assert guesses.without_price(whose, 500) == pytest.approx(0.005)
    assert guesses.without_usage(whose, "small") == (0.01, 1000)  # of another model: as the route's
    guesses.seen(whose, "small", 0.0, 300, priced=False)
    assert guesses.without_usage(whose, "small") == (0.0, 300)
    assert guesses.without_usage(("others", "auto"), "big") is None


@pytest.mark.parametrize(
    ("problem", "waited_s", "billed"),
    [
        (None, 0.0, True),
        (Problem(status=504, kind="timeout", message=""), 5.0, True),
        (Problem(status=504, kind="timeout", message="", code="unreachable"), 5.0, False),
        (Problem(status=502, kind="upstream", message="", code="unreachable"), 5.0, False),
        (Problem(status=502, kind="upstream", message="", code="connection_lost"), 0.1, False),
        (Problem(status=502, kind="upstream", message="", code="connection_lost"), 9.0, True),
        (Problem(status=502, kind="upstream", message="", code="cut_off"), 0.1, True),
        (Problem(status=502, kind="upstream", message="redirects"), 0.1, False),
    ],
)
def test_what_may_be_billed_without_an_answer(problem: Problem | None, waited_s: float, billed: bool) -> None:
    assert may_be_billed(problem, waited_s) is billed


def test_the_store_keeps_that_a_call_may_be_billed(start: Any, far: Upstream, tmp_path: Path) -> None:
    gateway = begin(start, far, tmp_path)
    cancelled(gateway, far, "big")
    (exchange,) = gateway.exchanges()
    assert [call.may_be_billed for call in exchange.calls] == [True]


# --- the student's samples --------------------------------------------------------------------------------------------
# gpt-4.1-nano, dollars per million: input 0.1, output 0.4: 1000 x 0.1 + 100 x 0.4 = 140 millionths of a dollar
SMALL_MICROS = 140


def sampled(start: Any, far: Upstream, near: Upstream, db: Path, deadline_s: float) -> Any:
    told = tables(far.url, near.url, db)
    told["models"]["small"] = {"upstream": "near", "model": "gpt-4.1-nano"}
    cascade = {"samples": 3, "cache_aware": False, "deadline_s": deadline_s}
    told["routes"]["three"] = {
        "teacher": "big", "student": "small", "mode": "cascade", "rollout": False, "cascade": cascade
    }  # fmt: skip
    return start(settings_file.parse(told, "here"), db=str(db))


def third_is_late(request: Request) -> Any:
    return [9.0 if request.number % 3 == 2 else 0.0, reply(chat_answer("same", usage=USAGE))]


def spent(db: Path) -> int:
    with Store.read(db) as store:
        return sum(row.usd_micros for row in store.spend("default"))


def test_samples_that_came_are_kept_and_charged_where_one_is_late(start: Any, far: Upstream, tmp_path: Path) -> None:
    with Upstream(third_is_late) as near:
        gateway = sampled(start, far, near, tmp_path / "g.db", 1.0)
        answered = gateway.post("/v1/chat/completions", chat("three"))
        assert answered.headers["x-potstill-answerer"] == "teacher"
        (exchange,) = gateway.exchanges()
    students = [call for call in exchange.calls if call.answerer is Answerer.STUDENT]
    assert sorted(call.status for call in students) == [0, 200, 200]
    assert [call.raw_usage for call in students if call.status] == [USAGE, USAGE]
    (late,) = (call for call in students if not call.status)
    assert late.error is not None
    assert (late.error.kind, late.may_be_billed) == ("ModelTimeout", True)
    assert spent(tmp_path / "g.db") == 3 * SMALL_MICROS + BIG_MICROS  # the late one as the other two


def test_samples_that_came_are_kept_and_charged_where_the_client_leaves(
    start: Any, far: Upstream, tmp_path: Path
) -> None:
    with Upstream(third_is_late) as near:
        gateway = sampled(start, far, near, tmp_path / "g.db", 30.0)
        connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=120)
        connection.request("POST", "/v1/chat/completions", json.dumps(chat("three")))
        two = 'potstill_upstream_requests_total{upstream="near",status="200"} 2'
        assert until(lambda: two in gateway.get("/metrics").body.decode())
        assert until(lambda: len(near.requests) == 3)
        time.sleep(0.1)  # the body of the second answer came with its head
        connection.close()
        assert until(near.requests[2].gone.is_set)
        (exchange,) = gateway.exchanges()
    assert exchange.error is not None
    assert exchange.error.kind == "ClientLeft"
    assert sorted(call.status for call in exchange.calls) == [0, 200, 200]
    assert all(call.answerer is Answerer.STUDENT for call in exchange.calls)
    assert spent(tmp_path / "g.db") == 3 * SMALL_MICROS


def test_failed_calls_of_the_student_keep_what_they_were_told(start: Any, far: Upstream, tmp_path: Path) -> None:
    def failing(request: Request) -> Any:
        return reply({"error": {"message": "boom"}, "usage": USAGE, "pad": "x" * 40_000}, status=500)

    with Upstream(failing) as near:
        gateway = sampled(start, far, near, tmp_path / "g.db", 30.0)
        assert gateway.post("/v1/chat/completions", chat("three")).status == 200
        (exchange,) = gateway.exchanges()
    students = [call for call in exchange.calls if call.answerer is Answerer.STUDENT]
    assert [call.status for call in students] == [500, 500, 500]
    assert all(call.response is not None and b"boom" in call.response for call in students)
    assert all(len(call.response or b"") == EXCERPT for call in students)
    assert [call.raw_usage for call in students] == [USAGE] * 3
