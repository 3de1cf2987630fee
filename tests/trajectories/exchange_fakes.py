"""Exchanges that look like an agent's, for tests of the journal. Imports no hypothesis: child processes start fast."""

from __future__ import annotations

import json
import random
from typing import Any

from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer

WORDS = ("lamp", "drawer", "shelf", "apple", "knife", "north", "open", "take", "file", "patch", "line", "test")


def words(rng: random.Random, characters: int) -> str:
    text = ""
    while len(text) < characters:
        text += f"{rng.choice(WORDS)} {rng.randrange(10_000)} "
    return text[:characters]


def exchange(
    episode: str = "e", turn: int = 0, *, grow: int = 300, namespace: str = "default", **fields: Any
) -> Exchange:
    """The turn of an episode: a request that repeats all earlier ones, made from the names alone."""
    rng = random.Random(f"{namespace}/{episode}")
    messages = [{"role": "system", "content": words(rng, 500)}]
    answer = ""
    for _ in range(turn + 1):
        messages.append({"role": "user", "content": words(rng, grow)})
        answer = words(rng, 60)
        messages.append({"role": "assistant", "content": answer})
    body = {"model": "m", "messages": messages[:-1], "stream": False, "tools": [{"name": "look"}]}
    given: dict[str, Any] = {
        "route": "m",
        "dialect": "openai-chat",
        "started_at": 1_790_000_000.0 + turn,
        "latency_s": 0.5,
        "request": json.dumps(body).encode(),
        "response": json.dumps({"id": f"r{turn}", "choices": [{"message": {"content": answer}}]}).encode(),
        "calls": (
            Upstream(
                model="m-1",
                upstream="u",
                answerer=Answerer.TEACHER,
                dialect="openai-chat",
                status=200,
                raw_usage={"prompt_tokens": 100 * turn, "completion_tokens": 9},
            ),
        ),
    }
    return Exchange(namespace=namespace, episode_id=episode, **{**given, **fields})
