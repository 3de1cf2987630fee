"""Whatever is sent to the admin API and the outcome endpoint, the answer is JSON and never a failure of the gateway."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from asgi_client import Answer, ask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.serve.admin import outcomes
from potstill.serve.admin.acts import KeyChange, NewKey
from potstill.serve.admin.api import Admin
from potstill.serve.rollout.stages import Stages
from potstill.serve.rollout.trust import trust_of
from potstill.serve.settings import Gateway, Mode, Model, Route
from potstill.serve.tenants import keys
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange

ADMIN_KEY = "correct-horse-battery-9174-staple"
SETTINGS = Gateway(
    models=(Model(name="big", upstream="up", model="big"), Model(name="small", upstream="up", model="small")),
    routes=(Route(name="potstill/auto", teacher="big", student="small", mode=Mode.SHADOW),),
)
TIME = 1_800_000_000.0

words = st.text(max_size=30)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 1e308, 1e-320, 0.5]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=10,
)
FIELDS = sorted(
    {
        *NewKey.__struct_fields__,
        *KeyChange.__struct_fields__,
        "killed",
        "by",
        "key",
        "success",
        "score",
        "detail",
        "source",
    }
)
bodies = st.one_of(
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"[" * 20_000, b'{"a":' * 20_000, b"\xff\xfe", b'{"tenant":"\\ud800"}', b"NaN", b"null"]),
)
segments = st.one_of(
    words.filter(bool),
    st.sampled_from(
        [
            *("status", "routes", "episodes", "live", "tenants", "keys", "kill-switch"),
            *("freeze", "kill", "outcome", "potstill/auto", "team", "ep", "..", ".", "%00", "\x00", "a" * 600),
        ]
    ),
)
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)
queries = st.dictionaries(
    st.sampled_from(
        [
            *("tenant", "state", "success", "environment", "task", "since", "until", "limit", "cursor", "after_seq"),
            *("prompts", "x"),
        ]
    ),
    st.one_of(
        words, numbers.map(str), st.sampled_from(["open", "ended", "true", "nan", "inf", "-inf", "1e999", "null"])
    ),
    max_size=4,
)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain", ""])}
)


class Fuzzed:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = StoreRows(store)
        key, self.tenant_key = keys.create("team", TIME)
        self.rows.put(key)
        self.key_id = key.id
        store.record(
            [Exchange(namespace="team", episode_id="ep", route="potstill/auto", dialect="openai-chat", started_at=TIME)]
        )

    def ask(self, method: str, target: str, body: bytes, sent: dict[str, str]) -> Answer:
        async def run() -> Answer:
            gate = TenantGate(self.rows, keys_required=True, clock=lambda: TIME)
            trusts = {route.name: trust_of(route, SETTINGS) for route in SETTINGS.routes}
            stages = Stages(trusts, self.store, lambda: TIME)
            admin = Admin(
                settings=SETTINGS, store=self.store, gate=gate, admin_key=ADMIN_KEY, stages=stages, clock=lambda: TIME
            )
            admin.drain()  # no live tail waits
            try:
                return await ask(admin, method, target, body=body, headers=sent)
            finally:
                await admin.aclose()
                await gate.aclose()

        return asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes of unknown episodes are looked for at once only."""
    monkeypatch.setattr(outcomes, "WAITS_S", (0.0,))


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "fuzz.db") as store:
        yield Fuzzed(store)


def well_told(answer: Answer) -> None:
    assert answer.status not in (500, 503), answer.body
    assert answer.header("content-type") == "application/json; charset=utf-8"
    told = answer.json
    if answer.status >= 400:
        assert set(told["error"]) == {"kind", "message"}
        assert len(told["error"]["message"]) < 1000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150)
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "X"]),
    path=paths,
    query=queries,
    body=bodies,
    sent=headers,
)
def test_any_request_of_an_admin_is_answered(
    fuzzed: Fuzzed, method: str, path: str, query: dict[str, str], body: bytes, sent: dict[str, str]
) -> None:
    target = "/v1/potstill/" + quote(path, safe="/", errors="replace")
    if query:
        target += "?" + "&".join(f"{name}={quote(value, errors='replace')}" for name, value in query.items())
    answer = fuzzed.ask(method, target, body, {**sent, "authorization": f"Bearer {ADMIN_KEY}"})
    well_told(answer)
    assert ADMIN_KEY.encode() not in answer.body


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150)
@given(
    target=st.sampled_from(
        [
            *("POST keys", "PATCH keys/{key}", "POST kill-switch", "POST episodes/team/ep/outcome"),
            *("POST routes/potstill/auto/freeze", "POST routes/potstill/auto/kill"),
        ]
    ),
    body=bodies,
)
def test_any_body_of_an_admin_is_answered(fuzzed: Fuzzed, target: str, body: bytes) -> None:
    method, name = target.replace("{key}", fuzzed.key_id).split(" ")
    sent = {"content-type": "application/json", "authorization": f"Bearer {ADMIN_KEY}"}
    well_told(fuzzed.ask(method, f"/v1/potstill/{name}", body, sent))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100)
@given(query=queries, name=st.sampled_from(["episodes", "live", "episodes/team/ep", "keys", "status"]))
def test_any_query_of_an_admin_is_answered(fuzzed: Fuzzed, query: dict[str, str], name: str) -> None:
    asked = "&".join(f"{key}={quote(value, errors='replace')}" for key, value in query.items())
    well_told(fuzzed.ask("GET", f"/v1/potstill/{name}?{asked}", b"", {"authorization": f"Bearer {ADMIN_KEY}"}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100)
@given(
    episode=st.one_of(st.just("ep"), words.filter(bool)),
    body=st.one_of(
        bodies,
        st.fixed_dictionaries(
            {"success": values}, optional={"score": numbers, "detail": st.text(max_size=5000), "source": words}
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_outcome_is_answered(fuzzed: Fuzzed, episode: str, body: bytes) -> None:
    sent = {"content-type": "application/json", "authorization": f"Bearer {fuzzed.tenant_key}"}
    answer = fuzzed.ask("POST", f"/v1/episodes/{quote(episode, safe='', errors='replace')}/outcome", body, sent)
    well_told(answer)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    value=st.one_of(st.text(st.characters(max_codepoint=255), max_size=120), words),
    name=st.sampled_from(["authorization", "x-api-key", "cookie", "origin", "host", "sec-fetch-site"]),
)
def test_any_header_is_answered_and_opens_nothing(fuzzed: Fuzzed, name: str, value: str) -> None:
    sent = {name: value.encode("latin-1", "replace").decode("latin-1")}
    for header in (sent, {"authorization": "Bearer " + sent[name]}, {"cookie": "potstill_session=" + sent[name]}):
        answer = fuzzed.ask("GET", "/v1/potstill/keys", b"", header)
        well_told(answer)
        assert answer.status == 401
