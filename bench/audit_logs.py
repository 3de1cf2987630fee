"""Make logs of agents as large as wanted: OpenAI chat requests and answers, one call a line, about 5 kB each.

Fifty-odd episodes run at the same time; prompts grow, tools are called, some calls repeat, prompt caches hit and miss,
half of the episodes name no session. One line in five hundred is dirt: cut off, without usage, with negative counts, an
unknown model, an error. The same seed gives the same bytes. Lines are put together from ready-made pieces, so that a
disk can be filled at its speed. Run: ``python bench/audit_logs.py --calls 1000000 --out calls.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODELS = (b"gpt-4.1", b"gpt-4.1-mini", b"gpt-5", b"gpt-5-mini")
UNKNOWN_MODEL = b"in-house-7b"
START = 1_790_000_000.0
CONCURRENT = 56
CHUNK = 4_000_000
DIRT = 0.002
TEXT = (
    "order shipped pending address refund item variant stock payment gift card email user account size colour lamp "
    "table grid cursor error retry schema index query patch commit branch test module trace stack value bottle"
)
WORDS = TEXT.split()


def piece(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def prose(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


class Pools:
    """Ready-made pieces of JSON."""

    def __init__(self, draw: random.Random) -> None:
        names = ("search", "read_file", "get_order", "update_order", "list_items", "run_tests")
        self.system = [piece({"role": "system", "content": prose(draw, 90)}) for _ in range(4)]
        self.tools = [piece([tool(draw, name) for name in names[: 2 + n]]) for n in range(4)]
        self.tasks = [piece({"role": "user", "content": prose(draw, 30)}) for _ in range(500)]
        self.calls = [
            (name.encode(), piece(json.dumps({"id": draw.randrange(10_000), "field": draw.choice(WORDS)})))
            for name in names
            for _ in range(60)
        ]
        self.seen = [piece(prose(draw, draw.choice((5, 20, 40, 60, 90)))) for _ in range(1500)]
        self.seen += [piece(prose(draw, 1500)) for _ in range(3)]
        self.said = [piece(prose(draw, draw.choice((8, 25, 60)))) for _ in range(1000)]


def tool(draw: random.Random, name: str) -> dict[str, Any]:
    properties = {word: {"type": "string", "description": prose(draw, 6)} for word in ("id", "field")}
    function = {
        "name": name,
        "description": prose(draw, 12),
        "parameters": {"type": "object", "properties": properties},
    }
    return {"type": "function", "function": function}


class Agent:
    """One episode: a prompt that grows."""

    __slots__ = ("cached", "head", "last", "left", "messages", "model", "number", "session", "step", "tools")

    def __init__(self, number: int, draw: random.Random, pools: Pools) -> None:
        kind = draw.randrange(4)
        self.number, self.step, self.cached = number, 0, 0
        self.left = 1 + min(int(draw.expovariate(1 / 5)), 60)
        self.model = MODELS[draw.randrange(len(MODELS))]
        self.messages = pools.system[kind] + b"," + draw.choice(pools.tasks)
        self.tools = pools.tools[kind]
        self.session = b'"session_id":"s-%d",' % number if draw.random() < 0.5 else b""
        self.last: tuple[bytes, bytes, bytes] | None = None

    def call(self, now: float, draw: random.Random, pools: Pools) -> bytes:
        """The line of the next call; the prompt grows by its answer and what was observed."""
        self.left -= 1
        call_id = b"call_%d_%d" % (self.number, self.step)
        answer, observed = self._final(draw, pools) if self.left == 0 else self._act(call_id, draw, pools)
        tokens = (len(self.messages) + len(self.tools)) // 4
        cached = self.cached if draw.random() < 0.85 else 0
        line = (
            b'{"timestamp":%.3f,"latency_s":%.3f,%b"request":{"model":"%b","messages":[%b],"tools":%b,"temperature":0.0},'
            b'"response":{"id":"chatcmpl-%d-%d","object":"chat.completion","created":%d,"model":"%b","choices":[{"index":0,'
            b'"message":%b,"finish_reason":"%b"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0}}}}\n'
        ) % (
            now,
            0.2 + len(answer) / 400,
            self.session,
            self.model,
            self.messages,
            self.tools,
            self.number,
            self.step,
            int(now),
            self.model,
            answer,
            b"tool_calls" if observed else b"stop",
            tokens,
            len(answer) // 4,
            tokens + len(answer) // 4,
            cached,
        )
        self.cached = tokens - tokens % 128 if tokens >= 1024 else 0
        self.messages += b"," + answer + observed
        self.step += 1
        return line

    def _final(self, draw: random.Random, pools: Pools) -> tuple[bytes, bytes]:
        return b'{"role":"assistant","content":%b}' % draw.choice(pools.said), b""

    def _act(self, call_id: bytes, draw: random.Random, pools: Pools) -> tuple[bytes, bytes]:
        if self.last is None or draw.random() > 0.06:
            name, arguments = draw.choice(pools.calls)
            self.last = name, arguments, draw.choice(pools.seen)
        name, arguments, seen = self.last
        answer = (
            b'{"role":"assistant","content":%b,"tool_calls":[{"id":"%b","type":"function","function":{"name":"%b",'
            b'"arguments":%b}}]}'
        ) % (draw.choice(pools.said) if draw.random() < 0.3 else b"null", call_id, name, arguments)
        return answer, b',{"role":"tool","tool_call_id":"%b","content":%b}' % (call_id, seen)


def dirty(line: bytes, draw: random.Random) -> bytes:
    """The same line with something wrong."""
    kind = draw.randrange(6)
    if kind == 0:
        return line[: len(line) // 2] + b"\n"
    if kind == 1:
        return line.replace(b'"usage":', b'"usage_lost":')
    if kind == 2:
        return line.replace(b'"completion_tokens":', b'"completion_tokens":-')
    if kind == 3:
        return line.replace(b'"model":"gpt', b'"model":"' + UNKNOWN_MODEL)
    if kind == 4:
        request = line[: line.index(b'"response":')]
        return request + b'"response":null,"error":{"type":"server_error","message":"overloaded"}}\n'
    return b"\x00\xff not json\n"


def lines(calls: int, seed: int) -> Iterator[bytes]:
    """``calls`` lines."""
    draw = random.Random(seed)
    pools = Pools(draw)
    agents = [Agent(number, draw, pools) for number in range(CONCURRENT)]
    started, now = CONCURRENT, START
    for _ in range(calls):
        at = int(draw.random() * CONCURRENT)
        agent = agents[at]
        now += 0.05
        line = agent.call(now, draw, pools)
        if agent.left == 0:
            agents[at] = Agent(started, draw, pools)
            started += 1
        yield dirty(line, draw) if draw.random() < DIRT else line


def write(path: Path, calls: int, seed: int) -> int:
    """Write the file; its bytes."""
    written = 0
    with path.open("wb", buffering=0) as file:
        chunk: list[bytes] = []
        size = 0
        for line in lines(calls, seed):
            chunk.append(line)
            size += len(line)
            if size >= CHUNK:
                written += file.write(b"".join(chunk))
                chunk, size = [], 0
        written += file.write(b"".join(chunk))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    size = write(options.out, options.calls, options.seed)
    seconds = time.perf_counter() - started
    print(f"{size:,} bytes, {size / options.calls:,.0f} a call, {size / seconds / 1e6:.0f} MB/s", file=sys.stderr)


if __name__ == "__main__":
    main()
