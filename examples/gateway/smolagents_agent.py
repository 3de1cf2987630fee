"""The same agent with smolagents. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1

Out of steps, it asks for a last answer under another system prompt: the header says that this belongs to the episode.
"""

import uuid

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

DEGREES = {"Oslo": 7, "Rome": 18}


@tool
def temperature(city: str) -> str:
    """Degrees Celsius in a city now.

    Args:
        city: The city's name in English.
    """
    return f"{city}: {DEGREES.get(city, 'unknown')}"


episode = {"x-potstill-episode": f"smolagents-{uuid.uuid4()}"}
model = OpenAIModel("gpt-6.1-sol", client_kwargs={"default_headers": episode})
agent = ToolCallingAgent(tools=[temperature], model=model, verbosity_level=LogLevel.ERROR)
print(agent.run("Which is warmer now, Oslo or Rome?", max_steps=4))
