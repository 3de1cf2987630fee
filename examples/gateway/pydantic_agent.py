"""The same agent with pydantic-ai. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"""

import sys

from pydantic_ai import Agent

DEGREES = {"Oslo": 7, "Rome": 18}
# "openai-chat:", "openai-responses:" or "anthropic:" (ANTHROPIC_BASE_URL=http://127.0.0.1:8000): all go through it.
agent = Agent(sys.argv[1] if len(sys.argv) > 1 else "openai-chat:gpt-6.1-sol")


@agent.tool_plain
def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


print(agent.run_sync("Which is warmer now, Oslo or Rome?").output)
