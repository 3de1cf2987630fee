"""A real ``potstill serve`` process before scripted models, with tenants, a cascade and a recorded past.

What it knows: how the models answer (the student's first samples differ where the task says "hard"), and what is
in the store before the gateway starts. What it does not do: browsers (``conftest``).
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.trajectories.opening import open_store
from potstill.types import Answerer, Decision, DemonstrationRef, EscalationMode, Reason, Vote

ADMIN_KEY = "correct-horse-battery-9174-staple"
TEACHER, STUDENT = "gpt-6-sol", "gpt-6-luna"
SETTINGS = """
[upstreams.cloud]
base_url = "{url}"

[upstreams.near]
base_url = "{url}"
n_shares_prompt = true

[models.big]
upstream = "cloud"
model = "gpt-6-sol"

[models.small]
upstream = "near"
model = "gpt-6-luna"

[routes."support/auto"]
teacher = "big"
student = "small"
mode = "cascade"
rollout = false

[routes."booking/shadowed"]
teacher = "big"
student = "small"
mode = "shadow"
shadow_share = 1.0

[routes."search/rolled"]
teacher = "big"
student = "small"
mode = "cascade"

[routes."gpt-6-sol"]
teacher = "big"

[tenants.team-a]
budget_usd_per_day = 0.5
requests_per_minute = 6000

[tenants.team-b]
budget_tokens_per_day = 100000
"""


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"order": {}}}}}
    for name in ("find_order", "track_parcel")
]


class Models(http.server.BaseHTTPRequestHandler):
    """Both models: they look an order up, then say that it is on its way."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(self._answer(asked)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        told = json.dumps(asked["messages"])
        student, samples = asked["model"] == STUDENT, asked.get("n", 1)
        unsure = student and "hard" in told and not _turns(asked["messages"])
        choices = [
            {"index": at, "finish_reason": "tool_calls", "message": _said(asked["messages"], f"{at}" if unsure else "")}
            for at in range(samples)
        ]
        prompt = len(told) // 4
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": 24 * samples}
        usage["total_tokens"] = prompt + 24 * samples
        if not student:
            usage["prompt_tokens_details"] = {"cached_tokens": prompt // 2}
        return _completion(asked["model"], choices, usage)

    def log_message(self, *words: object) -> None:
        """Tests say enough."""


def _said(messages: list[dict[str, Any]], unsure: str) -> dict[str, Any]:
    turns = _turns(messages)
    if turns < 2:
        name = ("find_order", "track_parcel")[turns]
        call = {"name": name, "arguments": json.dumps({"order": f"A-10{turns}{unsure}"})}
        calls = [{"id": f"c{turns}", "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    return {"role": "assistant", "content": f"Your order is on its way{unsure and f', perhaps on day {unsure}'}."}


def _turns(messages: list[dict[str, Any]]) -> int:
    return sum(message["role"] == "tool" for message in messages)


def _completion(model: str, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    named = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return {**named, "choices": choices, "usage": usage}


class World:
    """The running gateway, its store's file and its clients' requests. ``token``: the key of the tenant team-a."""

    def __init__(self, folder: Path, exchanges: Iterable[Exchange] = (), settings: str = SETTINGS) -> None:
        self.db = folder / "gateway.db"
        self._models = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models)
        threading.Thread(target=self._models.serve_forever, daemon=True).start()
        config = folder / "gateway.toml"
        config.write_text(settings.replace("{url}", f"http://127.0.0.1:{self._models.server_address[1]}/v1"))
        with open_store(self.db) as store:
            rows, at = StoreRows(store), time.time()
            made, self.token = keys.create("team-a", at, name="support agent", budget_usd_per_day=0.2)
            other, self.other_token = keys.create("team-b", at, name="nightly batch", requests_per_minute=6000)
            self.key_id, self.other_key_id = made.id, other.id
            rows.put(made)
            rows.put(other)
            store.record(list(exchanges))
        self._start(config)

    def _start(self, config: Path) -> None:
        command = [sys.executable, "-m", "potstill", "serve", "--config", str(config), "--port", "0"]
        command += ["--db", str(self.db)]
        environment = {**os.environ, "POTSTILL_ADMIN_KEY": ADMIN_KEY}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "listens on" in line:
                self.url = line.split("listens on ")[1].split(": give")[0]
                break
        else:
            raise RuntimeError("".join(said))
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        self._models.shutdown()
        self._models.server_close()

    # --- clients ------------------------------------------------------------------------------------------------------

    def chat(self, model: str, messages: list[dict[str, Any]], *, token: str | None = None, **headers: str) -> Any:
        """One completion; the status and the answer."""
        body = json.dumps({"model": model, "messages": messages, "tools": TOOLS}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask("POST", "/v1/chat/completions", body, token or self.token, named)

    def episode(self, goal: str, *, model: str = "support/auto", token: str | None = None, **headers: str) -> str:
        """A whole episode of three steps; its id."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": "You help customers of a shop."}]
        messages.append({"role": "user", "content": goal})
        name = f"ep-{time.monotonic_ns()}"
        for _ in range(3):
            status, answer = self.chat(model, messages, token=token, x_potstill_episode=name, **headers)
            assert status == 200, answer
            said = answer["choices"][0]["message"]
            messages.append(said)
            for call in said.get("tool_calls") or ():
                found = {"role": "tool", "tool_call_id": call["id"], "content": '{"status": "sent", "days": 2}'}
                messages.append(found)
        self._recorded()
        return name

    def _recorded(self) -> None:
        """Until nothing that was answered waits to be written."""
        pause = threading.Event()
        while self._ask("GET", "/v1/potstill/acknowledged", None, self.token, {})[1]["waiting"]:
            pause.wait(0.02)

    def outcome(self, episode: str, success: bool, *, token: str | None = None, detail: str = "") -> None:
        body = json.dumps({"success": success, "detail": detail}).encode()
        status, answer = self._ask("POST", f"/v1/episodes/{episode}/outcome", body, token or self.token, {})
        assert status == 200, answer

    def admin(self, method: str, name: str, value: Any = None) -> Any:
        """The admin API, as a program asks it."""
        body = None if value is None else json.dumps(value).encode()
        status, answer = self._ask(method, f"/v1/potstill/{name}", body, ADMIN_KEY, {})
        assert status in (200, 201), answer
        return answer

    def _ask(self, method: str, path: str, body: bytes | None, token: str, headers: dict[str, str]) -> tuple[int, Any]:
        sent = {"content-type": "application/json", "authorization": f"Bearer {token}", **headers}
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


# --- what was recorded before -----------------------------------------------------------------------------------------


def exchange(episode: str, said: str, answered: str, *, namespace: str = "team-a", **fields: Any) -> Exchange:
    """One chat completion that the teacher answered, a minute ago unless told otherwise."""
    model = fields.pop("model", TEACHER)
    messages = fields.pop("messages", [{"role": "user", "content": said}])
    message = fields.pop("message", {"role": "assistant", "content": answered})
    usage = {"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930}
    at = fields.pop("started_at", time.time() - 60)
    answer = _completion(model, [{"index": 0, "message": message, "finish_reason": "stop"}], usage)
    call = Upstream(
        model=model, upstream="cloud", answerer=Answerer.TEACHER, dialect="openai-chat", started_at=at, latency_s=0.8,
        status=200, raw_usage=usage,
    )  # fmt: skip
    settings = {"route": "support/auto", "calls": (call,), "latency_s": 0.8, "first_byte_s": 0.2, **fields}
    return Exchange(
        namespace=namespace,
        episode_id=episode,
        dialect="openai-chat",
        started_at=at,
        request=json.dumps({"model": "support/auto", "messages": messages, **settings.pop("asked", {})}).encode(),
        response=json.dumps(answer).encode(),
        **settings,
    )


def decision(*votes: str, reason: Reason = Reason.DISAGREED) -> Decision:
    """Of the teacher's, over these votes of the student."""
    return Decision(
        answerer=Answerer.TEACHER,
        reason=reason,
        mode=EscalationMode.STEP,
        rule="json",
        votes=tuple(Vote(key=vote or None, text=vote) for vote in votes),
        agreement=1 / 3,
        samples=len(votes),
    )


def shown(trajectory: str) -> DemonstrationRef:
    return DemonstrationRef(trajectory_id=trajectory, start=0, stop=2, score=0.83)
