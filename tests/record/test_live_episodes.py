"""Live requests find their episode: by what they say, else by what they repeat; and it stays so within bounds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.record.identity import new_episode_id
from potstill.record.live import LiveEpisodes
from potstill.record.outline import Threads, outline
from potstill.record.placement import Placement

CHAT = "openai-chat"
Message = dict[str, Any]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def body(*messages: Message, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "system", "content": "help"}, *messages], **fields}).encode()


def answer(*texts: str) -> bytes:
    choices = [{"index": n, "message": said(text), "finish_reason": "stop"} for n, text in enumerate(texts)]
    return json.dumps({"id": "c", "model": "m", "choices": choices}).encode()


class Agent:
    """A client that keeps its own history."""

    def __init__(self, live: LiveEpisodes, first: str, *, namespace: str = "default", **fields: Any) -> None:
        self.live, self.namespace, self.fields = live, namespace, fields
        self.history = [user(first)]

    def ask(self, now: float = 0.0) -> Placement:
        return self.live.place(self.namespace, {}, CHAT, body(*self.history, **self.fields), now)

    def step(self, text: str, then: str, now: float = 0.0) -> Placement:
        placement = self.ask(now)
        self.live.answered(self.namespace, placement, CHAT, answer(text), streamed=False, now=now + 0.1)
        self.history += [said(text), user(then)]
        return placement


# --- requests that name their episode ---------------------------------------------------------------------------------


def test_the_header_wins_over_session_fields_and_counts_steps() -> None:
    live = LiveEpisodes()
    sent = body(user("hi"), metadata={"session_id": "s"})
    placed = [live.place("default", {"x-potstill-episode": "mine"}, CHAT, sent, 0.0) for _ in range(3)]
    assert [(p.episode_id, p.how, p.step) for p in placed] == [("mine", "header", n) for n in range(3)]
    assert live.place("default", {}, CHAT, sent, 0.0).episode_id == "s"


@pytest.mark.parametrize("wrong", ["", "x" * 201, "a\nb", " a", "a\x00", "caf\u00e9"])
def test_a_header_that_is_no_id_is_told_and_not_taken(wrong: str) -> None:
    placement = LiveEpisodes().place("default", {"x-potstill-episode": wrong}, CHAT, body(user("hi")), 0.0)
    assert placement.how == "new"
    assert "x-potstill-episode was ignored" in placement.note


def test_what_the_headers_say_of_the_episode_is_kept() -> None:
    headers = {"x-potstill-goal": "Book%20a%20table%20%F0%9F%8D%9C", "x-potstill-task": "t-7", "x-potstill-seq": "1"}
    placement = LiveEpisodes().place("default", headers, CHAT, body(user("hi")), 0.0)
    assert placement.metadata == {"goal": "Book a table \U0001f35c", "task": "t-7"}


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"x-session-id": "s-1"}, {}),
        ({"session_id": "s-1"}, {}),
        ({}, {"metadata": {"session_id": "s-1"}}),
        ({}, {"metadata": {"litellm_session_id": "s-1"}}),
        ({}, {"litellm_session_id": "s-1"}),
        ({}, {"metadata": {"langfuse_session_id": "s-1"}}),
        ({}, {"conversation": "s-1"}),
        ({}, {"conversation": {"id": "s-1"}}),
        ({}, {"metadata": {"user_id": "user_abc_account_12_session_5a1f6c9e-0000-4000-8000-000000000000"}}),
        ({}, {"metadata": {"user_id": '{"device_id":"d","session_id":"s-1"}'}}),
    ],
)
def test_sessions_of_providers_and_frameworks_are_episodes(headers: dict[str, str], fields: dict[str, Any]) -> None:
    live = LiveEpisodes()
    placed = [live.place("t", headers, CHAT, body(user(text), **fields), 0.0) for text in ("a", "b")]
    assert {p.episode_id for p in placed} <= {"s-1", "5a1f6c9e-0000-4000-8000-000000000000"}
    assert [p.how for p in placed] == ["session", "session"]


@pytest.mark.parametrize("user_id", ["user_1", "{not json", "[1]", "{}", 7, None])
def test_a_user_id_without_a_session_names_no_episode(user_id: Any) -> None:
    live = LiveEpisodes()
    first, second = (live.place("t", {}, CHAT, body(user(t), metadata={"user_id": user_id}), 0.0) for t in "ab")
    assert first.episode_id != second.episode_id


def test_a_chain_of_responses_is_one_episode_wherever_it_began() -> None:
    live = LiveEpisodes()

    def send(fields: dict[str, Any], response: str, streamed: bool) -> Placement:
        sent = json.dumps({"model": "m", **fields}).encode()
        placement = live.place("default", {}, "openai-responses", sent, 0.0)
        whole = json.dumps({"id": response, "output": []}).encode()
        event = b'event: response.created\ndata: {"type":"response.created","response":%b}\n\n' % whole
        live.answered(
            "default", placement, "openai-responses", event if streamed else whole, streamed=streamed, now=0.0
        )
        return placement

    first = send({"input": "hi"}, "resp_1", streamed=False)
    second = send({"input": "on", "previous_response_id": "resp_1"}, "resp_2", streamed=True)
    third = send({"input": "and on", "previous_response_id": "resp_2"}, "resp_3", streamed=False)
    assert {first.episode_id, second.episode_id, third.episode_id} == {first.episode_id}
    unknown = [send({"input": "x", "previous_response_id": "resp_of_another_day"}, "r", streamed=False) for _ in "ab"]
    assert unknown[0].episode_id == unknown[1].episode_id != first.episode_id


# --- requests that name nothing ---------------------------------------------------------------------------------------


def test_equal_beginnings_come_apart_by_their_answers_and_steps_are_counted() -> None:
    live = LiveEpisodes()
    agents = [Agent(live, "book a flight") for _ in range(3)]
    ids = [agent.step(f"to {n}?", "yes").episode_id for n, agent in enumerate(agents)]
    assert len(set(ids)) == 3
    for step in (1, 2):
        for agent, episode_id in reversed(list(zip(agents, ids, strict=True))):
            placement = agent.step("done", "more")
            assert (placement.episode_id, placement.step) == (episode_id, step)


def test_tenants_and_users_never_share_an_episode() -> None:
    live = LiveEpisodes()
    spaces: list[dict[str, Any]] = [
        {"namespace": "a"},
        {"namespace": "b"},
        {"namespace": "b", "prompt_cache_key": "k"},
        {"namespace": "b", "user": "u"},
    ]
    agents = [Agent(live, "q", **space) for space in spaces]
    ids = [agent.step("same", "go").episode_id for agent in agents]
    assert len(set(ids)) == 4
    assert [agent.step("x", "y").episode_id for agent in agents] == ids


def test_samples_of_one_request_lead_back_to_it_whichever_is_taken() -> None:
    live = LiveEpisodes()
    first = live.place("t", {}, CHAT, body(user("q"), n=2), 0.0)
    live.answered("t", first, CHAT, answer("x", "y"), streamed=False, now=0.1)
    other = live.place("t", {}, CHAT, body(user("q")), 0.2)
    live.answered("t", other, CHAT, answer("z"), streamed=False, now=0.3)
    assert live.place("t", {}, CHAT, body(user("q"), said("y"), user("go")), 1.0).episode_id == first.episode_id
    assert live.place("t", {}, CHAT, body(user("q"), said("z"), user("go")), 1.0).episode_id == other.episode_id


def test_a_failed_first_request_is_tried_again_in_its_episode() -> None:
    live = LiveEpisodes()
    first = live.place("t", {}, CHAT, body(user("q")), 0.0)
    live.answered("t", first, CHAT, b'{"error":{"message":"overloaded"}}', streamed=False, now=0.1)
    assert live.place("t", {}, CHAT, body(user("q")), 2.0).episode_id == first.episode_id


def test_cache_marks_that_wander_and_other_white_space_change_nothing() -> None:
    live = LiveEpisodes()
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "help", **mark}]

    def prompt(*messages: Message) -> bytes:
        return json.dumps({"model": "m", "system": system, "messages": messages}).encode()

    def text(words: str, role: str = "user", **more: Any) -> Message:
        return {"role": role, "content": [{"type": "text", "text": words, **more}]}

    first = live.place("t", {}, "anthropic", prompt(text("q", **mark)), 0.0)
    whole = json.dumps({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}]}).encode()
    live.answered("t", first, "anthropic", whole, streamed=False, now=0.1)
    second = live.place("t", {}, "anthropic", prompt(text("q"), text("a", "assistant"), text("go", **mark)), 1.0)
    assert second.episode_id == first.episode_id
    assert live._threads.hits == 1
    compact = msgspec.json.format(
        prompt(text("q"), text("a", "assistant"), text("go"), text("b", "assistant")), indent=-1
    )
    assert live.place("t", {}, "anthropic", compact, 2.0).episode_id == first.episode_id


@pytest.mark.parametrize(
    "wrong", [b"", b"{", b"[]", b"\xff\xfe", b'{"messages": 7}', b'{"messages":[{"role":1}]}', b"{}"]
)
def test_what_is_no_request_is_an_episode_of_its_own(wrong: bytes) -> None:
    live = LiveEpisodes()
    first, second = (live.place("t", {}, CHAT, wrong, 0.0) for _ in range(2))
    assert first.episode_id != second.episode_id
    live.answered("t", first, CHAT, wrong, streamed=False, now=0.0)
    live.answered("t", second, CHAT, wrong, streamed=True, now=0.0)


def test_ids_are_long_random_and_differ_between_processes() -> None:
    ids = {new_episode_id(1.0) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 3 + 12 + 24 for one in ids)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_deferred_answers_place_requests_as_if_they_had_been_read(order: list[int], beginnings: list[int]) -> None:
    """The lazy way and the one that reads every answer (with a process beside it) put the same calls together."""
    lazy, eager = LiveEpisodes(), LiveEpisodes(shared=Noticeboard())
    groups = []
    for live in (lazy, eager):
        agents = [Agent(live, f"task {start}") for start in beginnings]
        found = []
        for at, number in enumerate(order):
            agent = agents[number]
            found.append(agent.step(f"{len(agent.history)} {number % 2}", "go", float(at)).episode_id)
        groups.append([found.index(one) for one in found])
    assert groups[0] == groups[1]


# --- bounds and several processes -------------------------------------------------------------------------------------


def test_memory_is_bounded_in_episodes_bytes_and_unread_answers() -> None:
    live = LiveEpisodes(max_episodes=10, max_bytes=50_000)
    for n in range(300):
        Agent(live, f"q{n}" + "x" * 5000, prompt_cache_key=f"k{n}").step("a" * 1000, "go", float(n))
        assert live._threads.bytes <= 50_000
    stitcher = live._stitcher
    assert len(stitcher._open) == len(live._waiting) == 10
    assert len(stitcher._books) <= 10
    assert 5 <= len(live._threads) <= 10
    assert len(live._steps) <= 40
    Agent(live, "late").step("a", "go", 1e6)
    assert len(stitcher._open) <= 10


def test_what_is_idle_is_forgotten_however_little_it_is() -> None:
    """Of 10,000 episodes, two each second, those of the last minutes are remembered."""
    live = LiveEpisodes(idle_s=300.0)
    for n in range(5000):
        named = {"x-potstill-episode": f"named-{n}"}
        placement = live.place("t", named, "openai-responses", b'{"input":"x"}', float(n))
        live.answered("t", placement, "openai-responses", b'{"id":"resp_%d"}' % n, streamed=False, now=float(n))
        Agent(live, f"task {n}").step("a", "go", float(n))
    assert len(live._threads) <= 301
    assert len(live._waiting) <= 302
    assert len(live._stitcher._open) <= 302
    assert 600 <= len(live._steps) <= 2 * 600
    assert 1200 <= len(live._responses) <= 2 * 1200
    going_on = live.place("t", {}, "openai-responses", b'{"input":"y","previous_response_id":"resp_4000"}', 5000.0)
    assert going_on.episode_id == "named-4000"


def test_a_thread_takes_what_its_last_text_takes() -> None:
    threads = Threads(max_bytes=1_000_000)
    for n in range(100):
        threads.of("s", outline(body(user(f"{n}" + "y" * 100_000))), float(n))
    assert 1 <= len(threads) <= 9
    assert threads.bytes <= 1_000_000
    threads.of("s", outline(body(user("z" * 3_000_000))), 100.0)
    assert len(threads) == 1


def test_an_idle_episode_ends() -> None:
    live = LiveEpisodes(idle_s=100.0)
    agent = Agent(live, "q")
    first = agent.step("a", "go", 0.0)
    for n in range(3):
        Agent(live, f"other {n}").step("a", "go", 500.0 + n)
    assert agent.step("b", "on", 600.0).episode_id != first.episode_id


class Noticeboard:
    """What a table that all processes see would say."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], set[str]] = {}

    def find(self, namespace: str, hashes: Sequence[int]) -> str | None:
        for hashed in hashes:
            owners = self.rows.get((namespace, hashed), set())
            if len(owners) == 1:
                return next(iter(owners))
        return None

    def publish(self, namespace: str, episode_id: str, hashes: Sequence[int], now: float) -> None:
        for hashed in hashes:
            self.rows.setdefault((namespace, hashed), set()).add(episode_id)


def test_two_processes_give_the_calls_of_one_episode_the_same_id() -> None:
    board = Noticeboard()
    processes = [LiveEpisodes(shared=board) for _ in range(2)]
    agents = [Agent(processes[0], "same task") for _ in range(4)]
    ids: list[set[str]] = [set() for _ in agents]
    draw = random.Random(0)
    for step in range(12):
        for number, agent in enumerate(agents):
            agent.live = draw.choice(processes)
            ids[number].add(agent.step(f"{number} says {step}", f"go {step}", float(step)).episode_id)
    assert [len(one) for one in ids] == [1] * 4
    assert len(set.union(*ids)) == 4
    assert board.rows


def test_recorded_episodes_find_their_own_calls(tau2_retail: Path) -> None:
    """120 of tau2's episodes, interleaved: at least 99 % of the calls are in the right one."""
    with tau2_retail.open(encoding="utf-8") as file:
        recorded = [json.loads(line)["messages"] for line, _ in zip(file, range(120), strict=False)]
    live = LiveEpisodes()
    draw = random.Random(1)
    running = [(number, iter(_requests(messages))) for number, messages in enumerate(recorded)]
    found: dict[str, list[int]] = {}
    while running:
        picked = draw.randrange(min(50, len(running)))
        number, requests = running[picked]
        request = next(requests, None)
        if request is None:
            running.pop(picked)
            continue
        placement = live.place("t", {}, CHAT, request[0], 0.0)
        live.answered("t", placement, CHAT, request[1], streamed=False, now=0.0)
        found.setdefault(placement.episode_id, []).append(number)
    calls = sum(map(len, found.values()))
    assert sum(max(map(numbers.count, set(numbers))) for numbers in found.values()) >= 0.99 * calls
    assert len(found) == len({number for numbers in found.values() for number in numbers})


def _requests(messages: list[Message]) -> list[tuple[bytes, bytes]]:
    history: list[Message] = []
    out = []
    for message in messages:
        kept = {key: message[key] for key in ("role", "content") if key in message}
        if message.get("tool_calls"):
            kept["tool_calls"] = [
                {"id": one["id"], "function": {"name": one["name"], "arguments": json.dumps(one["arguments"])}}
                for one in message["tool_calls"]
            ]
        if message["role"] == "assistant" and history:
            out.append((body(*history), json.dumps({"choices": [{"message": kept}]}).encode()))
        history.append(kept)
    return out
