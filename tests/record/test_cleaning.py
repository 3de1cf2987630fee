"""Exchanges that are cleaned many at a time come out as if each had been cleaned alone."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from potstill.record.cleaning import Cleaner, CleanRequests
from potstill.record.redact import Redactor
from potstill.serve.recording.own_secrets import OwnSecrets
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, ErrorRecord

OWN = "a+self/hosted=" + "key" * 200
"""Longer than what is looked at again around what is new."""
RULED = "sk-" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"
TEXTS = ("hello", "a question about 4111", "x" * 700, RULED, OWN, f"use {RULED} or {OWN}")
PLACES = ("request", "response", "stream", "call", "note", "goal", "error", "episode", "nothing")


def own() -> OwnSecrets:
    return OwnSecrets([OWN], Redactor())


def exchange(episode: int, texts: list[str], place: str, secret: str) -> Exchange:
    said = [*texts, secret] if place == "request" else texts
    request = json.dumps({"messages": [{"role": "user", "content": text} for text in said]}).encode()
    answer = secret if place == "response" else "fine"
    response = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
    if place == "stream":
        pieces = [secret[at : at + 7] for at in range(0, len(secret), 7)]
        chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        response = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    body = json.dumps({"a": secret}).encode()
    call = Upstream(model="m", upstream="u", answerer=Answerer.TEACHER, dialect="d", request=body, response=body)
    return Exchange(
        namespace="t",
        episode_id=f"ep-{episode} {secret}" if place == "episode" and secret == OWN else f"ep-{episode}",
        route="r",
        dialect="openai-chat",
        started_at=0.0,
        request=request,
        response=response,
        calls=(call,) if place == "call" else (),
        notes=(secret,) if place == "note" else (),
        metadata={"goal": secret} if place == "goal" else {},
        error=ErrorRecord(kind="X", message=secret) if place == "error" else None,
    )


STEPS = st.tuples(st.integers(0, 2), st.sampled_from(TEXTS), st.sampled_from(PLACES), st.sampled_from(TEXTS))


@given(st.lists(STEPS, min_size=1, max_size=12), st.integers(1, 5))
def test_a_batch_is_cleaned_as_if_each_exchange_came_alone(steps: list[tuple[int, str, str, str]], batch: int) -> None:
    histories: dict[int, list[str]] = {}
    exchanges = []
    for episode, text, place, secret in steps:
        histories.setdefault(episode, []).append(text)
        exchanges.append(exchange(episode, list(histories[episode]), place, secret))
    together = own()
    found = [one for at in range(0, len(exchanges), batch) for one in together.exchanges(exchanges[at : at + batch])]
    assert found == [own().exchange(one) for one in exchanges]
    assert RULED.encode() not in msgspec.msgpack.encode([one for one in found if one.response[:5] != b"data:"])


def test_clean_exchanges_are_handed_on_as_they_are() -> None:
    asked = 0

    def clean(one: Exchange) -> Exchange:
        nonlocal asked
        asked += 1
        return one

    cleaner = Cleaner(Redactor().may_hold, clean)
    grown = [exchange(0, ["hello"] * count, "nothing", "") for count in range(1, 6)]
    assert all(one is other for one, other in zip(cleaner(grown), grown, strict=True))
    assert asked == 0


def test_a_suspicion_that_proved_false_is_not_looked_into_again() -> None:
    secret = f"use {RULED}"
    asked: list[int] = []
    rules = Redactor()

    def clean(one: Exchange) -> Exchange:
        asked.append(one.request.count(b"role"))
        return rules.exchange(one)

    said = ["hello", "-----BEGIN of a song", *["x. " * 200] * 4]
    grown = [exchange(0, said[:count], "nothing", "") for count in range(1, 7)]
    one_by_one = Cleaner(rules.may_hold, clean)
    for one in grown:
        assert one_by_one([one])[0].request == one.request
    assert asked == [2, 3], "what stands near the suspicion is looked at with it"
    asked.clear()
    together = Cleaner(rules.may_hold, clean)
    assert [one.request for one in together(grown)] == [one.request for one in grown]
    assert asked == [2, 3]
    assert RULED.encode() not in together([exchange(0, [*said, secret], "nothing", "")])[0].request
    assert RULED.encode() not in together([exchange(0, [*said, secret, "y" * 2000], "nothing", "")])[0].request


def test_what_json_cannot_say_is_cleaned_by_itself() -> None:
    odd = msgspec.structs.replace(exchange(0, ["hello"], "nothing", ""), notes=("\ud800",))
    asked: list[Exchange] = []

    def clean(one: Exchange) -> Exchange:
        asked.append(one)
        return one

    assert Cleaner(Redactor().may_hold, clean)([odd, exchange(1, ["x"], "nothing", "")])[0] is odd
    assert asked == [odd]


def test_ten_thousand_episodes_leave_a_bounded_number_of_bytes() -> None:
    seen = CleanRequests(max_bytes=1_000_000)
    for number in range(10_000):
        request = b"%d" % number + b"x" * (number % 5000)
        seen.keep(("t", f"e{number}"), request)
        assert seen.news(("t", f"e{number}"), request + b"new")[-3:] == b"new"
        assert seen.bytes <= 1_000_000
    assert len(seen._held) < 2500
    assert seen.news(("t", "e1"), b"1x") == b"1x"
    seen.keep(("t", "huge"), bytes(2_000_000))
    assert (seen.bytes, len(seen._held)) == (0, 0)
    for number in range(10_000):
        seen.keep(("t", f"e{number}"), b"")
    assert (seen.bytes, len(seen._held)) == (0, 0)
