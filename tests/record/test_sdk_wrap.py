"""Official clients, wrapped: what they ask is recorded byte for byte, streams too, and becomes an episode."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk_provider import ASKED, Provider

import potstill
from potstill.errors import ConfigError
from potstill.record.episodes import current
from potstill.record.wrap import recording_of
from potstill.trajectories import Store
from potstill.types import OutcomeSource, TrajectoryKind

openai = pytest.importorskip("openai", reason="the official openai package is not installed (extra 'test')")
anthropic = pytest.importorskip("anthropic", reason="the official anthropic package is not installed (extra 'test')")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "sdk.db") as opened:
        yield opened


def ask(sdk: str, url: str, store: Store, *, streamed: bool, asynchronous: bool) -> str:
    """One question with an official client, wrapped, within an episode; returns the answer."""
    if asynchronous:
        return asyncio.run(_ask_async(sdk, url, store, streamed=streamed))
    if sdk == "openai":
        client = potstill.wrap(openai.OpenAI(base_url=f"{url}/v1", api_key="k"), store)
        with potstill.episode(goal="Greet", task_id="t-1") as ep:
            given = client.chat.completions.create(model="m", messages=ASKED, stream=streamed)
            text = "".join(c.choices[0].delta.content or "" for c in given if c.choices) if streamed else _said(given)
            ep.succeed()
        return text
    client = potstill.wrap(anthropic.Anthropic(base_url=url, api_key="k"), store)
    with potstill.episode(goal="Greet", task_id="t-1") as ep:
        if streamed:
            with client.messages.stream(model="m", messages=ASKED, max_tokens=9) as events:
                text = "".join(events.text_stream)
        else:
            text = client.messages.create(model="m", messages=ASKED, max_tokens=9).content[0].text
        ep.succeed()
    return text


async def _ask_async(sdk: str, url: str, store: Store, *, streamed: bool) -> str:
    if sdk == "openai":
        client = potstill.wrap(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k"), store)
        async with potstill.episode(goal="Greet", task_id="t-1") as ep:
            given = await client.chat.completions.create(model="m", messages=ASKED, stream=streamed)
            if streamed:
                text = "".join([c.choices[0].delta.content or "" async for c in given if c.choices])
            else:
                text = _said(given)
            ep.succeed()
        return text
    client = potstill.wrap(anthropic.AsyncAnthropic(base_url=url, api_key="k"), store)
    async with potstill.episode(goal="Greet", task_id="t-1") as ep:
        if streamed:
            async with client.messages.stream(model="m", messages=ASKED, max_tokens=9) as events:
                text = "".join([word async for word in events.text_stream])
        else:
            text = (await client.messages.create(model="m", messages=ASKED, max_tokens=9)).content[0].text
        ep.succeed()
    return text


def _said(completion: Any) -> str:
    text: str = completion.choices[0].message.content
    return text


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_an_episode_is_in_the_store_when_its_block_ends(
    provider: type[Provider], store: Store, sdk: str, streamed: bool, asynchronous: bool, compressed: bool
) -> None:
    provider.compressed = compressed
    url: str = provider.url  # type: ignore[attr-defined]
    assert ask(sdk, url, store, streamed=streamed, asynchronous=asynchronous) == "Hi there"
    (identity,) = store.ids()
    trajectory = store.get(identity)
    assert (trajectory.goal, trajectory.task.id, trajectory.kind) == ("Greet", "t-1", TrajectoryKind.TEACHER)
    assert trajectory.succeeded
    (step,) = trajectory.steps
    assert (step.observation.text, step.action.text, step.error) == ("Say hi", "Hi there", None)
    (call,) = step.calls
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (9, 3)
    assert call.latency_s > 0
    assert store.open_episodes() == []


def test_retries_of_the_sdk_are_calls_of_one_step(provider: type[Provider], store: Store) -> None:
    provider.failures = 2
    client = potstill.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=3), store)  # type: ignore[attr-defined]
    with potstill.episode() as ep:
        client.chat.completions.create(model="m", messages=ASKED)
        ep.fail("wrong tone", score=0.25)
    trajectory = store.get(store.ids()[0])
    (step,) = trajectory.steps
    assert [call.error.kind if call.error else None for call in step.calls] == ["rate_limit", "rate_limit", None]
    assert trajectory.outcome is not None
    assert (trajectory.outcome.success, trajectory.outcome.score, trajectory.outcome.detail) == (
        False,
        0.25,
        "wrong tone",
    )
    assert trajectory.outcome.source is OutcomeSource.CHECKER
    assert trajectory.goal == "Say hi"


def test_calls_outside_of_any_episode_are_put_together_and_wait_in_the_journal(
    provider: type[Provider], store: Store
) -> None:
    client = potstill.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k"), store)  # type: ignore[attr-defined]
    client.chat.completions.create(model="m", messages=ASKED)
    then = [*ASKED, {"role": "assistant", "content": "Hi there"}, {"role": "user", "content": "Again"}]
    client.chat.completions.create(model="m", messages=then)
    client.embeddings.with_raw_response.create(model="e", input="x")
    recording_of(client).flush()
    (waiting,) = store.open_episodes()
    assert waiting.exchanges == 2
    assert (recording_of(client).recorded, recording_of(client).lost) == (2, 0)


def test_no_key_reaches_the_store(provider: type[Provider], store: Store, tmp_path: Path) -> None:
    planted = "sk-" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"
    client = potstill.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key=planted), store)  # type: ignore[attr-defined]
    with potstill.episode(goal=f"use {planted}"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"my key: {planted}"}])
    assert planted in provider.seen[0]["authorization"]
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"redacted:api-key" in held
    assert planted.encode() not in held


def test_a_store_that_fails_never_fails_a_call(provider: type[Provider], tmp_path: Path) -> None:
    broken = Store.open(tmp_path / "gone.db")
    client = potstill.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k"), broken)  # type: ignore[attr-defined]
    broken.close()
    with potstill.episode() as ep:
        assert _said(client.chat.completions.create(model="m", messages=ASKED)) == "Hi there"
        ep.succeed()
    assert recording_of(client).lost == 1


def test_without_a_store_requests_carry_the_episode_to_the_gateway(provider: type[Provider]) -> None:
    url: str = provider.url  # type: ignore[attr-defined]
    client = potstill.wrap(openai.OpenAI(base_url=f"{url}/v1", api_key="k"), store=None)
    with potstill.episode("Café at 50 %\nnow", id="ep-7", tags={"team": "a"}, gateway=f"{url}/v1", key="tenant") as ep:
        client.chat.completions.create(model="m", messages=ASKED)
        ep.succeed(score=1.0)
    client.chat.completions.create(model="m", messages=ASKED)
    inside, posted, outside = provider.seen
    assert inside["x-potstill-episode"] == "ep-7"
    assert inside["x-potstill-goal"] == "Caf%C3%A9 at 50 %25%0Anow"
    assert inside["x-potstill-tags"] == "team=a"
    assert (posted["authorization"], provider.posted[1][0]) == ("Bearer tenant", "/v1/episodes/ep-7/outcome")
    assert json.loads(provider.posted[1][1]) == {"success": True, "detail": "", "source": "checker", "score": 1.0}
    assert "x-potstill-episode" not in outside


def test_an_error_in_the_block_leaves_the_outcome_unknown_and_the_episode_kept(
    provider: type[Provider], store: Store
) -> None:
    client = potstill.wrap(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k"), store)  # type: ignore[attr-defined]

    def attempt() -> None:
        with potstill.episode():
            client.chat.completions.create(model="m", messages=ASKED)
            raise RuntimeError("the tool broke")

    with pytest.raises(RuntimeError):
        attempt()
    outcome = store.get(store.ids()[0]).outcome
    assert outcome is not None
    assert (outcome.success, outcome.detail) == (None, "raised RuntimeError")
    assert current() is None


def test_wrong_use_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="potstill serve"):
        potstill.wrap(object())
    with pytest.raises(ConfigError, match="printable ASCII"):
        potstill.episode(id="a\nb")
    with potstill.episode() as ep, pytest.raises(ConfigError, match="0 to 1"):
        ep.succeed(score=7)
    client = potstill.wrap(openai.OpenAI(api_key="k"), store=None)
    with pytest.raises(ConfigError, match="already"):
        potstill.wrap(client, store=None)


def test_importing_potstill_loads_neither_the_sdk_nor_what_it_needs() -> None:
    heavy = "('potstill', 'msgspec', 'sqlite3', 'numpy')"
    code = f"import sys, potstill; print(sorted(m for m in sys.modules if m.startswith({heavy})))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['potstill']"
