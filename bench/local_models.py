"""How fast the local runtimes read prompts, write, and score every admissible action on this machine.

For SmolLM2-135M in llama.cpp (``local:``) and in PyTorch (``torch:``, where installed): prompts of about 300, 1,000 and
2,000 tokens, read cold; 30 household actions scored behind the cached prompt (all, and the best only); one and four
samples from one request. Wall clock and CPU seconds, the best of the repetitions: on a busy machine the CPU seconds
are the figure.

    python bench/local_models.py [--model smollm2-135m] [--repeat 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from _results import write
from potstill.errors import MissingExtra
from potstill.models.registry import open_model
from potstill.types import Call, Completion, Message, Request

PROMPT_TOKENS = (300, 1000, 2000)
SEED = 0
FURNITURE = ("cabinet", "drawer", "fridge", "shelf", "countertop")
ACTIONS = (
    *(f"go to {place} {number}" for place in FURNITURE for number in range(1, 5)),
    *(f"open {place} {number}" for place in FURNITURE[:2] for number in range(1, 4)),
    *("inventory", "look", "take apple 1 from countertop 2", "examine fridge 1"),
)


def request(tokens: int, salt: int, **fields: Any) -> Request:
    """A prompt of about this many tokens. ``salt`` changes its beginning, so that no cache knows it."""
    world = f"Game {salt}. " + " ".join(
        f"You see a {FURNITURE[index % 5]} {index}." for index in range(max(1, (tokens - 60) * 10 // 78))
    )
    messages = (
        Message(role="system", content=f"You act in a household game. {world}"),
        Message(role="user", content="Your task: put an apple in the fridge. What do you do?"),
    )
    return Request(messages=messages, **fields)


async def best(repeat: int, ask: Callable[[int], Awaitable[Completion]]) -> tuple[Call, float, float]:
    """One call of the repetitions, and the least wall clock and CPU seconds."""
    calls = [(await ask(index)).calls[0] for index in range(repeat)]
    return calls[-1], min(call.latency_s for call in calls), min(call.cpu_s or 0.0 for call in calls)


async def measure(spec: str, repeat: int) -> list[dict[str, Any]]:
    """The rows of one runtime."""
    model: Any = open_model(spec, seed=SEED)
    rows: list[dict[str, Any]] = []

    def row(what: str, call: Call, latency_s: float, cpu_s: float, tokens: int | None) -> None:
        usage = call.usage
        assert usage is not None
        rows.append(
            {
                "model": spec,
                "what": what,
                "prompt_tokens": usage.input_tokens,
                "cached_tokens": usage.cache_read_tokens,
                "latency_s": round(latency_s, 3),
                "cpu_s": round(cpu_s, 3),
                "tokens_per_s": tokens and round(tokens / latency_s, 1),
                "tokens_per_cpu_s": tokens and round(tokens / max(cpu_s, 1e-9), 1),
            }
        )
        print(rows[-1])

    for size in PROMPT_TOKENS:
        found = await best(repeat, lambda i, size=size: model.sample(request(size, salt=size + i, max_tokens=1)))
        assert found[0].usage is not None
        row("read a new prompt", *found, found[0].usage.uncached_input_tokens)
        asked = request(size, salt=size + repeat - 1, admissible=ACTIONS)
        row(f"score {len(ACTIONS)} actions, prompt cached", *await best(repeat, lambda i: model.score(asked)), None)  # noqa: B023
        if spec.startswith("local:"):
            found = await best(repeat, lambda i: model.score(asked, mode="argmax"))  # noqa: B023
            row(f"find the best of {len(ACTIONS)} actions, prompt cached", *found, None)
    written = request(300, salt=repeat - 1, temperature=1.0, max_tokens=24, seed=SEED)
    for n in (1, 4):
        found = await best(repeat, lambda i, n=n: model.sample(written, n))
        assert found[0].usage is not None
        row(f"write {n} samples", *found, found[0].usage.output_tokens)
    await model.aclose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for kind in ("local", "torch"):
        try:
            rows += asyncio.run(measure(f"{kind}:{options.model}", options.repeat))
        except MissingExtra as error:
            print(f"{kind}: left out. {error}")
    busy = {"load_average": round(os.getloadavg()[0], 1), "actions": len(ACTIONS)}
    write("local_models", rows, n=options.repeat, seeds=[SEED], extra=busy)


if __name__ == "__main__":
    main()
