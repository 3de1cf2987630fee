"""The same agent with smolagents. Through potstill: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"""

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

DEGREES = {"Oslo": 7, "Rome": 18}


@tool
def temperature(city: str) -> str:
    """Degrees Celsius in a city now.

    Args:
        city: The city's name in English.
    """
    return f"{city}: {DEGREES.get(city, 'unknown')}"


agent = ToolCallingAgent(tools=[temperature], model=OpenAIModel("gpt-6.1-sol"), verbosity_level=LogLevel.ERROR)
print(agent.run("Which is warmer now, Oslo or Rome?"))
