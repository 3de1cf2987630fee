"""The same agent with dspy, its answer printed as it comes. The header: see dspy_agent.py."""

import asyncio
import uuid

import dspy

DEGREES = {"Oslo": 7, "Rome": 18}


def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


async def main() -> None:
    episode = {"x-potstill-episode": f"dspy-{uuid.uuid4()}", "x-potstill-goal": "Which is warmer now, Oslo or Rome?"}
    dspy.configure(lm=dspy.LM("openai/gpt-6.1-sol", extra_headers=episode, cache=False))
    agent = dspy.ReAct("question -> answer", tools=[temperature], max_iters=5)
    streamed = dspy.streamify(agent, stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")])
    async for piece in streamed(question="Which is warmer now, Oslo or Rome?"):
        if isinstance(piece, dspy.streaming.StreamResponse):
            print(piece.chunk, end="", flush=True)
    print()


asyncio.run(main())
