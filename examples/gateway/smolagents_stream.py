"""The same agent with smolagents, the model's answers shown as they come. The header: see smolagents_agent.py."""

import uuid

from smolagents import FinalAnswerStep, LogLevel, OpenAIModel, ToolCallingAgent, tool

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
agent = ToolCallingAgent(tools=[temperature], model=model, stream_outputs=True, verbosity_level=LogLevel.OFF)
for event in agent.run("Which is warmer now, Oslo or Rome?", stream=True, max_steps=4):
    if isinstance(event, FinalAnswerStep):
        print(event.output)
