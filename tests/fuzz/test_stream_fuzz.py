"""Upstreams that stream anything: clients of all dialects see well-formed streams that end, and the gateway goes on.

Every pair of dialects, the same one (bytes) and others (translated). The seed is hypothesis' own: a failure prints
how to repeat it. ``POTSTILL_FUZZ=N`` draws N examples for each pair.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from mangled_streams import Plan, plans
from pair_samples import NAMES
from stream_checks import STRICT, ending
from watched_gateway import PATHS, Seen, Watched, question

EXAMPLES = int(os.environ.get("POTSTILL_FUZZ", "15"))
MANY = 150
PAIRS = [(client, upstream) for client in NAMES for upstream in NAMES]
fuzz = settings(
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def checked(watched: Watched, client: str, upstream: str, seen: Seen, plan: Plan) -> None:
    """One answer, whatever its upstream did."""
    assert seen.status in (200, 502, 504), (seen.status, seen.body[:300])
    if seen.status != 200:
        assert seen.headers["content-type"] == "application/json"
        assert isinstance(seen.json["error"]["message"], str)
        assert not plan.clean
        return
    assert seen.headers["content-type"].startswith("text/event-stream")
    how = ending(seen.body, client) if client == upstream else STRICT[client](seen.body, sane=plan.clean)
    assert how == "end" or not plan.clean
    watched.seen[seen.request_id] = (seen, how == "end")


def run(watched: Watched, client: str, upstream: str, examples: int, number: int) -> None:
    watched.begin()
    asked = question(client, upstream)
    told = watched.count("potstill_requests_total")
    count = 0

    @seed(number)
    @settings(fuzz, max_examples=examples)
    @given(plan=plans(upstream))
    def one(plan: Plan) -> None:
        nonlocal count
        count += 1
        watched.answer = lambda request: iter(plan.pieces)
        seen = watched.ask(PATHS[client], asked)
        note(f"the client got {seen.status} {seen.body[-600:]!r}")
        checked(watched, client, upstream, seen, plan)

    one()
    watched.settled()
    assert watched.count("potstill_requests_total") == told + count


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_any_stream_becomes_one_that_clients_can_read(watched: Watched, client: str, upstream: str) -> None:
    run(watched, client, upstream, EXAMPLES, 20_261)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_many_streams_become_ones_that_clients_can_read(watched: Watched, client: str, upstream: str) -> None:
    run(watched, client, upstream, MANY, 4_711)
