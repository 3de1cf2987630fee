"""The same agent with pydantic-ai, its answer printed as it comes. Other models: see pydantic_agent.py."""

import sys

from pydantic_ai import Agent

DEGREES = {"Oslo": 7, "Rome": 18}
agent = Agent(sys.argv[1] if len(sys.argv) > 1 else "openai-chat:gpt-6.1-sol")


@agent.tool_plain
def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


run = agent.run_stream_sync("Which is warmer now, Oslo or Rome?")
for piece in run.stream_text(delta=True):
    print(piece, end="", flush=True)
print()
