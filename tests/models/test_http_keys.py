"""A key is found, sent to its endpoint, and shown nowhere."""

from __future__ import annotations

import pickle
import traceback

import msgspec
import pytest
from misbehaving import Endpoint

from potstill.errors import BadResponse, ConfigError, KeyRefused
from potstill.models import keys
from potstill.models.http import HttpModel
from potstill.models.keys import Key, find_key
from potstill.types import Message, Request

REQUEST = Request(messages=(Message(role="user", content="hi"),))
SECRET = "sk-Do-Not-Show-4711"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "MY_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(keys, "_from_keyring", lambda _: None)


@pytest.mark.parametrize("behaviour", ["refused-key", "bad-answer-with-key"])
async def test_a_key_that_the_endpoint_echoes_is_taken_out(
    endpoint: Endpoint, behaviour: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    caplog.set_level("DEBUG")
    model = HttpModel("m", base_url=endpoint.url(behaviour), key_variable="MY_KEY")
    with pytest.raises((KeyRefused, BadResponse)) as caught:
        await model.sample(REQUEST)
    await model.aclose()
    assert endpoint.stats()["authorizations"][behaviour] == [f"Bearer {SECRET}"]
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.calls) + caplog.text
    assert SECRET not in shown + repr(model) + repr(vars(model))
    assert "***" in str(caught.value)


async def test_a_refused_key_says_where_it_came_from(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    model = HttpModel("m", base_url=endpoint.url("refused-key"), key_variable="MY_KEY")
    with pytest.raises(KeyRefused, match=r"The key came from MY_KEY\. Type: export MY_KEY="):
        await model.sample(REQUEST)
    await model.aclose()


async def test_a_call_holds_no_key(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    model = HttpModel("m", base_url=endpoint.url("ok"), key_variable="MY_KEY")
    completion = await model.sample(REQUEST)
    await model.aclose()
    assert SECRET.encode() not in msgspec.json.encode(completion)


async def test_a_missing_key_is_said_before_anything_is_sent() -> None:
    with pytest.raises(KeyRefused, match="export OPENAI_API_KEY="):
        await HttpModel("gpt-6-luna", provider="openai").sample(REQUEST)


def test_the_environment_comes_before_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_from_keyring", {"OPENAI_API_KEY": "from-the-ring"}.get)
    stored = find_key(("MY_KEY", "OPENAI_API_KEY"))
    assert stored is not None
    assert stored.header() == {"Authorization": "Bearer from-the-ring"}
    assert stored.source == "the keyring's entry potstill/OPENAI_API_KEY"
    monkeypatch.setenv("MY_KEY", "from-the-environment")
    found = find_key(("MY_KEY", "OPENAI_API_KEY"))
    assert found is not None
    assert found.source == "MY_KEY"


@pytest.mark.parametrize("secret", ["", "  ", "a\nb", "schlüssel", "a\0b"])
def test_a_key_that_no_header_carries_is_refused_unseen(secret: str) -> None:
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        Key(secret, "MY_KEY")
    if secret.strip():
        assert secret not in str(caught.value)


def test_a_key_hides_itself() -> None:
    key = Key(SECRET, "MY_KEY")
    assert SECRET not in f"{key} {key!r}"
    with pytest.raises(TypeError, match="never written"):
        pickle.dumps(key)
