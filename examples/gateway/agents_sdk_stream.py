"""The same agent with openai-agents, its answer printed as it comes."""

import asyncio

from agents import Agent, Runner, function_tool, set_tracing_disabled

DEGREES = {"Oslo": 7, "Rome": 18}


@function_tool
def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


async def main() -> None:
    agent = Agent(name="weather", model="gpt-6.1-sol", tools=[temperature])
    run = Runner.run_streamed(agent, "Which is warmer now, Oslo or Rome?")
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()


set_tracing_disabled(True)  # its traces would go to OpenAI, past the gateway
asyncio.run(main())
