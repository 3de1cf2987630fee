"""The same agent with openai-agents, which speaks the responses API: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"""

from agents import Agent, Runner, function_tool, set_tracing_disabled

DEGREES = {"Oslo": 7, "Rome": 18}


@function_tool
def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


set_tracing_disabled(True)  # its traces would go to OpenAI, past the gateway
agent = Agent(name="weather", model="gpt-6.1-sol", tools=[temperature])
print(Runner.run_sync(agent, "Which is warmer now, Oslo or Rome?").final_output)
